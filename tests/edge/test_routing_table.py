"""The table: taken whole or refused whole."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.messages import Request
from edge_router.router import Router
from edge_router.table import Key, Replica, Service, Table, TableRefused, parse
from tests.edge.fakes import BEARER, KEY, KEY_ID, TOKEN, seal, table

GOOD = table(("hello", "least_load", "READY", ["http://127.0.0.1:41001", "https://[::1]:41002/base/"]))
REQUEST = Request(b"GET", b"/hello/x", b"", BEARER)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def router_with(document: object) -> Router:
    router = Router(clock=lambda: 1_700_000_000.0, random=lambda: 0.0, first_seq=1, token=TOKEN)
    router.accept(seal(document))
    return router


def places(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value inside a JSON document."""
    if isinstance(document, dict):
        return [path, *(found for key in document for found in places(document[key], (*path, key)))]
    if isinstance(document, list):
        return [path, *(found for index in range(len(document)) for found in places(document[index], (*path, index)))]
    return [path]


def replaced(document: Any, path: tuple[str | int, ...], value: object) -> Any:
    if not path:
        return value
    copy = deepcopy(document)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def test_a_good_table_is_taken() -> None:
    """Every field arrives; a trailing slash of a URL does not, or paths would start with two; new keys are ignored."""
    replicas = (
        Replica("hello-a1b2-0-1", "http://127.0.0.1:41001", "b0070", ready_at=0.0),
        Replica("hello-a1b2-1-1", "https://[::1]:41002/base", "b0071", ready_at=0.0),
    )
    assert parse({**GOOD, "signature": "later"}) == Table(
        "one",
        1_700_000_000.0,
        {"hello": Service("least_load", "READY", replicas, access="open", models=("hello",))},
        {KEY_ID: Key(KEY_ID, hashlib.sha256(KEY.encode()).hexdigest(), frozenset(["*"]))},
    )


@given(anything)
def test_no_json_crashes_the_router_or_replaces_its_table(document: object) -> None:
    """Whatever a broken control plane sends, the last good table stays in use."""
    router = router_with(GOOD)
    with pytest.raises(TableRefused):
        router.accept(seal(document))
    assert router.etag == "one"
    assert router.handle(REQUEST).status == 307


@given(st.sampled_from(places(GOOD)), anything)
def test_one_wrong_value_is_either_harmless_or_refused(path: tuple[str | int, ...], value: object) -> None:
    """A good document with any one value replaced gives a table that routes, or TableRefused; nothing else is raised."""
    router = router_with(GOOD)
    try:
        router.accept(seal(replaced(GOOD, path, value)))
    except TableRefused:
        assert router.etag == "one"
        assert router.handle(REQUEST).status == 307
    else:
        assert router.handle(REQUEST).status in (307, 401, 404, 421, 503)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("etag",), "", "etag: not a string"),
        (("issued_at",), float("nan"), "issued_at: not a number"),
        (("issued_at",), True, "issued_at: not a number"),
        (("issued_at",), 10**400, "issued_at: not a number"),
        (("services",), {"Hello": {}}, "services: 'Hello' is no service name"),
        (("services", "hello", "policy"), "magic", "services.hello.policy: not one of round_robin, least_load"),
        (("services", "hello", "status"), "WELL", "services.hello.status: not one of"),
        (("services", "hello", "replicas"), None, "services.hello.replicas: not a list"),
        (("services", "hello", "replicas", 1, "id"), "hello-a1b2-0-1", "an id is listed twice"),
        (("services", "hello", "replicas", 0, "in_flight"), -1, "replicas[0].in_flight: not a whole number"),
        (("services", "hello", "replicas", 0, "url"), "http://a b", "replicas[0].url: not an http(s) URL"),
        (("services", "hello", "replicas", 0, "url"), "http://a\r\nX-Evil: 1", "not an http(s) URL"),
        (("services", "hello", "replicas", 0, "url"), "javascript:alert(1)", "not an http(s) URL"),
        (("services", "hello", "replicas", 0, "url"), "http://user@host", "not an http(s) URL"),
        (("services", "hello", "replicas", 0, "url"), "http://host?q", "not an http(s) URL"),
        (("services", "hello", "replicas", 0, "url"), "http://host:65536", "not an http(s) URL"),
        (("services", "hello", "replicas", 0, "url"), "http://hōst", "not an http(s) URL"),
    ],
)
def test_a_refusal_names_the_place_and_the_fault(path: tuple[str | int, ...], value: object, reason: str) -> None:
    """Whoever reads the router's log can find the fault in the document."""
    with pytest.raises(TableRefused) as refusal:
        parse(replaced(GOOD, path, value))
    assert reason in str(refusal.value)


def test_an_older_table_is_refused() -> None:
    """A control plane that lost its store, or answers late, cannot take a router back in time; the same age is fine."""
    router = router_with(GOOD)
    with pytest.raises(TableRefused, match=r"issued_at: 1\.5 s older"):
        router.accept(seal({**table(), "issued_at": GOOD["issued_at"] - 1.5}))
    assert router.handle(REQUEST).status == 307
    router.accept(seal(table(etag="two", issued_at=GOOD["issued_at"])))
    assert router.handle(REQUEST).status == 404


def test_the_document_is_what_json_decodes_to() -> None:
    """The fixtures above are no stranger to the wire than the real thing."""
    assert parse(json.loads(json.dumps(GOOD))) == parse(GOOD)
