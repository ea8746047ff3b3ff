"""Virtual time: one heap of what is yet to happen."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

# Instants are multiples of this, so that adding and subtracting whole seconds is exact and a pass that is skipped falls on the
# same instants as one that is not. Epoch seconds leave 2^-22 in a double.
TICK_S = 2.0**-10


def to_ticks(seconds: float) -> float:
    """`seconds`, rounded to a multiple of `TICK_S`."""
    return round(seconds / TICK_S) * TICK_S


class Scheduler:
    """`ports.Clock`, and what moves it. What is due at one instant happens in the order in which it was asked for.

    Passes come last: when one was asked for depends on how many before it were skipped.
    """

    def __init__(self, start: float) -> None:
        self.time = start
        self._due: list[tuple[float, bool, int, Callable[[], None]]] = []
        self._order = count()
        self.is_over = False

    def now(self) -> float:
        return self.time

    def at(self, instant: float, happen: Callable[[], None], *, last: bool = False) -> None:
        """Let something happen at an instant; one that has passed means now. `last`: after all else that is due then."""
        if not self.is_over:
            heappush(self._due, (max(self.time, to_ticks(instant)), last, next(self._order), happen))

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen in a while."""
        self.at(self.time + seconds, happen)

    def end(self) -> None:
        """Let nothing else happen."""
        self.is_over = True
        self._due.clear()

    @property
    def next_at(self) -> float:
        """When the next thing happens, or infinity."""
        return self._due[0][0] if self._due else math.inf

    def run_until(self, instant: float) -> None:
        """Let everything up to an instant happen. May be called by what happens: a call that takes its time."""
        while self._due and self._due[0][0] <= instant:
            at, _, _, happen = heappop(self._due)
            self.time = max(self.time, at)
            happen()
        self.time = max(self.time, instant)
