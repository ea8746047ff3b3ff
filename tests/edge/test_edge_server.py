"""The router as a server in a process of its own: real clients, real replicas, and what it survives."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.edge.fakes import KEY, TOKEN, FakeControl, running_replica, table
from tests.waiting import until

ROUTER = [sys.executable, "-m", "edge_router"]
BIG = b"x" * 4_000_000
WITH_KEY = {"Authorization": f"Bearer {KEY}"}


@contextmanager
def running_router(
    control_url: str, refresh_s: float = 0.05, router_id: str = "edge-test"
) -> Iterator[tuple[str, subprocess.Popen[str], list[str]]]:
    """The router's URL, its process and the lines it has printed, once it listens."""
    env = {
        "SAILPLANE_CONTROL_URL": control_url,
        "SAILPLANE_ROUTER_TOKEN": TOKEN,
        "SAILPLANE_REFRESH_S": str(refresh_s),
        "SAILPLANE_ROUTER_ID": router_id,
    }
    lines: list[str] = []
    process = subprocess.Popen([*ROUTER, "--port", "0"], env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process, process.stderr as stderr:
        reader = Thread(target=lambda: deque(map(lines.append, stderr), maxlen=0), daemon=True)
        reader.start()
        try:
            until(lambda: process.poll() is not None or any("listening on" in line for line in lines))
            address = re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))
            assert address, lines
            yield address[0], process, lines
        finally:
            process.terminate()
            process.wait(10)
            reader.join(10)


@dataclass(frozen=True)
class Stack:
    control: FakeControl
    router: str
    replicas: list[str]

    @property
    def host(self) -> tuple[str, int]:
        url = httpx.URL(self.router)
        assert url.port
        return url.host, url.port


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Two replicas of `hello`; `dying` has one of them and one that refuses connections; `idle` has none."""
    with ExitStack() as exits:
        control = exits.enter_context(FakeControl().running())
        replicas = [exits.enter_context(running_replica()) for _ in range(2)]
        dead = exits.enter_context(socket.socket())
        dead.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port, connections are refused
        control.table = table(
            ("hello", "least_load", "READY", replicas),
            ("dying", "least_load", "READY", [replicas[0], f"http://127.0.0.1:{dead.getsockname()[1]}"]),
            ("idle", "round_robin", "IDLE", []),
        )
        router, _, _ = exits.enter_context(running_router(control.url))
        until(lambda: httpx.get(f"{router}/hello/x").status_code == 307)
        yield Stack(control, router, replicas)


def with_httpx(method: str, url: str, body: bytes) -> Any:
    return httpx.request(method, url, content=body, follow_redirects=True, timeout=30).json()


def with_curl(method: str, url: str, body: bytes) -> Any:
    # `--path-as-is`: curl tidies dots up by itself otherwise.
    command = ["curl", "-sSL", "--path-as-is", "--max-time", "30", "-X", method, "--data-binary", "@-", url]
    return json.loads(subprocess.run(command, input=body, check=True, capture_output=True).stdout)


FOLLOWERS = [with_httpx, *([with_curl] if shutil.which("curl") else [])]


@pytest.mark.parametrize("request_with", FOLLOWERS)
@pytest.mark.parametrize("target", ["/", "/v1/chat/completions", "/a%2Fb//c/?q=%20%0d%0a&q=2&r=", "/?only=query"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
def test_clients_arrive_with_method_path_query_and_body(
    stack: Stack, request_with: Any, method: str, target: str
) -> None:
    """Plain clients that follow redirects reach a replica with everything they sent."""
    body = b"" if method == "GET" else b'{"model": "tiny"}'
    seen = request_with(method, f"{stack.router}/hello{target}", body)
    assert (seen["method"], seen["target"], seen["received"]) == (method, target, len(body))


@pytest.mark.parametrize("request_with", FOLLOWERS)
def test_big_bodies_arrive(stack: Stack, request_with: Any) -> None:
    """4 MB twice in a row: sent in one go by httpx, after `Expect: 100-continue` by curl."""
    for _ in range(2):
        assert request_with("POST", f"{stack.router}/hello/upload", BIG)["received"] == len(BIG)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_survives_a_body_that_nobody_read(stack: Stack, chunked: bool) -> None:
    """Keep-alive: a 4 MB body is read past, and the next request on the same connection gets its own answer."""
    with closing(http.client.HTTPConnection(*stack.host, timeout=10)) as connection:
        sockets = set()
        for number in range(4):
            body = iter([BIG, BIG]) if chunked else BIG
            connection.request("POST", f"/hello/{number}", body, encode_chunked=chunked)
            sockets.add(connection.sock)
            with connection.getresponse() as response:
                assert response.status == 307
                assert str(response.headers["location"]).endswith(f"/{number}")
                assert response.headers["connection"] is None
                response.read()
            connection.request("GET", f"/unknown/{number}", headers=WITH_KEY)
            with connection.getresponse() as response:
                assert response.status == 404
                assert json.loads(response.read())["instance"] == f"/unknown/{number}"
        assert len(sockets) == 1


def test_a_client_that_expects_100_continue_is_answered_without_its_body(stack: Stack) -> None:
    """It gets the redirect at once, sends nothing, and is told that the connection ends: no byte can be misread."""
    with socket.create_connection(stack.host, timeout=10) as connection:
        connection.sendall(
            b"POST /hello/x HTTP/1.1\r\nHost: r\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 307 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_head_and_options_are_redirected_too(stack: Stack) -> None:
    """Any method; a HEAD request's problem has no body but the length it would have."""
    for method in ("HEAD", "OPTIONS"):
        assert httpx.request(method, f"{stack.router}/hello/x").status_code == 307
    response = httpx.head(f"{stack.router}/unknown/x", headers=WITH_KEY)
    assert (response.status_code, response.content) == (404, b"")
    assert int(response.headers["content-length"]) > 0
    assert httpx.get(f"{stack.router}/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "target", [b"/hello/a\x01b", b"/hello/a\tb", b"/hello/\x7f", b"/hello/\xff", b"*", b"hello", b"/hello/x?\x00"]
)
def test_odd_targets_get_an_answer(stack: Stack, target: bytes) -> None:
    """A 4xx by the server or the router, never a redirect with an odd header, and the router lives on."""
    with socket.create_connection(stack.host, timeout=10) as connection:
        connection.sendall(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.match(rb"HTTP/1\.1 40[014] ", answer)
    assert httpx.get(f"{stack.router}/healthz").status_code == 200


def test_a_websocket_handshake_breaks_nothing(stack: Stack) -> None:
    """Handshakes follow no redirect; they get an answer all the same, and the router lives on."""
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "a"}
    assert httpx.get(f"{stack.router}/hello/x", headers=upgrade).status_code in (307, 403)
    assert httpx.get(f"{stack.router}/hello/x").status_code == 307


