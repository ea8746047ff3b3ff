"""How large the Lambda package gets, unzipped, with the SDKs of the clouds in use: `python infra/lambda_size.py [aws] [gcp] [azure]`.

Installs the locked wheels for Lambda's platform (Python 3.12, arm64) into a scratch directory, adds our own modules, compiles
everything to .pyc, and prints sizes against Lambda's limit, then the same after the optional trim of docs/lambda-package.md.
Needs the network, and uv, which `make setup` installs.
"""

from __future__ import annotations

import argparse
import compileall
import py_compile
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

LIMIT_MB = 250  # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, in units of 1024² bytes
ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
OURS = ("app.py", "chalicelib", "replica_agent")
# What app.py and chalicelib import; the rest of pyproject's dependencies is for laptops and replicas. Chalice packages its own runtime.
RUNTIME = ("boto3", "httpx", "pydantic", "pynamodb", "pyyaml")
SDKS = {"aws": (), "gcp": ("google-cloud-compute",), "azure": ("azure-mgmt-compute", "azure-identity")}
# The services whose descriptions botocore needs here.
BOTOCORE_SERVICES = ("dynamodb", "ec2", "events", "lambda", "sqs", "ssm", "sts", "s3", "scheduler")


def main() -> None:
    """Build, measure, trim, measure again."""
    parser = argparse.ArgumentParser(description="Size of the Lambda package.")
    parser.add_argument("clouds", nargs="*", metavar="CLOUD", help=f"of {', '.join(SDKS)}; default: all")
    clouds = parser.parse_args().clouds or list(SDKS)
    if unknown := set(clouds) - SDKS.keys():
        parser.error(f"no such cloud: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "package"
        build(package, clouds, Path(scratch))
        source_mb = megabytes([package])
        compile_all(package)
        whole_mb = megabytes([package])
        largest = sorted(((megabytes([path]), path.name) for path in package.iterdir()), reverse=True)[:10]
        trim(package)
        report(clouds, source_mb, whole_mb, megabytes([package]), largest)
    sys.exit(whole_mb > LIMIT_MB)


def build(package: Path, clouds: Iterable[str], scratch: Path) -> None:
    """Everything the function ships, as source."""
    locked = scratch / "locked.txt"
    run(
        UV,
        "export",
        "--quiet",
        "--locked",
        "--no-dev",
        "--no-hashes",
        "--no-emit-project",
        "--all-extras",
        "-o",
        locked,
    )
    wanted = [*RUNTIME, *(package for cloud in clouds for package in SDKS[cloud])]
    platform = ("--python-version", "3.12", "--python-platform", "aarch64-manylinux_2_28", "--only-binary", ":all:")
    run(UV, "pip", "install", "--quiet", "--target", package, *platform, "--constraints", locked, *wanted)
    for name in OURS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, package / name)
    for cache in list(package.rglob("__pycache__")):
        shutil.rmtree(cache)


def compile_all(package: Path) -> None:
    """As the package ships: .pyc files that are valid whatever the time stamps of an unzipped file."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(package, quiet=2, workers=0, invalidation_mode=mode)


def trim(package: Path) -> None:
    """The optional trim: descriptions of services that are never called, and files that only developers read."""
    data = package / "botocore" / "data"
    for service in data.iterdir():
        if service.is_dir() and service.name not in BOTOCORE_SERVICES:
            shutil.rmtree(service)
    for pattern in ("*.dist-info/RECORD", "*.pyi", "*.pxd", "*.pyx", "*.c", "*.h"):
        for path in list(package.rglob(pattern)):
            path.unlink()
    for name in ("tests", "testing"):
        for path in [path for path in package.rglob(name) if path.is_dir()]:
            shutil.rmtree(path)


def megabytes(paths: Iterable[Path]) -> float:
    """What Lambda counts: the sum of the files' sizes, in units of 1024² bytes."""
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files) / 1024**2


def report(
    clouds: Iterable[str], source_mb: float, whole_mb: float, trimmed_mb: float, largest: Iterable[tuple[float, str]]
) -> None:
    """The table."""
    print(f"SDKs of {', '.join(clouds)}; limit {LIMIT_MB} MB unzipped")
    for what, size in (("source", source_mb), ("with .pyc", whole_mb), ("with .pyc, trimmed", trimmed_mb)):
        print(f"  {what:20} {size:6.1f} MB")
    print("  largest (with .pyc): " + ", ".join(f"{name} {size:.1f}" for size, name in largest))


def run(*command: object) -> None:
    """Run a tool in the repository. Raises `CalledProcessError`."""
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
