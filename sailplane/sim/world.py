"""The simulation: the shipped passes over a simulated world, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Protocol

from chalicelib import lifecycle, passes
from chalicelib.errors import Conflict, Unreachable
from chalicelib.model import (
    CapacityType,
    Instance,
    InterruptionNotice,
    NoticeKind,
    RouteTable,
    ServiceSpec,
    SpecVersion,
    State,
)
from chalicelib.ports import Commit, Runtime, Settings
from chalicelib.store.documents import HISTORY_KEPT_S, LOAD_HEARTBEAT_S, LOAD_KEPT_S, REFUSALS_KEPT_S
from sailplane.sim.cloud import Cloud, Happening, Machine, spot_usd
from sailplane.sim.history import Billed, History, Step
from sailplane.sim.horizon import Horizon, figures
from sailplane.sim.ports import AgentProber, CloudProvider, MarketPrices, SeededIds, WatchedStore, inline
from sailplane.sim.scenario import START, Scenario
from sailplane.sim.scheduler import Scheduler

SERVICE = "svc"
# What a store forgets by age.
_KEPT_S = (HISTORY_KEPT_S, LOAD_KEPT_S, LOAD_HEARTBEAT_S, REFUSALS_KEPT_S)
_FULL_EVERY_S = 10.0  # passes without a service: the laptop's loop looks at the whole deployment this often


class Edge(Protocol):
    """A model of routers and requests. It schedules its own events with `Simulation.scheduler`."""

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
    """One scenario, run once."""

    def __init__(self, scenario: Scenario, edge: Edge | None = None) -> None:
        self.scenario = scenario
        self.scheduler = Scheduler(START)
        self.random = Random(scenario.seed)
        self.history = History()
        self.edge: Edge = edge or NoEdge()
        self.changes = 0  # rises with everything that a pass could read
        self.store = WatchedStore(self.scheduler, self._on_write)
        names = sorted({zone.location.provider for zone in scenario.market.zones})
        self.clouds = {name: self._cloud(name) for name in names}
        self.prices = MarketPrices(scenario.market, self.scheduler, START)
        self.runtime = Runtime(
            clock=self.scheduler,
            ids=SeededIds(scenario.seed, self.scheduler),
            store=self.store,
            providers={name: CloudProvider(cloud, name, cloud.listing_lag_s) for name, cloud in self.clouds.items()},
            market=self.prices,
            prober=AgentProber(self.clouds, self.scheduler, self._in_flight, self._drained),
            settings=Settings(limits=scenario.limits),
            poke=lambda _name: None,
            spawn=inline,
        )
        self._created = 0
        self._until = math.inf
        self._planned_at = math.inf
        self._rest_s = _FULL_EVERY_S
        self._is_idle_since = -1  # the value of `changes` that the last pass found nothing to do about
        self._idle_until = -math.inf
        self._in_flight_seen: Mapping[str, int] = {}
        self._moments = Horizon()
        self._durations: tuple[ServiceSpec | None, frozenset[float]] = (None, frozenset())
        self._table: RouteTable | None = None

    def _cloud(self, name: str) -> Cloud:
        return Cloud(
            name,
            self.scenario.market,
            self.scheduler,
            Random(f"{self.scenario.seed} {name}"),
            START,
            self.scenario.cold_start,
            self.scenario.faults,
            self.history.counts,
            self._on_machine,
        )

    @property
    def t(self) -> float:
        """Seconds since the market's first instant."""
        return self.scheduler.time - START

    def run(self, until_s: float, progress: Callable[[float], None] = lambda _t: None) -> History:
        """Create the service and let time pass. `progress` is told how far it is, in simulated seconds."""
        self._until = START + until_s
        self.edge.begin(self)
        self.scheduler.at(START, self.create)
        every_s = max(3600.0, until_s / 1000)
        for index in range(1, math.ceil(until_s / every_s)):
            self.scheduler.at(START + index * every_s, partial(self._progress, progress))
        self.scheduler.run_until(self._until)
        self.history.until_s = until_s
        self.history.bill = self._bill()
        progress(until_s)
        return self.history

    def _progress(self, progress: Callable[[float], None]) -> None:
        progress(self.t)

    # --- the owner, as the API does it: under versions, without a lease

    def create(self) -> None:
        """Create the service."""
        self._created += 1
        spec, now = self.scenario.spec, self.scheduler.time
        service = lifecycle.new_service(SERVICE, f"u{self._created:03d}", spec, now)
        self.store.create_service(service, SpecVersion(SERVICE, 1, spec, "", now))
        self._poke()

    def update(self, spec: ServiceSpec) -> None:
        """Give the service a new version. Raises `Conflict`."""
        state, now = self.state(), self.scheduler.time
        if state is not None:
            number = state.service.spec_version + 1
            changed = lifecycle.with_spec(state.service, spec, number, now)
            self.store.add_version(changed, SpecVersion(SERVICE, number, spec, "", now))
            self._poke()

    def delete(self) -> None:
        """Shut the service down."""
        if state := self.state():
            self.store.commit(SERVICE, None, Commit(service=replace(state.service, deleting=True)))
            self._poke()

    def state(self) -> State | None:
        """The service as it is stored."""
        return self.store.load(SERVICE)

    # --- what the edge does

    def report_load(self, router_id: str, seq: int, counts: Sequence[tuple[int, int]]) -> None:
        """Hand over what a router has counted, as its exchange with the control plane does."""
        self.store.record_load(SERVICE, router_id, seq, counts, self.scheduler.time)

    def _in_flight(self, machine: Machine) -> int:
        return self.edge.in_flight(machine, self.scheduler.time)

    def _drained(self, machine: Machine) -> None:
        if not machine.draining:
            machine.draining = True
            self._on_machine(machine, Happening.DRAINS)

    # --- passes

    def _poke(self) -> None:
        """The API asks for a pass at once; one costs nothing when it comes too early."""
        self._plan(self.scheduler.time)

    def _plan(self, at: float) -> None:
        self._planned_at = at
        self.scheduler.at(at, partial(self._pass, at))

    def _pass(self, planned_at: float) -> None:
        """Run what is due now, or skip to what may matter. The next pass is when the shipped cadence says."""
        if planned_at != self._planned_at:
            return  # another one was planned since
        now = self.scheduler.time
        if self._nothing_new():
            self._plan(self._skip(now))
            return
        before, self.prices.were_read = self.changes, False
        reports = passes.tick(self.runtime)
        self.history.passes_run += 1
        next_at = min((report.next_at for report in reports), default=now + _FULL_EVERY_S)
        self._rest_s = next_at - now
        is_idle = self.changes == before and not any(_did_something(report) for report in reports)
        if is_idle and self.scenario.skips_idle_passes:
            self._is_idle_since = before
            self._idle_until = self._horizon(now)
            self._in_flight_seen = self._all_in_flight()
        self._plan(next_at)

    def _skip(self, now: float) -> float:
        """When the first pass comes that may matter. The ones before have the same instants as if they had been run."""
        limit = min(self.scheduler.next_at, self._idle_until, self._until)
        next_at = now + self._rest_s
        self.history.passes_skipped += 1
        while next_at < limit:
            next_at += self._rest_s
            self.history.passes_skipped += 1
        return next_at

    def _nothing_new(self) -> bool:
        return (
            self._is_idle_since == self.changes
            and self.scheduler.time < self._idle_until
            and self._in_flight_seen == self._all_in_flight()
        )

    def _all_in_flight(self) -> Mapping[str, int]:
        now = self.scheduler.time
        machines = (machine for cloud in self.clouds.values() for machine in cloud.shown.values() if machine.serves)
        return {machine.id: self.edge.in_flight(machine, now) for machine in machines}

    def _horizon(self, now: float) -> float:
        state = self.store.load(SERVICE)
        if state is None:
            return math.inf
        service = state.service
        read = (service, *state.replicas, *state.load, *self._listed(), *self.store.refusals(now))
        waited_s = frozenset((service.scaler.up_s, service.scaler.down_s))
        known = self._moments.after(now, read, self._durations_s(service.spec), waited_s)
        return min(known, self.prices.next_change_at()) if self.prices.were_read else known

    def _listed(self) -> Iterator[Instance]:
        for cloud in self.clouds.values():
            yield from cloud.listed()

    def _durations_s(self, spec: ServiceSpec) -> frozenset[float]:
        if self._durations[0] is not spec:
            settings = (spec, self.runtime.settings.limits)
            self._durations = spec, frozenset((*_KEPT_S, *(one for one in figures(settings) if 0 < one < START)))
        return self._durations[1]

    # --- what happens

    def _on_write(self, commit: Commit | None) -> None:
        self.changes += 1
        if commit is not None:
            self.history.events.extend(commit.events)
        table = self.store.table(SERVICE)
        if table is not self._table:
            self._table = table
            self.edge.on_table(table, self.scheduler.time)
        self._note()

    def _on_machine(self, machine: Machine, happening: Happening) -> None:
        self.changes += 1
        if happening is Happening.NOTICED and machine.offer.location.provider == "aws":
            notice = InterruptionNotice(
                "aws", NoticeKind.INTERRUPTION, machine.interruption_at or 0.0, instance_id=machine.id
            )
            self.scheduler.after(1.0, partial(self._tell, notice))
        self.edge.on_machine(machine, happening, self.scheduler.time)
        self._note()

    def _tell(self, notice: InterruptionNotice) -> None:
        try:
            passes.interrupt(self.runtime, (notice,), self._pass_time)
        except (Conflict, Unreachable):
            return  # EventBridge hands it in once

    def _pass_time(self, seconds: float) -> None:
        self.scheduler.run_until(self.scheduler.time + seconds)

    def _note(self) -> None:
        """Add a step to the history if anything in it has changed."""
        routed = {route.id for route in self._table.routes} if self._table else set()
        machines = [machine for cloud in self.clouds.values() for machine in cloud.shown.values()]
        ready = [machine for machine in machines if machine.serves and machine.replica.id in routed]
        spot = sum(machine.offer.capacity_type is CapacityType.SPOT for machine in ready)
        service = self.store.service(SERVICE)
        step = Step(
            t=self.t,
            target=service.scaler.target if service and not service.deleting else 0,
            ready=len(ready),
            spot_ready=spot,
            on_demand_ready=len(ready) - spot,
            billed=sum(machine.is_billed for machine in machines),
        )
        steps = self.history.steps
        if steps and steps[-1].t == step.t:
            steps[-1] = step
        elif not steps or replace(steps[-1], t=step.t) != step:
            steps.append(step)

    def _bill(self) -> list[Billed]:
        return [self._billed(machine) for cloud in self.clouds.values() for machine in cloud.machines.values()]

    def _billed(self, machine: Machine) -> Billed:
        ended_at = self.scheduler.time if machine.ended_at is None else machine.ended_at
        from_s, to_s = machine.started_at - START, ended_at - START
        zone = self.clouds[machine.offer.location.provider].zones[machine.offer.location]
        if machine.offer.capacity_type is CapacityType.SPOT:
            usd = spot_usd(zone, from_s, to_s)
        else:
            usd = self.scenario.market.on_demand_usd_per_hour * (to_s - from_s) / 3600
        return Billed(machine.id, machine.replica.id, machine.offer, from_s, to_s, usd)


def _did_something(report: passes.Report) -> bool:
    return report.acted or report.is_held_up or bool(report.failures)
