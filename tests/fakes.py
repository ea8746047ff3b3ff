"""A small world to run the control plane in: a clock, a cloud and agents that do as they are told.

Nothing here decides anything; the code under test is the shipped one. Times are epoch seconds of a virtual clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from chalicelib import lifecycle, passes
from chalicelib.errors import LaunchError, NoCapacity, Unreachable
from chalicelib.model import (
    CapacityType,
    EnginePhase,
    EngineSpec,
    Instance,
    InstanceStatus,
    LaunchRequest,
    Location,
    Metric,
    Offer,
    ProbeResult,
    ProbeSpec,
    Replica,
    ReplicaLoad,
    ReplicaStatus,
    Requirement,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    Service,
    ServiceSpec,
    SpecVersion,
    SpotSpec,
    State,
)
from chalicelib.ports import Commit, Runtime, Settings, Store
from chalicelib.secrets.memory import MemorySecrets
from chalicelib.store.memory import MemoryStore

START = 1_800_000_000.0

T = TypeVar("T")


def inline(_lane: str, work: Callable[[], T]) -> Future[T]:
    """`ports.Spawn` without threads: done before it returns, so that all happens in one order. What kills, kills the caller."""
    done: Future[T] = Future()
    try:
        done.set_result(work())
    except Exception as error:  # noqa: BLE001 whatever it is, it is the future's to raise
        done.set_exception(error)
    return done


class FakeClock:
    """Stands still until told to move."""

    def __init__(self, now: float = START) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class FakeIds:
    """Counts instead of drawing lots."""

    def __init__(self) -> None:
        self.drawn = 0

    def token(self, nbytes: int) -> str:
        self.drawn += 1
        return f"{self.drawn:0{nbytes * 2}x}"


class Interposed:
    """A port with something happening before and after each of its calls."""

    def __init__(self, port: object, happens: Callable[[str], None]) -> None:
        self._port, self._happens = port, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*args: object, **kwargs: object) -> object:
            self._happens(f"before {name}")
            answer = found(*args, **kwargs)
            self._happens(f"after {name}")
            return answer

        return call


@dataclass
class Machine:
    """A machine of the fake cloud, and the agent and engine on it."""

    instance: Instance
    boot_nonce: str
    ready: bool = True
    exit_code: int | None = None
    answers: bool = True
    in_flight: int = 0
    load: ReplicaLoad | None = None  # what its agent says of the service's metric when asked
    draining: bool = False


@dataclass
class FakeCloud:
    """A cloud whose bill (`started`) is the judge: how many machines were ever started for each replica id."""

    clock: FakeClock
    name: str = "local"
    listing_lag_s: float = 0.0
    capacity: int = 1_000
    ready_at_once: bool = True
    lose_answers: int = 0  # how many of the next launches do their work and then answer nothing
    refusal: LaunchError | None = None
    sold_out: set[Location] = field(default_factory=set)  # of spot machines
    down: bool = False
    machines: dict[str, Machine] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=count)  # of machines; launches may come on several threads

    def list_instances(self) -> tuple[Instance, ...]:
        if self.down:
            raise Unreachable("cloud is down")
        return tuple(machine.instance for machine in self.machines.copy().values())

    def launch(self, request: LaunchRequest) -> Instance:
        if self.down:
            raise Unreachable("cloud is down")
        if self.refusal is not None:
            raise self.refusal
        replica = request.replica
        if replica.offer.capacity_type is CapacityType.SPOT and replica.offer.location in self.sold_out:
            raise NoCapacity("no spot machine left")
        if replica.id not in self.machines:
            self._start(replica)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unreachable("the answer was lost")
        return self.machines[replica.id].instance

    def _start(self, replica: Replica) -> None:
        number = next(self.numbers)
        instance = Instance(
            provider=self.name,
            id=f"i-{number:017x}",
            replica_id=replica.id,
            service=replica.service,
            status=InstanceStatus.RUNNING,
            created_at=self.clock.now(),
            url=f"http://10.0.0.{number}:8081",
        )
        self.machines[replica.id] = Machine(instance, replica.boot_nonce, ready=self.ready_at_once)
        self.started[replica.id] += 1

    def terminate(self, replica_id: str, instance_id: str) -> None:
        del instance_id
        if self.down:
            raise Unreachable("cloud is down")
        self.machines.pop(replica_id, None)

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        del replica_id, instance_id, tail
        return None

    def interrupt(self, replica_id: str, notice_s: float) -> None:
        machine = self.machines[replica_id]
        machine.instance = replace(machine.instance, interruption_at=self.clock.now() + notice_s)


@dataclass
class FakeProber:
    """Answers as the agents of the clouds' machines would."""

    clouds: Mapping[str, FakeCloud]
    clock: FakeClock

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        return {replica.id: self._ask(replica, scaling) for replica, _ in targets}

    def _ask(self, replica: Replica, scaling: ScalingSpec) -> ProbeResult:
        machine = self._machine(replica)
        now = self.clock.now()
        if machine is None or not machine.answers or machine.boot_nonce != replica.boot_nonce:
            return ProbeResult(replica.id, now, identified=False, detail="connection refused")
        exited = machine.exit_code is not None
        return ProbeResult(
            replica.id,
            now,
            identified=True,
            ready=machine.ready and not exited,
            detail="" if machine.ready else "HTTP 503",
            in_flight=machine.in_flight,
            engine=EnginePhase.EXITED if exited else EnginePhase.RUNNING,
            exit_code=machine.exit_code,
            log_tail="Traceback: no such model" if exited else "",
            load=None if scaling.metric is Metric.QPS else machine.load,
        )

    def drain(self, replica: Replica) -> None:
        machine = self._machine(replica)
        if machine is not None:
            machine.draining = True

    def read_log(self, replica: Replica, tail: int) -> str | None:
        del replica, tail
        return None

    def _machine(self, replica: Replica) -> Machine | None:
        return self.clouds[replica.offer.location.provider].machines.get(replica.id)


