"""A write sent twice under one Idempotency-Key is done once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from chalice.test import HTTPResponse

from chalicelib.api.once import HELD_S, KEPT_S
from chalicelib.errors import Unreachable
from chalicelib.model import Scope
from tests.api.conftest import YAML, Api, assert_problem
from tests.api.test_admin_keys import make
from tests.fakes import FakeIds, Interposed

KEY = {"Idempotency-Key": "8f2b7c0d"}
NEW = {"name": "svc", "yaml": YAML}
CHANGED = {"yaml": YAML.replace("replicas: 2", "replicas: 1")}


class Died(BaseException):
    """The function ends in the middle of a request: nothing catches it, nothing more is written."""


class Odds(FakeIds):
    """Draws like no other: what two attempts draw is alike only if they mean it to be."""

    def token(self, nbytes: int) -> str:
        return f"{super().token(nbytes)[-4:]:0>4}" + "e" * (2 * nbytes - 4)


def dying(api: Api, at: str) -> Callable[[], None]:
    """Have the store die at a call, such as `after create_key`; what is returned mends it."""
    whole = api.world.runtime.store

    def happens(call: str) -> None:
        if call == at:
            raise Died

    store: Any = Interposed(whole, happens)
    api.world.runtime = replace(api.world.runtime, store=store)

    def mend() -> None:
        api.world.runtime = replace(api.world.runtime, store=whole)

    return mend


def write(api: Api, method: str, path: str, body: Any = None, **headers: str) -> HTTPResponse:
    return api.call(method, path, body, **{**KEY, **headers})


def test_what_was_answered_is_answered_again(api: Api) -> None:
    """The same status, body and tag, marked as a replay; the second time nothing is done."""
    first = write(api, "POST", "/v1/services", NEW)
    assert first.status_code == 201
    assert "Idempotency-Replayed" not in first.headers
    api.world.tick(2)
    poked, events = len(api.poked), len(api.world.store.events("svc"))
    again = write(api, "POST", "/v1/services", NEW)
    assert (again.status_code, again.body, again.headers["ETag"]) == (201, first.body, first.headers["ETag"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (len(api.poked), len(api.world.store.events("svc"))) == (poked, events)


def test_what_was_refused_is_refused_again(api: Api) -> None:
    """Also when it could be done by now: who wants that asks anew."""
    refused = assert_problem(write(api, "DELETE", "/v1/services/svc"), 404)
    api.post("/v1/services", NEW)
    assert assert_problem(write(api, "DELETE", "/v1/services/svc"), 404) == refused
    assert api.call("DELETE", "/v1/services/svc").status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/v1/services", {**NEW, "name": "other"}, {}),
        ("PUT", "/v1/services/svc", NEW | CHANGED, {}),
        ("DELETE", "/v1/services/svc", None, {}),
        ("POST", "/v1/services/svc/replicas/0-1/preempt?notice_s=1", None, {}),
    ],
)
def test_a_key_is_for_one_request(
    api: Api, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]
) -> None:
    """Another request under it is refused, and done neither now nor when the first is sent again."""
    first = write(api, "POST", "/v1/services", NEW)
    body = CHANGED if method == "PUT" else body
    problem = assert_problem(write(api, method, path, body, **headers), 422)
    assert problem["type"] == "urn:sailplane:problem:idempotency-key-reused"
    assert write(api, "POST", "/v1/services", NEW).body == first.body
    assert api.world.store.service_names() == ("svc",)


def test_a_condition_is_part_of_the_request(api: Api) -> None:
    """The same change under another If-Match is another request."""
    api.post("/v1/services", NEW)
    write(api, "PUT", "/v1/services/svc", CHANGED)
    assert_problem(write(api, "PUT", "/v1/services/svc", CHANGED, **{"If-Match": "*"}), 422)


def test_keys_are_each_principal_s_own(api: Api) -> None:
    """Two who choose the same one do not meet."""
    other = make(api, (Scope.KEYS,))
    body = {"services": ["svc"]}
    first = write(api, "POST", "/v1/keys", body).json_body
    second = api.call("POST", "/v1/keys", body, key=other, **KEY).json_body
    assert first["id"] != second["id"]
    assert len(api.world.store.endpoint_keys()) == 2


def test_a_request_under_way_is_not_begun_again(api: Api) -> None:
    """409 with when to ask again; a minute later its holder is taken for dead."""
    mend = dying(api, "before create_key")
    with pytest.raises(Died):
        write(api, "POST", "/v1/keys", {"services": ["svc"]})
    mend()
    busy = write(api, "POST", "/v1/keys", {"services": ["svc"]})
    assert assert_problem(busy, 409)["type"] == "urn:sailplane:problem:in-progress"
    assert busy.headers["Retry-After"] == "1"
    api.world.clock.advance(HELD_S)
    assert write(api, "POST", "/v1/keys", {"services": ["svc"]}).status_code == 201


def test_an_answer_is_kept_for_a_day(api: Api) -> None:
    """After that the key is as good as new, and draws anew: a key that was revoked does not come back."""
    first = write(api, "POST", "/v1/keys", {"services": ["svc"]}).json_body
    api.call("DELETE", f"/v1/keys/{first['id']}")
    api.world.clock.advance(KEPT_S - 1)
    assert write(api, "POST", "/v1/keys", {"services": ["svc"]}).json_body == first
    assert api.world.store.endpoint_keys() == ()
    api.world.clock.advance(1)
    second = write(api, "POST", "/v1/keys", {"services": ["svc"]}).json_body
    assert (second["id"], second["key"]) != (first["id"], first["key"])
    assert len(api.world.store.endpoint_keys()) == 1


def _made(api: Api) -> tuple[object, ...]:
    """All that a write of these tests may make."""
    store = api.world.store
    services = [
        (state.service.uid, state.service.spec_version, state.service.deleting)
        for name in store.service_names()
        if (state := store.load(name))
    ]
    return services, store.endpoint_keys(), store.admin_keys()


# What is asked, and the store's call by which it is done.
DEEDS: tuple[tuple[str, str, Any, str], ...] = (
    ("POST", "/v1/services", {**NEW, "name": "new"}, "create_service"),
    ("POST", "/v1/keys", {"services": ["svc"]}, "create_key"),
    ("POST", "/v1/keys/{key}/rotate", {}, "replace_key"),
    ("POST", "/v1/admin-keys", {"name": "ci", "scopes": ["read"]}, "create_admin_key"),
    ("PUT", "/v1/services/svc", CHANGED, "add_version"),
    ("DELETE", "/v1/services/svc", None, "commit"),
)


@pytest.mark.parametrize("deed", DEEDS, ids=[deed[3] for deed in DEEDS])
@pytest.mark.parametrize("moment", ["before {}", "after {}", "before settle", "after settle"])
def test_a_crash_at_any_moment_makes_nothing_twice(api: Api, deed: tuple[str, str, Any, str], moment: str) -> None:
    """The retry is answered as the first one would have been, the next one as the retry, and there is one thing.

    A condition that held for the first one, and no longer does because of it, does not stop the retry.
    """
    method, path, body, call = deed
    api.world.runtime = replace(api.world.runtime, ids=Odds())
    api.post("/v1/services", NEW)
    path = path.format(key=api.post("/v1/keys", {"services": ["svc"]}).json_body["id"])
    headers = {} if method == "POST" else {"If-Match": api.get("/v1/services/svc").headers["ETag"]}
    untouched, mend = _made(api), dying(api, moment.format(call))
    with pytest.raises(Died):
        write(api, method, path, body, **headers)
    mend()
    after_the_crash = _made(api)
    assert (after_the_crash == untouched) == moment.startswith("before {")
    api.world.clock.advance(HELD_S)
    retry = write(api, method, path, body, **headers)
    assert retry.status_code in (200, 201, 202), retry.body
    assert _made(api) == after_the_crash or moment.startswith("before {")
    assert write(api, method, path, body, **headers).body == retry.body


def test_an_answer_that_says_later_is_not_kept(api: Api) -> None:
    """The store was away for a moment: the same request, sent again, is tried again at once."""
    whole = api.world.runtime.store
    away = [True]

    def happens(call: str) -> None:
        if call == "before create_key" and away.pop():
            away.append(False)
            raise Unreachable("The store does not answer.")

    store: Any = Interposed(whole, happens)
    api.world.runtime = replace(api.world.runtime, store=store)
    assert_problem(write(api, "POST", "/v1/keys", {"services": ["svc"]}), 503)
    assert write(api, "POST", "/v1/keys", {"services": ["svc"]}).status_code == 201


def test_what_is_kept_tells_nothing(api: Api) -> None:
    """Neither the text of a key that was made nor what was sent can be read in the table, nor by who has all of it."""
    seen: list[tuple[str, tuple[Any, ...]]] = []
    whole = api.world.runtime.store

    class Spied:
        def __getattr__(self, name: str) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                seen.append((name, (*args, kwargs)))
                return getattr(whole, name)(*args, **kwargs)

            return call

    spied: Any = Spied()
    api.world.runtime = replace(api.world.runtime, store=spied)
    text = write(api, "POST", "/v1/keys", {"services": ["svc"], "name": "laptop"}).json_body["key"]
    (settled,) = [args for name, args in seen if name == "settle"]
    assert settled[1].startswith("gAAAA")  # a Fernet token
    assert text not in str(seen)
    (claimed,) = [args for name, args in seen if name == "claim"]
    assert len(claimed[0].request) == len(claimed[0].id) == 64
    assert write(api, "POST", "/v1/keys", {"services": ["svc"], "name": "laptop"}).json_body["key"] == text


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "x" * 256])
def test_a_key_that_cannot_be_is_refused(api: Api, key: str) -> None:
    """400, and nothing is done; reading asks for none and heeds none."""
    assert_problem(api.call("POST", "/v1/keys", {"services": ["svc"]}, **{"Idempotency-Key": key}), 400)
    assert api.world.store.endpoint_keys() == ()
    assert api.call("GET", "/v1/keys", **{"Idempotency-Key": key}).status_code == 200


def test_a_request_that_is_wrong_uses_no_key_up(api: Api) -> None:
    """What is refused before anything is begun may be mended and sent under the same key."""
    assert_problem(write(api, "POST", "/v1/keys", {"services": []}), 422)
    assert write(api, "POST", "/v1/keys", {"services": ["svc"]}).status_code == 201
