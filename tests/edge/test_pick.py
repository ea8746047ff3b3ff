"""Which replica gets a request."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.pick import Picker, Wish
from edge_router.quotas import shares
from edge_router.rendezvous import rendezvous
from edge_router.table import POLICIES, Key, Replica, Service

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


def replicas(count: int, **fields: float) -> tuple[Replica, ...]:
    return tuple(
        Replica(f"svc-a1b2-{n}-1", f"http://r{n}", seed=crc32(b"svc-a1b2-%d-1" % n), **fields)  # type: ignore[arg-type]  # fields by name
        for n in range(count)
    )


def prompts(count: int) -> Iterator[bytes]:
    return (b"You are a helpful assistant of tenant %d." % number for number in range(count))


@pytest.mark.parametrize("policy", ["least_load", "instance_aware_least_load"])
@pytest.mark.parametrize("seed", range(5))
def test_two_choices_balance(policy: str, seed: int) -> None:
    """10,000 requests over 50 replicas that start at random loads of up to 100: in the end all loads are within 6."""
    dice = random.Random(seed)
    loads = {f"r{n}": dice.randrange(100) for n in range(50)}
    ready = tuple(Replica(name, f"http://{name}", in_flight=load) for name, load in loads.items())
    one = picker(Service(policy, "READY", ready), dice.random)
    for _ in range(10_000):
        loads[picked(one).id] += 1
    assert max(loads.values()) - min(loads.values()) <= 6


def test_stronger_replicas_get_more() -> None:
    """Three accelerators of 1, 3 and 8 requests a second get load in that proportion, within 5 %."""
    weights = {"small": 1.0, "middle": 3.0, "large": 8.0}
    ready = tuple(Replica(name, f"http://{name}", weight=weight) for name, weight in weights.items())
    one = picker(Service("instance_aware_least_load", "READY", ready), random.Random(1).random)
    seen = Counter(picked(one).id for _ in range(12_000))
    assert {name: round(seen[name] / 1000, 1) for name in weights} == pytest.approx(weights, rel=0.05)


@given(st.integers(2, 12), st.integers(0, 11))
def test_only_the_keys_of_a_lost_replica_move(count: int, lost: int) -> None:
    """Rendezvous hashing: whoever met elsewhere still meets there, and who comes first again with it back."""
    before = replicas(count)
    after = tuple(replica for n, replica in enumerate(before) if n != lost % count)
    for prompt in prompts(200):
        met = rendezvous(prompt, before)
        assert rendezvous(prompt, after) is met or met not in after
        assert rendezvous(prompt, before[::-1]) is met


@pytest.mark.parametrize("count", [2, 3, 10, 300])
def test_rendezvous_is_even(count: int) -> None:
    """Each replica is met by its part of the keys: what a fair draw would give, by chi-squared at 1 in 10,000."""
    ready = replicas(count)
    draws = 20_000
    seen = Counter(rendezvous(prompt, ready).id for prompt in prompts(draws))
    expected = draws / count
    chi_squared = sum((seen[replica.id] - expected) ** 2 / expected for replica in ready)
    degrees = count - 1
    assert chi_squared < degrees + 3.72 * (2 * degrees) ** 0.5 + 10  # normal approximation, and room for few degrees


def test_routers_agree_where_to_meet() -> None:
    """The weights hang on nothing that differs between processes, machines or days: these were seen in another one."""
    met = [rendezvous(prompt, replicas(5)).id[9] for prompt in prompts(12)]
    assert "".join(met) == "022004030032"


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12), st.binary(min_size=1, max_size=8), st.integers(0, 99))
def test_a_prefix_meets_within_the_bound(loads: list[int], prefix: bytes, seed: int) -> None:
    """The first in the order of rendezvous that has at most 1.25 times the mean load, and one more."""
    ready = tuple(replace(replica, in_flight=load) for replica, load in zip(replicas(len(loads)), loads, strict=True))
    one = picker(Service("prefix_aware", "READY", ready), random.Random(seed).random)
    met = picked(one, Wish(meet=prefix))
    bound = 1.25 * sum(loads) / len(loads) + 1
    left = list(ready)
    while (first := rendezvous(prefix, left)).in_flight > bound:
        left.remove(first)
    assert met is first


def test_prefixes_meet_again_whatever_came_between() -> None:
    """Twice 150 prompts, more than are remembered: each time the first in the order that is within the bound then."""
    ready = replicas(7)
    one = picker(Service("prefix_aware", "READY", ready), random.Random(1).random)
    loads = dict.fromkeys(ready, 0)
    for prompt in (*prompts(150), *prompts(150)):
        bound = 1.25 * sum(loads.values()) / 7 + 1
        expected = rendezvous(prompt, [replica for replica in ready if loads[replica] <= bound])
        assert picked(one, Wish(meet=prompt)) is expected
        loads[expected] += 1


def test_one_prefix_does_not_drown_its_replica() -> None:
    """1,000 requests with the same prompt over 10 replicas: nobody gets more than the bound, some get nothing near it."""
    one = picker(Service("prefix_aware", "READY", replicas(10)), random.Random(1).random)
    seen = Counter(picked(one, Wish(meet=b"the same")).id for _ in range(1000))
    assert max(seen.values()) <= 1.25 * 100 + 2


def test_sticky_stays_whatever_the_load() -> None:
    """A session's state is on its replica."""
    one = picker(Service("least_load", "READY", replicas(10)), random.Random(1).random)
    assert len({picked(one, Wish(meet=b"session-1", at_any_cost=True)).id for _ in range(1000)}) == 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("age_s", [0.0, 15.0, 30.0, 45.0, 60.0])
