"""Worlds drawn from a seed, to find what no test thought of: services, markets, owners and clients, and everything that goes wrong.

Even seeds are storms: minutes in which something happens every few seconds, then fair weather. Odd ones are seasons: days in which
machines are taken as markets take them and a fault comes now and then; of these, every fourth is a day with clients instead.
All end with the service shut down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from chalicelib.model import (
    RISK_AWARE,
    SPOTHEDGE,
    BudgetSpec,
    EngineSpec,
    Limits,
    Location,
    ProbeSpec,
    Requirement,
    ResourceRequest,
    RouteTable,
    RoutingSpec,
    ScalingSpec,
    ScheduledBounds,
    ServiceSpec,
    SpotSpec,
)
from chalicelib.optimizer.placers import EVEN_SPREAD, ROUND_ROBIN
from chalicelib.ports import Runtime
from sailplane.sim.cloud import Happening, Machine
from sailplane.sim.history import History
from sailplane.sim.judges import REFUSED_AT_MOST_S, SETTLED_WITHIN_S, SHUT_DOWN_MAX_S, settled_within_s
from sailplane.sim.market import Market, Zone
from sailplane.sim.scenario import ColdStart, Faults, Scenario
from sailplane.sim.world import Simulation

BROKEN = "broken"
_STORM_S = 1200.0
_SEASON_S = 9 * 86_400.0
_DAY_S = 6 * 3600.0
# When schedules have their instants, not to change what is wanted at the end: worlds begin at 8 o'clock (UTC).
_STORM_HOURS, _DAY_HOURS, _SEASON_HOURS = (8,), (9, 11, 13), (2, 14, 20)
_STEP_S = 600.0
# In fair weather: settling (which may wait for a shutdown to end first), a minute of rest, and the shutdown.
_REST_S = 120.0
_ENDING_S = SHUT_DOWN_MAX_S + SETTLED_WITHIN_S + REFUSED_AT_MOST_S + _REST_S + SHUT_DOWN_MAX_S + 60.0
# Nobody leaves a broken version for days; every ten minutes it buys a machine in vain.
_MENDED_AFTER_S = 2 * 3600.0
# A zone that has not enough for all changes so many times sooner than one that has: within hours of a season.
_RECOVERS_SOONER, _ENOUGH = 10, 6
_PLACES = (("aws", "us-east-1", "a"), ("aws", "us-east-1", "b"), ("gcp", "us-central1", "c"), ("azure", "westus", ""))


def duration_s(seed: int) -> float:
    """How long the seed's world lasts."""
    return (_changing_s(seed) if seed % 2 else _STORM_S) + _ENDING_S


def _changing_s(seed: int) -> float:
    return _DAY_S if seed % 8 == 7 else _SEASON_S


def replay(seed: int) -> str:
    """The one command that runs the seed's world again and tells its story."""
    return f"python -m sailplane.sim --seed {seed}"


def run(
    seed: int,
    *,
    around: Callable[[Runtime], Runtime] = lambda runtime: runtime,
    skips_idle_passes: bool = True,
    days: float | None = None,
) -> tuple[History, Simulation]:
    """Run the seed's world to its end; a season may be given so many days."""
    draw = Random(seed)
    changing_s = _changing_s(seed) if days is None else days * 86_400
    drawn = _season(draw, changing_s) if seed % 2 else _storm(draw)
    scenario = replace(drawn, seed=seed, skips_idle_passes=skips_idle_passes, ends_at_verdict=True)
    clients = Clients(Random(f"{seed} clients"), scenario.faults)
    simulation = Simulation(scenario, clients, around)
    owner = Owner(simulation, Random(f"{seed} owner"))
    simulation.owner_acts = owner.act
    simulation.at(scenario.faults.until_s, owner.say_last_word)
    return simulation.run(scenario.faults.until_s + _ENDING_S), simulation


