"""One connection, without a network: what it answers to which bytes, however they are cut, and when it gives up."""

from __future__ import annotations

import re
from asyncio import Transport
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.messages import Request, Response
from edge_router.platforms.http1 import (
    BODY_TIMEOUT_S,
    HEAD_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    LINGER_S,
    MAX_BODIES_BYTES,
    MAX_HEAD_BYTES,
    MAX_WAITING,
    READ_BYTES,
    Connection,
)

LIMIT = 10  # bytes of a body, for paths that begin with /read
GET = b"GET %b HTTP/1.1\r\nHost: r\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n%b"
CHUNKED = b"POST %b HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(Transport):
    """What the connection did to its transport."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.1.2.3", 4567)})
        self.written = b""
        self.ended = self.closed = self.aborted = self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        assert not self.closed
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Server:
    """Answers with the path and what it was given of the body; holds whatever begins with /held."""

    def __init__(self) -> None:
        self.buffer = bytearray(READ_BYTES)
        self.now = 1000.0
        self.date = b"date: now\r\n"
        self.body_bytes = 0
        self.asked: list[Request] = []
        self.full = False

    def opened(self, _: Connection) -> bool:
        return not self.full

    def closed(self, _: Connection) -> None:
        pass

    def body_limit(self, request: Request) -> int:
        return LIMIT if request.path.startswith(b"/read") else 0

    def answer(self, _: Connection, request: Request) -> Response | None:
        self.asked.append(request)
        return None if request.path.startswith(b"/held") else answer_to(request)


def answer_to(request: Request) -> Response:
    body = request.method + b" " + request.path + b" " + (b"-" if request.body is None else request.body) + b"\n"
    return Response(200, ((b"content-length", b"%d" % len(body)),), body)


class Client:
    """A connection on a wire, and the server behind it."""

    def __init__(self, server: Server | None = None) -> None:
        self.server = server or Server()
        self.wire = Wire()
        self.connection = Connection(self.server)
        self.connection.connection_made(self.wire)

    def send(self, *pieces: bytes) -> Client:
        for piece in pieces:
            for start in range(0, len(piece), READ_BYTES):
                part = piece[start : start + READ_BYTES]
                self.connection.get_buffer(-1)[: len(part)] = part
                self.connection.buffer_updated(len(part))
        return self

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d+) ", self.wire.written, re.MULTILINE)]

    @property
    def bodies(self) -> list[bytes]:
        return re.findall(rb"^(?:[A-Z]+) (/\S* .*)\n", self.wire.written, re.MULTILINE)


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    at = sorted({0, len(stream), *(place % len(stream) for place in places)})
    return [stream[start:end] for start, end in pairwise(at)]


STREAM = b"".join(
    (
        GET % b"/one?a=b",
        POST % (b"/skipped", 5, b"GET /"),
        CHUNKED % b"/chunks" + b"3;ext=1\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n",
        POST % (b"/read", 5, b"hello"),
        CHUNKED % b"/read/chunks" + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        POST % (b"/read/too/much", 12, b"0123456789AB"),
        b"\r\n" + GET % b"http://some.host/two",
        b"HEAD /three HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n",
    )
)


@given(st.lists(st.integers(min_value=0), max_size=30))
def test_however_a_stream_is_cut_its_answers_are_the_same(places: list[int]) -> None:
    """Lengths, chunks, bodies read past and bodies wanted, pipelined: one answer each, in order, then the end."""
    client = Client().send(*cut(STREAM, places))
    assert client.statuses == [200] * 8
    assert client.bodies == [
        b"/one -",
        b"/skipped -",
        b"/chunks -",
        b"/read hello",
        b"/read/chunks abcde",
        b"/read/too/much 0123456789A",
        b"/two -",
    ]
    assert [request.query for request in client.server.asked] == [b"a=b"] + [b""] * 7
    assert client.wire.ended
    assert client.server.body_bytes == 0


@given(st.lists(st.sampled_from([GET % b"/a", b"\r\n", b"\x00", b"GET", b" /held", b"POST /read HTTP/1.1\r\n", b"Host: r\r\n"]) | st.binary(max_size=40)))  # fmt: skip
def test_garbage_gets_one_answer_at_most_beyond_its_requests(pieces: list[bytes]) -> None:
    """Nothing breaks the connection's code, and what is malformed is answered once, last."""
    client = Client().send(*pieces)
    assert len(client.statuses) <= len(client.server.asked) + 1
    assert [status for status in client.statuses[:-1] if status != 200] == []


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: r\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        b"Host: r\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        b"Host: r\r\nContent-Length: 3\r\nContent-Length: 3",
        b"Host: r\r\nContent-Length: 3\r\nContent-Length: 4",
        b"Host: r\r\nContent-Length: 3, 3",
        b"Host: r\r\nContent-Length: +3",
        b"Host: r\r\nContent-Length: -3",
        b"Host: r\r\nContent-Length: 0x3",
        b"Host: r\r\nContent-Length: 3 4",
        b"Host: r\r\nContent-Length:",
        b"Host: r\r\nContent-Length: 99999999999999999999999",
        b"Host: r\r\nContent-Length : 3",
        b"Host: r\r\nTransfer-Encoding : chunked",
        b"Host: r\r\nTransfer-Encoding: identity",
        b"Host: r\r\nTransfer-Encoding: xchunked",
        b"Host: r\r\nTransfer-Encoding: gzip, chunked",
        b"Host: r\r\nTransfer-Encoding: chunked, gzip",
        b"Host: r\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Host: r\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Host: r\r\nTransfer-Encoding:\r\n chunked",
        b"Host: r\r\nA: b\r\n folded",
        b"Host: r\r\nA: b\nTransfer-Encoding: chunked",
        b"Host: r\r\nA: b\rTransfer-Encoding: chunked",
        b"Host: r\r\nA: \x00",
        b"Host: r\r\n: b",
        b" Host: r",
        b"A: b",
        b"Host: r\r\nHost: s",
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused(lines: bytes) -> None:
    """One 4xx or 501 that closes; neither the request nor what hides behind it reaches the router."""
    smuggled = GET % b"/smuggled"
    client = Client().send(b"POST /x HTTP/1.1\r\n" + lines + b"\r\n\r\n" + b"0\r\n\r\n" + smuggled, smuggled)
    assert client.server.asked == []
    assert client.statuses in ([400], [501])
    assert b"connection: close\r\n" in client.wire.written
    assert client.wire.ended


