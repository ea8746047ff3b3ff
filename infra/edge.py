"""The edge router as each cloud's functions take it: `python -m infra.edge [aws] [gcp] [azure] [--out DIR]`.

One zip a platform, with exactly the modules that its entry point needs (found by following the imports) and what the
platform reads beside them. The same sources give the same bytes, so that a hash tells whether there is anything new.

No .pyc files: they would save a seventh of a cold start's CPU, triple the size, and be good for one minor version of
Python (docs/adr/0018-the-edge-on-functions.md).
"""

from __future__ import annotations

import argparse
import ast
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from infra import archive
from infra.checkout import ROOT

ENTRIES = {"aws": "lambda_function.py", "gcp": "main.py", "azure": "function_app.py"}
LIMIT_BYTES = 100_000
_PACKAGE = "edge_router"


def main() -> None:
    """Build, and say how large."""
    parser = argparse.ArgumentParser(description="Build the edge router for functions.", prog="python -m infra.edge")
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=f"of {', '.join(ENTRIES)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="default: dist/")
    arguments = parser.parse_args()
    platforms = arguments.platforms or list(ENTRIES)
    if unknown := set(platforms) - ENTRIES.keys():
        parser.error(f"no such platform: {', '.join(sorted(unknown))}")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        sizes = [report(build(platform, arguments.out)) for platform in platforms]
    except OSError as error:
        parser.error(f"cannot write to {arguments.out} ({error}); give another directory with --out")
    sys.exit(max(sizes) > LIMIT_BYTES)


def build(platform: str, out: Path) -> Path:
    """`<out>/edge-<platform>.zip`, written anew."""
    return archive.write(out / f"edge-{platform}.zip", contents(platform))


def contents(platform: str) -> dict[str, bytes]:
    """The files of a platform's zip, by name."""
    folder = ROOT / "infra" / "functions" / platform
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for path in needed(folder / ENTRIES[platform]):
        files[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    return files


def needed(entry: Path) -> set[Path]:
    """The modules of the router that `entry` imports, and those that they import."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        for path in imported(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return found


def imported(module: Path) -> Iterator[Path]:
    """The router's modules that one file imports, with the packages that they stand in."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield from files_of(name.split("."))


def files_of(parts: Sequence[str]) -> Iterator[Path]:
    """The file of a module of the router and those of its packages; none for anything else."""
    if parts[0] != _PACKAGE:
        return
    for count in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:count])
        yield from (file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file())


def report(path: Path) -> int:
    """One line; the size in bytes."""
    with zipfile.ZipFile(path) as built:
        members = built.infolist()
    size = path.stat().st_size
    unzipped = sum(member.file_size for member in members)
    print(f"{path}  {size:,} bytes ({len(members)} files, {unzipped:,} bytes unzipped)")
    return size


if __name__ == "__main__":
    main()
