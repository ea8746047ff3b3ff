"""The offline bound against every plan there is, on markets small enough to list them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.model import Location
from sailplane.sim import bound
from sailplane.sim.market import Market, Zone

STEP_S = 3600.0
ON_DEMAND = 5.0


def market(capacity: Sequence[Sequence[int]], prices: Sequence[Sequence[float]]) -> Market:
    zones = tuple(
        Zone(Location("aws", f"r{number}", f"r{number}a"), STEP_S, tuple(room), tuple(usd))
        for number, (room, usd) in enumerate(zip(capacity, prices, strict=True))
    )
    return Market("tiny", "m", "L4", 1, ON_DEMAND, zones, len(capacity[0]) * STEP_S)


def cheapest(small: Market, target: int, cold_start_s: float) -> float:
    """By trying every number of machines in every pool and step; starts cost as the bound says."""
    steps = len(small.zones[0].capacity)
    first = -int(-cold_start_s // STEP_S)
    whole = int(cold_start_s // STEP_S)
    pools: Sequence[tuple[Sequence[int], Sequence[float]]] = [
        (
            [min(zone.capacity[max(0, t - whole) : t + 1]) for t in range(steps)],
            [zone.spot_usd_per_hour[t] for t in range(steps)],
        )
        for zone in small.zones
    ] + [([target] * steps, [ON_DEMAND] * steps)]
    best = {(0,) * len(pools): 0.0}  # serving in the last step -> least cost so far
    for t in range(steps):
        choices = itertools.product(*(range(room[t] + 1) for room, _ in pools))
        allowed = [one for one in choices if t < first or sum(one) >= target]
        best = {
            now: min(cost + _usd(pools, before, now, t, cold_start_s) for before, cost in best.items())
            for now in allowed
        }
    return min(best.values())


def _usd(
    pools: Sequence[tuple[Sequence[int], Sequence[float]]],
    before: Sequence[int],
    now: Sequence[int],
    t: int,
    cold_start_s: float,
) -> float:
    """What step `t` costs with so many machines in each pool after so many."""
    usd = 0.0
    for (_, prices), count, earlier in zip(pools, now, before, strict=True):
        lowest = min(prices[max(0, t + int(-cold_start_s // STEP_S)) : t + 1])
        usd += count * prices[t] + max(0, count - earlier) * lowest * cold_start_s / 3600
    return usd


@st.composite
def markets(draw: st.DrawFn) -> Market:
    steps = draw(st.integers(2, 4))
    zones = draw(st.integers(1, 2))
    capacity = draw(
        st.lists(st.lists(st.integers(0, 2), min_size=steps, max_size=steps), min_size=zones, max_size=zones)
    )
    price = st.sampled_from([1.0, 1.5, 2.0, 4.0])
    prices = draw(st.lists(st.lists(price, min_size=steps, max_size=steps), min_size=zones, max_size=zones))
    return market(capacity, prices)


@settings(max_examples=25, deadline=None)
@given(markets(), st.integers(1, 2), st.sampled_from([0.0, 900.0, 3600.0, 5400.0]))
def test_the_bound_is_the_cheapest_of_all_plans(small: Market, target: int, cold_start_s: float) -> None:
    """Whole machines can always reach it: the relaxation to divisible ones gives nothing away."""
    found = bound.offline(small, target, small.duration_s, cold_start_s)
    assert found.usd == pytest.approx(cheapest(small, target, cold_start_s), abs=1e-6)


def test_a_bound_by_hand() -> None:
    """Three hours, one zone that fails in the second: spot at $1, on demand at $5 in between, three starts of a quarter hour."""
    found = bound.offline(market([[1, 0, 1]], [[1.0, 1.0, 1.0]]), 1, 3 * STEP_S, 0.0)
    assert found.usd == pytest.approx(1 + 5 + 1)
    assert found.spot_share == pytest.approx(2 / 3)
    # Ready from the second hour on: on demand for it, then the zone again, each with its cold start before.
    found = bound.offline(market([[1, 0, 1]], [[1.0, 1.0, 1.0]]), 1, 3 * STEP_S, 900.0)
    assert found.usd == pytest.approx(5 + 5 / 4 + 1 + 1 / 4)
