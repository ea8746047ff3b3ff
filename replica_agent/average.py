"""Averages over the last seconds, of what is counted all the time and of what is sampled. Time is an argument, in seconds."""

from __future__ import annotations

from collections import deque
from math import ceil, floor

LONGEST_WINDOW_S = 600.0
_SECONDS = int(LONGEST_WINDOW_S) + 1  # a window that begins within a second needs all of that second
_STALE_S = 15.0  # three samples missed


class StepAverage:
    """The exact time-weighted average of a count, in constant memory: the area under it is kept by the second.

    The count was 0 before the first change, so that the averages of a service's replicas add up to the average of
    everything in the service, however young some of them are.
    """

    def __init__(self) -> None:
        self._areas = [0.0] * _SECONDS  # count x seconds, by second modulo `_SECONDS`
        self._at = 0.0
        self._count = 0

    def change(self, count: int, now: float) -> None:
        """The count is `count` from `now` on. Time never runs backwards."""
        self._advance(now)
        self._count = count

    def average(self, window_s: float, now: float) -> float:
        """Over the last `window_s` seconds (1 to 600) and as much more as makes the window begin at a whole second."""
        self._advance(now)
        first = floor(now - min(window_s, LONGEST_WINDOW_S))
        return sum(self._areas[second % _SECONDS] for second in range(first, ceil(now))) / (now - first)

    def _advance(self, now: float) -> None:
        at = max(self._at, float(floor(now) - _SECONDS + 1))  # older seconds are in no window any more
        while at < now:
            second = floor(at)
            until = min(second + 1.0, now)
            before = 0.0 if at == second else self._areas[second % _SECONDS]
            self._areas[second % _SECONDS] = before + self._count * (until - at)
            at = until
        self._at = now


class SampleAverage:
    """The mean of samples. What has not been sampled lately is not known: None, which is not 0."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, value: float, now: float) -> None:
        """Keep a sample taken at `now`, and forget those that are in no window any more."""
        self._samples.append((now, value))
        while self._samples[0][0] <= now - LONGEST_WINDOW_S:
            self._samples.popleft()

    def average(self, window_s: float, now: float) -> float | None:
        """Over the last `window_s` seconds, or the newest sample where they are too few for one."""
        if not self._samples or self._samples[-1][0] <= now - _STALE_S:
            return None
        values = [value for at, value in self._samples if at > now - window_s] or [self._samples[-1][1]]
        return sum(values) / len(values)
