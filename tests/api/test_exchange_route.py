"""The exchange with the routers: counts in, table out, sleepers woken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.model import ReplicaStatus, RouteTable, ServiceStatus
from chalicelib.ports import Commit
from edge_router import table as edge_table
from tests.api.conftest import Api, assert_problem
from tests.fakes import START

ROUTER_TOKEN = "router-token-of-the-tests"


def _body(seq: int = 1, requests: dict[str, Any] | None = None, etag: str | None = None) -> dict[str, Any]:
    return {"router_id": "edge-1a2b", "seq": seq, "requests": requests or {}, "etag": etag}


def _serve(api: Api, name: str = "svc") -> None:
    api.world.create(name)
    api.world.tick(4)
    api.poked.clear()


def test_the_table_is_what_a_router_accepts(api: Api) -> None:
    """All services in one table, parsed by the router's own parser."""
    _serve(api)
    _serve(api, "other")
    document = api.exchange(_body()).json_body["table"]
    table = edge_table.parse(document)
    assert set(table.services) == {"svc", "other"}
    assert {replica.id for replica in table.services["svc"].replicas} == set(api.world.routed())
    assert table.issued_at == api.world.clock.now()


def test_a_policy_that_routers_do_not_know_does_not_cost_them_the_table(api: Api) -> None:
    """Routers refuse a table that names one; least_load is the nearest they have."""
    api.world.create()
    table = RouteTable("svc", "instance_aware_least_load", ServiceStatus.READY, version=1)
    api.world.store.commit("svc", None, Commit(table=table))
    document = api.exchange(_body()).json_body["table"]
    assert edge_table.parse(document).services["svc"].policy == "least_load"


def test_a_router_that_has_the_table_is_not_sent_it_again(api: Api) -> None:
    """The etag is of the content: time alone changes nothing, a change of the content does."""
    _serve(api)
    etag = api.exchange(_body()).json_body["table"]["etag"]
    api.world.clock.advance(60)
    assert api.exchange(_body(2, etag=etag)).json_body == {"table": None}
    api.world.cloud.machines.pop(api.world.routed()[0])
    api.world.tick()
    changed = api.exchange(_body(3, etag=etag)).json_body["table"]
    assert changed["etag"] != etag


def test_counts_reach_the_service_once(api: Api) -> None:
    """A batch resent because its answer was lost adds nothing."""
    _serve(api)
    now = int(api.world.clock.now())
    for _ in range(3):
        assert api.exchange(_body(7, {"svc": [[now - 1, 12], [now, 3]]})).status_code == 200
    (load,) = api.world.state().load
    assert (load.router_id, load.seq, load.counts) == ("edge-1a2b", 7, ((now - 1, 12), (now, 3)))


def test_a_router_whose_clock_is_ahead_loses_no_count(api: Api) -> None:
    """Its requests were made now, whatever it calls the second; each second is counted once."""
    _serve(api)
    now = int(api.world.clock.now())
    api.exchange(_body(1, {"svc": [[now + 500, 2], [now + 501, 3], [now, 1]]}))
    assert api.world.state().load[0].counts == ((now, 6),)


def test_an_unknown_service_is_ignored(api: Api) -> None:
    """A router may name one that was deleted a moment ago; the rest of its batch counts."""
    _serve(api)
    now = int(api.world.clock.now())
    assert api.exchange(_body(1, {"gone": [[now, 1]], "svc": [[now, 1]]})).status_code == 200
    assert api.world.state().load[0].counts == ((now, 1),)
    assert api.poked == []


def test_a_knock_wakes_a_service_without_replicas(api: Api) -> None:
    """Only the one that was knocked at, and not for a count of nought."""
    _serve(api)
    for name in ("asleep", "left-alone"):
        api.world.create(name)
        api.world.store.commit(name, None, Commit(table=RouteTable(name, "least_load", ServiceStatus.IDLE, version=1)))
    now = int(api.world.clock.now())
    api.exchange(_body(1, {"asleep": [[now, 1]], "left-alone": [[now, 0]], "svc": [[now, 5]]}))
    assert api.poked == ["asleep"]


def test_a_wake_up_brings_a_replica_back_from_zero(api: Api) -> None:
    """From the knock to a routed replica, through the shipped passes."""
    from tests.fakes import spec  # noqa: PLC0415 used here only

    api.world.create(wanted=spec(min_replicas=0, max_replicas=2, target_qps_per_replica=1.0, downscale_delay_s=5))
    seq = 0
    for _ in range(40):
        seq += 1
        api.exchange(_body(seq, {"svc": []}))
        api.world.tick(1, 5)
    assert api.world.routed() == []
    assert api.world.state().service.scaler.target == 0
    api.exchange(_body(seq + 1, {"svc": [[int(api.world.clock.now()), 1]]}))
    assert api.poked == ["svc"]
    api.world.tick(4)
    assert len(api.world.replicas(ReplicaStatus.READY)) == 1


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"router_id": ""}, "router_id"),
        ({"router_id": "a b"}, "router_id"),
        ({"router_id": "x" * 65}, "router_id"),
        ({"seq": -1}, "seq"),
        ({"seq": "1"}, "seq"),
        ({"seq": True}, "seq"),
        ({"requests": {"svc": [[START, 1.5]]}}, "requests.svc.0.1"),
        ({"requests": {"svc": [[1, -1]]}}, "requests.svc.0.1"),
        ({"requests": {"svc": [[-1, 1]]}}, "requests.svc.0.0"),
        ({"requests": {"svc": [[10**12, 1]]}}, "requests.svc.0.0"),
        ({"requests": {"svc": [[1]]}}, "requests.svc.0.1"),
        ({"requests": {"svc": [[1, 1]] * 3601}}, "requests.svc"),
        ({"requests": {f"s{number}": [] for number in range(1001)}}, "requests"),
        ({"etag": 5}, "etag"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_malformed_batch_is_refused_as_a_whole(api: Api, change: dict[str, Any], path: str) -> None:
    """Nothing of it is counted, and the answer says where the fault is."""
    _serve(api)
    document = assert_problem(api.exchange({**_body(1, {"svc": [[int(START), 1]]}), **change}), 422)
    assert path in {problem["path"] for problem in document["problems"]}
    assert api.world.state().load == ()


def test_ten_minutes_of_a_hundred_services_are_taken(api: Api) -> None:
    """All that a router keeps while the control plane is gone: a batch too large would be sent again, as it is, for ever."""
    seconds = [[int(START) - 600 + second, 1_000] for second in range(600)]
    batch = _body(1, {f"service-{number}": seconds for number in range(100)})
    assert api.call("POST", "/v1/edge/exchange", json.dumps(batch).encode(), key=ROUTER_TOKEN).status_code == 200


def test_a_batch_beyond_5_mib_is_refused(api: Api) -> None:
    """413, whatever it holds."""
    assert_problem(api.call("POST", "/v1/edge/exchange", b" " * (5 * 1024 * 1024 + 1), key=ROUTER_TOKEN), 413)
