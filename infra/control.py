"""The control plane's package for Lambda: our modules and the locked wheels of the clouds in use, compiled, in one zip.

The same sources, lock file and Python give the same bytes. Wheels are fetched from PyPI by uv, which checks every file
against uv.lock.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from infra import archive, descriptions
from infra.checkout import ROOT, TOP

LIMIT_MB = (
    250  # unzipped, in units of 1024² bytes: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
)
# What each cloud's provider imports beside requirements.txt.
SDKS: Mapping[str, tuple[str, ...]] = {
    "aws": (),
    "gcp": ("google-cloud-compute",),
    "azure": ("azure-mgmt-compute", "azure-identity"),
}
# By Lambda's architecture uv's platform, and by its Python the oldest glibc that wheels may want: 3.11 runs on Amazon Linux 2
# (glibc 2.26), the others on Amazon Linux 2023 (2.34): https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
ARCHITECTURES: Mapping[str, str] = {"arm64": "aarch64", "x86_64": "x86_64"}
PYTHONS: Mapping[str, str] = {
    "3.11": "manylinux2014",
    "3.12": "manylinux_2_34",
    "3.13": "manylinux_2_34",
    "3.14": "manylinux_2_34",
}
# The services whose descriptions botocore needs here; those of the other 400 are 25 MB.
_BOTOCORE_SERVICES = frozenset({"dynamodb", "ec2", "events", "lambda", "sqs", "ssm", "sts"})
_OURS = ("chalicelib", "replica_agent")
# What only developers read, and what installers leave behind. Licences stay.
_TRIMMED = (
    "*.pyi",
    "*.pxd",
    "*.pyx",
    "*.c",
    "*.h",
    "py.typed",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
)
_TESTS = ("tests", "testing")


class CannotPackage(Exception):
    """A package cannot be built here; the message says what is missing and how to get it."""


def build(path: Path, scratch: Path, clouds: Iterable[str], python: str, arch: str) -> Path:
    """The zip at `path`. `scratch` is an empty directory for the way there. Raises `CannotPackage`."""
    compiler = interpreter(python)
    package = scratch / "package"
    fetch(package, export_locked(scratch / "locked.txt"), clouds, python, arch)
    _add_ours(package)
    _trim(package)
    _compile(package, compiler)
    return archive.write(path, {each.relative_to(package).as_posix(): each.read_bytes() for each in files(package)})


def interpreter(python: str) -> str:
    """Some Python of that version, which alone can compile for it. Raises `CannotPackage`."""
    for found in filter(None, (sys.executable, shutil.which(f"python{python}"))):
        asked = [found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == python:
            return found
    raise CannotPackage(
        f"There is no python{python} on the PATH to compile for Lambda's. Install it, or package for this one:"
        f" --python {sys.version_info.major}.{sys.version_info.minor}"
    )


def files(package: Path) -> list[Path]:
    """Every file in a directory, in order."""
    return sorted(path for path in package.rglob("*") if path.is_file())


def export_locked(path: Path) -> Path:
    """What uv.lock says, with hashes, as constraints at `path`. Raises `CannotPackage`."""
    _uv("export", "--locked", "--no-dev", "--no-emit-project", "--all-extras", "--output-file", path)
    return path


def fetch(package: Path, locked: Path, clouds: Iterable[str], python: str, arch: str) -> None:
    """The wheels that the control plane imports into the directory `package`. Raises `CannotPackage`, for a wrong hash too."""
    _uv(
        *("pip", "install", "--target", package, "--constraints", locked, "--only-binary", ":all:"),
        *("--python-version", python, "--python-platform", f"{ARCHITECTURES[arch]}-{PYTHONS[python]}"),
        *("--link-mode", "copy"),  # files are changed here, which uv's cache and other environments must not share
        *("--requirements", TOP / "requirements.txt"),
        *(name for cloud in clouds for name in SDKS[cloud]),
    )


def _uv(*arguments: object) -> None:
    """Run uv. Raises `CannotPackage` with what it says."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise CannotPackage(
            f"uv, which reads uv.lock, is not installed beside this Python: {sys.executable} -m pip install uv"
        )
    done = subprocess.run([uv, "--quiet", *map(str, arguments)], capture_output=True, text=True, cwd=TOP, check=False)
    if done.returncode:
        raise CannotPackage(
            f"uv {arguments[0]} failed; check the network and try again. It said:\n{done.stderr.strip()}"
        )


def _add_ours(package: Path) -> None:
    """Our sources, and of Chalice the runtime, as Chalice's own packager does: all of it would be 21 MB."""
    import chalice  # noqa: PLC0415 nothing else here needs it

    runtime = package / "chalice"
    runtime.mkdir()
    for name in ("__init__.py", "app.py"):
        shutil.copy(Path(str(chalice.__file__)).with_name(name), runtime / name)
    for name in _OURS:
        shutil.copytree(ROOT / name, package / name)
    shutil.copy(TOP / "app.py", package)


def _trim(package: Path) -> None:
    for service in (package / "botocore" / "data").iterdir():
        if service.is_dir() and service.name not in _BOTOCORE_SERVICES:
            shutil.rmtree(service)
    descriptions.trim(package / "botocore" / "data" / "ec2", (package / "chalicelib/providers/aws").glob("*.py"))
    for pattern in _TRIMMED:
        for path in list(package.rglob(pattern)):
            path.unlink()
    for name in ("__pycache__", *_TESTS):
        for path in list(package.rglob(name)):
            shutil.rmtree(path)
    shutil.rmtree(package / "bin", ignore_errors=True)


def _compile(package: Path, compiler: str) -> None:
    """.pyc files that are valid whatever the time stamps of an unzipped file, and the same each time.

    One process and one order, one seed: what is interned before a file is compiled shows in its bytes, and so does the order
    of a set.
    """
    options = ["-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(package), "-p", "/var/task"]
    command = [compiler, "-P", "-m", "compileall", *options, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONHASHSEED": "0"})
    if done.returncode:
        raise CannotPackage(f"{compiler} cannot compile the package:\n{(done.stdout + done.stderr).strip()}")