@dataclass(frozen=True)
class FakeMarket:
    """A short price list."""

    prices: tuple[Offer, ...]

    def offers(self, providers: Sequence[str]) -> Sequence[Offer]:
        return tuple(offer for offer in self.prices if offer.location.provider in providers)


def offer(provider: str = "local", zone: str = "a", usd: float = 1.0) -> Offer:
    """A machine without accelerators."""
    return Offer(Location(provider, "here", zone), "box", 4, 16, CapacityType.ON_DEMAND, usd)


def spot_offers(*zones: str, provider: str = "local") -> tuple[Offer, ...]:
    """Machines without accelerators, on spot in each zone, the first being the cheapest, and on demand at $1."""
    on_demand = [offer(provider, zone) for zone in zones]
    return (
        *on_demand,
        *(
            replace(one, capacity_type=CapacityType.SPOT, price_usd_per_hour=0.3 + number / 100)
            for number, one in enumerate(on_demand)
        ),
    )


def on_spot(wanted: ServiceSpec, **policy: Any) -> ServiceSpec:
    """The same service on spot machines; keyword arguments go to its spot policy."""
    return replace(wanted, resources=ResourceRequest(((Requirement(use_spot=True),),)), spot=SpotSpec(**policy))


def spec(fingerprint: str = "v1", max_surge: int = 1, drain_timeout_s: float = 30.0, **scaling: Any) -> ServiceSpec:
    """A service's specification; keyword arguments go to its scaling."""
    bounds = ScalingSpec(**{"min_replicas": 2, "max_replicas": 2, **scaling})
    return ServiceSpec(
        probe=ProbeSpec(path="/health", initial_delay_s=60, failure_threshold_s=20, interval_s=2),
        scaling=bounds,
        routing=RoutingSpec(),
        resources=ResourceRequest(),
        engine=EngineSpec(port=8080, run="serve"),
        max_surge=max_surge,
        drain_timeout_s=drain_timeout_s,
        fingerprint=fingerprint,
    )


class World:
    """A control plane over one fake cloud and, unless another is given, a memory store."""

    def __init__(
        self,
        *,
        cloud: FakeCloud | None = None,
        clock: FakeClock | None = None,
        store: Store | None = None,
        market: tuple[Offer, ...] = (),
    ) -> None:
        self.clock = clock or (cloud.clock if cloud else FakeClock())
        self.cloud = cloud or FakeCloud(self.clock)
        self.store = store or MemoryStore(self.clock)
        self.runtime = Runtime(
            clock=self.clock,
            ids=FakeIds(),
            store=self.store,
            providers={self.cloud.name: self.cloud},
            market=FakeMarket(market or (offer(self.cloud.name, "a", 1.0), offer(self.cloud.name, "b", 1.1))),
            prober=FakeProber({self.cloud.name: self.cloud}, self.clock),
            settings=Settings(lease_ttl_s=30.0),
            poke=lambda _name: None,
            spawn=inline,
            secrets=MemorySecrets(self.clock),
        )

    def create(self, name: str = "svc", wanted: ServiceSpec | None = None) -> Service:
        wanted = wanted or spec()
        now = self.clock.now()
        service = lifecycle.new_service(name, "u1d0", wanted, now)
        return self.store.create_service(service, SpecVersion(name, 1, wanted, "source", now))

    def update(self, wanted: ServiceSpec, name: str = "svc") -> None:
        service, now = self.state(name).service, self.clock.now()
        number = service.spec_version + 1
        changed = lifecycle.with_spec(service, wanted, number, now)
        self.store.add_version(changed, SpecVersion(name, number, wanted, "source", now))

    def delete(self, name: str = "svc") -> None:
        self.store.commit(name, None, Commit(service=replace(self.state(name).service, deleting=True)))

    def tick(self, times: int = 1, every_s: float = 1.0) -> tuple[passes.Report, ...]:
        reports: tuple[passes.Report, ...] = ()
        for _ in range(times):
            self.clock.advance(every_s)
            reports = passes.tick(self.runtime)
        return reports

    def state(self, name: str = "svc") -> State:
        state = self.store.load(name)
        assert state is not None, f"no service {name}"
        return state

    def replicas(self, status: ReplicaStatus | None = None) -> list[Replica]:
        return [replica for replica in self.state().replicas if status in (None, replica.status)]

    def routed(self, name: str = "svc") -> list[str]:
        table = self.store.table(name)
        return [route.id for route in table.routes] if table else []


@dataclass
class FakeSchedule:
    """Whether functions are woken, and how often it was said."""

    is_on: bool = False
    said: list[str] = field(default_factory=list)

    def on(self) -> None:
        self.is_on = True
        self.said.append("on")

    def off(self) -> None:
        self.is_on = False
        self.said.append("off")


@dataclass
class FakeRelay:
    """A queue that keeps what it is sent."""

    sent: list[tuple[str, int]] = field(default_factory=list)

    def send(self, body: str, delay_s: int) -> None:
        self.sent.append((body, delay_s))