def _storm(draw: Random) -> Scenario:
    faults = Faults(
        disturbance=draw.choice((0.3, 1.0, 3.0)),
        strikes_per_hour=draw.choice((20.0, 100.0)),
        misfortunes_per_hour=draw.choice((3.0, 12.0)),
        outages_per_hour=draw.choice((3.0, 12.0)),
        owner_acts_per_hour=30.0,
        stillborn_share=0.15,
        until_s=_STORM_S,
    )
    spec = draw_spec(draw, use_spot=draw.random() < 0.5)
    return Scenario(
        spec=replace(spec, budget=BudgetSpec(max_usd_per_hour=draw.choice((None, None, None, 7.0)))),
        market=_market(draw, _STORM_S, odds=0.1),
        faults=faults,
        cold_start=ColdStart((0.0, 20.0), (0.0, 10.0)),
        listing_lag_s=draw.choice((0.0, 0.0, 15.0)),
        broken=frozenset({BROKEN}),
        limits=Limits(pending_s=60.0, provisioning_s=90.0),
    )


def _season(draw: Random, changing_s: float) -> Scenario:
    is_day = changing_s == _DAY_S
    hurry = 10.0 if is_day else 1.0  # a day has as much in it
    faults = Faults(
        disturbance=draw.choice((0.0, 0.3, 1.0)),
        strikes_per_hour=draw.choice((0.05, 0.5)) * hurry,
        misfortunes_per_hour=draw.choice((0.0, 0.015)) * hurry,
        outages_per_hour=draw.choice((0.0, 0.05)) * hurry,
        owner_acts_per_hour=draw.choice((0.0, 0.02)) * hurry,
        stillborn_share=0.05,
        unannounced_share=draw.choice((0.0, 0.3)),
        until_s=changing_s,
    )
    use_spot = draw.random() < 0.8
    scaling = ScalingSpec(min_replicas=draw.choice((0, 1)), max_replicas=4, target_qps_per_replica=2.0)
    if is_day:
        scaling = replace(
            scaling, upscale_delay_s=60.0, downscale_delay_s=300.0, panic_window_s=draw.choice((0.0, 10.0))
        )
    else:
        scaling = ScalingSpec(min_replicas=3, max_replicas=3)
    schedule = _schedule(draw, _DAY_HOURS if is_day else _SEASON_HOURS)
    spot, budget = _spot(draw, use_spot=use_spot), _budget(draw)
    market = _market(draw, changing_s, odds=0.005 * hurry)
    if not is_day:
        # Nothing moves a service without a target within its bounds.
        schedule = tuple(replace(entry, min_replicas=entry.max_replicas) for entry in schedule)
        # Two zones are often short together, and who does not back off asks them every 20 s, for days.
        spot = replace(spot, zone_backoff=spot.zone_backoff or len(market.zones) == 2)
    spec = ServiceSpec(
        probe=ProbeSpec(path="/health", initial_delay_s=600.0),
        scaling=replace(scaling, schedule=schedule),
        routing=RoutingSpec(),
        resources=_resources(use_spot=use_spot),
        engine=EngineSpec(port=8080, run="serve"),
        spot=spot,
        budget=budget,
        fingerprint="v1",
    )
    return Scenario(spec=spec, market=market, faults=faults, broken=frozenset({BROKEN}))


def _schedule(draw: Random, hours: Sequence[int]) -> tuple[ScheduledBounds, ...]:
    """Twice a day, or not at all."""
    if draw.random() < 0.75:
        return ()
    fewest = draw.choice((0, 1, 2))
    other = ScheduledBounds(f"{draw.randint(5, 11)} {draw.choice(hours)} * * *", "UTC", fewest, fewest + 1)
    return other, ScheduledBounds(f"{draw.randint(12, 18)} {draw.choice(hours)} * * *")


def _spot(draw: Random, *, use_spot: bool) -> SpotSpec:
    """Any of the policies, half of the time."""
    if draw.random() < 0.5:
        return SpotSpec()
    extra = draw.choice((0, 0, 1))
    if not use_spot:
        return SpotSpec(extra)
    return SpotSpec(
        num_overprovision=extra,
        dynamic_ondemand_fallback=draw.random() < 0.5,
        base_ondemand_fallback_replicas=draw.choice((0, 0, 1)),
        placer=draw.choice(("", SPOTHEDGE, EVEN_SPREAD, ROUND_ROBIN, RISK_AWARE, RISK_AWARE)),
        spread=draw.random() < 0.3,
        zone_memory_s=draw.choice((0.0, 0.0, 600.0)),
        zone_backoff=draw.random() < 0.3,
        replace_on_rebalance=draw.random() < 0.5,
    )


