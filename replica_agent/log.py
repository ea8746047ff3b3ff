"""The engine's output on disk, bounded: `replica.log`, and the part before it in `replica.log.1`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

_LIMIT_BYTES = 10_000_000
_POLL_S = 0.2


class Log:
    """Appends bytes and starts a new file every `limit_bytes`, keeping one old one."""

    def __init__(self, path: Path, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._path = path
        self._old = path.with_name(path.name + ".1")
        self._limit_bytes = limit_bytes
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append as it is; the engine decides about lines and times."""
        if self._file.tell() + len(data) > self._limit_bytes:
            self._file.close()
            self._path.replace(self._old)
            self._file = self._path.open("ab", buffering=0)
        self._file.write(data)

    def say(self, text: str) -> None:
        """Append a line of our own. A full disk costs the line, not the replica."""
        with suppress(OSError):
            self.write(f"[sailplane] {text}\n".encode())

    def close(self) -> None:
        """Nothing is written after this."""
        self._file.close()

    def tail(self, lines: int, limit_bytes: int = 2 * _LIMIT_BYTES) -> str:
        """The last `lines` lines, of the last `limit_bytes` bytes at most."""
        data = b""
        for path in (self._path, self._old):
            if data.count(b"\n") <= lines and len(data) < limit_bytes and path.exists():
                data = _end(path, limit_bytes - len(data)) + data
        return b"".join(data.splitlines(keepends=True)[-lines:] if lines else []).decode(errors="replace")

    async def follow(self, lines: int, finished: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The last `lines` lines, then everything new, until `finished()` and all is told."""
        current = self._path.open("rb")
        try:
            current.seek(0, os.SEEK_END)
            yield self.tail(lines).encode()
            while True:
                over = finished()
                rotated = os.fstat(current.fileno()).st_ino != self._path.stat().st_ino
                data = current.read()
                if data:
                    yield data
                if rotated:
                    current.close()
                    current = self._path.open("rb")
                elif over and not data:
                    return
                elif not data:
                    await asyncio.sleep(_POLL_S)
        finally:
            current.close()


def _end(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(limit_bytes, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read()
