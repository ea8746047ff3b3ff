"""The engine's newest output on standard output, which a cloud keeps as the machine's console log after the machine is gone."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from replica_agent.log import Log

# Standard output also goes to a file on the machine's disk that nobody rotates (cloud-init's): 2 KB a second are 170 MB a day.
_PAUSE_S, _LIMIT_BYTES = 1.0, 2_048


async def echo(log: Log, descriptor: int) -> None:
    """Write the end of what was logged since the last time, until cancelled. A console that is full or slow misses some."""
    os.set_blocking(descriptor, False)
    async for data in log.follow(0, finished=lambda: False):
        with suppress(OSError):
            os.write(descriptor, data[-_LIMIT_BYTES:])
        await asyncio.sleep(_PAUSE_S)
