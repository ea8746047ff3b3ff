"""Our scaler beside what SkyServe's own has answered (`python -m benchmarks.skyserve --record`)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.skyserve import ours
from benchmarks.skyserve.check import compare, name_of
from benchmarks.skyserve.defects import FIRST_LOOK, FORGETS
from benchmarks.skyserve.record import loads

RECORDED = list(loads(Path(__file__).parents[1]))


def test_the_same_targets_as_skyserve() -> None:
    """At each of SkyServe's looks, ours has its target, in loads that do not touch a defect of its."""
    same = [(trace, ticks) for trace, ticks, difference in RECORDED if difference is None]
    assert len(same) >= 150
    different = [(trace.family, trace.seed) for trace, ticks in same if any(compare(trace, ticks, ours.begin(trace)))]
    assert different == []


def test_every_difference_from_skyserve_has_a_name() -> None:
    """Where a load does touch one, ours differs at that look and not before, and the defect explains how."""
    others = [(trace, ticks, name) for trace, ticks, name in RECORDED if name is not None]
    assert {name for _, _, name in others} == {FORGETS.name}
    for trace, ticks, name in others:
        difference = next(compare(trace, ticks, ours.begin(trace)))
        assert difference.tick is ticks[-1]
        assert name_of(difference) == name


def test_delays_as_written_differ_by_one_look() -> None:
    """With SkyServe's 300 s and 1200 s as ours, ours moves at most one look, 20 s, later, and differs in nothing else."""
    trace, ticks, _ = next(entry for entry in RECORDED if entry[0].family == "held steps")
    differences = list(compare(trace, ticks, ours.begin(trace, first_look_s=0)))
    assert differences
    assert {name_of(difference) for difference in differences} == {FIRST_LOOK.name}
