"""The interruption notice of a machine on a laptop: a file that says when the machine will be taken."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

_POLL_S = 0.2


class Notice:
    """Watches `notice.json`, {"interruption_at": epoch seconds}."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def interruption_at(self) -> float | None:
        """Epoch seconds, or None while no notice was given."""
        try:
            return float(json.loads(self._path.read_text(encoding="utf-8"))["interruption_at"])
        except (FileNotFoundError, ValueError):
            return None  # no notice, or one that is still being written

    async def wait(self) -> None:
        """Return at the instant of the interruption."""
        while (at := self.interruption_at) is None or time.time() < at:
            remaining_s = _POLL_S if at is None else at - time.time()
            await asyncio.sleep(max(0.0, min(_POLL_S, remaining_s)))