def test_a_client_that_retries_once_sees_no_dead_replica(stack: Stack) -> None:
    """One of two replicas is dead and still in the table: 8 clients with connections of their own, 400 requests, no error."""

    def run() -> Counter[str]:
        seen: Counter[str] = Counter()
        with httpx.Client(follow_redirects=True, timeout=30) as client:
            for _ in range(50):
                try:
                    client.get(f"{stack.router}/dying/x").raise_for_status()
                    seen["first"] += 1
                except httpx.ConnectError:
                    client.get(f"{stack.router}/dying/x").raise_for_status()
                    seen["retry"] += 1
        return seen

    with ThreadPoolExecutor(8) as pool:
        seen = sum((future.result() for future in [pool.submit(run) for _ in range(8)]), Counter[str]())
    assert seen.total() == 400
    assert seen["retry"] > 0


def test_clients_that_share_connections_and_number_their_retries_see_no_dead_replica(stack: Stack) -> None:
    """400 calls by 8 threads over one pool, as OpenAI's client makes them: whoever meets the dead replica retries once."""
    with httpx.Client(follow_redirects=True) as client, ThreadPoolExecutor(8) as pool:

        def call(length: int, attempt: int = 0) -> str:
            headers = {"X-Stainless-Retry-Count": str(attempt)}
            client.post(f"{stack.router}/dying/x", content=b"x" * length, headers=headers).raise_for_status()
            return "retry" if attempt else "first"

        def run(length: int) -> str:
            try:
                return call(length)
            except httpx.ConnectError:
                return call(length, attempt=1)

        seen = Counter(pool.map(run, range(400)))
    assert seen.total() == 400
    assert seen["retry"] > 0


def test_the_first_knock_wakes_a_service_and_a_storm_is_one() -> None:
    """A knock brings an exchange within a second though the next refresh is an hour away, a storm brings a few.

    Then the woken service is routed.
    """
    with FakeControl().running() as control, running_replica() as replica:
        control.table = table(("idle", "round_robin", "IDLE", []))
        with running_router(control.url, refresh_s=3600) as (router, _, _), httpx.Client(headers=WITH_KEY) as client:
            until(lambda: len(control.questions) == 1)
            time.sleep(0.3)  # beyond the gap after the first exchange
            started = time.monotonic()
            response = client.get(f"{router}/idle/x")
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert int(response.headers["retry-after"]) > 0
            until(lambda: control.recorded["idle"] == 1)
            assert time.monotonic() - started < 1.0
            exchanges, asked, started = len(control.questions), 1, time.monotonic()
            while time.monotonic() - started < 1.0:
                client.get(f"{router}/idle/x")
                asked += 1
            assert len(control.questions) - exchanges <= 5
            control.table = table(("idle", "round_robin", "READY", [replica]), etag="woken")
            client.get(f"{router}/idle/x")
            until(lambda: client.get(f"{router}/idle/x").status_code == 307)


