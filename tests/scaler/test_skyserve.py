"""Our scaler beside what SkyServe's own has answered (`python -m benchmarks.skyserve --record`)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.skyserve import ours
from benchmarks.skyserve.accelerators import CORRECTIONS, names_of
from benchmarks.skyserve.check import compare, compare_wanted, name_of
from benchmarks.skyserve.defects import FORGETS
from benchmarks.skyserve.record import loads, wanted

TESTS = Path(__file__).parents[1]
RECORDED = list(loads(TESTS))


def test_the_same_targets_as_skyserve() -> None:
    """At each of SkyServe's looks, ours has its target, in loads that do not touch a defect of its."""
    same = [(trace, ticks) for trace, ticks, difference in RECORDED if difference is None]
    assert len(same) >= 100
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
    """With SkyServe's 300 s and 1200 s as our delays, every move comes exactly one look, 20 s, after SkyServe's."""
    held = (entry for entry in RECORDED if entry[0].family == "held steps" and entry[0].downscale_delay_s == 1200)
    trace, ticks, _ = next(held)
    service, counts = ours.begin(trace, first_look_s=0), trace.counts()
    theirs = [tick.target for tick in ticks]
    assert [service.look(counts, tick.at) for tick in ticks] == theirs[:1] + theirs[:-1]
    assert len(set(theirs)) > 1


def test_every_difference_by_accelerator_has_a_name() -> None:
    """With targets by accelerator, what ours wants is what SkyServe's formula wants with its defects corrected."""
    names: set[str] = set()
    for trace, ticks in wanted(TESTS):
        for difference in compare_wanted(trace, ticks, ours.begin(trace)):
            assert names_of(difference), difference
            names.update(names_of(difference))
    assert names == set(CORRECTIONS)
