"""Targets by accelerator: what SkyServe's formula asks for, and what each of its defects has to do with the difference.

A difference is named by correcting the formula: the fewest corrections that turn SkyServe's answer into ours are its
explanation. The formula as it is must give SkyServe's own answer, or nothing is explained by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations

from benchmarks.skyserve.traces import Trace

LIVE = ("READY", "STARTING", "PROVISIONING")

DEAD_ROWS = "counts dead rows"  # on the way up it adds to the length of its table, what is shutting down included
FROM_ZERO = "cannot wake from zero"  # without a live row it asks for the minimum, whatever the load
HIGHEST = (
    "counts new replicas with the highest target"  # wherever they will go, so that it waits again when they are weaker
)
NOT_YET_READY = "forgets replicas that are starting"  # on the way down it adds up those that are ready, and wants fewer
ONE_MORE = "one more than needed at equality"  # on the way down it asks for more than the load; with no load, for one
CORRECTIONS = (DEAD_ROWS, FROM_ZERO, HIGHEST, NOT_YET_READY, ONE_MORE)

Rows = Sequence[tuple[str, str]]  # (accelerator, SkyServe's status)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A look at which `theirs` and `ours` want different numbers for the same load and the same rows."""

    trace: Trace
    rows: Rows
    qps: float
    theirs: int
    ours: int


def wanted(rows: Rows, qps: float, targets: Mapping[str, float], bounds: tuple[int, int], *corrected: str) -> int:
    """What SkyServe wants before hysteresis, with some of its defects corrected."""
    lowest, highest = bounds
    live = [targets[gpu] for gpu, status in rows if status in LIVE]
    if not live and FROM_ZERO not in corrected:
        return lowest
    if qps >= sum(live):
        present = len(live) if DEAD_ROWS in corrected else len(rows)
        new = min(targets.values()) if HIGHEST in corrected else max(targets.values())
        return max(lowest, min(highest, present + math.ceil((qps - sum(live)) / new)))
    ready = sorted((targets[gpu] for gpu, status in rows if status == "READY"), reverse=True)
    if NOT_YET_READY in corrected:
        ready += sorted((targets[gpu] for gpu, status in rows if status in LIVE[1:]), reverse=True)
    return max(lowest, min(highest, _enough(ready or [max(targets.values())], qps, at_least=ONE_MORE in corrected)))


def _enough(ready: Sequence[float], qps: float, *, at_least: bool) -> int:
    """How many of `ready` together take more than `qps`, or as much; all of them if they do not."""
    if at_least and qps <= 0:
        return 0
    total = 0.0
    for count, able in enumerate(ready, 1):
        total += able
        if total > qps or (at_least and total == qps):
            return count
    return len(ready)


def names_of(difference: Wanted) -> tuple[str, ...]:
    """The fewest defects whose correction turns SkyServe's answer into ours; none if nothing does."""
    trace, rows, qps = difference.trace, difference.rows, difference.qps
    assert isinstance(trace.target_qps, Mapping)
    formula = partial(wanted, rows, qps, trace.target_qps, (trace.min_replicas, trace.max_replicas))
    if formula() != difference.theirs:
        return ()
    candidates = chain.from_iterable(combinations(CORRECTIONS, size) for size in range(1, len(CORRECTIONS) + 1))
    return next((some for some in candidates if formula(*some) == difference.ours), ())
