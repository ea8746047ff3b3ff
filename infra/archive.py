"""Zip files whose bytes depend on what is in them only, so that a hash tells whether there is anything new."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first instant that a zip can hold
_READABLE = 0o644 << 16


def write(path: Path, contents: Mapping[str, bytes]) -> Path:
    """A zip of `contents` (bytes by name) at `path`, written anew; `path`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(contents.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = _READABLE
            info.create_system = 3  # Unix, or the mode is not read
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path
