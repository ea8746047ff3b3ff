"""The agent on the wire: what it takes for one request, for two and for none, and who has to wait for whom."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from aiohttp import web

from replica_agent.heads import MAX_HEAD_BYTES
from replica_agent.server import Client
from replica_agent.session import client_session
from replica_agent.upstream import Connection
from tests.agent.running import Agent, before, behind, granted, serving
from tests.waiting import until

HOST = "Host: x\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


@contextmanager
def connected(agent: Agent) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", agent.place["port"]), timeout=15) as client:
        yield client


def everything(client: socket.socket) -> bytes:
    """Until the agent closes the connection."""
    parts = []
    try:
        while data := client.recv(65_536):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def drain(client: socket.socket) -> None:
    while client.recv(65_536):
        pass


def until_stuck(client: socket.socket) -> int:
    """How many bytes are taken from it."""
    sent = 0
    try:
        while sent < 300_000_000:
            sent += client.send(b"x" * 1_000_000)
    except TimeoutError:
        return sent
    return sent


def said(agent: Agent, raw: str | bytes) -> bytes:
    with connected(agent) as client:
        client.sendall(raw.encode("latin-1") if isinstance(raw, str) else raw)
        return everything(client)


def answers(raw: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


def line(method: str, path: str, version: str = "1.1") -> str:
    return f"{method} {granted(method, path)} HTTP/{version}\r\n"


def seen(agent: Agent) -> list[str]:
    lines: list[str] = agent.ask_engine("/_seen")["seen"]
    return lines


@pytest.mark.parametrize(
    "rest",
    [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: 3, 3\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 0x3\r\n\r\nabc",
        "Content-Length: \r\n\r\nabc",
        "Content-Length : 3\r\n\r\nabc",
        "Content-Length: 3\r\n 4\r\n\r\nabc",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "A: b\nC: d\r\n\r\n",
        "A: b\rC: d\r\n\r\n",
        "A: b\x00c\r\n\r\n",
        "A: b\r\n folded\r\n\r\n",
        ": b\r\n\r\n",
        "no colon\r\n\r\n",
        "Host: y\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_not_passed_on(agent: Agent, rest: str) -> None:
    """400 and the end of the connection. Otherwise a second request could be hidden in the first, past grants and limits."""
    hidden = f"GET /hidden HTTP/1.1\r\n{HOST}\r\n"
    answer = said(agent, line("POST", "/status?200") + HOST + rest + hidden)
    assert answers(answer) == [400]
    assert "GET /hidden" not in seen(agent)


@pytest.mark.parametrize(
    "start",
    [
        "GET /a#b HTTP/1.1\r\n" + HOST,
        "GET /a b HTTP/1.1\r\n" + HOST,
        "GET /\x01 HTTP/1.1\r\n" + HOST,
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/2.0\r\n" + HOST,
        "GET / HTTP/0.9\r\n" + HOST,
        "get / HTTP/1.1\r\n" + HOST,
        "GET / HTTP/1.1\n" + HOST,
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_refused(agent: Agent, start: str) -> None:
    """400, and nothing of it comes back."""
    answer = said(agent, start + "\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close\r\n" in answer


def test_a_refused_request_shows_no_grant(agent: Agent) -> None:
    """Clients write problems into logs and tickets, where others read them."""
    answer = said(agent, line("GET", "/status?200") + HOST + "Host: y\r\n\r\n")
    assert answers(answer) == [400]
    assert b'"instance": "/status"' in answer


def test_no_field_that_connection_names_frames_a_body(agent: Agent) -> None:
    """`Connection: content-length` takes the length away for the engine, which would take the body for a request."""
    body = f"GET /hidden HTTP/1.1\r\n{HOST}\r\n"
    head = f"Connection: close, content-length, host\r\nContent-Length: {len(body)}\r\n\r\n"
    assert said(agent, line("POST", "/echo") + HOST + head + body).endswith(body.encode())
    assert "GET /hidden" not in seen(agent)


def test_nothing_follows_a_refused_upgrade(agent: Agent) -> None:
    """What a client sends after asking for another protocol is for that protocol, not a request without a grant."""
    answer = said(agent, line("GET", "/headers") + HOST + UPGRADE + f"\r\nGET /hidden HTTP/1.1\r\n{HOST}\r\n")
    assert answers(answer) == [200]
    assert "GET /hidden" not in seen(agent)


def test_many_requests_at_once_are_answered_in_order(agent: Agent) -> None:
    """Each is judged by its own grant, whatever came before it on the connection."""
    asked = [line("POST", "/echo") + HOST + f"Content-Length: 9\r\n\r\n[body {number:02}]" for number in range(40)]
    asked[20] = f"GET /headers HTTP/1.1\r\n{HOST}\r\n"
    answer = said(agent, "".join(asked) + f"GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
    assert answers(answer) == [200] * 20 + [401] + [200] * 19 + [401]
    assert re.findall(rb"\[body (..)\]", answer) == [b"%02d" % number for number in range(40) if number != 20]


def test_thousands_of_requests_at_once_are_no_danger(agent: Agent) -> None:
    """They are answered one by one, not one inside the other."""
    answer = said(agent, f"GET / HTTP/1.1\r\n{HOST}\r\n" * 5_000 + f"GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 401 ") == 5_001


def test_connections_are_kept_on_both_sides(agent: Agent) -> None:
    """One connection of a client carries many requests, over one to the engine."""
    connection, ports = agent.connect(), set()
    for _ in range(5):
        connection.request("GET", granted("GET", "/peer"))
        ports.add(connection.getresponse().read())
    connection.close()
    assert len(ports) == 1


def test_old_clients_get_whole_answers_and_a_close(agent: Agent) -> None:
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the answer."""
    agent.ask_engine("/_open?old")
    answer = said(agent, line("GET", "/sse?old", "1.0") + "\r\n")
    assert answer.endswith(b"\r\n\r\ndata: first\n\ndata: second\n\n")
    assert b"chunked" not in answer


