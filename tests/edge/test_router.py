"""A request in, a response out."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.messages import Request, Response
from edge_router.router import Router
from edge_router.table import POLICIES
from tests.edge.fakes import BEARER, TOKEN, seal, table

ONE = ["http://10.0.0.1:8000"]


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def new_router(clock: Clock | None = None) -> Router:
    return Router(clock=clock or Clock(), random=random.Random(1).random, first_seq=1, token=TOKEN)


def make_router(*services: tuple[str, str, str, list[str]], clock: Clock | None = None) -> Router:
    router = new_router(clock)
    router.accept(seal(table(*services)))
    return router


def get(path: bytes, query: bytes = b"", ip: str = "", port: int = 0, **headers: bytes) -> Request:
    named = BEARER | {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Request(b"GET", path, query, named, ip, port)


def location(response: Response) -> bytes:
    """Where a redirect leads, without the grant."""
    value = header(response, b"location")
    assert value is not None
    return re.sub(rb"/~[^/]*", b"", value, count=1)


def header(response: Response, name: bytes) -> bytes | None:
    return dict(response.headers).get(name)


@pytest.mark.parametrize(
    ("path", "query", "arrives"),
    [
        (b"/hello/v1/chat/completions", b"", b"/v1/chat/completions"),
        (b"/hello", b"", b"/"),
        (b"/hello/", b"", b"/"),
        (b"/hello", b"a=1&a=2", b"/?a=1&a=2"),
        (b"/hello/x/", b"q=%20+%2F&=&", b"/x/?q=%20+%2F&=&"),
        (b"/hello//x//", b"", b"//x//"),
        (b"/hello/a%2Fb%0d%0ac", b"%0d%0a", b"/a%2Fb%0d%0ac?%0d%0a"),
        (b"/hello//evil.example/@x:y", b"", b"//evil.example/@x:y"),
        (b"/hello/../x", b"http://other/", b"/../x?http://other/"),
        (b"/hello/caf\xc3\xa9", b"\xff", b"/caf%C3%A9?%FF"),
    ],
)
def test_path_and_query_reach_the_replica_as_they_came(path: bytes, query: bytes, arrives: bytes) -> None:
    """Only the service's name is taken off; nothing is decoded, folded or normalised; the host is always the replica's."""
    response = make_router(("hello", "round_robin", "READY", ONE)).handle(get(path, query))
    assert response.status == 307
    assert location(response) == ONE[0].encode() + arrives
    assert header(response, b"cache-control") == b"no-store"
    assert header(response, b"content-length") == b"0"


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_request_can_inject_a_header_or_choose_the_host(path: bytes, query: bytes) -> None:
    """Any bytes at all: every header value is printable ASCII, and a redirect leads to the replica of the table."""
    router = make_router(("hello", "round_robin", "READY", ONE))
    for full_path in (path, b"/" + path, b"/hello/" + path):
        response = router.handle(get(full_path, query))
        assert response.status in (200, 307, 400, 404)
        assert all(0x20 <= byte < 0x7F for _, value in response.headers for byte in value)
        if response.status == 307:
            assert location(response).startswith(ONE[0].encode() + b"/")


@pytest.mark.parametrize("path", [b"/hello/a\r\nSet-Cookie: x=1", b"/hello/a b", b"/hello/\x00", b"/hello/\x7f"])
def test_control_characters_are_refused(path: bytes) -> None:
    """400 and not a redirect, in the path as in the query."""
    router = make_router(("hello", "round_robin", "READY", ONE))
    assert router.handle(get(path)).status == 400
    assert router.handle(get(b"/hello/", path)).status == 400


@pytest.mark.parametrize("path", [b"/", b"/healthz"])
def test_the_router_says_that_it_lives(path: bytes) -> None:
    """A small JSON 200, with or without a table: a router without one is alive, and telling so restarts nothing."""
    without_table = new_router()
    for router in (without_table, make_router()):
        response = router.handle(get(path))
        assert (response.status, json.loads(response.body)) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", [b"/other/x", b"/hell", b"/hello%20/x", b"/%68ello/x", b"//hello/x", b"hello/x", b"*"])
def test_an_unknown_service_is_a_404_that_gives_nothing_away(path: bytes) -> None:
    """problem+json, for OpenAI's clients too, with the form of a good path, without the name of any other service; it is not counted."""
    router = make_router(("hello", "round_robin", "READY", ONE))
    response = router.handle(get(path, b"key=secret"))
    problem = json.loads(response.body)
    assert response.status == problem["status"] == 404
    assert header(response, b"content-type") == b"application/problem+json"
    assert header(response, b"content-length") == str(len(response.body)).encode()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "error"}
    assert problem["error"] == {"message": problem["detail"], "type": "sailplane_error", "code": "not_found"}
    assert "/<service>/<path>" in problem["detail"]
    assert problem["instance"] == path.decode()
    assert b"secret" not in response.body
    assert response.hold_s == 1  # it may have been created a moment ago
    assert router.batch().requests == {"hello": ()}


@pytest.mark.parametrize(
    ("status", "retry_after"), [("IDLE", b"2"), ("STARTING", b"2"), ("DEGRADED", b"2"), ("FAILED", b"30")]
)
def test_nothing_ready_is_a_503_that_knocks(status: str, retry_after: bytes) -> None:
    """problem+json with the service's status and Retry-After; the request counts as load and calls the control plane."""
    router = make_router(("hello", "least_load", status, []))
    response = router.handle(get(b"/hello/x"))
    problem = json.loads(response.body)
    assert response.status == problem["status"] == 503
    assert status in problem["detail"]
    assert header(response, b"retry-after") == retry_after
    assert response.hold_s == 1
    assert router.batch().requests == {"hello": ((1_700_000_000, 1),)}


