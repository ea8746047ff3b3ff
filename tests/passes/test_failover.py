"""Where the next launch goes after a refusal, and what the owner is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib import passes
from chalicelib.api import views
from chalicelib.errors import LaunchError, LaunchRefused, NoCapacity, QuotaExceeded, Unauthorized
from chalicelib.model import Reason, ReplicaStatus
from tests.fakes import FakeCloud, FakeMarket, FakeProber, World, offer, spec

ONE = spec(min_replicas=1, max_replicas=1)


class TwoClouds(World):
    """`cheap` has zones a and b in one region and another region; `dear` is one place."""

    def __init__(self) -> None:
        super().__init__()
        self.cheap, self.dear = (FakeCloud(self.clock, name) for name in ("cheap", "dear"))
        clouds = {cloud.name: cloud for cloud in (self.cheap, self.dear)}
        elsewhere = offer("cheap", "c", 1.2)
        elsewhere = replace(elsewhere, location=replace(elsewhere.location, region="there"))
        prices = (offer("cheap", "a", 1.0), offer("cheap", "b", 1.1), elsewhere, offer("dear", "a", 9.0))
        self.runtime = replace(
            self.runtime, providers=clouds, prober=FakeProber(clouds, self.clock), market=FakeMarket(prices)
        )

    def tried(self) -> list[str]:
        """Where launches went, oldest first."""
        return [str(replica.offer.location) for replica in reversed(self.store.history("svc"))]

    def message(self) -> str:
        state = self.state()
        return views.service(state, self.store.history("svc"), "", self.clock.now()).message


@pytest.fixture
def w() -> TwoClouds:
    return TwoClouds()


@pytest.mark.parametrize(
    ("error", "tried"),
    [
        (NoCapacity("none"), ["cheap/here/a", "cheap/here/b", "cheap/there/c", "dear/here/a"]),
        (QuotaExceeded("limit 0"), ["cheap/here/a", "cheap/there/c", "dear/here/a"]),
        (LaunchRefused("no such image"), ["cheap/here/a", "dear/here/a"]),
        (LaunchRefused("no such AMI", is_regional=True), ["cheap/here/a", "cheap/there/c", "dear/here/a"]),
        (Unauthorized("the token has expired"), ["cheap/here/a", "dear/here/a"]),
    ],
)
def test_the_next_launch_goes_as_far_away_as_it_must(w: TwoClouds, error: LaunchError, tried: list[str]) -> None:
    """Capacity: the next zone. Quota, and an image of another region: the next region. A bad request, credentials: the next cloud."""
    w.cheap.refusal = error
    w.create(wanted=ONE)
    w.tick(6)
    assert w.tried() == tried
    assert len(w.replicas(ReplicaStatus.READY)) == 1


def test_what_one_service_was_refused_is_known_to_all(w: TwoClouds) -> None:
    """Capacity, quota and credentials are nobody's own."""
    w.cheap.refusal = Unauthorized("the token has expired")
    w.create(wanted=ONE)
    w.tick(3)
    w.create("other", wanted=ONE)
    w.tick(3)
    assert [replica.offer.location.provider for replica in w.store.history("other")] == ["dear"]


def test_a_bad_image_is_its_own_service_s_trouble(w: TwoClouds) -> None:
    """Another service goes on being launched where the first one was refused; so does the first, once its file is changed."""
    w.cheap.refusal = LaunchRefused("no such image")
    w.create(wanted=ONE)
    w.tick(6)
    w.cheap.refusal = None
    w.create("other", wanted=replace(ONE, fingerprint="other"))
    w.tick(3)
    assert [str(replica.offer.location) for replica in w.store.history("other")] == ["cheap/here/a"]
    w.update(replace(ONE, fingerprint="mended"))
    w.tick(6)
    assert w.tried()[-1] == "cheap/here/a"


def test_a_success_is_forgiving_and_quiet_too(w: TwoClouds) -> None:
    """Refused three times, then served, a place starts over at 60 s; so it does when nobody has asked for long."""
    w.cheap.refusal = NoCapacity("none")
    w.runtime = replace(w.runtime, market=FakeMarket((offer("cheap", "a"),)))
    w.create(wanted=ONE)
    w.tick(60 + 120 + 10)
    (held,) = w.store.unavailable(w.clock.now())
    assert (held.failures, held.until - held.since) == (3, 240)
    w.cheap.refusal = None
    w.tick(300)
    assert len(w.replicas(ReplicaStatus.READY)) == 1
    assert w.store.refusals(w.clock.now()) == ()
    w.cheap.refusal = NoCapacity("none")
    w.cheap.machines.clear()
    w.tick(3)
    (held,) = w.store.unavailable(w.clock.now())
    assert (held.failures, held.until - held.since) == (1, 60)
    w.clock.advance(60 + 3600)
    w.tick(2)
    (held,) = w.store.unavailable(w.clock.now())
    assert held.failures == 1


def test_a_shortage_costs_a_few_calls_an_hour(w: TwoClouds) -> None:
    """Six hours without capacity in the one place that would do: some a dozen launches, not one a minute."""
    w.cheap.refusal = NoCapacity("none")
    w.runtime = replace(w.runtime, market=FakeMarket((offer("cheap", "a"),)))
    w.create(wanted=ONE)
    w.tick(6 * 360, every_s=10)
    assert 7 <= w.state().service.last_generation <= 14
    assert w.state().replicas == ()


def test_ten_launches_refused_together_count_once(w: TwoClouds) -> None:
    """One refusal in a row, so 60 s and not nine hours."""
    w.cheap.refusal = NoCapacity("none")
    w.runtime = replace(w.runtime, market=FakeMarket((offer("cheap", "a"),)))
    w.create(wanted=spec(min_replicas=10, max_replicas=10))
    w.tick()
    assert len(w.store.history("svc")) == 10
    (held,) = w.store.unavailable(w.clock.now())
    assert (held.failures, held.until) == (1, w.clock.now() + 60)


def test_refused_credentials_are_told_to_the_owner(w: TwoClouds) -> None:
    """In the service's message while a replica is missing, in an event with what follows, and in `why`'s plan."""
    w.dear.refusal = w.cheap.refusal = Unauthorized("the token has expired: log in again")
    w.create(wanted=ONE)
    w.tick(5)
    assert "LAUNCH_REFUSED: the token has expired: log in again" in w.message()
    told = [event.message for event in w.store.events("svc", kind="replica.terminated")]
    assert any("cheap is not asked again for 10 min" in message for message in told)
    assert any("nothing is left to ask" in line for line in passes.preview(w.runtime, "svc"))


def test_a_scale_out_that_is_refused_is_told_too(w: TwoClouds) -> None:
    """One of two replicas ready: what keeps the other one away is part of the message, until it is there."""
    w.create(wanted=ONE)
    w.tick(3)
    w.dear.refusal = w.cheap.refusal = QuotaExceeded("0 of 8 vCPUs left")
    w.update(spec(min_replicas=2, max_replicas=2))
    w.tick(5)
    assert "QUOTA: 0 of 8 vCPUs left" in w.message()
    w.dear.refusal = w.cheap.refusal = None
    w.tick(700)
    assert "refused" not in w.message()
    assert [one.reason for one in w.store.history("svc") if one.reason] == [Reason.QUOTA] * 3
