"""Who did what: every write of an owner's leaves an entry, before anything is done and when it has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import identity
from chalicelib.api.auditing import LONGEST_TARGET, Named, target
from chalicelib.api.auth import Caller
from chalicelib.model import Scope
from tests.api.conftest import ROUTER_TOKEN, YAML, Api
from tests.api.test_admin_keys import make, routes
from tests.api.test_once import Died, dying
from tests.fakes import Interposed

NEW = {"name": "svc", "yaml": YAML, "envs": {"TOKEN": "hidden-in-the-body"}}


def entries(api: Api) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = api.get("/v1/audit").json_body["entries"]
    return found[::-1]


def test_an_entry_says_who_did_what_and_how_it_ended(api: Api) -> None:
    """With the key's name and id, the operation's, where it came from; never what was sent or answered."""
    key = make(api, (Scope.DEPLOY,), name="ci")
    answer = api.call("POST", "/v1/services", NEW, key=key)
    made, created = entries(api)
    assert (made["principal"], made["name"], made["operation"]) == ("root", "root", "create_admin_key")
    assert created == {
        "id": created["id"],
        "at": "2027-01-15T08:00:00Z",
        "principal": identity.admin_key_id(key),
        "name": "ci",
        "operation": "create",
        "target": "svc",
        "method": "POST",
        "path": "/v1/services",
        "ip": "127.0.0.1",
        "status": 201,
        "replayed": False,
    }
    whole = api.get("/v1/audit").body.decode()
    assert answer.status_code == 201
    assert "hidden-in-the-body" not in whole
    assert key not in whole


def test_what_was_refused_is_written_too(api: Api) -> None:
    """By its scope, by what is not there, by what cannot be."""
    reader = make(api, (Scope.READ,))
    api.call("DELETE", "/v1/services/svc", key=reader)
    api.call("DELETE", "/v1/services/svc")
    api.post("/v1/services", {"name": "Not A Name"})
    assert [one["status"] for one in entries(api)] == [201, 403, 404, 422]


def test_strangers_machines_and_readers_leave_no_entry(api: Api) -> None:
    """Who is not known could fill the audit, routers would, and to look is to change nothing."""
    api.call("POST", "/v1/services", NEW, key="wrong")
    api.call("POST", "/v1/edge/exchange", {"router_id": "r", "seq": 1, "requests": {}}, key=ROUTER_TOKEN)
    api.get("/v1/services")
    assert entries(api) == []


def test_a_replay_is_told_from_a_deed(api: Api) -> None:
    """Both are requests; one did nothing."""
    for _ in range(2):
        api.call("POST", "/v1/services", NEW, **{"Idempotency-Key": "k"})
    assert [(one["status"], one["replayed"]) for one in entries(api)] == [(201, False), (201, True)]


def test_what_died_is_known_to_have_been_begun(api: Api) -> None:
    """An entry without a status: whoever looks knows where to look closer."""
    mend = dying(api, "after create_service")
    with pytest.raises(Died):
        api.post("/v1/services", NEW)
    mend()
    assert [(one["operation"], one["status"]) for one in entries(api)] == [("create", None)]


def test_a_key_given_by_mistake_is_not_kept(api: Api) -> None:
    """`DELETE /v1/keys/<the key instead of its id>` is an easy slip."""
    text = api.post("/v1/keys", {"services": ["svc"]}).json_body["key"]
    api.call("DELETE", f"/v1/keys/{text}")
    assert entries(api)[-1]["path"] == f"/v1/keys/{text[:14]}…"
    assert api.call("DELETE", f"/v1/keys/{'x' * 5000}").status_code == 404
    assert len(entries(api)[-1]["path"]) == 512
    assert [len(one["target"]) for one in entries(api)[-2:]] == [15, 256]


def test_an_entry_names_its_target(api: Api) -> None:
    """By what its owner knows it by, whether the request, the path or only the answer does; of what was refused too."""
    api.post("/v1/services", NEW)
    api.post("/v1/services", NEW)
    api.world.tick(3)
    replica = api.world.replicas()[0].id
    api.post(f"/v1/services/svc/replicas/{replica}/drain")
    api.post("/v1/services/svc/replicas/0-1/drain")
    key = api.post("/v1/keys", {"services": ["svc"]}).json_body["id"]
    new = api.post(f"/v1/keys/{key}/rotate", {"overlap_s": 60}).json_body["id"]
    for_all = api.post("/v1/keys", {"services": ["*"]}).json_body["id"]
    admin_key = api.post("/v1/admin-keys", {"name": "ci", "scopes": ["read"]}).json_body["id"]
    api.call("DELETE", f"/v1/admin-keys/{admin_key}")
    api.call("PUT", "/v1/secrets/hf-token", {"text": "x"})
    api.post("/v1/webhooks", {"kind": "generic", "service": "svc"})
    api.post("/v1/backup/entries", {"kind": "key", "id": "abc", "document": {}})
    api.post("/v1/leftovers/remove", {"leftovers": [{"provider": "local", "id": "i-1"}]})
    api.get("/v1/backup")
    assert [one["target"] for one in entries(api)] == [
        "svc",
        "svc",
        replica,
        "svc 0-1",
        f"{key} (svc)",
        f"{key}, {new} (svc)",
        f"{for_all} (all services)",
        f"{admin_key} (ci)",
        f"{admin_key} (ci)",
        "hf-token",
        "svc",
        "abc (key)",
        "i-1",
        "",
    ]


@given(
    path=st.dictionaries(st.sampled_from(["name", "replica", "key_id"]), st.text(max_size=600)),
    sent=st.builds(Named, id=st.text(), name=st.text(), services=st.lists(st.text())),
    answered=st.builds(Named, id=st.text(), name=st.text()),
)
def test_no_target_is_too_long_or_holds_a_key(path: dict[str, str], sent: Named, answered: Named) -> None:
    """Whatever is sent; what stands where an id belongs may be a key's text."""
    assert len(target(path, sent, answered)) <= LONGEST_TARGET
    text = identity.admin_key("0123456789", bytes(32))
    assert text not in target(path | {"replica": text}, sent, answered)


def test_every_write_of_an_owner_s_is_written(api: Api) -> None:
    """Those of later releases too: by the route's kind, and not by its handler."""
    asked: list[str] = []
    store: Any = Interposed(api.world.store, asked.append)
    api.world.runtime = replace(api.world.runtime, store=store)
    writes = [route for route in routes(api) if route.caller is Caller.ADMIN and route.method != "GET"]
    for route in writes:
        asked.clear()
        api.call(route.method, route.path.replace("{", "").replace("}", ""), {})
        assert [call for call in asked if "audit" in call and "before" in call] == ["before record_audit"] * 2, route
    assert len(writes) >= 10
