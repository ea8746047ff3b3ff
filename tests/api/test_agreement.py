"""Control plane, router and agent derive, seal and sign by themselves, and share no code: here they meet."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.launching import launch_request
from chalicelib.model import ReplicaStatus
from chalicelib.providers.boot import configuration
from edge_router.messages import Request
from edge_router.router import Router
from edge_router.table import TableRefused
from replica_agent.grants import Grants, split
from tests.api.conftest import ROUTER_TOKEN, Api

PATH, METHOD = b"/v1/chat/completions", b"POST"


def _router(api: Api, token: str = ROUTER_TOKEN) -> Router:
    return Router(clock=api.world.clock.now, random=random.Random(1).random, first_seq=1, token=token)


def _exchange(api: Api, router: Router) -> Any:
    """What `edge_router.exchange` does over HTTP."""
    batch = router.batch()
    question = {"router_id": "edge", "seq": batch.seq, "requests": batch.requests, "etag": router.etag}
    answer = api.exchange({**question, "used": dict(batch.used)}).json_body["table"]
    if answer is None:
        router.confirm()
    else:
        router.accept(answer)
    router.acknowledge(batch)
    return answer


def _ask(router: Router, key: str, service: str = "svc") -> tuple[int, str]:
    headers = {b"authorization": f"Bearer {key}".encode()}
    response = router.handle(Request(METHOD, f"/{service}".encode() + PATH, b"", headers))
    return response.status, dict(response.headers).get(b"location", b"").decode()


def _grants(api: Api) -> dict[str, Grants]:
    """The verifier of each replica's agent, by its URL, of what the machine is told at boot."""
    state = api.world.state()
    told = {
        replica.url: configuration(
            launch_request(replica, state.service.spec, api.world.runtime.settings), "local", control_url=""
        )
        for replica in api.world.replicas(ReplicaStatus.READY)
    }
    return {
        url: Grants({name: bytes.fromhex(key) for name, key in one["grant_keys"].items()}, one["service"])
        for url, one in told.items()
    }


def test_a_key_made_here_opens_there_and_the_grant_is_honoured(api: Api) -> None:
    """From `POST /v1/keys` through table, router and redirect to the agent of the replica that was picked, and to no other."""
    api.world.create()
    api.world.tick(4)
    made = api.post("/v1/keys", {"services": ["svc"], "rate_per_s": 10, "concurrency": 3}).json_body
    router, agents = _router(api), _grants(api)
    _exchange(api, router)
    status, location = _ask(router, made["key"])
    assert status == 307
    url, _, target = location.partition("/~")
    text, path = split(b"/~" + target.encode())
    granted = {place: grants.read(text, METHOD, path) for place, grants in agents.items()}
    assert [place for place, grant in granted.items() if grant] == [url]
    grant = granted[url]
    assert grant is not None
    assert path == PATH
    assert (grant.key_id.decode(), grant.rate_share) == (made["id"], 5000)
    assert agents[url].read(text, b"GET", path) is None
    _exchange(api, router)
    (listed,) = api.get("/v1/keys").json_body["keys"]
    assert listed["last_used_at"] is not None


def test_a_router_learns_of_a_revocation_and_of_nothing_else_anew(api: Api) -> None:
    """The next exchange brings it; one without news brings no table."""
    api.world.create()
    api.world.tick(4)
    made = api.post("/v1/keys", {"services": ["*"]}).json_body
    router = _router(api)
    _exchange(api, router)
    assert _exchange(api, router) is None
    assert _ask(router, made["key"])[0] == 307
    assert _ask(router, made["key"], "other")[0] == 404
    api.call("DELETE", f"/v1/keys/{made['id']}")
    _exchange(api, router)
    assert _ask(router, made["key"])[0] == 401


def test_tokens_change_without_a_moment_s_loss(api: Api) -> None:
    """Old, both, new: at each step routers take the tables, and the replicas that were told of both honour the grants."""
    old, new = ROUTER_TOKEN, "the-next-router-token"
    settings = replace(api.world.runtime.settings, router_tokens=(old, new))
    api.world.runtime = replace(api.world.runtime, settings=settings)
    api.world.create()
    api.world.tick(4)
    agents = _grants(api)
    made = api.post("/v1/keys", {"services": ["svc"]}).json_body
    question = {"router_id": "edge", "seq": 1, "requests": {}, "etag": None}
    for tokens in ((old, new), (new, old), (new,)):
        api.world.runtime = replace(api.world.runtime, settings=replace(settings, router_tokens=tokens))
        router = _router(api, ",".join(tokens))
        router.accept(api.call("POST", "/v1/edge/exchange", question, key=tokens[0]).json_body["table"])
        status, location = _ask(router, made["key"])
        assert status == 307
        url, _, target = location.partition("/~")
        text, path = split(b"/~" + target.encode())
        assert agents[url].read(text, METHOD, path) is not None
    stranger = _router(api, "another-token-altogether")
    with pytest.raises(TableRefused):
        stranger.accept(api.call("POST", "/v1/edge/exchange", question, key=new).json_body["table"])