def test_old_clients_never_take_half_an_answer_for_a_whole_one(agent: Agent) -> None:
    """Where only the connection's end says that this was all, a broken answer ends with a reset."""
    with connected(agent) as client:
        client.sendall((line("GET", "/break/chunked", "1.0") + "\r\n").encode())
        with pytest.raises(ConnectionResetError):
            drain(client)


def test_an_answer_without_a_length_is_whole_when_the_engine_closes(agent: Agent) -> None:
    """Engines may speak HTTP/1.0, too; clients of 1.1 get it in chunks."""
    answer = agent.ask("GET", "/until/close")
    assert (answer.body, answer.headers["Transfer-Encoding"]) == (b"all of it", "chunked")


def test_what_engines_say_in_between_stops_here(agent: Agent) -> None:
    """1xx answers: the agent has answered Expect itself, and early hints are worth nothing to an API's client."""
    answer = agent.ask("GET", "/hints")
    assert (answer.status, answer.body) == (200, b"then this")
    assert answer.headers["Link"] is None


@pytest.mark.parametrize(
    "raw", ["A: " + "x" * 70_000, "A: b\r\n" * 12_000, "X" * 70_000 + ": b"], ids=["1", "n", "name"]
)
def test_a_head_has_a_limit(agent: Agent, raw: str) -> None:
    """431, for one long field as for many short ones, also when its end never comes."""
    assert len(raw) > MAX_HEAD_BYTES
    for rest in (raw + "\r\n\r\n", raw * 6):
        assert said(agent, line("GET", "/headers") + HOST + rest).startswith(b"HTTP/1.1 431 ")
    whole = line("POST", "/echo") + HOST + "Content-Length: 3\r\n" + raw.rstrip() + "\r\n\r\nabc"
    assert answers(said(agent, whole)) == [431]


