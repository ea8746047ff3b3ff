"""What clients see through the agent is what the engine says, as it says it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.client
import random
import socket
from collections.abc import Iterator

import pytest
from aiohttp import web

from replica_agent.session import client_session
from tests.agent.running import Agent, before, granted, serving
from tests.waiting import until

BODY = random.Random(7).randbytes(20 * 2**20)
# Of the whole service: an endpoint key, which routers let in.
KEYS = {"Authorization": "Bearer sp_0123456789_x", "X-Api-Key": "sp_0123456789_x"}


def test_a_streams_first_event_arrives_before_its_last_is_made(agent: Agent) -> None:
    """SSE is passed on event by event: the engine makes its second event only after the client has the first."""
    connection = agent.connect()
    connection.request("GET", granted("GET", "/sse?streamed"))
    response = connection.getresponse()

    assert response.readline() == b"data: first\n"
    assert agent.probe()["in_flight"] == 1

    agent.ask_engine("/_open?streamed")
    assert response.read() == b"\ndata: second\n\n"
    connection.close()
    until(lambda: agent.probe()["in_flight"] == 0)


def test_large_bodies_pass_both_ways_intact(agent: Agent) -> None:
    """20 MB up and the same 20 MB down, with a length."""
    answer = agent.ask("POST", "/echo", BODY)
    assert answer.status == 200
    assert answer.headers["X-Digest"] == hashlib.sha256(BODY).hexdigest()
    assert answer.body == BODY


def test_a_chunked_body_stays_chunked_and_intact(agent: Agent) -> None:
    """A body of unknown length is neither collected nor cut."""

    def parts() -> Iterator[bytes]:
        for at in range(0, len(BODY), 300_000):
            yield BODY[at : at + 300_000]

    answer = agent.ask("POST", "/echo", parts(), {"Transfer-Encoding": "chunked"}, chunked=True)
    assert answer.headers["X-Digest"] == hashlib.sha256(BODY).hexdigest()


def test_a_client_that_leaves_takes_its_request_along(agent: Agent) -> None:
    """A generation nobody reads any more is cancelled in the engine, and no longer counted."""
    connection = agent.connect()
    connection.request("GET", granted("GET", "/endless?left"))
    response = connection.getresponse()
    assert response.readline() == b"data: again\n"
    response.close()
    connection.close()

    until(lambda: "/endless?left" in agent.ask_engine("/_seen")["left"])
    until(lambda: agent.probe()["in_flight"] == 0)


@pytest.mark.parametrize("next_one", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_client_that_leaves_before_the_answer_takes_its_request_along(agent: Agent, next_one: bytes) -> None:
    """Also while the engine is silent: the request must not wait for its first byte to be let go, whatever follows it."""
    connection = agent.connect()
    name = f"silent{len(next_one)}"
    connection.request("GET", granted("GET", f"/never?{name}"))
    connection.sock.sendall(next_one)
    until(lambda: agent.probe()["in_flight"] == 1)
    connection.close()
    until(lambda: agent.probe()["in_flight"] == 0)
    agent.ask_engine(f"/_open?{name}")


@pytest.mark.parametrize("path", ["/break/chunked", "/break/length"])
def test_a_break_in_the_middle_is_a_break_for_the_client(agent: Agent, path: str) -> None:
    """Half an answer never looks like a whole one."""
    connection = agent.connect()
    connection.request("GET", granted("GET", path))
    response = connection.getresponse()
    assert response.status == 200
    with pytest.raises(http.client.IncompleteRead) as broken:
        response.read()
    assert broken.value.partial == b"half"
    connection.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_headers_alone_are_no_answer(agent: Agent, method: str) -> None:
    """An engine that dies between a stream's headers and its first byte is a 502, which clients ask again after by themselves."""
    assert agent.ask(method, "/break/headers").status == 502