def test_a_new_replica_starts_slowly(policy: str, age_s: float) -> None:
    """One of four became ready `age_s` ago, the slow start is 60 s: it counts for that part of another.

    Requests last as long as a table does, so that each table shows the load of the one before.
    """
    dice = random.Random(1)
    old = replicas(4, ready_at=NOW - 1000)
    ready = (*old[:3], replace(old[3], ready_at=NOW - age_s))
    loads: Counter[str] = Counter()
    total: Counter[str] = Counter()
    before: Picker | None = None
    for _ in range(50):
        now_ready = tuple(replace(replica, in_flight=loads[replica.id]) for replica in ready)
        before = Picker(Service(policy, "READY", now_ready, slow_start_s=60.0), before, "", dice.random)
        loads = Counter(picked(before).id for _ in range(80))
        total += loads
    part = age_s / 60.0
    due, seen = total.total() * part / (3 + part), total[ready[3].id]
    if policy == "round_robin":
        assert seen == pytest.approx(due, rel=0.1)
    else:  # what it has not got yet makes it the less loaded of two, which gives it up to twice its due
        assert 0.8 * due <= seen <= min(2.2 * due, 1.2 * total.total() / 4)


@pytest.mark.parametrize("policy", POLICIES)
def test_new_replicas_alone_serve(policy: str) -> None:
    """A service that has just come up has nobody else to ask."""
    one = picker(Service(policy, "READY", replicas(3, ready_at=NOW), slow_start_s=60.0), random.Random(1).random)
    seen = Counter(picked(one).id for _ in range(300))
    assert min(seen.values()) >= 60


def at(location: str, name: str, load: int = 0) -> Replica:
    return Replica(name, f"http://{name}", in_flight=load, location=location)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_nearest_is_preferred(policy: str) -> None:
    """Same zone before same region before same cloud before any; a router that knows no place prefers none."""
    here = "aws/us-east-1/use1-az1"
    ready = [
        at(here, "zone"), at("aws/us-east-1/use1-az2", "region"), at("aws/eu-west-1/x", "cloud"), at("gcp/us-east-1/use1-az1", "far")
    ]  # fmt: skip
    while ready:
        dice = random.Random(1)
        service = Service(policy, "READY", tuple(ready), prefer_near=True)
        assert picked(picker(service, dice.random, here)).id == ready[0].id
        if len(ready) == 4:
            assert len({picked(picker(service, dice.random)).id for _ in range(100)}) == 4
        ready.pop(0)


def test_near_replicas_are_not_overrun() -> None:
    """One near and three far: the near one is kept at the bound, not given everything."""
    here = "gcp/us-central1/us-central1-a"
    ready = (at(here, "near"), *(at("aws/us-east-1/use1-az1", f"far{n}") for n in range(3)))
    one = picker(Service("least_load", "READY", ready, prefer_near=True), random.Random(1).random, here)
    seen = Counter(picked(one).id for _ in range(400))
    assert 120 <= seen["near"] <= 127


limits = st.none() | st.integers(1, 40)


@given(
    st.integers(1, 30), limits, st.none() | st.floats(0.001, 50), st.text("0123456789abcdef", min_size=10, max_size=10)
)
def test_shares_add_up(count: int, concurrency: int | None, rate_per_s: float | None, key_id: str) -> None:
    """Exactly to the limits, evenly, for the same replicas on every router; nobody has a share of nothing."""
    key = Key(key_id, "0" * 64, frozenset("*"), rate_per_s=rate_per_s, concurrency=concurrency)
    ids = [replica.id for replica in replicas(count)]
    split = shares(key, ids)
    assert split == shares(key, ids[::-1])
    assert set(split) <= set(ids)
    for limit, parts in (
        (concurrency, [share.concurrency for share in split.values()]),
        (
            None if rate_per_s is None else max(1, round(rate_per_s * 1000)),
            [share.rate_milli for share in split.values()],
        ),
    ):
        if limit is None:
            assert set(parts) == {None}
        else:
            whole = [part for part in parts if part]
            assert len(whole) == len(parts)
            assert sum(whole) == limit
            assert max(whole) - min(whole) <= 1


@given(st.sampled_from(POLICIES), st.integers(1, 10), st.integers(1, 12), st.booleans(), fractions)
def test_a_key_goes_only_where_it_has_a_share(
    policy: str, count: int, concurrency: int, meets: bool, fraction: float
) -> None:
    """With fewer concurrent requests allowed than there are replicas, some of them never see the key."""
    key = Key("k3y0000000", "0" * 64, frozenset("*"), concurrency=concurrency)
    one = picker(Service(policy, "READY", replicas(count)), lambda: fraction)
    seen = [picked(one, Wish(key=key, meet=b"x" if meets else b"")) for _ in range(20)]
    assert all(one.share(key, replica).concurrency for replica in seen)
    assert len({replica.id for replica in seen}) <= concurrency


def test_shares_follow_the_replicas() -> None:
    """A new table with another replica splits anew; the same replicas keep what was split."""
    key = Key("k3y0000000", "0" * 64, frozenset("*"), concurrency=4)
    two = picker(Service("least_load", "READY", replicas(2)), lambda: 0.5)
    assert [two.share(key, replica).concurrency for replica in replicas(2)] == [2, 2]
    four = Picker(Service("least_load", "READY", replicas(4)), two, "", lambda: 0.5)
    assert [four.share(key, replica).concurrency for replica in replicas(4)] == [1] * 4
    tight = replace(key, concurrency=8)
    assert [four.share(tight, replica).concurrency for replica in replicas(4)] == [2] * 4
