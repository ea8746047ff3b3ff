"""Holding clients while nobody can take them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.address import MAX_HOPS, read
from edge_router.messages import Refusal, Request
from edge_router.patience import patience
from edge_router.router import Router
from tests.edge.fakes import BEARER, KEY_ID, TOKEN, seal, table
from tests.edge.test_router import Clock, header

URL = "http://10.0.0.1:8000"


def waiting(wait_s: float, status: str = "IDLE", clock: Clock | None = None, **key: object) -> Router:
    router = Router(clock=clock or Clock(), random=lambda: 0.0, first_seq=1, token=TOKEN)
    document = table(("hello", "least_load", status, []), access="required")
    document["services"]["hello"]["wait_for_replica_s"] = wait_s
    document["keys"][KEY_ID] |= key
    router.accept(seal(document))
    return router


def came_up(router: Router, **key: object) -> None:
    document = table(("hello", "least_load", "READY", [URL]), etag="up", issued_at=1_700_000_001.0, access="required")
    document["keys"][KEY_ID] |= key
    router.accept(seal(document))


def post(path: bytes, query: bytes = b"", body: bytes | None = None) -> Request:
    return Request(b"POST", path, query, BEARER, body=body)


@given(st.floats(0, 3600), st.floats(1, 900))
def test_a_client_waits_as_long_as_it_is_told(wait_s: float, cap_s: float) -> None:
    """At most 8 hops and 9 holds; altogether what the service says, or what the platform can hold in these."""
    held_s, hops = 0.0, 0
    while True:
        hold_s, goes_round = patience(wait_s, hops, cap_s)
        assert 0 < hold_s <= cap_s
        held_s += hold_s
        if not goes_round:
            break
        hops += 1
    assert hops <= MAX_HOPS
    expected_s = min(wait_s, (MAX_HOPS + 1) * min(max(4.0, wait_s / MAX_HOPS), cap_s))
    assert expected_s - 1 <= held_s <= max(1.0, expected_s * 1.000001)


def test_the_first_knock_counts_and_no_other_does() -> None:
    """A client that goes round until a replica is there is one request: held and asked again, sent round, redirected."""
    router = waiting(80)
    path, query = b"/hello/v1/chat%2Fcompletions/", b"a=%20&b=~"
    for hops in range(1, 4):
        response = router.handle(post(path, query))
        assert (response.status, response.hold_s, response.counted) == (307, 10, True)
        assert router.handle(post(path, query), again=response.counted).status == 307
        location = header(response, b"location") or b""
        assert location == b"/hello/~wait.%d/v1/chat%%2Fcompletions/?%b" % (hops, query)
        path = location.partition(b"?")[0]
    came_up(router)
    final = router.handle(post(path, query), again=True)
    assert (final.status, final.hold_s) == (307, 0)
    location = header(final, b"location") or b""
    assert location.startswith(URL.encode() + b"/~")
    assert location.endswith(b"/v1/chat%2Fcompletions/?a=%20&b=~")
    assert router.batch().requests["hello"] == ((1_700_000_000, 1),)


def test_eight_hops_are_all_that_clients_follow() -> None:
    """However long the service may wait: the ninth answer is final, 503 with Retry-After."""
    router = waiting(10_000)
    path = b"/hello/x"
    for hop in range(MAX_HOPS):
        response = router.handle(post(path))
        assert response.status == 307
        path = header(response, b"location") or b""
        assert path == b"/hello/~wait.%d/x" % (hop + 1)
    response = router.handle(post(path))
    assert (response.status, response.hold_s) == (503, 25)
    assert header(response, b"retry-after") == b"2"
    assert json.loads(response.body)["instance"] == "/hello/x"


@pytest.mark.parametrize("path", [b"/hello/~wait.9/x", b"/hello/~wait.0/x", b"/hello/~wait.10/x", b"/hello/~wait./x"])
def test_nobody_extends_their_patience(path: bytes) -> None:
    """400 for a hop that we did not write; our mark is known in any encoding."""
    router = waiting(80)
    assert router.handle(post(path)).status == 400
    assert router.handle(post(path.replace(b"~", b"%7E"))).status == 400
    assert read(b"/hello/%7Ewait.3/x") == read(b"/hello/~wait.3/x")
    assert read(b"/hello/~wait.3/x").hops == 3


def test_the_model_is_found_again_after_a_hop() -> None:
    """`/v1` has no service's name to put the hop behind: it goes in front, and the body comes along."""
    router = waiting(80)
    request = post(b"/v1/chat/completions", body=b'{"model": "hello"}')
    location = header(router.handle(request), b"location")
    assert location == b"/~wait.1/v1/chat/completions"
    came_up(router)
    arrived = header(router.handle(post(location, body=request.body)), b"location") or b""
    assert arrived.endswith(b"/v1/chat/completions")
    assert router.batch().requests["hello"] == ((1_700_000_000, 1),)


