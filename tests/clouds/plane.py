"""A control plane over one boxed cloud, in virtual time: the real passes, executor, provider and SDK; machines on paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chalicelib import catalog, passes
from chalicelib.model import (
    CapacityType,
    EnginePhase,
    LaunchRequest,
    Offer,
    ProbeResult,
    ProbeSpec,
    Replica,
    ReplicaStatus,
    Requirement,
    ResourceRequest,
    ScalingSpec,
    ServiceSpec,
)
from chalicelib.ports import Provider
from chalicelib.store.memory import MemoryStore
from tests.clouds.box import Booked, Box, OnPaper
from tests.clouds.providers import provider_of
from tests.clouds.start import CLOUDS
from tests.fakes import FakeClock, FakeMarket, Interposed, World, spec

# What is bought in a drill: one GPU. AWS and GCP have zones to go to when one fails, Azure needs a second region.
_BOUGHT = {
    "aws": (("us-east-1",), "g6.2xlarge", "L4"),
    "gcp": (("us-central1",), "g2-standard-4", "L4"),
    "azure": (("eastus", "westus2"), "Standard_NC4as_T4_v3", "T4"),
}


class CloudPlane(World):
    """`World` with a cloud that is spoken to over HTTP."""

    def __init__(self, name: str, box: Box, clock: FakeClock) -> None:
        super().__init__(clock=clock, store=MemoryStore(clock))
        self.name = name
        self.box = box
        self.happens: Callable[[str], None] = lambda _call: None
        self.regions = _BOUGHT[name][0]
        self.zones = tuple(sorted({offer.location.zone or offer.location.region for offer in offers(name)}))
        self.provider = provider_of(box, clock, regions=self.regions)
        interposed: Any = Interposed(self.provider, lambda call: self.happens(call))  # noqa: PLW0108 which function that is changes
        interposed.name, interposed.listing_lag_s = name, self.provider.listing_lag_s
        providers: Mapping[str, Provider] = {name: interposed}
        self.runtime = replace(
            self.runtime,
            providers=providers,
            market=FakeMarket(offers(name)),
            prober=BoxProber(box, clock),
        )

    def spec(self, **changes: Any) -> ServiceSpec:
        """Two replicas on spot, drained for 2 s; keyword arguments as for `fakes.spec`."""
        requirement = Requirement(use_spot=True, accelerators=((_BOUGHT[self.name][2], 1),))
        return replace(spec(drain_timeout_s=2, **changes), resources=ResourceRequest(((requirement,),)))

    def tick(self, times: int = 1, every_s: float = 1.0) -> tuple[passes.Report, ...]:
        reports: tuple[passes.Report, ...] = ()
        for _ in range(times):
            self.clock.advance(every_s)
            self.box.advance()
            reports = passes.tick(self.runtime)
        return reports

    def running(self) -> list[Booked]:
        """The machines that the cloud bills for, by its own book."""
        return [machine for machine in self.box.machines() if machine.running]

    def doubles(self) -> list[str]:
        """Replicas for which more than one machine was ever started."""
        counts = Counter(machine.replica_id for machine in self.box.machines())
        return [replica_id for replica_id, count in counts.items() if count > 1]

    def recorded(self) -> set[str]:
        """Every replica with a live record."""
        return {replica.id for name in self.store.service_names() for replica in self.state(name).replicas}


class BoxProber:
    """Answers as the agents on the box's running machines would."""

    def __init__(self, box: Box, clock: FakeClock) -> None:
        self._box = box
        self._clock = clock

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        del scaling
        running = {machine.replica_id for machine in self._box.machines() if machine.running}
        return {replica.id: self._answer(replica, replica.id in running) for replica, _ in targets}

    def _answer(self, replica: Replica, is_running: bool) -> ProbeResult:
        now = self._clock.now()
        if not is_running:
            return ProbeResult(replica.id, now, identified=False, detail="no route to host")
        return ProbeResult(replica.id, now, identified=True, ready=True, engine=EnginePhase.RUNNING)

    def drain(self, replica: Replica) -> None:
        """Nothing to tell: no requests are on paper."""

    def read_log(self, replica: Replica, tail: int) -> str | None:
        del replica, tail
        return None


def offers(name: str) -> tuple[Offer, ...]:
    """What a drill may buy: one type of machine in all zones of the region, on spot."""
    regions, instance_type, _ = _BOUGHT[name]
    found = [
        offer
        for offer in catalog.offers([name])
        if offer.location.region in regions
        and offer.instance_type == instance_type
        and offer.capacity_type is CapacityType.SPOT
    ]
    assert found, f"the catalog has no {instance_type} in {regions} any more"
    return tuple(found)


def unrecorded(name: str, replica_id: str) -> LaunchRequest:
    """What starts a machine of which no record knows: of a database since restored, or of a process that came late.

    The replica's id begins with its service's name.
    """
    replica = Replica(
        service=replica_id.partition("-")[0],
        id=replica_id,
        slot=0,
        generation=1,
        spec_version=1,
        fingerprint="v1",
        offer=offers(name)[0],
        boot_nonce="nonce",
        status=ReplicaStatus.PENDING,
        status_since=0.0,
        created_at=0.0,
    )
    return LaunchRequest(replica, spec().engine, agent_token="a" * 43, boot_token="b" * 43, drain_timeout_s=2.0)


def open_plane(name: str) -> CloudPlane:
    """A new cloud and a new control plane. Whoever opens it closes its box."""
    clock = FakeClock()
    box = CLOUDS[name](OnPaper(), clock, on_event=lambda _event: None)
    return CloudPlane(name, box, clock)
