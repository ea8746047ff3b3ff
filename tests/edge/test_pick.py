"""Which replica gets a request."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.pick import Picker, Wish
from edge_router.table import POLICIES, Replica, Service

NOW = 1_700_000_000.0


def picker(service: Service, dice: Callable[[], float], location: str = "") -> Picker:
    return Picker(service, None, location, dice)


def picked(picker: Picker, wish: Wish | None = None) -> Replica:
    replica = picker.pick(wish or Wish(), NOW)
    assert replica is not None
    return replica


ids = st.sampled_from([f"r{number}" for number in range(8)])
services = st.builds(
    lambda policy, loads: Service(
        policy, "READY", tuple(Replica(name, f"http://{name}", in_flight=load) for name, load in loads.items())
    ),
    st.sampled_from(POLICIES),
    st.dictionaries(ids, st.integers(0, 5), max_size=8),
)
fractions = st.floats(0, 1, exclude_max=True)


avoided = st.lists(ids, max_size=3, unique=True)


@given(services, fractions, avoided)
def test_a_replica_to_avoid_is_picked_only_when_there_is_no_other(
    service: Service, fraction: float, avoid: list[str]
) -> None:
    """Under any policy. When all are to be avoided, the least important one to avoid is picked; none gives None."""
    replica = picker(service, lambda: fraction).pick(Wish(avoid), NOW)
    there = {each.id for each in service.replicas}
    if not there:
        assert replica is None
    elif there <= set(avoid):
        assert replica is not None
        assert replica.id == max(there, key=avoid.index)
    else:
        assert replica is not None
        assert replica.id in there - set(avoid)


@given(st.integers(1, 8), st.integers(0, 5))
def test_round_robin_goes_round(replicas: int, start: int) -> None:
    """Any n requests in a row reach each of n replicas once, whatever the published loads."""
    service = Service(
        "round_robin", "READY", tuple(Replica(f"r{n}", f"http://r{n}", in_flight=n) for n in range(replicas))
    )
    one = picker(service, lambda: 0.5)
    order = [picked(one).id for _ in range(start + replicas)]
    assert len(set(order[start:])) == replicas


@pytest.mark.parametrize("policy", POLICIES)
def test_ties_are_spread(policy: str) -> None:
    """Equals are decided by chance alone: routers that know nothing yet do not all start with the first replica."""
    service = Service(policy, "READY", tuple(Replica(f"r{n}", f"http://r{n}") for n in range(4)))
    dice = random.Random(7)
    picks = Counter(picked(picker(service, dice.random)).id for _ in range(4000))
    assert len(picks) == 4
    assert all(900 < count < 1100 for count in picks.values())
