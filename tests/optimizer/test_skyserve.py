"""Our SpotHedge beside what SkyServe's own has answered (`python -m benchmarks.skyserve --record`)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.skyserve import spot
from benchmarks.skyserve.check import UNEXPLAINED
from benchmarks.skyserve.record import hunts, mixes

TESTS = Path(__file__).parents[1]


def test_the_same_numbers_of_spot_and_on_demand_replicas() -> None:
    """For every target above the base, ours wants what SkyServe wants; below it each difference has a name."""
    names = set()
    for policy, theirs in mixes(TESTS):
        differences, _ = spot.compare_mixes(policy, theirs)
        names |= {spot.mix_name(difference) for difference in differences}
        assert not [one for one in differences if one.target > policy.base]
    assert names == {"keeps the extra at zero", "fails below the base"}
    assert UNEXPLAINED not in names


def test_the_same_zones() -> None:
    """After each event the same zones are active, and each selection takes the same one of them."""
    recorded = list(hunts(TESTS))
    assert len(recorded) >= 20
    assert [hunt.seed for hunt, theirs in recorded if list(spot.follow(hunt)) != theirs] == []
