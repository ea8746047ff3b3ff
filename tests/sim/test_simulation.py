"""The simulator itself: it repeats itself exactly, it skips nothing that matters, and what it counts adds up."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from chalicelib.model import (
    RISK_AWARE,
    SPOTHEDGE,
    BudgetSpec,
    CapacityType,
    EngineSpec,
    Location,
    ProbeSpec,
    Requirement,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    ScheduledBounds,
    ServiceSpec,
    SpotSpec,
)
from sailplane.sim import storms
from sailplane.sim.market import Market, Zone
from sailplane.sim.scenario import ColdStart, Faults, Scenario
from sailplane.sim.world import Simulation

HOUR_S = 3600.0
UP, DOWN = ScheduledBounds("7 8 * * *", "UTC", 3, 4), ScheduledBounds("7 8 * * *", "UTC", 1, 1)


def market(*capacities: tuple[int, ...], provider: str = "aws") -> Market:
    """A zone for each tuple, an hour a step, each zone a little dearer than the last."""
    zones = tuple(
        Zone(Location(provider, "here", f"z{index}"), HOUR_S, capacity, (1.0 + index / 10,) * len(capacity))
        for index, capacity in enumerate(capacities)
    )
    return Market("test", "p3.2xlarge", "V100", 1, 3.0, zones, HOUR_S * max(map(len, capacities)))


def spec(replicas: int = 3, *, use_spot: bool = True) -> ServiceSpec:
    requirement = Requirement(accelerators=(("V100", 1),), use_spot=use_spot)
    return ServiceSpec(
        probe=ProbeSpec(),
        scaling=ScalingSpec(min_replicas=replicas, max_replicas=replicas),
        routing=RoutingSpec(),
        resources=ResourceRequest(((requirement,),)),
        engine=EngineSpec(port=8080, run="serve"),
        fingerprint="v1",
    )


def test_the_same_seed_has_the_same_history() -> None:
    """Bit by bit, whatever went wrong in it; another seed has another one."""
    first, second = (storms.run(0)[0] for _ in range(2))
    assert first == second
    assert first != storms.run(2)[0]


@pytest.mark.parametrize("seed", [0, 2, 4, 6, 8, 10])
def test_skipping_changes_nothing(seed: int) -> None:
    """A storm's history is the same when every single pass of it is run."""
    skipping, simulation = storms.run(seed)
    thorough, _ = storms.run(seed, skips_idle_passes=False)
    assert skipping == thorough, simulation.diary
    assert thorough.passes_skipped == 0


@pytest.mark.parametrize("capacities", [((4, 1, 4), (0, 4, 2)), ((0, 0, 3), (0, 1, 0))])
def test_skipping_changes_nothing_at_rest(capacities: tuple[tuple[int, ...], ...]) -> None:
    """Nor does it on a market without a fault, where nearly all passes are skipped."""
    scenarios = (Scenario(spec(), market(*capacities), skips_idle_passes=skips) for skips in (True, False))
    skipping, thorough = (Simulation(scenario).run(3 * HOUR_S) for scenario in scenarios)
    assert skipping == thorough
    assert skipping.passes_run * 2 < skipping.passes_skipped
    assert skipping.passes_run + skipping.passes_skipped == thorough.passes_run


@pytest.mark.parametrize(
    ("policy", "capacities", "hours"),
    [
        (SpotSpec(1, dynamic_ondemand_fallback=True, placer=SPOTHEDGE), ((4, 1, 4), (0, 4, 2)), 3),
        (SpotSpec(dynamic_ondemand_fallback=True, placer=RISK_AWARE), ((4, 1, 4), (0, 4, 2)), 3),
        (SpotSpec(dynamic_ondemand_fallback=True, placer=RISK_AWARE), ((0, 1, 0), (0, 0, 3)), 1.5),
        (SpotSpec(placer=RISK_AWARE, availability_target=0.9), ((4,), (4,), (4,), (4,)), 5),
    ],
)
def test_skipping_changes_nothing_of_what_time_does_to_a_mix(
    policy: SpotSpec, capacities: tuple[tuple[int, ...], ...], hours: float
) -> None:
    """Zones are asked again after a while, and in the last market only the time that it was quiet lets a replica go."""
    wanted = replace(spec(), spot=policy)
    scenarios = (Scenario(wanted, market(*capacities), skips_idle_passes=skips) for skips in (True, False))
    skipping, thorough = (Simulation(scenario).run(hours * HOUR_S) for scenario in scenarios)
    assert skipping == thorough
    assert skipping.passes_run < 2 * skipping.passes_skipped
    assert skipping.passes_run + skipping.passes_skipped == thorough.passes_run