def test_an_endless_target_and_an_endless_trailer_are_cut(agent: Agent) -> None:
    """Nothing that a client can send grows in the agent's memory."""
    assert said(agent, "GET /" + "x" * 400_000).startswith(b"HTTP/1.1 431 ")
    trailed = line("POST", "/never?trailed") + HOST + "Transfer-Encoding: chunked\r\n\r\n0\r\nT: " + "x" * 400_000
    assert said(agent, trailed).startswith(b"HTTP/1.1 431 ")
    agent.ask_engine("/_open?trailed")


def test_trailers_stop_here(agent: Agent) -> None:
    """They are no part of the body, and no header."""
    raw = (
        line("POST", "/echo")
        + HOST
        + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX-T: v\r\n\r\n"
    )
    assert said(agent, raw).endswith(b"\r\n\r\nabc")


def test_a_large_body_that_is_refused_is_read_to_its_end(agent: Agent) -> None:
    """A client that sends all before it looks sees the answer, and its connection can be used again."""
    connection = agent.connect()
    for _ in range(2):
        connection.request("POST", "/no/grant", b"x" * 5_000_000)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (401, None)
        answer.read()
    connection.close()


def test_an_engine_may_answer_before_it_has_heard_all(agent: Agent) -> None:
    """As with a body that is too large for it."""
    connection = agent.connect()
    connection.request("POST", granted("POST", "/too/large"), b"x" * 5_000_000)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (413, b"enough")
    connection.close()


def test_a_command_has_a_limit(agent: Agent) -> None:
    """Before anybody has shown that he may give it."""
    assert agent.ask_raw("POST", "/_sailplane/probe", b"x" * (2**20 + 1)).status == 413


def test_whoever_is_slow_lets_the_other_side_wait(agent: Agent) -> None:
    """A client that does not read stops the engine; the agent's memory does not grow with what it has not read."""
    connection = agent.connect()
    connection.request("GET", granted("GET", "/flood?slow"))
    answer = connection.getresponse()
    assert answer.read(1) == b"x"
    stopped = until(lambda: (told := agent.ask_engine("/_flooded")) and told == agent.ask_engine("/_flooded") and told)
    assert stopped < 30_000_000, "kernel buffers and the agent's, of 300 MB"
    connection.close()
    until(lambda: "/flood?slow" in agent.ask_engine("/_seen")["left"])


class Pipe(asyncio.Transport):
    """One end of a connection: what was written, and whether anybody reads."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self.written = b""
        self.takes_all = True
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if not self.takes_all:
            self._protocol.pause_writing()

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False


def test_a_client_that_does_not_take_its_last_bytes_holds_up_nobody_else() -> None:
    """The engine has said all of it: its connection is the next request's, and reads."""

    async def play() -> tuple[bytes, bool, bool]:
        agent = behind(0)
        connection, client = Connection(agent.upstream), Client(agent, set(), asyncio.Event())
        to_engine, to_client = Pipe(connection), Pipe(client)
        connection.connection_made(to_engine)
        client.connection_made(to_client)
        agent.upstream.keep(connection)
        client.data_received((line("GET", "/") + HOST + "\r\n").encode())
        to_client.takes_all = False
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return to_client.written[-2:], to_engine.reads, agent.upstream.take() is connection

    assert asyncio.run(play()) == (b"ok", True, True)


def test_an_engine_that_does_not_read_stops_its_client(agent: Agent) -> None:
    """The other way round."""
    with connected(agent) as client:
        client.settimeout(1)
        client.sendall((line("POST", "/never?unread") + HOST + "Content-Length: 300000000\r\n\r\n").encode())
        sent = until_stuck(client)
    agent.ask_engine("/_open?unread")
    assert sent < 30_000_000
    until(lambda: agent.probe()["in_flight"] == 0)


