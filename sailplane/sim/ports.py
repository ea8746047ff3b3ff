"""The control plane's ports onto the simulated world."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from chalicelib.errors import SailplaneError
from chalicelib.model import (
    CapacityType,
    EnginePhase,
    Event,
    Hook,
    Instance,
    LaunchRequest,
    Lease,
    Location,
    Offer,
    ProbeResult,
    ProbeSpec,
    Replica,
    ScalingSpec,
    Service,
    SpecVersion,
)
from chalicelib.ports import Clock, Commit
from chalicelib.store.memory import MemoryStore
from sailplane.sim.cloud import Cloud, Machine
from sailplane.sim.market import Market, Zone
from sailplane.sim.scheduler import Scheduler

T = TypeVar("T")


class _Answered(Future[T]):
    """One that is done from the first. It is asked some eight times, and a lock around each took 6 % of a simulation's time."""

    def __init__(self, answer: T) -> None:
        super().__init__()
        self.set_result(answer)
        self._answer = answer

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> T:
        del timeout
        return self._answer

    def exception(self, timeout: float | None = None) -> None:
        del timeout


def inline(_lane: str, work: Callable[[], T]) -> Future[T]:
    """`ports.Spawn` without threads: done before it returns, so that all happens in one order.

    A crash, or a bug, goes to the caller.
    """
    try:
        return _Answered(work())
    except SailplaneError as error:
        failed: Future[T] = Future()
        failed.set_exception(error)
        return failed


@dataclass
class SeededIds:
    """`ports.Ids` that depend on the seed, the instant and how many were drawn at it: on no pass that did nothing before."""

    seed: int
    scheduler: Scheduler
    _instant: float = 0.0
    _drawn: int = 0

    def token(self, nbytes: int) -> str:
        now = self.scheduler.time
        self._drawn = self._drawn + 1 if now == self._instant else 0
        self._instant = now
        text = f"{self.seed} {now} {self._drawn}"
        return hashlib.blake2s(text.encode(), digest_size=nbytes).hexdigest()