@pytest.mark.parametrize(
    ("schedule", "budget", "seen"),
    [
        ((UP, ScheduledBounds("10 9 * * *", "UTC", 0, 1)), BudgetSpec(), {(1, 1), (3, 3)}),
        ((DOWN, ScheduledBounds("10 9 * * *")), BudgetSpec(max_usd_per_month=3.0), {(2, 2), (1, 1), (2, 1)}),
        ((), BudgetSpec(max_usd_per_hour=2.2), {(3, 2)}),
        ((), BudgetSpec(max_usd_per_month=4.0, shut_down=True), {(3, 3), (3, 0)}),
    ],
)
def test_skipping_changes_nothing_of_what_a_schedule_or_a_budget_does(
    schedule: tuple[ScheduledBounds, ...], budget: BudgetSpec, seen: set[tuple[int, int]]
) -> None:
    """Bounds change on the minute, the money is spent at some instant that nothing names; worlds begin at 8 o'clock."""
    scaling = ScalingSpec(min_replicas=2, max_replicas=3, target_qps_per_replica=1.0, schedule=schedule)
    scaling = replace(scaling, downscale_delay_s=60.0) if schedule else spec().scaling
    wanted = replace(spec(), scaling=scaling, budget=budget)
    scenarios = (Scenario(wanted, market((4,) * 3, (4,) * 3), skips_idle_passes=skips) for skips in (True, False))
    skipping, thorough = (Simulation(scenario).run(3 * HOUR_S) for scenario in scenarios)
    assert skipping == thorough
    assert {(step.target, step.billed) for step in skipping.steps} >= seen
    assert skipping.passes_skipped > 0
    assert skipping.passes_run + skipping.passes_skipped == thorough.passes_run


@pytest.mark.parametrize("seed", [1, 9])
def test_skipping_changes_nothing_of_a_season(seed: int) -> None:
    """Nor in the first hours of seasons with a schedule, a month's budget, or both, with faults now and then."""
    skipping, thorough = (storms.run(seed, days=0.3, skips_idle_passes=skips) for skips in (True, False))
    assert skipping[0] == thorough[0], skipping[1].diary
    assert skipping[0].passes_run < skipping[0].passes_skipped


def test_the_bill_is_what_machines_cost_while_they_were_there() -> None:
    """Spot at the price of each moment, on-demand at its one price; who is still there is billed until the end."""
    still = Simulation(Scenario(spec(2, use_spot=False), market((9, 9)))).run(HOUR_S)
    assert [one.offer.capacity_type for one in still.bill] == [CapacityType.ON_DEMAND] * 2
    assert sum(one.usd for one in still.bill) == pytest.approx(2 * 3.0, rel=0.01)
    zone = Zone(Location("aws", "here", "z"), 600.0, (9,) * 6, (1.0, 2.0, 3.0, 1.0, 2.0, 3.0))
    moving = Simulation(Scenario(spec(1), Market("m", "p3.2xlarge", "V100", 1, 9.0, (zone,), HOUR_S))).run(HOUR_S)
    assert sum(one.usd for one in moving.bill) == pytest.approx(2.0, rel=0.01)


def test_what_the_market_takes_is_replaced_elsewhere() -> None:
    """When a zone's capacity goes, its machines do, with notice; the service is whole again within a cold start."""
    simulation = Simulation(Scenario(spec(), market((4, 0), (4, 4)), cold_start=ColdStart((20, 20), (60, 60))))
    history = simulation.run(2 * HOUR_S)
    assert history.counts.interruptions > 0
    assert {machine.offer.location.zone for machine in simulation.ready()} == {"z1"}
    assert len(simulation.ready()) == 3
    lacking = [step.t for step in history.steps if step.t > 300 and step.ready < 3]
    assert lacking
    assert max(lacking) < HOUR_S + 120
    assert history.violations == []


def test_an_unannounced_loss_is_found_by_the_probe() -> None:
    """Without a notice the machine is dead before anybody knows; it is out of the table with the next pass."""
    faults = Faults(unannounced_share=1.0)
    history = Simulation(Scenario(spec(), market((4, 0), (4, 4)), faults=faults)).run(2 * HOUR_S)
    assert (history.counts.interruptions, history.counts.preemptions) == (0, 3)
    assert history.violations == []


def test_at_most_what_the_market_has() -> None:
    """A zone that holds one of our machines never holds two."""
    history = Simulation(Scenario(spec(), market((1,), (1,)))).run(6 * HOUR_S)
    assert max(step.billed for step in history.steps) == 2
    assert history.counts.refusals > 0


def test_steps_hold_until_the_next() -> None:
    """They come in order, no two alike in a row."""
    steps = storms.run(1)[0].steps
    assert all(before.t < after.t for before, after in pairwise(steps))
    assert all(
        (a.target, a.ready, a.spot_ready, a.billed) != (b.target, b.ready, b.spot_ready, b.billed)
        or a.on_demand_ready != b.on_demand_ready
        for a, b in pairwise(steps)
    )
    assert math.isclose(steps[0].t, 0.0)