@pytest.mark.parametrize(
    "head",
    [
        b"POST /x HTTP/1.0\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /x HTTP/1.2\r\nHost: r\r\n\r\n",
        b"GET /x HTTP/1.1\nHost: r\n\n",
        b"GET /x#fragment HTTP/1.1\r\nHost: r\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: r\r\n\r\n",
        b"GET ftp://h/x HTTP/1.1\r\nHost: r\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: r\r\n\r\n",
        b"CONNECT h:443 HTTP/1.1\r\nHost: r\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"get /x HTTP/1.1\r\nHost: r\r\n\r\n",
    ],
)
def test_what_is_no_request_of_ours_is_refused(head: bytes) -> None:
    """Other protocols, other versions, odd targets: one answer, then the end."""
    client = Client().send(head, GET % b"/y")
    assert client.server.asked == []
    assert client.statuses in ([400], [501])
    assert client.wire.ended


@pytest.mark.parametrize(
    "bad", [b"0x1\r\na\r\n", b"-1\r\na\r\n", b"1\na\n", b"1\r\nabc\r\n", b"11111111111111111111\r\n"]
)
def test_a_bad_chunk_ends_the_connection_and_is_no_request(bad: bytes) -> None:
    """The answer is out already; a second one would be taken for that of the client's next request."""
    client = Client().send(CHUNKED % b"/x", bad, GET % b"/smuggled")
    assert [request.path for request in client.server.asked] == [b"/x"]
    assert client.statuses == [200]
    assert client.wire.ended


def test_a_bad_chunk_of_a_body_that_the_router_waits_for_is_answered() -> None:
    """Nothing has been said yet: 400, and the request does not reach the router."""
    client = Client().send(CHUNKED % b"/read", b"zz\r\n", GET % b"/smuggled")
    assert (client.server.asked, client.statuses, client.wire.ended) == ([], [400], True)
    assert client.server.body_bytes == 0


def test_trailers_are_not_headers() -> None:
    """A key in a trailer is none: whoever checked the head has not seen it."""
    body = b"1\r\na\r\n0\r\nAuthorization: Bearer late\r\nHost: r\r\n\r\n"
    client = Client().send(CHUNKED % b"/read" + body, GET % b"/next")
    assert [sorted(request.headers) for request in client.server.asked] == [[b"host", b"transfer-encoding"], [b"host"]]


