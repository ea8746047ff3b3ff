"""Three clouds under one control plane: what one of them refuses, another gives, and the owner is told why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from chalicelib.api import views
from chalicelib.model import (
    ProbeResult,
    ProbeSpec,
    Reason,
    Replica,
    ReplicaStatus,
    Requirement,
    ResourceRequest,
    ScalingSpec,
)
from chalicelib.store.memory import MemoryStore
from tests.clouds.box import Box, Fault, OnPaper
from tests.clouds.plane import BoxProber, offers
from tests.clouds.providers import provider_of
from tests.clouds.start import CLOUDS
from tests.fakes import FakeClock, FakeMarket, World, spec

# Dearest last: everything the plane may buy, at a price that puts the clouds in this order.
ORDER = ("gcp", "azure", "aws")


class Clouds(World):
    """A control plane over three boxes, with one GPU wanted, on spot."""

    def __init__(self) -> None:
        clock = FakeClock()
        super().__init__(clock=clock, store=MemoryStore(clock))
        self.boxes: dict[str, Box] = {
            name: CLOUDS[name](OnPaper(), clock, on_event=lambda _event: None) for name in ORDER
        }
        prices = tuple(
            replace(offer, price_usd_per_hour=1.0 + ORDER.index(name)) for name in ORDER for offer in offers(name)
        )
        self.runtime = replace(
            self.runtime,
            providers={name: provider_of(box, clock, regions=("us-east-1",)) for name, box in self.boxes.items()},
            market=FakeMarket(prices),
            prober=_Probers([BoxProber(box, clock) for box in self.boxes.values()]),
        )
        wanted = Requirement(use_spot=True, accelerators=(("L4", 1), ("T4", 1)))
        self.wanted = replace(spec(min_replicas=1, max_replicas=1), resources=ResourceRequest(((wanted,),)))

    def where(self) -> list[str]:
        return [replica.offer.location.provider for replica in self.replicas(ReplicaStatus.READY)]

    def running(self) -> dict[str, int]:
        """Machines by cloud, as the clouds have it."""
        return {name: sum(machine.running for machine in box.machines()) for name, box in self.boxes.items()}


class _Probers(BoxProber):
    """Whichever box has the replica's machine answers for it."""

    def __init__(self, probers: list[BoxProber]) -> None:
        self._probers = probers

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        answers = [prober.probe(targets, scaling) for prober in self._probers]
        return {
            replica.id: next(
                (each[replica.id] for each in answers if each[replica.id].identified), answers[0][replica.id]
            )
            for replica, _ in targets
        }


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    opened = Clouds()
    yield opened
    for box in opened.boxes.values():
        box.close()


def test_the_cheapest_cloud_gets_the_replica(clouds: Clouds) -> None:
    """When nothing is in the way."""
    clouds.create(wanted=clouds.wanted)
    clouds.tick(4)
    assert clouds.where() == ["gcp"]
    assert clouds.running() == {"gcp": 1, "azure": 0, "aws": 0}


def test_a_cloud_without_capacity_is_left_for_the_next(clouds: Clouds) -> None:
    """Zone after zone, then the next cloud; nothing is left behind, and all of it can be read."""
    clouds.boxes["gcp"].faults.capacity[""] = 0
    clouds.create(wanted=clouds.wanted)
    clouds.tick(12)
    assert clouds.where() == ["azure"]
    assert clouds.running() == {"gcp": 0, "azure": 1, "aws": 0}
    refused = clouds.store.unavailable(clouds.clock.now())
    assert {(one.provider, one.reason) for one in refused} == {("gcp", Reason.NO_CAPACITY)}
    assert {one.zone for one in refused} == {offer.location.zone for offer in offers("gcp")}


def test_quota_is_a_matter_of_the_region(clouds: Clouds) -> None:
    """No other zone of it is tried."""
    clouds.boxes["gcp"].faults.quota[""] = 0
    clouds.create(wanted=clouds.wanted)
    clouds.tick(4)
    assert clouds.where() == ["azure"]
    (refused,) = clouds.store.unavailable(clouds.clock.now())
    assert (refused.provider, refused.zone, refused.reason) == ("gcp", "", Reason.QUOTA)


def test_refused_credentials_shut_the_cloud_and_the_owner_is_told(clouds: Clouds) -> None:
    """Once, for all services; the service's message and events name the cloud and what to do about it."""
    clouds.boxes["gcp"].faults.once("launch", Fault.UNAUTHORIZED)
    clouds.create(wanted=clouds.wanted)
    clouds.tick(1)
    shown = views.service(clouds.state(), clouds.store.history("svc"), "", clouds.clock.now())
    assert "Google's credentials are missing or refused" in shown.message
    clouds.tick(4)
    assert clouds.where() == ["azure"]
    (refused,) = clouds.store.unavailable(clouds.clock.now())
    assert (refused.provider, refused.region, refused.reason) == ("gcp", "", Reason.LAUNCH_REFUSED)
    told = [event.message for event in clouds.store.events("svc", kind="replica.terminated")]
    assert any("credentials" in one for one in told)


def test_a_cloud_that_is_down_gets_its_replicas_no_longer(clouds: Clouds) -> None:
    """After three minutes without an answer the replica is placed elsewhere; the silent cloud is tried again later."""
    clouds.boxes["gcp"].faults.down = True
    clouds.create(wanted=clouds.wanted)
    clouds.tick(70, every_s=3.0)
    assert clouds.where() == ["azure"]
    clouds.boxes["gcp"].faults.down = False
    clouds.tick(5, every_s=3.0)
    assert clouds.running() == {"gcp": 0, "azure": 1, "aws": 0}
