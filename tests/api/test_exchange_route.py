"""The exchange with the routers: counts in, table out, sleepers woken."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from chalicelib import identity
from chalicelib.model import Limits, Observed, ReplicaStatus, RouteTable, RoutingSpec, ServiceStatus
from chalicelib.ports import Commit
from chalicelib.scaler import load
from tests.api.conftest import Api, assert_problem
from tests.fakes import START, spec
from tests.sealed import opened

ROUTER_TOKEN = "router-token-of-the-tests"


def _body(seq: int = 1, requests: dict[str, Any] | None = None, etag: str | None = None) -> dict[str, Any]:
    return {"router_id": "edge-1a2b", "seq": seq, "requests": requests or {}, "etag": etag}


def _serve(api: Api, name: str = "svc") -> None:
    api.world.create(name)
    api.world.tick(4)
    api.poked.clear()


def _table(api: Api, body: dict[str, Any]) -> dict[str, Any]:
    return opened(api.exchange(body).json_body["table"], ROUTER_TOKEN)


def test_a_function_says_that_it_is_one(api: Api) -> None:
    """So that its silence is taken for no load; who says nothing of it reports by itself."""
    _serve(api)
    api.exchange(_body(1, {"svc": []}) | {"router_id": "aws-1", "on_demand": True})
    api.exchange(_body(1, {"svc": []}))
    state = api.world.store.load("svc")
    assert state is not None
    assert {router.router_id: router.on_demand for router in state.load} == {"aws-1": True, "edge-1a2b": False}
    assert_problem(api.exchange(_body(2) | {"on_demand": "yes"}), 422)


def test_the_table_holds_all_services_and_keys(api: Api) -> None:
    """Everything that a router needs to choose and to let in, sealed with its token; and of the keys the hashes only."""
    _serve(api)
    api.world.create(
        "other", replace(spec(), routing=RoutingSpec(policy="prefix_aware", access="open", models=("a", "b")))
    )
    made = api.post("/v1/keys", {"services": ["svc"], "rate_per_s": 2.5, "concurrency": 3}).json_body
    api.world.tick(4)
    table = _table(api, _body())
    assert table["issued_at"] == api.world.clock.now()
    assert table["keys"] == {
        made["id"]: {
            "hash": identity.endpoint_key_hash(made["key"]),
            "services": ["svc"],
            "expires_at": None,
            "rate_per_s": 2.5,
            "concurrency": 3,
        }
    }
    first, second = api.world.replicas(ReplicaStatus.READY)
    assert table["services"]["svc"] == {
        "policy": "least_load",
        "status": "READY",
        "access": "required",
        "mode": "redirect",
        "wait_for_replica_s": 0.0,
        "sticky_header": "",
        "prefix_characters": 256,
        "slow_start_s": 0.0,
        "prefer_near": False,
        "models": ["svc"],
        "replicas": [
            {
                "id": replica.id,
                "url": replica.url,
                "boot": replica.boot_nonce,
                "in_flight": 0,
                "weight": 1.0,
                "ready_at": replica.ready_at,
                "location": str(replica.offer.location),
            }
            for replica in (first, second)
        ],
    }
    other = table["services"]["other"]
    assert (other["policy"], other["access"], other["models"]) == ("prefix_aware", "open", ["a", "b"])


def test_the_first_token_seals_and_every_token_is_accepted(api: Api) -> None:
    """So that routers can be moved from one token to the next while all of them go on."""
    settings = replace(api.world.runtime.settings, router_tokens=("the-next-token", ROUTER_TOKEN))
    api.world.runtime = replace(api.world.runtime, settings=settings)
    for token in settings.router_tokens:
        answer = api.call("POST", "/v1/edge/exchange", _body(), key=token).json_body
        assert opened(answer["table"], "the-next-token")["services"] == {}
    assert api.call("POST", "/v1/edge/exchange", _body(), key="another-token").status_code == 401


def test_a_router_that_has_the_table_is_not_sent_it_again(api: Api) -> None:
    """The etag is of the content: time alone changes nothing, a change of the content does."""
    _serve(api)
    etag = _table(api, _body())["etag"]
    api.world.clock.advance(60)
    assert api.exchange(_body(2, etag=etag)).json_body == {"table": None}
    api.world.cloud.machines.pop(api.world.routed()[0])
    api.world.tick()
    assert _table(api, _body(3, etag=etag))["etag"] != etag


def test_a_new_key_and_a_revoked_one_are_in_the_next_answer(api: Api) -> None:
    """Every answer is of what the store holds, so a router is behind by the time between two of its exchanges only."""
    before = _table(api, _body())["etag"]
    made = api.post("/v1/keys", {"services": ["*"]}).json_body
    table = _table(api, _body(2, etag=before))
    assert list(table["keys"]) == [made["id"]]
    assert api.call("DELETE", f"/v1/keys/{made['id']}").status_code == 200
    assert _table(api, _body(3, etag=table["etag"]))["keys"] == {}


def test_an_expired_key_is_not_in_the_table(api: Api) -> None:
    """It makes way with a new etag; until then routers judge by the instant that they were told."""
    made = api.post("/v1/keys", {"services": ["svc"], "expires_in_s": 60}).json_body
    table = _table(api, _body())
    assert table["keys"][made["id"]]["expires_at"] == api.world.clock.now() + 60
    api.world.clock.advance(60)
    assert _table(api, _body(2, etag=table["etag"]))["keys"] == {}


def test_what_routers_saw_of_a_key_is_kept(api: Api) -> None:
    """Its last use shows in the list and makes no table a new one; a key that is gone, or never was, is ignored."""
    made = api.post("/v1/keys", {"services": ["svc"]}).json_body
    etag = _table(api, _body())["etag"]
    now = api.world.clock.now()
    answer = api.exchange({**_body(2, etag=etag), "used": {made["id"]: now - 5, "gone": now}})
    assert answer.json_body == {"table": None}
    (listed,) = api.get("/v1/keys").json_body["keys"]
    assert datetime.fromisoformat(listed["last_used_at"]).timestamp() == now - 5


def test_counts_reach_the_service_once(api: Api) -> None:
    """A batch resent because its answer was lost adds nothing."""
    _serve(api)
    now = int(api.world.clock.now())
    for _ in range(3):
        assert api.exchange(_body(7, {"svc": [[now - 1, 12], [now, 3]]})).status_code == 200
    (load,) = api.world.state().load
    assert (load.router_id, load.seq, load.counts) == ("edge-1a2b", 7, ((now - 1, 12), (now, 3)))


def test_counts_that_were_on_their_way_for_long_are_as_old(api: Api) -> None:
    """After an outage a router first hands over what it had when that began: what came since is unknown, and not nothing."""
    _serve(api)
    for seq in range(1, 61):
        api.exchange(_body(seq, {"svc": [[int(api.world.clock.now()), 10]]}))
        api.world.clock.advance(1.0)
    now = api.world.clock.now() + 50.0
    lost = _body(61, {"svc": [[int(api.world.clock.now()) - 1, 10]]})
    api.world.clock.advance(50.0)
    api.exchange(lost | {"age_s": 50.0})
    state = api.world.state("svc")
    assert state.load[0].reported_at == now - 50.0
    seen = load.sample(state, Observed({}, {}, {}), Limits(), now)
    assert (seen.valid, round(seen.stable)) == (True, 10)
    assert_problem(api.exchange(_body(62) | {"age_s": -1.0}), 422)


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
        api.world.store.commit(name, None, Commit(table=RouteTable(name, ServiceStatus.IDLE, version=1)))
    now = int(api.world.clock.now())
    api.exchange(_body(1, {"asleep": [[now, 1]], "left-alone": [[now, 0]], "svc": [[now, 5]]}))
    assert api.poked == ["asleep"]


def test_a_wake_up_brings_a_replica_back_from_zero(api: Api) -> None:
    """From the knock to a routed replica, through the shipped passes."""
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
        ({"used": {"a": -1}}, "used.a"),
        ({"used": {"a": "now"}}, "used.a"),
        ({"used": {str(number): 1 for number in range(10_001)}}, "used"),
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
