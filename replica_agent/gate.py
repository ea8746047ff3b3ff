"""How many requests are inside, and whether more may come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from replica_agent.average import StepAverage


class Gate:
    """Counts each proxied request from `enter` to `leave`, which comes with its last byte."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.in_flight = 0
        self.draining = False  # routers were told to stop; those that have not heard yet are still served
        self.closed = False  # the agent is ending; nothing new is served
        self._idle = asyncio.Event()
        self._idle.set()
        self._now = now
        self._history = StepAverage()

    def enter(self) -> None:
        self.in_flight += 1
        self._history.change(self.in_flight, self._now())
        self._idle.clear()

    def leave(self) -> None:
        self.in_flight -= 1
        self._history.change(self.in_flight, self._now())
        if self.in_flight == 0:
            self._idle.set()

    def average_in_flight(self, window_s: float) -> float:
        """How many were inside, on average, during the last `window_s` seconds."""
        return self._history.average(window_s, self._now())

    async def close(self, timeout_s: float) -> None:
        """Let nothing more in and wait until all are out, or for `timeout_s`."""
        self.draining = self.closed = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return