def test_a_request_is_refused_only_after_a_look_at_the_newest_table() -> None:
    """What became ready since the last refresh is served to its first client: no 503 and no 404 out of old knowledge."""
    with FakeControl().running() as control, running_replica() as replica:
        control.table = table(("slow", "round_robin", "STARTING", []))
        with running_router(control.url, refresh_s=3600) as (router, _, _), httpx.Client(headers=WITH_KEY) as client:
            until(lambda: len(control.questions) == 1)
            control.table = table(
                ("slow", "round_robin", "READY", [replica]), ("new", "round_robin", "READY", [replica]), etag="newer"
            )
            assert client.get(f"{router}/slow/x").status_code == 307
            assert client.get(f"{router}/new/x").status_code == 307
            until(lambda: client.get(f"{router}/gone/x", headers=WITH_KEY).status_code == 404)
            until(lambda: control.recorded["slow"] == 1)  # looked at twice, counted once


def test_the_data_plane_outlives_the_control_plane() -> None:
    """Control plane gone: every request is still routed. Back again on an empty table, then well: all counts arrive."""
    with running_replica() as replica, ExitStack() as exits:
        control = FakeControl()
        control.table = table(("hello", "round_robin", "READY", [replica]))
        with control.running():
            router, _, lines = exits.enter_context(running_router(control.url))
            client = exits.enter_context(httpx.Client(follow_redirects=True, headers=WITH_KEY))
            until(lambda: client.get(f"{router}/hello/x").status_code == 200)
            control.fault = "drop_after"  # the last exchange before the end: recorded, its answer lost
            asked = len(control.questions)
            until(lambda: len(control.questions) > asked)
        control.recorded.clear()
        control.fault = ""
        for _ in range(200):
            assert client.get(f"{router}/hello/x").status_code == 200
        control.table = {**table(etag="lost its store"), "issued_at": 0}
        with control.running():
            until(lambda: control.recorded["hello"] == 200)
            assert client.get(f"{router}/hello/x").status_code == 200
            control.table = table(etag="the service is gone")
            until(lambda: client.get(f"{router}/hello/x", headers=WITH_KEY).status_code == 404)
    assert (
        sum("routing goes on with the last table" in line for line in lines) <= 6
    )  # one for each change, of dozens of failures
    assert TOKEN not in "".join(lines)


def test_counts_survive_stop_and_restart() -> None:
    """SIGTERM hands over what was no news yet; the next process, under the same id, is believed too."""
    with FakeControl().running() as control, running_replica() as replica:
        control.table = table(("hello", "round_robin", "READY", [replica]))
        for total in (2, 4):
            with (
                running_router(control.url, refresh_s=0.05) as (router, process, _),
                httpx.Client(headers=WITH_KEY) as client,
            ):
                until(lambda: client.get(f"{router}/hello/").status_code == 307)
                until(lambda: control.recorded["hello"] % 2 == 1)
                client.get(f"{router}/hello/")
                process.send_signal(signal.SIGTERM)
                process.wait(10)
            assert control.recorded["hello"] == total


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"SAILPLANE_CONTROL_URL": ""}, "SAILPLANE_CONTROL_URL is not set"),
        ({"SAILPLANE_ROUTER_TOKEN": ""}, "SAILPLANE_ROUTER_TOKEN is not set"),
        ({"SAILPLANE_CONTROL_URL": "localhost"}, "'localhost' is not of the form http(s)://host"),
        ({"SAILPLANE_REFRESH_S": "0"}, "SAILPLANE_REFRESH_S: '0' is not a number of seconds"),
        ({"SAILPLANE_REFRESH_S": "often"}, "SAILPLANE_REFRESH_S: 'often' is not a number of seconds"),
    ],
)
def test_a_wrong_environment_is_named(wrong: dict[str, str], message: str) -> None:
    """The process ends at once with one readable line, no traceback and no token."""
    env = {"SAILPLANE_CONTROL_URL": "http://127.0.0.1:1", "SAILPLANE_ROUTER_TOKEN": TOKEN} | wrong
    process = subprocess.run([*ROUTER, "--port", "0"], env=env, check=False, capture_output=True, text=True, timeout=20)
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert TOKEN not in process.stderr
