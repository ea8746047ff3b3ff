"""How many requests are inside, and whether more may come."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Gate:
    """`with gate:` around each proxied request counts it until its last byte."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.draining = False  # routers were told to stop; those that have not heard yet are still served
        self.closed = False  # the agent is ending; nothing new is served
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    async def close(self, timeout_s: float) -> None:
        """Let nothing more in and wait until all are out, or for `timeout_s`."""
        self.draining = self.closed = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return
