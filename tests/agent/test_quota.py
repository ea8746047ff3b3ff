"""A key's share of one replica: never more inside than its share, never faster than its rate, and all of it can be used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_agent.grants import Grant
from replica_agent.quota import Quotas
from tests.fakes import FakeClock


def allowing(*, rate_per_s: float | None = None, concurrency: int | None = None, key: bytes = b"k") -> Grant:
    return Grant(b"", 0, key, None if rate_per_s is None else int(rate_per_s * 1_000), concurrency)


@given(st.integers(0, 5), st.lists(st.booleans()))
def test_no_more_are_inside_than_the_share(share: int, events: list[bool]) -> None:
    """Whatever comes and goes; a place is free again as soon as one leaves."""
    quotas, grant, inside = Quotas(FakeClock().now), allowing(concurrency=share), 0
    for comes in events:
        if comes:
            assert (quotas.enter(grant) == 0) == (inside < share)
            inside = min(inside + 1, share)
        elif inside:
            quotas.leave(grant)
            inside -= 1


@given(st.sampled_from([0.05, 0.5, 1, 3, 50]), st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_a_key_is_never_faster_than_its_rate(rate_per_s: float, pauses_s: list[float]) -> None:
    """Over any time: its rate times the time, and once the burst."""
    clock = FakeClock()
    quotas, grant, begun = Quotas(clock.now), allowing(rate_per_s=rate_per_s), clock.now()
    burst = max(1, min(10, 10 * rate_per_s), rate_per_s)
    let_in = 0
    for pause_s in pauses_s:
        clock.advance(pause_s)
        let_in += quotas.enter(grant) == 0
        assert let_in <= burst + rate_per_s * (clock.now() - begun) + 1e-6


@given(st.sampled_from([0.05, 0.5, 1, 3, 50]))
def test_a_patient_key_gets_all_of_its_rate(rate_per_s: float) -> None:
    """Once per interval for ever, and whoever waits as long as it is told to gets in."""
    clock = FakeClock()
    quotas, grant = Quotas(clock.now), allowing(rate_per_s=rate_per_s)
    for _ in range(50):
        clock.advance(1.001 / rate_per_s)
        assert quotas.enter(grant) == 0
    while not (wait_s := quotas.enter(grant)):
        pass
    clock.advance(wait_s)
    assert quotas.enter(grant) == 0


def test_one_keys_use_is_not_anothers() -> None:
    """Each has its own share."""
    quotas = Quotas(FakeClock().now)
    assert quotas.enter(allowing(concurrency=1, key=b"a")) == 0
    assert quotas.enter(allowing(concurrency=1, key=b"b")) == 0
    assert quotas.enter(allowing(concurrency=1, key=b"a")) == 1


def test_a_refused_request_uses_nothing() -> None:
    """Neither a place nor a request of the rate."""
    clock = FakeClock()
    quotas = Quotas(clock.now)
    full = allowing(concurrency=1, rate_per_s=0.1)
    assert quotas.enter(full) == 0
    assert quotas.enter(full) == 1
    quotas.leave(full)
    clock.advance(10)
    assert quotas.enter(full) == 0


def test_a_share_follows_the_grants() -> None:
    """When replicas come or go, grants say other shares, and the newest counts."""
    quotas = Quotas(FakeClock().now)
    assert [quotas.enter(allowing(concurrency=share)) for share in (1, 1, 2, 2)] == [0, 1, 0, 1]


@pytest.mark.parametrize("grant", [allowing(), allowing(rate_per_s=0), allowing(rate_per_s=0.0004)])
def test_no_share_and_the_smallest_share(grant: Grant) -> None:
    """No limit is none; a rate too small for a grant to say lets one request in, and says when the next one may come."""
    quotas = Quotas(FakeClock().now)
    answers = [quotas.enter(grant) for _ in range(20)]
    assert answers == ([0] * 20 if grant.rate_share is None else [0, *[1_000] * 19])