@pytest.mark.parametrize("piece", [b"a" * 1000, b"A: b\r\n" * 100])
@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: r\r\nA: "])
def test_a_head_without_end_is_refused(start: bytes, piece: bytes) -> None:
    """431 soon after the limit, whatever it is that does not end."""
    client = Client().send(start)
    sent = 0
    while not client.wire.ended:
        client.send(piece)
        sent += len(piece)
        assert sent < 2 * MAX_HEAD_BYTES
    assert client.statuses in ([431], [400])  # a line feed in a target is malformed
    assert client.server.asked == []


@pytest.mark.parametrize("start", [b"0\r\nA: ", b"1;"])
def test_trailers_and_chunk_extensions_without_end_are_cut(start: bytes) -> None:
    """The parser keeps a trailer until it is whole: it must not grow for as long as somebody sends."""
    client = Client().send(CHUNKED % b"/x" + start)
    for _ in range(2 * MAX_HEAD_BYTES // 1000):
        client.send(b"a" * 1000)
    assert (client.statuses, client.wire.ended) == ([200], True)


def test_a_body_of_any_length_is_read_past_without_being_kept() -> None:
    """10 MB in pieces; the next request on the connection gets its own answer."""
    client = Client().send(POST % (b"/x", 10_000_000, b""))
    for _ in range(1000):
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: r\r\n\r\n".ljust(10_000))
        assert client.server.body_bytes == 0
    client.send(GET % b"/next")
    assert client.bodies == [b"/x -", b"/next -"]


def test_bodies_that_are_kept_have_a_common_limit() -> None:
    """However many clients send one: who comes on top is turned away, and what is answered counts no more."""
    server = Server()
    first, second = Client(server).send(POST % (b"/read", 5, b"1234")), Client(server)
    server.body_bytes += MAX_BODIES_BYTES - 6
    second.send(POST % (b"/read", 5, b"1234"))
    assert (second.statuses, second.wire.ended) == ([503], True)
    first.send(b"5")
    assert first.bodies == [b"/read 12345"]
    assert server.body_bytes == MAX_BODIES_BYTES - 6
    Client(server).send(POST % (b"/read", 5, b"12")).connection.connection_lost(None)
    assert server.body_bytes == MAX_BODIES_BYTES - 6


def test_a_client_that_expects_to_be_told_is_told() -> None:
    """Where the body is wanted: to go on. Elsewhere the answer, and that the connection ends, as its body may not come."""
    head = b"POST %b HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    client = Client().send(head % b"/read")
    assert client.wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello" + head % b"/x", GET % b"/smuggled")
    assert client.bodies == [b"/read hello", b"/x -"]
    assert b"connection: close" in client.wire.written
    assert client.wire.ended


@pytest.mark.parametrize(
    ("head", "said", "stays"),
    [
        (b"GET / HTTP/1.1\r\nHost: r\r\n\r\n", b"", True),
        (b"GET / HTTP/1.1\r\nHost: r\r\nConnection: keep-alive\r\n\r\n", b"keep-alive", True),
        (b"GET / HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n", b"close", False),
        (b"GET / HTTP/1.0\r\n\r\n", b"close", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"keep-alive", True),
        (b"GET / HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"close", False),
    ],
)
def test_who_keeps_the_connection(head: bytes, said: bytes, stays: bool) -> None:
    """As HTTP/1.1 and 1.0 have it; an upgrade is answered without one, and not by guessing what comes next."""
    client = Client().send(head)
    assert client.statuses == [200]
    assert re.findall(rb"connection: (.*)\r\n", client.wire.written) == ([said] if said else [])
    assert client.wire.ended is not stays
    assert len(client.send(GET % b"/next").server.asked) == 1 + stays


def test_a_head_request_gets_a_length_and_no_body() -> None:
    """Or the client would take the body for the next answer."""
    client = Client().send(b"HEAD /x HTTP/1.1\r\nHost: r\r\n\r\n")
    assert client.wire.written.endswith(b"content-length: 10\r\n\r\n")


def test_who_asks_is_told() -> None:
    """Names in lower case, repeated ones joined, address and port of the connection."""
    client = Client().send(b"QUERY /a%2Fb/?q=%20 HTTP/1.1\r\nHost: r\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
    headers = {b"host": b"r", b"x-a": b"1, 2"}
    assert client.server.asked == [Request(b"QUERY", b"/a%2Fb/", b"q=%20", headers, "10.1.2.3", 4567)]


# --- holding


def test_what_comes_behind_a_held_request_waits_for_it() -> None:
    """Answers come in the order of the requests, however many of them are held."""
    client = Client().send(GET % b"/a" + GET % b"/held/b" + GET % b"/c" + GET % b"/held/d", GET % b"/e")
    assert client.bodies == [b"/a -"]
    assert [request.path for request in client.server.asked] == [b"/a", b"/held/b"]
    client.connection.release(answer_to(client.server.asked[-1]))
    assert client.bodies == [b"/a -", b"/held/b -", b"/c -"]
    client.connection.release(answer_to(client.server.asked[-1]))
    assert client.bodies == [b"/a -", b"/held/b -", b"/c -", b"/held/d -", b"/e -"]
    assert not client.wire.ended


def test_who_has_just_hung_up_is_not_answered() -> None:
    """Between the end of a connection and the word of it, a release finds a transport that takes nothing any more."""
    client = Client().send(GET % b"/held" + GET % b"/x")
    client.wire.close()
    client.connection.release(answer_to(client.server.asked[0]))
    assert client.wire.written == b""


def test_few_requests_wait_behind_a_held_one() -> None:
    """Memory is not the client's: of one that sends on and on no more is read, and the connection ends after that."""
    client = Client().send(GET % b"/held")
    for _ in range(1000):
        client.send(GET % b"/x")
    client.connection.release(answer_to(client.server.asked[0]))
    assert len(client.bodies) <= MAX_WAITING + 2
    assert client.wire.ended


def test_a_malformed_request_behind_a_held_one_waits_too() -> None:
    """Its refusal must not be taken for the held request's answer."""
    client = Client().send(GET % b"/held", b"nonsense\r\n\r\n")
    assert client.statuses == []
    client.connection.release(answer_to(client.server.asked[0]))
    assert client.statuses == [200, 400]
    assert client.wire.ended


# --- time


def deadline(client: Client) -> float:
    return client.connection.deadline - client.server.now


def test_each_state_has_its_deadline() -> None:
    """A head's is not moved by more of the head, nor a body's by more of the body: who drips is cut all the same."""
    client = Client()
    assert deadline(client) == HEAD_TIMEOUT_S
    client.server.now += 5
    client.send(b"PO")
    assert deadline(client) == HEAD_TIMEOUT_S
    client.server.now += 5
    client.send(b"ST / HTTP/1.1\r\nHost: r\r\n")
    assert deadline(client) == HEAD_TIMEOUT_S - 5
    client.send(b"Content-Length: 9\r\n\r\n")
    assert deadline(client) == BODY_TIMEOUT_S
    client.server.now += 5
    client.send(b"1")
    assert deadline(client) == BODY_TIMEOUT_S - 5
    client.send(b"23456789")
    assert deadline(client) == IDLE_TIMEOUT_S
    client.send(b"nonsense\r\n\r\n")
    assert deadline(client) == LINGER_S
    client.server.now += 1
    client.send(GET % b"/")
    assert deadline(client) == LINGER_S - 1


def test_a_released_client_has_time_for_its_next_request() -> None:
    """Its time in the waiting room does not count."""
    client = Client().send(GET % b"/held")
    client.server.now += 1000
    client.connection.release(answer_to(client.server.asked[0]))
    assert deadline(client) == IDLE_TIMEOUT_S


def test_who_does_not_read_its_answers_is_not_read() -> None:
    """Or its requests would fill our memory with answers."""
    client = Client()
    client.connection.pause_writing()
    assert client.wire.paused
    client.connection.resume_writing()
    assert not client.wire.paused


# --- the end


def test_a_connection_on_top_of_all_is_told_so() -> None:
    """503 and the end, whatever it was going to ask."""
    server = Server()
    server.full = True
    client = Client(server)
    assert (client.statuses, client.wire.closed) == ([503], True)


@pytest.mark.parametrize("before", [b"", GET % b"/x", POST % (b"/x", 9, b"12")])
def test_when_the_server_stops_idle_connections_close(before: bytes) -> None:
    """Nobody waits for an answer on them."""
    client = Client().send(before)
    client.connection.stop()
    assert client.wire.closed


@pytest.mark.parametrize("before", [b"GET", POST % (b"/read", 5, b"12")])
def test_when_the_server_stops_requests_under_way_are_answered(before: bytes) -> None:
    """With word that it was the last."""
    client = Client().send(before)
    client.connection.stop()
    assert not client.wire.closed
    client.send((GET % b"/x")[3:] if before == b"GET" else b"345", GET % b"/next")
    assert (client.statuses, client.wire.ended) == ([200], True)
    assert b"connection: close\r\n" in client.wire.written
