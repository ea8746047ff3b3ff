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


@given(services, tallies, tallies, fractions)
def test_a_replica_to_avoid_is_picked_only_when_it_is_the_last_one(
    service: Service, sent: dict[str, int], turns: dict[str, int], fraction: float
) -> None:
    """What is filtered out is never picked, under any policy; the only replica is, avoided or not; none gives None."""
    for avoid in ("", *(replica.id for replica in service.replicas)):
        replica = pick(service, sent=sent, turns=turns, avoid=avoid, random=fraction)
        if not service.replicas:
            assert replica is None
        elif len(service.replicas) == 1:
            assert replica == service.replicas[0]
        else:
            assert replica in service.replicas
            assert replica.id != avoid


@given(services, tallies, tallies, fractions, ids)
def test_least_load_picks_a_minimum(
    service: Service, sent: dict[str, int], turns: dict[str, int], fraction: float, avoid: str
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
        replica = pick(service, sent={}, turns=turns, avoid="", random=0.5)
        assert replica is not None
        turns[replica.id] = turn + 1
        order.append(replica.id)
    assert len(set(order[start:])) == replicas


@pytest.mark.parametrize("policy", POLICIES)
def test_ties_are_spread(policy: str) -> None:
    """Equals are decided by chance alone: routers that know nothing yet do not all start with the first replica."""
    service = Service(policy, "READY", tuple(Replica(f"r{n}", f"http://r{n}") for n in range(4)))
    dice = random.Random(7)
    picks = Counter(pick(service, sent={}, turns={}, avoid="", random=dice.random()) for _ in range(4000))
    assert len(picks) == 4
    assert all(900 < count < 1100 for count in picks.values())
