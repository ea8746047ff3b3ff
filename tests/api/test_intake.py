"""A control plane that is to go makes no service any more; see tests/cli/test_teardown.py for what that is good for."""

from __future__ import annotations

from dataclasses import replace

from tests.api.conftest import YAML, Api, assert_problem
from tests.fakes import FakeSchedule

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


def test_one_on_this_machine_is_stopped_and_not_closed(api: Api) -> None:
    """Nobody takes it out of anything."""
    assert "sailplane local stop" in assert_problem(api.call("DELETE", "/v1/intake"), 422)["detail"]
