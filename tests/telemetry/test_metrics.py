"""What is measured of a service, and how it is told."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import replace

from chalicelib.model import Reason, ReplicaStatus, Route, RouterLoad, RouteTable, ServiceStatus, State
from chalicelib.telemetry import emf, prometheus
from chalicelib.telemetry.measures import Measures, measure
from tests.fakes import START, World

ONE = Measures(
    service="hello",
    status=ServiceStatus.READY,
    target=2,
    replicas={ReplicaStatus.READY: 1, ReplicaStatus.STARTING: 1},
    requests_per_s=0.1,
    in_flight=3,
    price_usd_per_hour=1.5,
    cost_usd_total=12.25,
    ended_total={Reason.INTERRUPTED: 1, Reason.PREEMPTED: 2, Reason.SCALED_DOWN: 4},
)


def test_a_service_is_measured_by_what_is_written_of_it() -> None:
    """Its replicas by status, what routers counted in the last minute, how busy replicas were, and what it costs."""
    world = World()
    world.create()
    world.tick(3)
    now = world.clock.now()
    load = RouterLoad("r", 1, now, ((int(now) - 90, 600), (int(now) - 10, 90), (int(now) - 5, 30)))
    table = RouteTable("svc", ServiceStatus.READY, routes=(Route("a", "u", in_flight=2), Route("b", "u", in_flight=1)))
    seen = measure(replace(world.state(), load=(load,)), table, now)
    assert (seen.status, seen.target, seen.ready, seen.in_flight) == (ServiceStatus.READY, 2, 2, 3)
    assert (seen.requests_per_s, seen.price_usd_per_hour) == (2.0, 2.0)
    assert measure(world.state(), None, now).in_flight == 0


def test_machines_that_clouds_take_are_counted_for_ever() -> None:
    """By the reason of their end, over versions and months; launches that were refused are no machines."""
    world = World()
    world.create()
    world.tick(3)
    for _ in range(2):
        world.cloud.machines.pop(world.replicas(ReplicaStatus.READY)[0].id)
        world.tick(60, every_s=10)
    taken = measure(world.state(), None, world.clock.now())
    assert taken.preemptions_total + taken.ended_total.get(Reason.LOST, 0) == 2
    assert taken.cost_usd_total > 0
    assert world.clock.now() > START


def parsed(text: str) -> dict[str, dict[str, float]]:
    """Samples by family and labels, as strictly as a collector's parser: each family is told of once, before its samples."""
    families: dict[str, dict[str, float]] = defaultdict(dict)
    kinds: dict[str, str] = {}
    for told in text.splitlines():
        if found := re.fullmatch(r"# (HELP|TYPE) ([a-z_]+) (.+)", told):
            assert found[1] != "TYPE" or kinds.setdefault(found[2], found[3]) == found[3]
            assert found[2] not in families
            continue
        sample = re.fullmatch(r'([a-z_]+)\{((?:[a-z_]+="[^"\\\n]*",?)+)\} (-?[0-9.e+-]+)', told)
        assert sample, told
        assert sample[1] in kinds
        assert sample[2] not in families[sample[1]]
        families[sample[1]][sample[2]] = float(sample[3])
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds.items())
    return families


def test_prometheus_is_told_each_family_once() -> None:
    """Ready, target, rate, in flight, price, preemptions, with the service as label; two services share the families."""
    families = parsed(prometheus.exposition([ONE, replace(ONE, service="other", ended_total={})]))
    assert families["sailplane_service_ready_replicas"] == {'service="hello"': 1, 'service="other"': 1}
    assert families["sailplane_service_target_replicas"]['service="hello"'] == 2
    assert families["sailplane_service_requests_per_second"]['service="hello"'] == 0.1
    assert families["sailplane_service_in_flight_requests"]['service="hello"'] == 3
    assert families["sailplane_service_price_usd_per_hour"]['service="hello"'] == 1.5
    assert families["sailplane_service_preemptions_total"] == {'service="hello"': 3, 'service="other"': 0}
    assert families["sailplane_service_ended_replicas_total"] == {
        'service="hello",reason="INTERRUPTED"': 1,
        'service="hello",reason="PREEMPTED"': 2,
        'service="hello",reason="SCALED_DOWN"': 4,
    }
    assert families["sailplane_service_status"]['service="hello",status="READY"'] == 1


def test_without_services_there_is_nothing_to_tell() -> None:
    """An empty text is a good exposition."""
    assert prometheus.exposition([]) == ""


def test_cloudwatch_finds_its_metrics_in_the_line() -> None:
    """Every metric of the directive is a number beside it, every dimension a text; the instant is in milliseconds."""
    told = emf.line("acme", ONE, 1.5)
    assert "\n" not in told
    document = json.loads(told)
    [directive] = document["_aws"]["CloudWatchMetrics"]
    assert document["_aws"]["Timestamp"] == 1500
    assert [document[name] for name in directive["Dimensions"][0]] == ["acme", "hello"]
    assert {one["Name"]: document[one["Name"]] for one in directive["Metrics"]} == {
        "ReadyReplicas": 1,
        "TargetReplicas": 2,
        "RequestsPerSecond": 0.1,
        "InFlightRequests": 3,
        "PriceUsdPerHour": 1.5,
        "CostUsd": 12.25,
        "Preemptions": 3,
    }


def test_a_state_without_replicas_can_be_measured() -> None:
    """A service that has only just been created."""
    world = World()
    service = world.create()
    assert measure(State(service), None, START).ready == 0