def test_a_router_without_a_table_does_not_deny_a_service() -> None:
    """503 and not 404 before the first table: clients give up on a 404."""
    response = new_router().handle(get(b"/hello/x"))
    assert response.status == 503
    assert header(response, b"retry-after") == b"1"
    assert response.hold_s == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_retry_goes_to_another_replica(policy: str) -> None:
    """The same connection is not sent to the same replica twice within 5 s, even if all others have more load by far."""
    clock = Clock()
    router = new_router(clock)
    document = table(("hello", policy, "READY", [f"http://10.0.0.{n}" for n in (1, 2, 3)]))
    document["services"]["hello"]["replicas"][1]["in_flight"] = 1000
    document["services"]["hello"]["replicas"][2]["in_flight"] = 1000
    router.accept(seal(document))
    for _ in range(20):
        first = router.handle(get(b"/hello/x", b"", "192.0.2.1", 5000))
        router.handle(get(b"/hello/x", b"", "192.0.2.1", 5001))
        clock.now += 4.9
        retry = router.handle(get(b"/hello/x", b"", "192.0.2.1", 5000))
        assert location(first) != location(retry)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("waited_s", [0.4, 9.0, 599.0])
def test_a_retry_is_known_on_a_connection_that_others_use_too(policy: str, waited_s: float) -> None:
    """Clients with a pool send everything over a few connections; who says that it retries is told by its question.

    Its third attempt meets a third replica: machines of one zone die together.
    """
    clock = Clock()
    router = new_router(clock)
    router.accept(seal(table(("hello", policy, "READY", [f"http://10.0.0.{n}" for n in (1, 2, 3)]))))

    def host(length: int, port: int, *, is_retry: bool = False) -> bytes:
        headers = {"content_length": str(length).encode(), "x_stainless_retry_count": b"%d" % is_retry}
        return location(router.handle(get(b"/hello/v1/chat/completions", b"", "192.0.2.1", port, **headers)))

    for length in range(1000, 1100):
        first = host(length, 5000)
        for other in range(length % 7):
            host(other, 5000)
        clock.now += waited_s
        second = host(length, 5000 + length % 2, is_retry=True)
        third = host(length, 5000, is_retry=True)
        assert len({first, second, third}) == 3


def test_a_client_is_forgotten() -> None:
    """After 5 s the least loaded replica is right again; 4,096 later clients push out the first one."""
    clock = Clock()
    router = new_router(clock)
    document = table(("hello", "least_load", "READY", ["http://10.0.0.1", "http://10.0.0.2"]))
    document["services"]["hello"]["replicas"][1]["in_flight"] = 10_000
    router.accept(seal(document))

    def host(port: int) -> bytes:
        return location(router.handle(get(b"/hello/", b"", "192.0.2.1", port)))

    assert [host(1), host(1)] == [b"http://10.0.0.1/", b"http://10.0.0.2/"]
    assert host(2) == b"http://10.0.0.1/"
    clock.now += 5.1
    assert host(2) == b"http://10.0.0.1/"
    assert [host(port) for port in range(10_000, 10_000 + 4096)] == [b"http://10.0.0.1/"] * 4096
    assert host(2) == b"http://10.0.0.1/"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("replicas", [2, 3, 7])
@pytest.mark.parametrize("clients", [1, 2, 16, 500])
def test_load_is_balanced(policy: str, replicas: int, clients: int) -> None:
    """Avoiding the last replica costs no balance: within 3 % of an equal share, for few clients and for many."""
    router = make_router(("hello", policy, "READY", [f"http://10.0.0.{n}" for n in range(replicas)]))
    dice = random.Random(clients)
    hosts = Counter(
        location(router.handle(get(b"/hello/", b"", "192.0.2.1", dice.randrange(clients) + 1))) for _ in range(3000)
    )
    assert len(hosts) == replicas
    assert max(hosts.values()) - min(hosts.values()) <= 0.03 * 3000 / replicas


def test_least_load_levels_what_was_published() -> None:
    """Requests go to the emptier replica until it has as many; a new table starts from what it says."""
    router = new_router()
    document = table(("hello", "least_load", "READY", ["http://10.0.0.1", "http://10.0.0.2"]))
    document["services"]["hello"]["replicas"][0]["in_flight"] = 5
    for first_port in (100, 200):
        router.accept(seal(document))
        ports = range(first_port, first_port + 5)
        hosts = [location(router.handle(get(b"/hello/", b"", "192.0.2.1", port))) for port in ports]
        assert hosts == [b"http://10.0.0.2/"] * 5


def test_threads_lose_no_count() -> None:
    """Eight threads handling, one handing over: what is acknowledged plus what is left is what was asked."""
    router = make_router(("hello", "least_load", "READY", ONE), ("idle", "round_robin", "IDLE", []))
    total: Counter[str] = Counter()

    def hand_over() -> None:
        batch = router.batch()
        router.acknowledge(batch)
        router.acknowledge(batch)
        total.update({name: sum(count for _, count in seconds) for name, seconds in batch.requests.items()})

    def ask(thread: int) -> None:
        for number in range(2000):
            router.handle(get(b"/hello/" if number % 2 else b"/idle/", b"", "192.0.2.1", thread))

    with ThreadPoolExecutor(9) as pool:
        askers = [pool.submit(ask, thread) for thread in range(8)]
        while not all(asker.done() for asker in askers):
            pool.submit(hand_over).result()
    router.hurry()
    hand_over()
    assert total == {"hello": 8000, "idle": 8000}
