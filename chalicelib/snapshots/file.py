"""A snapshot in a file of this machine, for the laptop."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from chalicelib.errors import Unreachable


class FileSnapshots:
    """`ports.Snapshots` in one file, replaced as a whole so that nobody reads half of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise Unreachable(f"{self._path} cannot be read: {error}") from error

    def write(self, text: str) -> None:
        draft = self._path.with_name(f".{self._path.name}-{uuid4().hex}")  # several passes may write at once
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise Unreachable(f"{self._path} cannot be written: {error.strerror}") from error