def _budget(draw: Random) -> BudgetSpec:
    """Mostly none. Three replicas cost 3 to 9 USD an hour, and 500 to 2,000 a season."""
    return BudgetSpec(
        max_usd_per_hour=draw.choice((None, None, None, None, None, 7.0)),
        max_usd_per_month=draw.choice((None, None, None, None, None, 300.0)),
        shut_down=draw.random() < 0.5,
    )


def draw_spec(draw: Random, *, use_spot: bool) -> ServiceSpec:
    """A version of a service: small figures, so that much happens in little time."""
    low = draw.choice((0, 1, 2))
    scaling = ScalingSpec(min_replicas=low, max_replicas=max(1, low) + draw.choice((0, 1, 2)))
    if scaling.max_replicas > low:
        scaling = replace(
            scaling, target_qps_per_replica=2.0, qps_window_s=5.0, upscale_delay_s=5.0, downscale_delay_s=10.0
        )
        scaling = replace(scaling, panic_window_s=draw.choice((0.0, 2.0)), schedule=_schedule(draw, _STORM_HOURS))
    return ServiceSpec(
        probe=ProbeSpec(path="/health", initial_delay_s=60.0, failure_threshold_s=20.0, interval_s=2.0),
        scaling=scaling,
        routing=RoutingSpec(),
        resources=_resources(use_spot=use_spot),
        engine=EngineSpec(port=8080, run="serve"),
        spot=_spot(draw, use_spot=use_spot),
        max_surge=draw.choice((1, 1, 2)),
        drain_timeout_s=30.0,
        fingerprint=draw.choice(("v1", "v2", "v3", BROKEN)),
    )


def _resources(*, use_spot: bool) -> ResourceRequest:
    return ResourceRequest(((Requirement(accelerators=(("V100", 1),), use_spot=use_spot),),))


def _market(draw: Random, changing_s: float, odds: float) -> Market:
    """Zones whose capacity and price move now and then, and stay at rest, with room for all, when the faults are over."""
    steps = int(changing_s / _STEP_S)
    places = draw.sample(_PLACES, draw.choice((2, 3, 4)))
    zones = tuple(_zone(draw, Location(*place), steps, odds) for place in places)
    return Market("drawn", "p3.2xlarge", "V100", 1, 3.06, zones, changing_s + _ENDING_S)


def _zone(draw: Random, location: Location, steps: int, odds: float) -> Zone:
    capacity, usd = [_ENOUGH], [1.0]
    for _ in range(steps):
        moves = draw.random() < odds * (1 if capacity[-1] == _ENOUGH else _RECOVERS_SOONER)
        capacity.append(draw.choice((0, 0, 1, 2, _ENOUGH)) if moves else capacity[-1])
        usd.append(draw.choice((0.7, 1.0, 1.3, 2.0)) if draw.random() < odds else usd[-1])
    return Zone(location, _STEP_S, (*capacity, 8), (*usd, 1.0))