def test_another_protocol_passes_both_ways(agent: Agent) -> None:
    """Byte by byte, and whoever leaves takes the other side along."""
    with connected(agent) as client:
        client.sendall((line("GET", "/socket") + HOST + UPGRADE + "\r\nearly ").encode())
        received = b""
        while not received.endswith(b"welcome early "):
            received += client.recv(1_000)
        head = received.partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Upgrade: websocket" in head
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(1_000) == b"GET / HTTP/1.1\r\n\r\n"
        assert agent.probe()["in_flight"] == 1
    until(lambda: "/socket" in agent.ask_engine("/_seen")["left"])
    until(lambda: agent.probe()["in_flight"] == 0)


def test_another_protocol_needs_a_grant(agent: Agent) -> None:
    """As everything does."""
    assert said(agent, f"GET /socket HTTP/1.1\r\n{HOST}{UPGRADE}\r\n").startswith(b"HTTP/1.1 401 ")


def test_nothing_goes_before_the_engine_has_agreed(agent: Agent) -> None:
    """However late it says no, and however early the client goes on."""
    with connected(agent) as client:
        client.sendall((line("GET", "/sse?no") + HOST + UPGRADE + "\r\n").encode())
        until(lambda: agent.probe()["in_flight"] == 1)
        client.sendall(f"GET /hidden HTTP/1.1\r\n{HOST}\r\n".encode())
        until(lambda: agent.probe()["ready"])
        agent.ask_engine("/_open?no")
        assert answers(everything(client)) == [200]
    assert agent.ask("GET", "/peer").status == 200
    assert "GET /hidden" not in seen(agent)


def test_an_engine_that_says_too_much_is_not_heard_by_the_next(agent: Agent) -> None:
    """One client's answer is never part of another's."""
    assert agent.ask("GET", "/too/much").body == b"enough"
    assert agent.ask("GET", "/peer").status == 200


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_another_protocol_does_not_begin_with_a_body(agent: Agent, upgrade: str) -> None:
    """Who reads the body, and who takes it for what follows? Nobody has to guess."""
    head = f"Connection: Upgrade\r\nUpgrade: {upgrade}\r\nContent-Length: 100\r\n\r\n"
    answer = said(agent, line("GET", "/socket") + HOST + head + f"GET /hidden HTTP/1.1\r\n{HOST}\r\n" + "x" * 100)
    assert answers(answer) == [400]
    assert "GET /hidden" not in seen(agent)


@pytest.mark.parametrize(
    "upgrade",
    ["Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n", "Upgrade: websocket\r\n"],
)
def test_what_is_not_upgraded_is_a_request_like_others(agent: Agent, upgrade: str) -> None:
    """Some offer HTTP/2 with its first request; nobody need take it."""
    raw = line("GET", "/echo") + HOST + upgrade + "\r\n"
    with connected(agent) as client:
        for _ in range(2):
            client.sendall(raw.encode())
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.read()) == (200, b"")


def test_real_websockets_talk_through_the_agent() -> None:
    """A library's client with a library's server: messages, sub-protocol, ping, close code."""

    async def shout(request: web.BaseRequest) -> web.StreamResponse:
        socket_ = web.WebSocketResponse(protocols=["shouting"])
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(message.data.upper())
            if message.data == "bye":
                await socket_.close(code=4_001, message=b"gone")
        return socket_

    async def play() -> tuple[str | None, list[str], int | None]:
        async with serving(shout) as engine_port, before(engine_port) as port, client_session() as session:
            url = f"http://127.0.0.1:{port}{granted('GET', '/v1/realtime')}"
            async with session.ws_connect(url, protocols=["shouting"]) as client:
                heard = []
                for text in ("x" * 100_000, "hello", "bye"):
                    await client.send_str(text)
                    heard.append(await client.receive_str())
                await client.ping()
                assert (await client.receive()).type is aiohttp.WSMsgType.CLOSE
                return client.protocol, heard, client.close_code

    protocol, heard, code = asyncio.run(play())
    assert (protocol, heard[1:], len(heard[0]), code) == ("shouting", ["HELLO", "BYE"], 100_000, 4_001)
