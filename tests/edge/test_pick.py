"""Which replica gets a request."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.pick import eligible, pick
from edge_router.table import POLICIES, Replica, Service

ids = st.sampled_from([f"r{number}" for number in range(8)])
services = st.builds(
    lambda policy, loads: Service(
        policy, "READY", tuple(Replica(name, f"http://{name}", load) for name, load in loads.items())
    ),
    st.sampled_from(POLICIES),
    st.dictionaries(ids, st.integers(0, 5), max_size=8),
)
tallies = st.dictionaries(ids, st.integers(0, 5))
fractions = st.floats(0, 1, exclude_max=True)


avoided = st.lists(ids, max_size=3, unique=True)


@given(services, tallies, tallies, fractions, avoided)
def test_a_replica_to_avoid_is_picked_only_when_there_is_no_other(
    service: Service, sent: dict[str, int], turns: dict[str, int], fraction: float, avoid: list[str]
) -> None:
    """Under any policy. When all are to be avoided, the least important one to avoid is picked; none gives None."""
    replica = pick(service, sent=sent, turns=turns, avoid=avoid, random=fraction)
    there = {each.id for each in service.replicas}
    if not there:
        assert replica is None
    elif there <= set(avoid):
        assert replica is not None
        assert replica.id == max(there, key=avoid.index)
    else:
        assert replica is not None
        assert replica.id in there - set(avoid)


@given(services, tallies, tallies, fractions, avoided)
def test_least_load_picks_a_minimum(
    service: Service, sent: dict[str, int], turns: dict[str, int], fraction: float, avoid: list[str]
) -> None:
    """No eligible replica has a lower sum of published and since sent requests than the one that is picked."""
    service = Service("least_load", service.status, service.replicas)
    replica = pick(service, sent=sent, turns=turns, avoid=avoid, random=fraction)
    loads = [other.in_flight + sent.get(other.id, 0) for other in eligible(service.replicas, avoid)]
    if replica is None:
        assert loads == []
    else:
        assert replica.in_flight + sent.get(replica.id, 0) == min(loads)


@given(st.integers(1, 8), st.integers(0, 5))
def test_round_robin_goes_round(replicas: int, start: int) -> None:
    """Any n requests in a row reach each of n replicas once, whatever the published loads."""
    service = Service("round_robin", "READY", tuple(Replica(f"r{n}", f"http://r{n}", n) for n in range(replicas)))
    turns: dict[str, int] = {}
    order = []
    for turn in range(start + replicas):
        replica = pick(service, sent={}, turns=turns, avoid=(), random=0.5)
        assert replica is not None
        turns[replica.id] = turn + 1
        order.append(replica.id)
    assert len(set(order[start:])) == replicas


@pytest.mark.parametrize("policy", POLICIES)
def test_ties_are_spread(policy: str) -> None:
    """Equals are decided by chance alone: routers that know nothing yet do not all start with the first replica."""
    service = Service(policy, "READY", tuple(Replica(f"r{n}", f"http://r{n}") for n in range(4)))
    dice = random.Random(7)
    picks = Counter(pick(service, sent={}, turns={}, avoid=(), random=dice.random()) for _ in range(4000))
    assert len(picks) == 4
    assert all(900 < count < 1100 for count in picks.values())
