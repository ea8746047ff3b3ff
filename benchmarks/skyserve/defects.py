"""What SkyServe does otherwise than ours, each with the rule by which a difference is recognized as that and nothing else.

The rules read SkyServe's answers only, never our state: a bug of ours cannot name itself a defect of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.skyserve.traces import TICK_S, Trace


@dataclass(frozen=True, slots=True)
class Tick:
    """One look of SkyServe's autoscaler: `wanted` before hysteresis, and how many looks it has counted either way."""

    at: int
    target: int
    wanted: int
    up: int
    down: int
    rows: Sequence[tuple[str, str]] = ()  # its replica table before the look: (GPU, status)


@dataclass(frozen=True, slots=True)
class Difference:
    """The last of `ticks` set SkyServe's target; ours is another one. `before` was the target of both.

    `ticks` begins with what its counters held when both sides last agreed.
    """

    trace: Trace
    ticks: Sequence[Tick]
    before: int
    ours: int

    def __str__(self) -> str:
        return f"{self.trace}: from {self.before}, ours goes to {self.ours} at {self.tick}"

    @property
    def tick(self) -> Tick:
        return self.ticks[-1]


@dataclass(frozen=True, slots=True)
class Defect:
    """A known difference. `explains` says whether this one is it."""

    name: str
    explanation: str
    explains: Callable[[Difference], bool]


def _forgot(difference: Difference) -> bool:
    """SkyServe did not move, ours did, to what is wanted: looks for it outnumber the others by the delay, with a break.

    Counted are the looks at SkyServe's present target, from the one on from which they outnumber the others most.
    """
    tick, trace = difference.tick, difference.trace
    if tick.target != difference.before or difference.ours != tick.wanted:
        return False
    sign = _sign(tick)
    lead, interrupted = 0, False
    for earlier in reversed(difference.ticks):
        if earlier.target != tick.target:
            break
        interrupted |= _sign(earlier) != sign
        lead += 1 if _sign(earlier) == sign else -1
        if interrupted and lead * TICK_S >= _delay_s(trace, sign):
            return True
    return False


def _counts_the_first_look(difference: Difference) -> bool:
    """SkyServe moved at its last necessary look, one tick short of the delay after its first one; ours waits."""
    tick, before = difference.tick, difference.before
    sign = (tick.target > before) - (tick.target < before)
    if difference.ours != before or tick.target != tick.wanted or not sign:
        return False
    looks = _delay_s(difference.trace, sign) // TICK_S
    run = [(earlier.wanted > before) - (earlier.wanted < before) for earlier in difference.ticks[-looks:]]
    return run == [sign] * looks


def _sign(tick: Tick) -> int:
    return (tick.wanted > tick.target) - (tick.wanted < tick.target)


def _delay_s(trace: Trace, sign: int) -> int:
    return trace.upscale_delay_s if sign > 0 else trace.downscale_delay_s


FORGETS = Defect(
    "forgets at one look",
    "SkyServe's counters start again at the first look that is not above (or below) the target; ours drain",
    _forgot,
)
FIRST_LOOK = Defect(
    "counts the first look",
    "SkyServe counts looks: 300 s are fifteen of them, 280 s from first to last; ours are 300 s",
    _counts_the_first_look,
)
DEFECTS = (FORGETS, FIRST_LOOK)
