"""Everything that a deployment into AWS consists of: `python -m infra.package [--clouds aws,gcp,azure] [--out dist]`.

control.zip     what all functions but the edge run (infra/control.py)
edge-aws.zip    what the edge runs (infra/edge.py)
foundation.json the stack's first phase: the bucket that takes the zips, and the table
template.json   the stack: `chalice package` with infra/template.py merged into it
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chalicelib import __version__
from chalicelib.api.app import create_app
from chalicelib.api.auth import Caller
from chalicelib.ports import Runtime
from infra import control, edge, template
from infra.checkout import ROOT, TOP
from infra.permissions import policy

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Built:
    """The artefacts, and what the control plane's package weighs."""

    foundation: Path
    template: Path
    control: Path
    edge: Path
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes."""

    zipped: int
    unzipped: int
    largest: tuple[tuple[str, int], ...]  # by top-level name, unzipped

    @property
    def fits(self) -> bool:
        """Whether Lambda takes it."""
        return self.unzipped <= control.LIMIT_MB * 1024**2


def main() -> None:
    """Build, and say how large."""
    parser = argparse.ArgumentParser(description="Package Sailplane for AWS.", prog="python -m infra.package")
    parser.add_argument("--clouds", default=",".join(control.SDKS), help="whose SDKs are packed; default: %(default)s")
    parser.add_argument("--python", default=THIS_PYTHON, choices=control.PYTHONS, help="default: %(default)s, this one")
    parser.add_argument("--arch", default="arm64", choices=control.ARCHITECTURES, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="default: dist/")
    arguments = parser.parse_args()
    clouds = arguments.clouds.split(",")
    if unknown := set(clouds) - control.SDKS.keys():
        parser.error(f"no such cloud: {', '.join(sorted(unknown))}; known are {', '.join(control.SDKS)}")
    try:
        built = build(arguments.out, clouds, arguments.python, arguments.arch)
    except control.CannotPackage as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot write to {arguments.out} ({error}); give another directory with --out")
    report(built)
    sys.exit(not built.sizes.fits)


def build(out: Path, clouds: Sequence[str], python: str = THIS_PYTHON, arch: str = "arm64") -> Built:
    """All artefacts in the directory `out`, written anew. Takes half a minute and the network.

    Args:
        out: a directory, made if it is not there.
        clouds: of aws, gcp, azure: whose SDKs are packed.
        python: of `control.PYTHONS`; an interpreter of that version must be on this machine.
        arch: arm64 or x86_64.

    Raises:
        control.CannotPackage: something that it takes is missing; the message says how to get it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        package = control.build(out / "control.zip", Path(scratch), clouds, python, arch)
    return Built(
        foundation=write_json(out / "foundation.json", template.foundation()),
        template=build_template(out / "template.json", python, arch),
        control=package,
        edge=edge.build("aws", out),
        sizes=sizes(package),
    )


def build_template(path: Path, python: str = THIS_PYTHON, arch: str = "arm64") -> Path:
    """The stack's template at `path`, for packages of that Python and architecture. Raises `control.CannotPackage`."""
    with tempfile.TemporaryDirectory() as scratch:
        made = _chalice_package(Path(scratch), python, arch)
    _leave_to_machines(made["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["paths"])
    # Chalice's own outputs name what ours name, and know no condition.
    made["Outputs"] = {name: each for name, each in made["Outputs"].items() if name in template.OUTPUTS}
    return write_json(path, made)


def _leave_to_machines(paths: template.Json) -> None:
    """Take out of the gateway what machines ask: they have a URL that costs nothing, and a function that may do it."""
    for path, methods in create_app(_no_runtime).routes.items():
        if not any(is_owners(path, method.view_function.route.caller) for method in methods.values()):
            del paths[path]


def is_owners(path: str, caller: Caller) -> bool:
    """Whether the gateway answers a route: it takes an owner's key, or describes the API and is no part of it."""
    return caller is Caller.ADMIN or not path.startswith("/v1/")


def _no_runtime() -> Runtime:
    raise NotImplementedError("only the app's routes are read here")


def write_json(path: Path, document: template.Json) -> Path:
    """In one line: CloudFormation takes 51,200 bytes with a request, and more (1 MB) from a bucket only."""
    path.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
    return path


def _chalice_package(project: Path, python: str, arch: str) -> template.Json:
    """What `chalice package` makes of the app, in a project without requirements: the wheels are packed elsewhere."""
    shutil.copy(TOP / "app.py", project)
    shutil.copytree(ROOT / "chalicelib", project / "chalicelib")
    (project / "requirements.txt").touch()
    settings = project / ".chalice"
    settings.mkdir()
    (settings / "config.json").write_text(json.dumps(template.chalice_config(arch)))
    for name in template.LOGICAL:
        (settings / f"policy-{name}.json").write_text(json.dumps(policy(name)))
    (project / "merge.json").write_text(json.dumps(template.merged(python, arch, __version__)))
    command = [
        str(Path(sys.executable).with_name("chalice")),
        "package",
        "--stage",
        "prod",
        "--merge-template",
        "merge.json",
        "made",
    ]
    # Chalice asks for a region, of which nothing in the template depends.
    environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise control.CannotPackage(f"chalice package failed:\n{done.stderr.strip()}")
    made: template.Json = json.loads((project / "made" / "sam.json").read_text())
    return made


def sizes(package: Path) -> Sizes:
    """What a zip weighs."""
    with zipfile.ZipFile(package) as archive:
        members = archive.infolist()
    weights: dict[str, int] = {}
    for member in members:
        top = member.filename.partition("/")[0]
        weights[top] = weights.get(top, 0) + member.file_size
    largest = sorted(weights.items(), key=lambda each: -each[1])[:8]
    return Sizes(package.stat().st_size, sum(weights.values()), tuple(largest))


def report(built: Built) -> None:
    """The table."""
    weight = built.sizes
    print(
        f"{built.control}  {weight.zipped / 1024**2:.1f} MB, unzipped {weight.unzipped / 1024**2:.1f} of {control.LIMIT_MB} MB"
    )
    for name, size in weight.largest:
        print(f"  {size / 1024**2:6.1f} MB  {name}")
    for path in (built.edge, built.foundation, built.template):
        print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
