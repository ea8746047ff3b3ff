"""Admin keys: made with no more rights than their maker's, good for what they say and for nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from chalicelib import identity
from chalicelib.api.auth import Caller, Reach
from chalicelib.api.routes import Route
from chalicelib.model import AdminKey, Scope
from tests.api.conftest import YAML, Api, assert_problem
from tests.fakes import START, Interposed

ALL = tuple(Scope)


def make(api: Api, scopes: tuple[Scope, ...], key: str | None = None, **fields: Any) -> str:
    """The text of a new admin key, made with `key` or the root one."""
    body = {"name": "ci", "scopes": scopes, **fields}
    answer = api.post("/v1/admin-keys", body) if key is None else api.call("POST", "/v1/admin-keys", body, key=key)
    assert answer.status_code == 201, answer.body
    text: str = answer.json_body["key"]
    return text


def routes(api: Api) -> list[Route]:
    return [entry.view_function.route for methods in api.app.routes.values() for entry in methods.values()]


def test_an_admin_key_is_told_once(api: Api) -> None:
    """What is kept, and listed, is a hash and the rights."""
    made = api.post(
        "/v1/admin-keys", {"name": "ci", "scopes": ["keys", "deploy"], "services": ["svc"], "expires_in_s": 60}
    ).json_body
    assert re.fullmatch(rf"sa_{made['id']}_[A-Za-z0-9_-]{{43}}", made["key"])
    assert api.world.store.admin_keys() == (
        AdminKey(
            id=made["id"],
            name="ci",
            hash=identity.admin_key_hash(made["key"]),
            scopes=frozenset({Scope.DEPLOY, Scope.KEYS}),
            services=("svc",),
            created_at=START,
            created_by="root",
            expires_at=START + 60,
            version=1,
        ),
    )
    listed = api.get("/v1/admin-keys")
    assert listed.json_body["keys"] == [{name: value for name, value in made.items() if name != "key"}]
    assert made["key"] not in listed.body.decode()
    assert identity.admin_key_hash(made["key"]) not in listed.body.decode()


@pytest.mark.parametrize("scope", ALL)
def test_a_key_opens_the_routes_of_its_scope_only(api: Api, scope: Scope) -> None:
    """Every route of the owner's, those of later releases too: 403 names the scope that is missing."""
    key = make(api, (scope,))
    for route in routes(api):
        if route.caller is not Caller.ADMIN:
            continue
        answer = api.call(route.method, re.sub(r"{\w+}", "some", route.path), key=key)
        if any(map(scope.covers, route.scopes)):
            assert answer.status_code not in (401, 403), route
        else:
            assert f"`{route.scope}`" in assert_problem(answer, 403)["detail"]


def test_a_key_of_one_service_sees_and_touches_that_one(api: Api) -> None:
    """Another is neither listed nor answered for, whether it exists or not; nor is what belongs to all services."""
    for name in ("mine", "other"):
        api.post("/v1/services", {"name": name, "yaml": YAML})
    key = make(api, (Scope.DEPLOY, Scope.KEYS), services=["mine", "later"])

    def status(method: str, path: str, body: Any = None) -> int:
        return int(api.call(method, path, body, key=key).status_code)

    listed = api.call("GET", "/v1/services", key=key).json_body["services"]
    assert [service["name"] for service in listed] == ["mine"]
    assert status("GET", "/v1/services/mine") == 200
    refused = assert_problem(api.call("GET", "/v1/services/other", key=key), 403)
    assert refused["detail"] == "Your key is for 'mine', 'later' only, and this is about 'other'."
    assert status("DELETE", "/v1/services/other") == status("DELETE", "/v1/services/nobody-s") == 403
    assert status("POST", "/v1/services/other/replicas/0-1/kill") == 403
    assert status("POST", "/v1/services", {"name": "later", "yaml": YAML}) == 201
    assert status("POST", "/v1/services", {"name": "else", "yaml": YAML}) == 403
    assert sorted(api.world.store.service_names()) == ["later", "mine", "other"]


def test_a_key_of_one_service_is_told_no_other_s_name(api: Api) -> None:
    """Not even as what may have been meant."""
    for name in ("chat-1", "chat-2"):
        api.post("/v1/services", {"name": name, "yaml": YAML})
    key = make(api, (Scope.READ,), services=["chat", "chat-2"])
    assert "'chat-1'" in assert_problem(api.get("/v1/services/chat"), 404)["detail"]
    told = assert_problem(api.call("GET", "/v1/services/chat", key=key), 404)["detail"]
    assert told == "There is no service 'chat'. Did you mean 'chat-2'?"


def test_a_key_of_one_service_makes_endpoint_keys_for_that_one(api: Api) -> None:
    """It sees no others, and can neither revoke nor replace them."""
    foreign = api.post("/v1/keys", {"services": ["mine", "other"]}).json_body["id"]
    key = make(api, (Scope.KEYS,), services=["mine"])
    assert api.call("POST", "/v1/keys", {"services": ["other"]}, key=key).status_code == 403
    assert api.call("POST", "/v1/keys", {"services": ["*"]}, key=key).status_code == 403
    own = api.call("POST", "/v1/keys", {"services": ["mine"]}, key=key).json_body["id"]
    assert [one["id"] for one in api.call("GET", "/v1/keys", key=key).json_body["keys"]] == [own]
    assert_problem(api.call("DELETE", f"/v1/keys/{foreign}", key=key), 404)
    assert_problem(api.call("POST", f"/v1/keys/{foreign}/rotate", {}, key=key), 404)
    assert {one.id for one in api.world.store.endpoint_keys()} == {foreign, own}