@dataclass
class MarketPrices:
    """`ports.Market`: what a market sells at the moment."""

    market: Market
    scheduler: Scheduler
    start: float
    were_read: bool = False
    _known: dict[tuple[Location, CapacityType, float], Offer] = field(default_factory=dict)

    def next_change_at(self, now: float) -> float:
        """The next instant, after `now`, at which some zone's price may be another."""
        ends = (self.start + (1 + (now - self.start) // zone.step_s) * zone.step_s for zone in self.market.zones)
        return min(ends, default=math.inf)

    def offers(self, providers: Sequence[str]) -> Sequence[Offer]:
        self.were_read = True
        t = self.scheduler.time - self.start
        return tuple(
            offer
            for zone in self.market.zones
            if zone.location.provider in providers
            for offer in self._offers(zone, t)
        )

    def _offers(self, zone: Zone, t: float) -> Iterator[Offer]:
        yield self._offer(zone.location, CapacityType.ON_DEMAND, self.market.on_demand_usd_per_hour)
        yield self._offer(zone.location, CapacityType.SPOT, zone.spot_usd_per_hour_at(t))

    def _offer(self, location: Location, kind: CapacityType, usd_per_hour: float) -> Offer:
        # The same one as long as its price holds: passes ask more often than prices move.
        key = location, kind, usd_per_hour
        if key not in self._known:
            self._known[key] = self._made(*key)
        return self._known[key]

    def _made(self, location: Location, kind: CapacityType, usd_per_hour: float) -> Offer:
        # What a market of one type does not say of its machines makes no difference between them.
        return Offer(
            location=location,
            instance_type=self.market.instance_type,
            vcpus=8.0,
            memory_gib=64.0,
            capacity_type=kind,
            price_usd_per_hour=usd_per_hour,
            accelerator=self.market.accelerator,
            accelerator_count=self.market.accelerator_count,
        )


class WatchedStore(MemoryStore):
    """The memory store, saying whenever something was written: the commit, where it was one."""

    def __init__(
        self,
        clock: Clock,
        written: Callable[[Commit | None], None],
        leased: Callable[[Lease], None],
    ) -> None:
        super().__init__(clock)
        self._written = written
        self._leased = leased

    def is_leased(self, name: str) -> bool:
        """Whether somebody may be at work on the service."""
        return self.leased_until(name) > self._clock.now()

    def leased_until(self, name: str) -> float:
        """When the lease on the service ends, or ended, if nobody renews it; -inf where there is none."""
        lease = self._leases.get(name)
        return -math.inf if lease is None or lease.held_until is None else lease.held_until

    def service(self, name: str) -> Service | None:
        """The service's record alone."""
        return self._services.get(name)

    def create_service(
        self,
        service: Service,
        spec: SpecVersion,
        events: Sequence[Event] = (),
        *,
        hook: Hook | None = None,
        earlier: Sequence[SpecVersion] = (),
    ) -> Service:
        created = super().create_service(service, spec, events, hook=hook, earlier=earlier)
        self._written(Commit(service=created, events=tuple(events)))
        return created

    def add_version(
        self, service: Service, spec: SpecVersion, events: Sequence[Event] = (), *, hook: Hook | None = None
    ) -> Service:
        changed = super().add_version(service, spec, events, hook=hook)
        self._written(Commit(service=changed, events=tuple(events)))
        return changed

    def delete_service(self, lease: Lease, service: Service, events: Sequence[Event] = ()) -> None:
        super().delete_service(lease, service, events)
        self._written(Commit(events=tuple(events)))

    def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Lease:
        lease = super().acquire_lease(name, owner, ttl_s, now)
        self._leased(lease)
        self._written(None)
        return lease

    def release_lease(self, lease: Lease) -> None:
        super().release_lease(lease)
        self._written(None)

    def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
        super().commit(name, lease, commit)
        self._written(commit)

    def record_load(
        self,
        name: str,
        router_id: str,
        seq: int,
        counts: Sequence[tuple[int, int]],
        now: float,
        *,
        on_demand: bool = False,
    ) -> None:
        super().record_load(name, router_id, seq, counts, now, on_demand=on_demand)
        self._written(None)


@dataclass
class CloudProvider:
    """`ports.Provider` of a simulated cloud: the replica's id is token and tag."""

    cloud: Cloud
    name: str
    listing_lag_s: float

    def list_instances(self) -> tuple[Instance, ...]:
        return self.cloud.listed()

    def launch(self, request: LaunchRequest) -> Instance:
        return self.cloud.run_machine(request.replica.id, request)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        self.cloud.stop_machine(replica_id, instance_id)

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        del replica_id, instance_id, tail
        return None


@dataclass
class AgentProber:
    """`ports.Prober`: whoever has the address answers, and says who it is."""

    clouds: Mapping[str, Cloud]
    scheduler: Scheduler
    in_flight: Callable[[Machine], int]
    drained: Callable[[Machine], None]

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        del scaling
        return {replica.id: self._ask(replica) for replica, _ in targets}

    def drain(self, replica: Replica) -> None:
        machine = self._at(replica)
        if machine is not None and self.is_replica(machine, replica):
            self.drained(machine)

    def read_log(self, replica: Replica, tail: int) -> str | None:
        del replica, tail
        return None

    def is_replica(self, machine: Machine, replica: Replica) -> bool:
        """Whether it is the replica that answers: an agent says the id and the nonce that its machine was started with."""
        return (machine.replica.id, machine.replica.boot_nonce) == (replica.id, replica.boot_nonce)

    def _at(self, replica: Replica) -> Machine | None:
        """Who answers at the replica's address."""
        cloud = self.clouds[replica.offer.location.provider]
        here = (machine for machine in cloud.shown.values() if machine.url == replica.url)
        answering = (one for one in here if one.is_alive and one.agent_up and not one.hung)
        return next(answering, None) or cloud.strangers.get(replica.url)

    def _ask(self, replica: Replica) -> ProbeResult:
        machine, now = self._at(replica), self.scheduler.time
        if machine is None:
            return ProbeResult(replica.id, now, identified=False, detail="connection refused")
        if not self.is_replica(machine, replica):
            return ProbeResult(replica.id, now, identified=False, detail=f"{machine.replica.id} answers there")
        has_exited = machine.exit_code is not None
        return ProbeResult(
            replica.id,
            now,
            identified=True,
            ready=machine.serves,
            detail="" if machine.serves else "HTTP 503",
            in_flight=self.in_flight(machine),
            engine=EnginePhase.EXITED if has_exited else EnginePhase.RUNNING,
            exit_code=machine.exit_code,
            log_tail="Traceback: no such model" if has_exited else "",
            # AWS tells EventBridge; what the others tell the machine, its agent passes on.
            interruption_at=machine.interruption_at if machine.is_told_by_agent else None,
        )
