"""The simulation: the shipped passes over a simulated world, in virtual time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import Random
from typing import Protocol

from chalicelib import lifecycle
from chalicelib.errors import Conflict
from chalicelib.model import (
    CapacityType,
    InterruptionNotice,
    Lease,
    Location,
    NoticeKind,
    Reason,
    Replica,
    ReplicaStatus,
    RouteTable,
    ServiceSpec,
    SpecVersion,
    State,
)
from chalicelib.ports import Commit, Provider, Runtime, Settings
from chalicelib.secrets.memory import MemorySecrets
from sailplane.sim.cloud import Cloud, Happening, Machine, spot_usd
from sailplane.sim.driver import Driver
from sailplane.sim.faults import ACTING, Disturber, Interposed
from sailplane.sim.history import Billed, History, Step
from sailplane.sim.judges import Judges
from sailplane.sim.ports import AgentProber, CloudProvider, MarketPrices, SeededIds, WatchedStore, inline
from sailplane.sim.scenario import START, Scenario
from sailplane.sim.scheduler import Scheduler
from sailplane.sim.weather import Weather

SERVICE = "svc"
_DIARY_LINES = 80


class Edge(Protocol):
    """A model of routers and requests. It schedules its own events with `Simulation.scheduler`."""

    @property
    def qps(self) -> float:
        """What it sends now, for those who judge the number of replicas after everything has settled."""

    def begin(self, simulation: Simulation) -> None:
        """Before anything happens. Counts go to `simulation.report_load`."""

    def on_table(self, table: RouteTable | None, now: float) -> None:
        """A routing table was published, or (None) removed. How soon routers have it is the edge's own."""

    def on_machine(self, machine: Machine, happening: Happening, now: float) -> None:
        """Something became of a machine; `machine` says how it is now."""

    def in_flight(self, machine: Machine, now: float) -> int:
        """How many requests are inside a machine."""


class NoEdge:
    """No requests at all."""

    qps = 0.0

    def begin(self, simulation: Simulation) -> None:
        del simulation

    def on_table(self, table: RouteTable | None, now: float) -> None:
        del table, now

    def on_machine(self, machine: Machine, happening: Happening, now: float) -> None:
        del machine, happening, now

    def in_flight(self, machine: Machine, now: float) -> int:
        del machine, now
        return 0