@pytest.mark.parametrize(("wait_s", "status"), [(0, "IDLE"), (300, "FAILED"), (300, "SHUTTING_DOWN")])
def test_without_patience_or_hope_one_glance_is_enough(wait_s: float, status: str) -> None:
    """503 after one look at a newer table, as for a service that asks for no patience."""
    response = waiting(wait_s, status).handle(post(b"/hello/x"))
    assert (response.status, response.hold_s, response.counted) == (503, 1, True)


def test_resolve_waits_too() -> None:
    """The first one to ask for a URL wakes the service and is held like any other."""
    router = waiting(80)
    asked = Request(b"GET", b"/hello/_resolve", b"", BEARER)
    response = router.handle(asked)
    assert (response.status, header(response, b"location")) == (307, b"/hello/~wait.1/_resolve")
    came_up(router)
    assert router.handle(Request(b"GET", b"/hello/~wait.1/_resolve", b"", BEARER)).status == 200
    assert router.batch().requests["hello"] == ((1_700_000_000, 1),)


def test_a_ticket_is_held_where_it_is() -> None:
    """Who comes back with a grant has lost its key: sent round it could not come in again."""
    clock = Clock()
    router = waiting(80, "READY", clock)
    came_up(router)
    location = header(router.handle(post(b"/hello/x")), b"location") or b""
    grant = location.split(b"/~")[1].partition(b"/")[0]
    document = table(("hello", "least_load", "STARTING", []), issued_at=1_700_000_002.0, access="required")
    document["services"]["hello"]["wait_for_replica_s"] = 80
    router.accept(seal(document))
    clock.now += 61
    response = router.handle(Request(b"POST", b"/hello/~" + grant + b"~hello-a1b2-0-1~b0070/x", b"", {}))
    assert (response.status, response.hold_s) == (503, 10)


def test_waiting_does_not_wear_out_a_rate() -> None:
    """A hop and a second look take nothing from the key's bucket."""
    router = waiting(80, rate_per_s=1)
    first = router.handle(post(b"/hello/x"))
    assert first.status == 307
    assert router.handle(post(b"/hello/x")).status == 429
    came_up(router, rate_per_s=1)
    assert router.handle(post(b"/hello/x"), again=first.counted).status == 307
    assert router.handle(post(b"/hello/~wait.1/x")).status == 307


def test_what_was_answered_without_a_table_is_counted_with_it() -> None:
    """A function that starts for the first request to a sleeping service: the second look is what wakes it."""
    router = Router(clock=Clock(), random=lambda: 0.0, first_seq=1, token=TOKEN)
    first = router.handle(post(b"/hello/x"))
    assert (first.status, first.hold_s, first.counted) == (503, 1, False)
    router.accept(seal(table(("hello", "least_load", "IDLE", []), access="required")))
    second = router.handle(post(b"/hello/x"), again=first.counted)
    assert second.counted
    router.handle(post(b"/hello/x"), again=second.counted)
    assert router.batch().requests["hello"] == ((1_700_000_000, 1),)


@given(st.binary(max_size=30))
def test_any_path_is_read_or_refused(path: bytes) -> None:
    """And what is left for the replica never begins with a mark of ours that nobody has looked at."""
    for full in (path, b"/" + path, b"/hello/" + path, b"/hello/~" + path, b"/~wait.1/" + path):
        try:
            at = read(full)
        except Refusal:
            continue
        assert at.hops in range(MAX_HOPS + 1)
        assert full.endswith(at.rest) or at.service == "v1"