def test_no_key_makes_one_with_more_rights(api: Api) -> None:
    """Not for other services, not for longer, and without the scope ADMIN none at all."""
    limited = make(api, (Scope.ADMIN,), services=["mine", "also"], expires_in_s=100)

    def status(key: str, **fields: Any) -> int:
        body = {"name": "x", "scopes": ["read"], **fields}
        return int(api.call("POST", "/v1/admin-keys", body, key=key).status_code)

    assert status(limited) == status(limited, services=["mine", "other"]) == 403
    assert status(limited, services=["mine"], expires_in_s=101) == 403
    assert status(make(api, (Scope.DEPLOY, Scope.KEYS, Scope.SECRETS))) == 403
    made = make(api, (Scope.ADMIN,), limited, services=["mine"])
    child = next(key for key in api.world.store.admin_keys() if key.hash == identity.admin_key_hash(made))
    assert child.expires_at == START + 100
    assert child.created_by == identity.admin_key_id(limited)
    seen = api.call("GET", "/v1/admin-keys", key=made).json_body["keys"]
    assert [one["id"] for one in seen] == [child.id]
    assert_problem(api.call("DELETE", f"/v1/admin-keys/{identity.admin_key_id(limited)}", key=made), 404)


def test_no_key_brings_in_one_that_outlives_it(api: Api) -> None:
    """A backup holds keys' hashes: whoever may restore one could write a key of their own into it."""
    make(api, (Scope.ADMIN,))
    (entry,) = [one for one in api.get("/v1/backup").json_body["entries"] if one["kind"] == "admin_key"]
    entry["id"] = entry["document"]["id"] = "fedcba9876"
    short, limited = make(api, (Scope.ADMIN,), expires_in_s=60), make(api, (Scope.ADMIN,), services=["svc"])
    assert_problem(api.call("POST", "/v1/backup/entries", entry, key=short), 403)
    assert_problem(api.call("POST", "/v1/backup/entries", entry, key=limited), 403)
    assert api.world.store.admin_key(entry["id"]) is None
    assert api.post("/v1/backup/entries", entry).json_body["outcome"] == "restored"


def test_a_key_that_is_over_or_revoked_is_nobody_s(api: Api) -> None:
    """From that instant on, in the words of a wrong key."""
    short, other = make(api, (Scope.READ,), expires_in_s=60), make(api, (Scope.READ,))
    assert api.call("GET", "/v1/info", key=short).status_code == 200
    api.world.clock.advance(60)
    over = assert_problem(api.call("GET", "/v1/info", key=short), 401)
    assert api.call("GET", "/v1/info", key=other).status_code == 200
    assert api.call("DELETE", f"/v1/admin-keys/{identity.admin_key_id(other)}").status_code == 200
    assert assert_problem(api.call("GET", "/v1/info", key=other), 401) == over
    assert_problem(api.call("DELETE", f"/v1/admin-keys/{identity.admin_key_id(other)}"), 404)


def test_a_key_s_id_opens_nothing(api: Api) -> None:
    """Listings and the audit show it."""
    text = make(api, ALL)
    stolen = identity.admin_key(identity.admin_key_id(text), bytes(32))
    for wrong in (stolen, text[:-1], text + "A", text.upper(), identity.admin_key_id(text)):
        assert_problem(api.call("GET", "/v1/info", key=wrong), 401)


def test_the_root_key_costs_no_request_and_another_one(api: Api) -> None:
    """`info` asks the store nothing by itself; the first use of a key in an hour is written, so that its owner sees it."""
    text = make(api, ALL)
    asked: list[str] = []
    store: Any = Interposed(api.world.store, asked.append)
    api.world.runtime = replace(api.world.runtime, store=store)
    api.get("/v1/info")
    api.call("GET", "/v1/info", key="sa_no-such-key")
    assert asked == []
    api.call("GET", "/v1/info", key=text)
    assert [call for call in asked if call.startswith("before")] == ["before admin_key", "before record_admin_key_used"]
    used = api.get("/v1/admin-keys").json_body["keys"][0]["last_used_at"]
    assert datetime.fromisoformat(used).timestamp() == START


def test_the_root_key_is_not_revoked_here(api: Api) -> None:
    """It stands in the deployment's configuration; who asks is told so."""
    assert "configured" in assert_problem(api.call("DELETE", "/v1/admin-keys/root"), 422)["detail"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["write"]}, "scopes.0"),
        ({"services": []}, "services"),
        ({"services": ["Not A Name"]}, "services.0"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"key": "my own"}, "key"),
    ],
)
def test_an_admin_key_that_cannot_be_is_refused(api: Api, change: dict[str, Any], path: str) -> None:
    """422 with the place; nothing is made."""
    body = {"name": "ci", "scopes": ["read"], **change}
    document = assert_problem(api.post("/v1/admin-keys", body), 422)
    assert any(problem["path"].startswith(path) for problem in document["problems"])
    assert api.world.store.admin_keys() == ()


def test_there_are_at_most_a_thousand_admin_keys(api: Api) -> None:
    """The one too many is refused and says what to do."""
    for number in range(1000):
        api.world.store.create_admin_key(AdminKey(f"{number:010}", "x", "hash", frozenset(), START))
    refused = assert_problem(api.post("/v1/admin-keys", {"name": "x", "scopes": ["read"]}), 422)
    assert "Revoke those" in refused["detail"]


def test_routes_of_a_service_are_held_by_its_name(api: Api) -> None:
    """A route below a service that forgot to say so would be open to keys of other services, or closed to its own."""
    below = [route for route in routes(api) if route.path.startswith("/v1/services/{name}")]
    assert len(below) >= 10
    assert {route.reach for route in below if route.caller is Caller.ADMIN} == {Reach.SERVICE}