class Simulation:
    """One scenario, run once.

    `edge` is the model of requests; `around` may put other ports in the place of the control plane's, which is how bugs are
    planted to see whether the judges find them.
    """

    def __init__(
        self,
        scenario: Scenario,
        edge: Edge | None = None,
        around: Callable[[Runtime], Runtime] = lambda runtime: runtime,
    ) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(START)
        self.history = History()
        self.diary: deque[str] = deque(maxlen=_DIARY_LINES)
        self.edge: Edge = edge or NoEdge()
        # What the owner does when the faults let them act; a scenario's author may give them more to do.
        self.owner_acts: Callable[[], None] = lambda: None
        self.acts = 0  # of the owner's, so far
        self.reported_at = START  # when a router handed over its counts last
        self.store = WatchedStore(self.scheduler, self._on_write, self._on_lease)
        names = sorted({zone.location.provider for zone in scenario.market.zones})
        self.clouds = {name: self._cloud(name) for name in names}
        self.prices = MarketPrices(scenario.market, self.scheduler, START)
        self.disturber = Disturber(
            self._random("disturber"),
            self.scheduler,
            scenario.faults.disturbance,
            self._pass_time,
            self._run_another,
            self._let_owner_act,
            self.note,
        )
        self.runtime = around(self._runtime())
        self.judges = Judges(self)
        self.driver = Driver(
            SERVICE,
            self.runtime,
            self.scheduler,
            self.store,
            self.clouds,
            self.prices,
            self.disturber,
            self.history,
            self.all_in_flight,
            self.judges,
            scenario.skips_idle_passes,
        )
        self.weather = Weather(
            scenario.faults,
            START,
            self.scheduler,
            self._random("weather"),
            self.clouds,
            self.disturber,
            self._let_owner_act,
            self._warn,
            self.note,
        )
        self.table: RouteTable | None = None
        self.last_commit = Commit()
        self._created = 0

    def _random(self, what: str) -> Random:
        """One for each concern, so that one more draw of one of them changes nothing for the others."""
        return Random(f"{self.scenario.seed} {what}")

    def _cloud(self, name: str) -> Cloud:
        return Cloud(
            name,
            self.scenario.market,
            self.scheduler,
            self._random(name),
            START,
            self.scenario.cold_start,
            self.scenario.faults,
            self.history.counts,
            self._on_machine,
            self._on_change,
            self._on_removal,
            self._on_refusal,
            self.scenario.broken,
            self.scenario.listing_lag_s,
        )

    def _runtime(self) -> Runtime:
        happens = self._around_call
        providers: dict[str, Provider] = {
            name: Interposed(CloudProvider(cloud, name, cloud.listing_lag_s), happens)
            for name, cloud in self.clouds.items()
        }
        return Runtime(
            clock=self.scheduler,
            ids=SeededIds(self.scenario.seed, self.scheduler),
            store=Interposed(self.store, happens),
            providers=providers,
            market=self.prices,
            prober=Interposed(AgentProber(self.clouds, self.scheduler, self._in_flight, self._drained), happens),
            settings=Settings(limits=self.scenario.limits),
            poke=lambda _name: None,
            spawn=inline,
            secrets=MemorySecrets(self.scheduler),
        )

    @property
    def t(self) -> float:
        """Seconds since the market's first instant."""
        return self.scheduler.time - START

    @property
    def machines(self) -> list[Machine]:
        """Of all clouds, those gone that are still shown included."""
        return [machine for cloud in self.clouds.values() for machine in cloud.shown.values()]

    def run(self, until_s: float, progress: Callable[[float], None] = lambda _t: None) -> History:
        """Create the service and let time pass. `progress` is told how far it is, in simulated seconds."""
        self.driver.until = START + until_s
        self.edge.begin(self)
        self.weather.begin()
        self.scheduler.at(START, self.create)
        every_s = max(3600.0, until_s / 1000)
        for index in range(1, math.ceil(until_s / every_s)):
            self.at(index * every_s, partial(progress, index * every_s))
        self.scheduler.run_until(START + until_s)
        self.history.until_s = until_s
        self.history.bill = [self._billed(one) for cloud in self.clouds.values() for one in cloud.machines.values()]
        progress(until_s)
        return self.history

    def at(self, t: float, happen: Callable[[], None]) -> None:
        """Let something happen at an instant of the market."""
        self.scheduler.at(START + t, happen)

    def note(self, text: str) -> None:
        """Remember what happened, for whoever has to find out why."""
        self.diary.append(f"{self.t:10.1f} {'  ' * self.disturber.depth}{text}")

    # --- the owner, as the API does it: under versions, without a lease

    def create(self, spec: ServiceSpec | None = None) -> None:
        """Create the service, by the scenario's spec if no other is given."""
        self._created += 1
        wanted, now = spec or self.scenario.spec, self.scheduler.time
        service = lifecycle.new_service(SERVICE, f"u{self._created:03d}", wanted, now)
        self.store.create_service(service, SpecVersion(SERVICE, 1, wanted, "", now))
        self.judges.on_version(service.uid, 1)
        self._acted(f"creates it: {wanted.fingerprint} {wanted.scaling}")

    def update(self, spec: ServiceSpec) -> None:
        """Give the service a new version."""
        if state := self.state():
            number, now = state.service.spec_version + 1, self.scheduler.time
            changed = lifecycle.with_spec(state.service, spec, number, now)
            self.judges.on_update(state)
            try:
                self.store.add_version(changed, SpecVersion(SERVICE, number, spec, "", now))
            except Conflict as error:  # between reading and writing nothing can have happened
                self.judges.verdict(f"the owner's new version is refused: {error}")
            self.judges.on_version(state.service.uid, number)
            self._acted(f"updates it: {spec.fingerprint} {spec.scaling}")

    def delete(self) -> None:
        """Shut the service down."""
        if state := self.state():
            self.store.commit(SERVICE, None, Commit(service=replace(state.service, deleting=True)))
            self._acted("deletes it")
            self.judges.on_delete(state.service.uid)

    def drain(self, replica: Replica) -> None:
        """Have a replica drained and replaced."""
        draining = lifecycle.moved(replica, ReplicaStatus.DRAINING, self.scheduler.time, reason=Reason.USER)
        with suppress(Conflict):
            self.store.commit(SERVICE, None, Commit(replicas=(draining,)))
            self._acted(f"drains {replica.id}")

    def wanted_replicas(self, state: State) -> int:
        """How many the owner's word and the clients come to."""
        scaling, (fewest, most) = state.service.spec.scaling, self.bounds(state)
        if scaling.target_qps_per_replica is not None:
            fewest = max(fewest, math.ceil(self.edge.qps / scaling.target_qps_per_replica))
        return min(fewest, most)

    def bounds(self, state: State) -> tuple[int, int]:
        """The fewest and the most replicas that are allowed now. Of schedules, expressions for once a day (UTC) are understood."""
        scaling = state.service.spec.scaling
        if not scaling.schedule:
            return scaling.min_replicas, scaling.max_replicas
        _, latest = min((self._since(entry.cron), -place) for place, entry in enumerate(scaling.schedule))
        entry = scaling.schedule[-latest]
        fewest, most = entry.min_replicas, entry.max_replicas
        return scaling.min_replicas if fewest is None else fewest, scaling.max_replicas if most is None else most

    def _since(self, daily: str) -> float:
        """Seconds since the expression, `minute hour * * *`, came last."""
        minute, hour, *_ = daily.split()
        return (self.scheduler.time - 3600 * int(hour) - 60 * int(minute)) % 86_400

    def state(self) -> State | None:
        """The service as it is stored."""
        return self.store.load(SERVICE)

    def _acted(self, what: str) -> None:
        self.acts += 1
        self.note(f"the owner {what}")
        self.driver.poke()

    # --- what the edge does

    def report_load(self, router_id: str, seq: int, counts: Sequence[tuple[int, int]]) -> None:
        """Hand over what a router has counted, as its exchange with the control plane does."""
        self.reported_at = self.scheduler.time
        self.store.record_load(SERVICE, router_id, seq, counts, self.scheduler.time)

    def all_in_flight(self) -> Mapping[str, int]:
        """By machine."""
        return {machine.id: self._in_flight(machine) for machine in self.machines if machine.is_alive}

    def _in_flight(self, machine: Machine) -> int:
        return self.edge.in_flight(machine, self.scheduler.time)

    def _drained(self, machine: Machine) -> None:
        if not machine.draining:
            machine.draining = True
            self._on_machine(machine, Happening.DRAINS)

    # --- what happens

    def _on_change(self) -> None:
        self.driver.changes += 1

    def _around_call(self, moment: str, call: str) -> None:
        if moment == "after":
            self.judges.on_call(call, self.disturber.depth)
        # Who asks for a lease that somebody else has will do nothing, and need not be run.
        is_futile = (moment, call) == ("before", "acquire_lease") and self.store.is_leased(SERVICE)
        self.disturber.happens(moment, call, is_acting=call in ACTING and not is_futile)

    def _on_write(self, commit: Commit | None) -> None:
        self._on_change()
        if commit is not None:
            self.last_commit = commit
            self.history.events.extend(commit.events)
            for event in commit.events:
                self.note(event.message)
        table = self.store.table(SERVICE)
        if table is not self.table:
            self.table = table
            self.edge.on_table(table, self.scheduler.time)
        self._step()
        self.judges.look()

    def _on_machine(self, machine: Machine, happening: Happening) -> None:
        self._on_change()
        if happening is Happening.STARTED:
            self.weather.on_start(self.clouds[machine.offer.location.provider], machine)
            self.judges.on_start(machine)
        if happening is Happening.NOTICED and not machine.is_told_by_agent:
            self._tell(machine)
        self.edge.on_machine(machine, happening, self.scheduler.time)
        self._step()
        self.judges.look()

    def _tell(self, machine: Machine) -> None:
        """As AWS does: through its event bus, within seconds."""
        at = machine.interruption_at or self.scheduler.time
        notice = InterruptionNotice("aws", NoticeKind.INTERRUPTION, at, instance_id=machine.id)
        for number in range(machine.notices):
            self.scheduler.after(1.0 + number, partial(self.driver.tell, notice))
        if machine.notices:
            self.judges.on_told(machine)

    def _warn(self, machine: Machine) -> None:
        """A rebalance recommendation. Nothing need come of it."""
        now, provider = self.scheduler.time, machine.offer.location.provider
        notice = InterruptionNotice(provider, NoticeKind.REBALANCE, now, instance_id=machine.id)
        self.scheduler.after(1.0, partial(self.driver.tell, notice))

    def _on_removal(self, machine: Machine) -> None:
        self.judges.on_removal(machine)

    def _on_refusal(self, place: Location) -> None:
        self.judges.on_refusal(place)

    def _on_lease(self, lease: Lease) -> None:
        self.judges.on_lease(lease)

    def _run_another(self) -> None:
        self.driver.run_another()

    def _let_owner_act(self) -> None:
        self.owner_acts()

    def _pass_time(self, seconds: float) -> None:
        self.driver.pass_time(seconds)

    # --- the history

    def ready(self) -> list[Machine]:
        """Machines that serve and are in the published table."""
        routed = {route.id for route in self.table.routes} if self.table else set()
        return [machine for machine in self.machines if machine.serves and machine.replica.id in routed]

    def _step(self) -> None:
        """Add a step to the history if anything in it has changed."""
        ready = self.ready()
        spot = sum(machine.offer.capacity_type is CapacityType.SPOT for machine in ready)
        service = self.store.service(SERVICE)
        step = Step(
            t=self.t,
            target=service.scaler.target if service and not service.deleting else 0,
            ready=len(ready),
            spot_ready=spot,
            on_demand_ready=len(ready) - spot,
            billed=sum(machine.is_billed for machine in self.machines),
        )
        steps = self.history.steps
        if steps and steps[-1].t == step.t:
            steps[-1] = step
        elif not steps or replace(steps[-1], t=step.t) != step:
            steps.append(step)

    def _billed(self, machine: Machine) -> Billed:
        ended_at = self.scheduler.time if machine.ended_at is None else machine.ended_at
        from_s, to_s = machine.started_at - START, ended_at - START
        zone = self.clouds[machine.offer.location.provider].zones[machine.offer.location]
        if machine.offer.capacity_type is CapacityType.SPOT:
            usd = spot_usd(zone, from_s, to_s)
        else:
            usd = self.scenario.market.on_demand_usd_per_hour * (to_s - from_s) / 3600
        return Billed(machine.id, machine.replica.id, machine.offer, from_s, to_s, usd)
