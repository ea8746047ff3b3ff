"""Copying a service's working directory to a replica."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from chalicelib.errors import LaunchRefused

_LEFT_OUT = frozenset({".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", "node_modules"})
LIMIT_BYTES = 512 * 2**20


def copy(source: Path, target: Path, never: Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Copy the tree, without version control, environments and caches, and without `never` (where copies are kept).

    Raises:
        LaunchRefused: `source` is no directory, lies within `never`, is larger than `limit_bytes`, or holds what cannot be
            copied.
        OSError: the disk is full.
    """
    source = source.resolve()  # as `never` is: a link around it would let the copy contain itself
    if not source.is_dir():
        raise LaunchRefused(f"workdir {source} is not a directory on this machine")
    if source.is_relative_to(never):
        raise LaunchRefused(f"workdir {source} lies where replicas are kept")
    left_out = _left_out(never)
    size_bytes = _size_bytes(source, left_out)
    if size_bytes > limit_bytes:
        raise LaunchRefused(
            f"workdir {source} holds {size_bytes / 2**20:.0f} MB, more than the {limit_bytes / 2**20:.0f} MB that are copied to"
            " a replica. Point workdir at a smaller directory and let `setup` fetch what is large."
        )
    try:
        shutil.copytree(source, target, symlinks=True, ignore=left_out)
    except shutil.Error as error:
        failures = error.args[0]  # one for each file: as text it could be larger than any record may be
        path, _, why = failures[0]
        raise LaunchRefused(
            f"workdir {source}: {len(failures)} files cannot be copied, {path} for one: {why}"
        ) from error


def _left_out(never: Path) -> Callable[[str, list[str]], set[str]]:
    def ignore(directory: str, names: list[str]) -> set[str]:
        paths = {name: Path(directory, name) for name in names}
        # Sockets and pipes have no contents to copy.
        return {
            name
            for name, path in paths.items()
            if name in _LEFT_OUT or path == never or not (path.is_symlink() or path.is_dir() or path.is_file())
        }

    return ignore


def _size_bytes(source: Path, left_out: Callable[[str, list[str]], set[str]]) -> int:
    total = 0
    for directory, folders, files in os.walk(source):
        ignored = left_out(directory, [*folders, *files])
        folders[:] = [name for name in folders if name not in ignored]
        total += sum(Path(directory, name).lstat().st_size for name in files if name not in ignored)
    return total
