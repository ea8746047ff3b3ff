"""A control plane that is to go makes no service any more; see tests/cli/test_teardown.py for what that is good for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import standardwebhooks

from chalicelib import passes
from tests.api.conftest import SETTINGS, YAML, Api, assert_problem
from tests.fakes import START, FakeSchedule

NEW = {"name": "svc", "yaml": YAML, "envs": {}}


def test_none_is_made_until_it_is_opened_again(api: Api) -> None:
    """423 says why; what there is can be changed and shut down, and a backup brings nothing in."""
    api.world.runtime = replace(api.world.runtime, schedule=FakeSchedule())
    api.post("/v1/services", NEW)
    closed = api.call("DELETE", "/v1/intake")
    assert closed.json_body["closed_until"] == "2027-01-15T09:00:00Z"
    refusal = assert_problem(api.post("/v1/services", NEW | {"name": "new"}), 423)
    assert "sailplane teardown" in refusal["detail"]
    assert "09:00 UTC" in refusal["detail"]
    (entry,) = (one for one in api.get("/v1/backup").json_body["entries"] if one["kind"] == "service")
    assert_problem(api.post("/v1/backup/entries", {**entry, "id": "new"}), 423)
    changed = {"yaml": YAML.replace("replicas: 2", "replicas: 1"), "envs": {}}
    assert api.call("PUT", "/v1/services/svc", changed).status_code == 200
    assert api.call("DELETE", "/v1/services/svc").status_code == 202
    assert api.call("PUT", "/v1/intake").json_body == {"closed_until": None}
    assert api.post("/v1/services", NEW | {"name": "new"}).status_code == 201


def test_a_push_is_taken_all_the_same(api: Api) -> None:
    """No forge sends again what was refused: it is written down, along with a schedule that is on until it is acted on."""
    turned = FakeSchedule()
    settings = replace(SETTINGS, control_url="https://control.example")
    api.world.runtime = replace(api.world.runtime, schedule=turned, settings=settings)
    api.call("DELETE", "/v1/intake")
    made = api.post("/v1/webhooks", {"kind": "generic", "service": "svc"})
    assert made.status_code == 201
    turned.off()
    at = datetime.fromtimestamp(START, UTC)
    body = json.dumps({"type": "push", "timestamp": at.isoformat(), "data": {"commit": "v1", "yaml": YAML}})
    signature = standardwebhooks.Webhook(made.json_body["secret"]).sign("msg_1", at, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(START)), "webhook-signature": signature}
    path = f"/v1/hooks/{made.json_body['id']}"
    answer = api.call("POST", path, body.encode(), key=None, **headers)
    assert (answer.status_code, answer.json_body["result"], turned.is_on) == (202, "accepted", True)
    passes.deploy_pushes(api.world.runtime)
    assert api.world.store.service_names() == ()
    api.call("PUT", "/v1/intake")
    api.world.clock.advance(5)
    passes.deploy_pushes(api.world.runtime)
    assert api.world.store.service_names() == ("svc",)


def test_one_on_this_machine_is_stopped_and_not_closed(api: Api) -> None:
    """Nobody takes it out of anything."""
    assert "sailplane local stop" in assert_problem(api.call("DELETE", "/v1/intake"), 409)["detail"]