@dataclass
class Owner:
    """Creates, updates, drains and deletes the service at will. Their last word is a service that works, and its end."""

    simulation: Simulation
    draw: Random

    def act(self) -> None:
        """Do something now."""
        simulation, state = self.simulation, self.simulation.state()
        if state is None:
            simulation.create(self._draw_spec())
            return
        active = [replica for replica in state.replicas if replica.status.is_active]
        match self.draw.choice(("update", "update", "update", "drain", "delete")):
            case "update" if not state.service.deleting:
                self._update()
            case "drain" if active:
                simulation.drain(self.draw.choice(active))
            case "delete" if not state.service.deleting and simulation.scenario.faults.is_storm:
                simulation.delete()

    def _update(self) -> None:
        simulation, spec = self.simulation, self._draw_spec()
        simulation.update(spec)
        if spec.fingerprint == BROKEN and not simulation.scenario.faults.is_storm:
            simulation.at(simulation.t + _MENDED_AFTER_S, self._mend)

    def _mend(self) -> None:
        state = self.simulation.state()
        if state and not state.service.deleting and state.service.spec.fingerprint == BROKEN:
            self.simulation.update(replace(state.service.spec, fingerprint="v1"))

    def say_last_word(self) -> None:
        """The weather has cleared."""
        simulation, state = self.simulation, self.simulation.state()
        if state and state.service.deleting:
            simulation.at(simulation.t + 30, self.say_last_word)
            return
        working = replace(self._draw_spec(), fingerprint=self.draw.choice(("v1", "v2", "v4")))
        if state is None:
            simulation.create(working)
        elif state.service.spec.fingerprint == BROKEN or self.draw.random() < 0.5:
            simulation.update(working)
        simulation.judges.settle()
        simulation.at(simulation.t + settled_within_s(simulation.scenario.spec) + _REST_S, simulation.delete)

    def _draw_spec(self) -> ServiceSpec:
        first = self.simulation.scenario.spec
        spec = draw_spec(self.draw, use_spot=first.resources.groups[0][0].use_spot)
        if first.probe.interval_s > 2:  # a season's service changes in its machines only
            return replace(first, fingerprint=spec.fingerprint)
        return replace(spec, resources=first.resources, budget=first.budget)


@dataclass
class Clients:
    """`world.Edge`: one router that counts, and requests inside machines, as long as the faults last."""

    random: Random
    faults: Faults
    qps: float = 0.0
    _inside: dict[str, int] = field(default_factory=dict)
    _unreported_until: float = 0.0
    _reported_until: float = 0.0
    _seq: int = 0
    _routed: frozenset[str] = frozenset()

    def begin(self, simulation: Simulation) -> None:
        self._reported_until = simulation.scheduler.time
        scaling = simulation.scenario.spec.scaling
        if scaling.target_qps_per_replica is not None or self.faults.is_storm:
            simulation.scheduler.after(5, partial(self._report, simulation))
        if self.faults.is_storm:
            simulation.scheduler.after(3, partial(self._come_and_go, simulation))

    def on_table(self, table: RouteTable | None, now: float) -> None:
        del now
        self._routed = frozenset(route.id for route in table.routes) if table else frozenset()

    def on_machine(self, machine: Machine, happening: Happening, now: float) -> None:
        del now
        if happening is Happening.DIES:
            self._inside.pop(machine.id, None)

    def in_flight(self, machine: Machine, now: float) -> int:
        del now
        return self._inside.get(machine.id, 0)

    def _report(self, simulation: Simulation) -> None:
        """One router counts in every second, and hands it over unless it is cut off."""
        now = simulation.scheduler.time
        if simulation.t < self.faults.until_s and self.random.random() < 0.03:
            # A second that is not reported yet makes no difference to how many replicas these want.
            self.qps = self.random.choice((0, 0, 1, 3, 9))
        if simulation.t < self.faults.until_s and self.random.random() < 0.01:
            self._unreported_until = now + self.random.choice((10, 100))
        if now >= self._unreported_until:
            self._seq += 1
            seconds = range(int(self._reported_until) + 1, int(now) + 1)
            self._reported_until = now
            simulation.report_load("edge", self._seq, [(second, int(self.qps)) for second in seconds])
        pause_s = (1 if self.qps else 20) if self.faults.is_storm else 10
        simulation.scheduler.after(pause_s, partial(self._report, simulation))

    def _come_and_go(self, simulation: Simulation) -> None:
        """Routers use a new table within 3 s; what was begun elsewhere ends by itself."""
        is_raging = simulation.t < self.faults.until_s
        for machine in simulation.machines:
            if machine.serves and machine.replica.id in self._routed and not machine.draining:
                self._inside[machine.id] = self.random.randint(0, 3) if is_raging else 0
            elif self.random.random() < 0.3 or not is_raging:
                self._inside.pop(machine.id, None)
        if is_raging:
            simulation.scheduler.after(3, partial(self._come_and_go, simulation))
        else:
            self._inside.clear()
