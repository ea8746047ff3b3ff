"""What time it is for the control plane, whose clock signs grants and commands. A machine's own may be hours off, or jump."""

from __future__ import annotations

import time
from collections.abc import Callable

# Less than this is the way of a command to here, and the second that its timestamp is cut to.
_TOLERATED_S = 2.0


class ControlTime:
    """The machine's clock, until a command of the control plane shows that it is wrong: epoch seconds."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._learned: float | None = None  # the control plane's time when `steady` was 0

    def now(self) -> float:
        """The best guess."""
        wall, told = self._wall(), self.told()
        return wall if told is None or abs(told - wall) <= _TOLERATED_S else told

    def told(self) -> float | None:
        """By what the control plane said last, however the machine's clock was set since; None before it said anything."""
        return None if self._learned is None else self._steady() + self._learned

    def learn(self, at: float) -> None:
        """It is `at` now, says an authentic command."""
        self._learned = at - self._steady()
