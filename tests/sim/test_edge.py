"""What requests meet, against replicas and routers whose figures can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from chalicelib.model import (
    EngineSpec,
    Location,
    ProbeSpec,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    ServiceSpec,
)
from sailplane.sim import compare, generated, policies
from sailplane.sim.edge import Clients, Engine, RequestEdge
from sailplane.sim.market import Market, Zone
from sailplane.sim.scenario import ColdStart, Scenario
from sailplane.sim.traffic import Request, Traffic
from sailplane.sim.world import Simulation

SPEC = ServiceSpec(
    probe=ProbeSpec(path="/health"),
    scaling=ScalingSpec(min_replicas=1, max_replicas=1),
    routing=RoutingSpec(policy="round_robin"),
    resources=ResourceRequest(),
    engine=EngineSpec(port=8080),
)
HOUR = 3600.0
COLD = ColdStart(boot_s=(20.0, 20.0), setup_s=(40.0, 40.0))
ENGINE = Engine(prompt_s=0.01, token_s=0.1, neighbour_s=0.05, max_batch=2)
CLIENTS = Clients(round_trip_s=0.0)


def market(capacity: tuple[int, ...] = (9,)) -> Market:
    """One zone, an hour a step."""
    zone = Zone(Location("gcp", "us-east4", "us-east4-a"), HOUR, capacity, (1.0,))
    return Market("tiny", "m", "L4", 1, 4.0, (zone,), len(capacity) * HOUR)


def simulate(
    requests: list[Request],
    *,
    spot: bool = False,
    until_s: float = HOUR,
    capacity: tuple[int, ...] = (9,),
    spec: ServiceSpec = SPEC,
) -> RequestEdge:
    place = market(capacity)
    edge = RequestEdge(Traffic("t", tuple(requests)), seed=1, engine=ENGINE, clients=CLIENTS)
    wanted = policies.POLICIES["even_spread" if spot else "on_demand"][1](policies.on(place, spec))
    wanted = replace(wanted, spot=replace(wanted.spot, placer=""))
    Simulation(Scenario(wanted, place, None, 1, cold_start=COLD), edge).run(until_s)
    edge.end()
    return edge


def latencies(edge: RequestEdge) -> dict[float, float]:
    return dict(zip(edge.fates.came_at, edge.fates.latency_s, strict=True))


def test_a_request_alone_takes_its_prompt_and_its_tokens() -> None:
    """100 tokens of prompt at 10 ms and 20 of answer at 100 ms."""
    edge = simulate([Request(600.0, 100, 20)])
    assert latencies(edge) == {600.0: pytest.approx(1.0 + 2.0)}
    assert list(edge.fates.attempts) == [1]


def test_answers_in_a_batch_slow_each_other_and_prompts_wait_in_line() -> None:
    """Two at once: the second prompt is read after the first; from then on both write at 150 ms a token.

    The first is read at 1 s and has written 10 of 20 tokens when the second joins at 2 s; 10 more take 1.5 s, until 3.5 s. By
    then the second has 10; the other 10 take 1 s.
    """
    edge = simulate([Request(600.0, 100, 20), Request(600.0, 100, 20)])
    assert list(edge.fates.latency_s) == [pytest.approx(3.5), pytest.approx(4.5)]


def test_a_full_batch_lets_wait() -> None:
    """Three short prompts at once, two places: the third begins to write when the first has ended, at 3 s."""
    edge = simulate([Request(600.0, 0, 20) for _ in range(3)])
    assert sorted(edge.fates.latency_s) == [pytest.approx(3.0), pytest.approx(3.0), pytest.approx(5.0)]


def test_without_a_replica_clients_give_up_after_their_retries() -> None:
    """At 10 s nothing is ready: three answers of 503, each with two seconds to wait, then failure. At 59 s a retry finds it."""
    edge = simulate([Request(10.0, 0, 10), Request(300.0, 0, 10)])
    assert math.isinf(latencies(edge)[10.0])
    assert latencies(edge)[300.0] == pytest.approx(1.0)
    assert list(edge.fates.attempts) == [3, 1]


def test_a_request_on_a_machine_that_dies_is_sent_again_elsewhere() -> None:
    """The zone's capacity falls from two to one at 3,600 s: what the lost machine had is answered by the other."""
    two = replace(SPEC, scaling=ScalingSpec(min_replicas=2, max_replicas=2), drain_timeout_s=600.0)
    long = [Request(3550.0 + index, 0, 900) for index in range(4)]
    edge = simulate(long, spot=True, until_s=HOUR + 900, capacity=(2, 1), spec=two)
    assert sorted(edge.fates.attempts) == [1, 1, 2, 2]
    assert not any(map(math.isinf, edge.fates.latency_s))


def test_the_fates_are_the_seed_s() -> None:
    """The same seed has the same requests' fates, bit by bit, and the same history; another seed has others."""
    place = generated.market(2, 0.5)
    wanted = policies.on(place, SPEC)
    first, again, other = (
        compare.run(Scenario(wanted, place, generated.traffic(2, 0.5), seed), 0.5 * generated.DAY_S)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first.fates != other.fates


def test_what_is_answered_before_the_end_has_a_fate() -> None:
    """A request of the last seconds too, though nobody asks about it any more; one that is still being answered has none."""
    place = generated.market(2, 0.5)
    traffic = Traffic("t", (Request(3594.0, 1, 1), Request(3594.0, 1, 1000)))
    spec = policies.POLICIES["on_demand"][1](policies.on(place, SPEC))
    outcome = compare.run(Scenario(spec, place, traffic, 1), HOUR)
    assert outcome.fates is not None
    assert list(outcome.fates.attempts) == [1]


def test_routers_report_what_they_were_asked() -> None:
    """Every request that came, those refused too, reaches the store: load is what wakes a service and scales it."""
    scaled = replace(
        SPEC, scaling=ScalingSpec(min_replicas=1, max_replicas=3, target_qps_per_replica=0.1, upscale_delay_s=60.0)
    )
    place = market()
    traffic = Traffic("t", tuple(Request(300.0 + index * 2, 0, 1) for index in range(600)))
    edge = RequestEdge(traffic, seed=1)
    simulation = Simulation(Scenario(policies.on(place, scaled), place, None, 1), edge)
    history = simulation.run(1200.0)
    assert edge.qps == pytest.approx(0.5, abs=0.02)
    assert max(step.target for step in history.steps) == 3