def test_an_engine_that_stays_silent_shows_its_headers() -> None:
    """They wait for the first byte, but not for ever: who opens a stream in which nothing happens learns that it is open."""

    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"X-Stream": "open"})
        await response.prepare(request)
        await asyncio.sleep(60)
        raise AssertionError

    async def play() -> str:
        async with (
            serving(silent) as engine_port,
            before(engine_port, silence_s=0.05) as port,
            client_session() as session,
            session.get(f"http://127.0.0.1:{port}{granted('GET', '/')}") as answer,
        ):
            return answer.headers["X-Stream"]

    assert asyncio.run(play()) == "open"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_break_before_the_answer_is_told_and_not_repeated(agent: Agent, method: str) -> None:
    """502 after exactly one try, on a reused connection too: only the client knows whether twice is harmless."""
    agent.ask("GET", "/headers")  # leaves an idle connection to the engine behind
    before = agent.ask_engine("/_seen")["seen"].count(f"{method} /break/early")

    answer = agent.ask(method, "/break/early")

    assert answer.status == 502
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["instance"] == "/break/early"
    assert agent.ask_engine("/_seen")["seen"].count(f"{method} /break/early") == before + 1


def test_the_target_reaches_the_engine_letter_by_letter(agent: Agent) -> None:
    """Percent-encoding, double slashes and odd queries are the client's business."""
    target = "/headers?q=a%2Fb%20c+d&empty=&%C3%BC=%E2%82%AC//x"
    assert agent.ask("GET", target).json["line"] == target


def test_headers_are_passed_except_those_of_the_hop(agent: Agent) -> None:
    """End-to-end headers pass unchanged, hop-by-hop ones stop here, and the engine learns who asked for what."""
    sent = {
        **KEYS,
        "Host": "models.example",
        "Connection": "keep-alive, X-Private",
        "X-Private": "for the next hop only",
        "TE": "trailers",
        "Proxy-Authorization": "secret",
        "X-Forwarded-For": "203.0.113.9",
        "Accept-Encoding": "zstd",
    }
    answer = agent.ask("GET", "/headers", headers=sent)
    arrived = {name.lower(): value for name, value in answer.json["headers"]}

    assert arrived["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert arrived["x-forwarded-host"] == "models.example"
    assert arrived["x-forwarded-proto"] == "http"
    assert arrived["host"] == f"127.0.0.1:{agent.place['engine_port']}"
    assert arrived["accept-encoding"] == "zstd"
    assert not arrived.keys() & {"x-private", "te", "proxy-authorization", "user-agent", "accept", "content-type"}
    assert not arrived.keys() & {"authorization", "x-api-key"}, "endpoint keys stay here"
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers["X-Mine"] == "yes"
    assert answer.headers["Keep-Alive"] is None


def test_one_clients_cookies_are_not_anothers(agent: Agent) -> None:
    """The engine sets cookies on every answer of /headers; the agent keeps none."""
    agent.ask("GET", "/headers")
    names = [name.lower() for name, _ in agent.ask("GET", "/headers").json["headers"]]
    assert "cookie" not in names


def test_compressed_answers_stay_compressed(agent: Agent) -> None:
    """Nothing is unpacked on the way."""
    answer = agent.ask("GET", "/gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.body == gzip.compress(b"packed", mtime=0)


def test_compressed_requests_stay_compressed(agent: Agent) -> None:
    """Nor on the way in."""
    packed = gzip.compress(b"question", mtime=0)
    assert agent.ask("POST", "/echo", packed, {"Content-Encoding": "gzip"}).body == packed


@pytest.mark.parametrize("status", [201, 204, 304, 404, 500, 503])
def test_every_status_is_passed_on(agent: Agent, status: int) -> None:
    """Also the engine's own 503, which is not the agent's."""
    answer = agent.ask("GET", f"/status?{status}")
    assert answer.status == status
    assert answer.body == (b"" if status in (204, 304) else b"asked for it")


def test_head_tells_the_length_and_sends_nothing(agent: Agent) -> None:
    """The length is that of the GET's body."""
    answer = agent.ask("HEAD", "/gzip")
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) > 0
    assert answer.body == b""


def test_a_client_that_asks_first_may_be_told_no(agent: Agent) -> None:
    """At once, and the connection ends: whether the body comes now is anybody's guess."""
    with socket.create_connection(("127.0.0.1", agent.place["port"]), timeout=15) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.getheader("Connection")) == (401, "close")


def test_a_client_that_asks_first_is_told_to_go_on(agent: Agent) -> None:
    """A client such as curl sends large bodies only after `100 Continue`."""
    with socket.create_connection(("127.0.0.1", agent.place["port"]), timeout=15) as client:
        client.sendall(f"POST {granted('POST', '/echo')} HTTP/1.1\r\n".encode())
        client.sendall(b"Host: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.read() == b"hello"
