"""The agent's side towards clients: their connections, the requests on them, and the answers, passed on bit by bit.

Bodies pass through unbuffered in both directions: whoever is slow lets the other side wait, not the agent's memory grow.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools

from replica_agent.door import ENGINE_START_RETRY_S, Door, Visit
from replica_agent.gate import Gate
from replica_agent.grants import split
from replica_agent.heads import (
    CHUNKED,
    MAX_HEAD_BYTES,
    OF_THE_HOP,
    UPGRADE,
    Fields,
    Request,
    for_client,
    for_engine,
    readable,
)
from replica_agent.problem import Answer, problem
from replica_agent.upstream import Connection, Upstream

CONTROL = b"/_sailplane/"
_MAX_HELD_BYTES = 2**20  # of a command, or of what a client sends before the engine speaks its protocol
# Requests, and bytes of their bodies, that wait for their turn. Only who is read is seen to leave.
_MAX_WAITING, _MAX_WAITING_BYTES = 16, 65_536
# Who sleeps, or moves to another network, says no goodbye: after so long a silence TCP asks, and asks again. Until the last
# answer is missing, 3 minutes later, its WebSocket, or its place in an engine's queue, counts as in flight.
_SILENCE_BEFORE_ASKING_S, _PAUSE_S, _TIMES = 60, 30, 4
_LAST_BYTES_S = 5.0  # for answers that are still on their way when the agent ends


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what is waited for."""

    keepalive_s: float = 75.0  # longer than a load balancer's 60 s; for ever, idle clients would take all sockets
    # For what anybody may send who has shown nothing yet: the head of a request, all of a command. For the rest of a request
    # that is answered already, since a client that still sends does not see the answer; and for a client to take what it was
    # sent last.
    linger_s: float = 10.0
    # How long an answer's headers wait for its first byte. A client that sees its stream open does not mind half a minute.
    silence_s: float = 30.0
    sweep_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the connections of all clients."""

    door: Door
    gate: Gate
    upstream: Upstream
    engine_host: bytes
    control: Callable[[Request, bytes], Awaitable[Answer]]
    dropped: frozenset[bytes]  # of a request's fields, before the engine
    credentials: bytes  # a line for the engine, or empty
    patience: Patience = Patience()


class Server:
    """Listens, and knows every client's connection."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._clients: set[Client] = set()
        self._gone = asyncio.Event()

    async def listen(self, host: str, port: int) -> int:
        """Begin, and return the port. Raises OSError when it cannot be had."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Client(self._behind, self._clients, self._gone), host, port, backlog=1024
        )
        _miss_the_vanished(self._listener.sockets[0])
        return int(self._listener.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        self._listener.close()

    async def watch(self) -> None:
        """Close what has been idle for too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._behind.patience.sweep_s)
            self._behind.upstream.sweep()
            for client in [each for each in self._clients if each.ends_at < loop.time()]:
                client.expire()

    async def close(self) -> None:
        """Close all connections, with what is still to be sent on them."""
        for client in list(self._clients):
            client.close()
        self._behind.upstream.close()
        try:
            async with asyncio.timeout(_LAST_BYTES_S):
                while self._clients:
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            return


class Client(asyncio.Protocol):
    """One client's connection: its requests one after the other, however many it sends at once."""

    def __init__(self, behind: Behind, clients: set[Client], gone: asyncio.Event) -> None:
        self._behind = behind
        self._clients = clients
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._current: Exchange | None = None  # which is being answered
        self._waiting: deque[Exchange] = deque()
        self._arriving: Exchange | None = None  # whose body is not all here yet
        self._switched: Exchange | None = None  # with which another protocol begins
        self._head_bytes = 0  # of the longest head
        self._silent_bytes = 0  # of which the parser has told nothing yet
        self._is_reading = True
        self._is_looking = False
        self.is_full = False  # what it does not take now waits
        self.drained = asyncio.Event()
        self.ends_at = self._loop.time() + self._behind.patience.keepalive_s

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """After what was written."""
        self.linger()
        self._transport.close()

    def expire(self) -> None:
        """Its time is over: it has been idle for too long, or did not even take its last bytes."""
        (self.abort if self._transport.is_closing() else self.close)()

    def abort(self) -> None:
        """At once and with a reset, so that nobody can take half an answer for a whole one."""
        self._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._transport.abort()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, call)

    def linger(self) -> None:
        """Let come, for a while, what is nobody's claim to stay: the rest of an answered request, or what is not yet one."""
        self.ends_at = self._loop.time() + self._behind.patience.linger_s

    def stay(self) -> None:
        """For as long as the answer takes."""
        self.ends_at = math.inf

    def look(self) -> None:
        """Go on with what can be done now: requests that wait for their turn, and reading."""
        if self._is_looking:
            return
        self._is_looking = True
        while self._current is None or self._current.is_over:
            if self._current:
                self.ends_at = self._loop.time() + self._behind.patience.keepalive_s
                if self._current.closes:
                    self.close()
                    break
            self._current = self._waiting.popleft() if self._waiting else None
            if self._current is None:
                break
            self.stay()
            self._current.start()
        self._is_looking = False
        self._read(self._has_room_to_wait and not (self._current and self._current.is_stuck))

    @property
    def _has_room_to_wait(self) -> bool:
        waiting = self._waiting
        return len(waiting) < _MAX_WAITING and sum(each.held_bytes for each in waiting) < _MAX_WAITING_BYTES

    def _read(self, wanted: bool) -> None:
        if wanted != self._is_reading and not self._transport.is_closing():
            self._is_reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = str((transport.get_extra_info("peername") or ("unknown",))[0]).encode()
        self._clients.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._clients.discard(self)
        self._gone.set()
        self.drained.set()
        self._waiting.clear()
        if self._current:
            self._current.abandon()

    def data_received(self, data: bytes) -> None:
        while data and not self._switched:
            self._silent_bytes += len(data)
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                self._parser = httptools.HttpRequestParser(self)
                data = data[upgrade.args[0] :]
            except httptools.HttpParserCallbackError:
                raise
            except httptools.HttpParserError:
                self._refuse(400, "Bad request", "It is not HTTP/1.1 as RFC 9112 has it.")
                return
        if max(self._silent_bytes, self._head_bytes) > MAX_HEAD_BYTES:
            self._refuse(431, "Header too large", f"The head of a request may have {MAX_HEAD_BYTES:,} bytes.")
            return
        if self._switched and data:
            self._switched.receive(data)
        self.look()

    def pause_writing(self) -> None:
        self.is_full = True
        self.drained.clear()
        if self._current:
            self._current.client_is_full(True)

    def resume_writing(self) -> None:
        self.is_full = False
        self.drained.set()
        if self._current:
            self._current.client_is_full(False)

    def _refuse(self, status: int, title: str, detail: str) -> None:
        """What follows cannot be understood, so nothing that was asked before is answered either."""
        current, self._current = self._current, None
        self._waiting.clear()
        if current:
            current.abandon()
        if current is None or not current.has_begun:
            nothing = Request(b"", b"", Fields(), "1.1", is_last_of_http=False, peer=self._peer)
            self.write(_whole(nothing, problem(status, title, detail, ""), closes=True))
        self.close()

    # the parser's calls

    def on_message_begin(self) -> None:
        self._url = b""
        self._fields = Fields()
        if self._current is None:
            self.linger()

    def on_url(self, url: bytes) -> None:
        self._silent_bytes = 0
        self._url += url
        self._head_bytes = max(self._head_bytes, len(self._url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._silent_bytes = 0
        if self._arriving is None:  # trailers stop here
            self._fields.add(name, value)
            self._head_bytes = max(self._head_bytes, self._fields.size + len(self._url))

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        request = Request(
            parser.get_method(), self._url, fields, parser.get_http_version(), parser.should_upgrade(), self._peer
        )
        closes = request.upgrades or request.is_http_1_0 or not parser.should_keep_alive()
        self._arriving = Exchange(self, self._behind, request, closes=closes)
        self._waiting.append(self._arriving)

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        if self._arriving:
            self._arriving.receive(data)

    def on_message_complete(self) -> None:
        arriving, self._arriving = self._arriving, None
        if arriving:
            if arriving.request.upgrades:
                self._switched = arriving
            arriving.received()


class Exchange:
    """One request and its answer."""

    def __init__(self, client: Client, behind: Behind, request: Request, *, closes: bool) -> None:
        self.request = request
        self.closes = closes  # the connection ends with this exchange
        self.is_here = False  # the request, all of it
        self.is_answered = False
        self.has_begun = False  # something of the answer is on its way
        self.is_stuck = False  # the client must wait before it sends more
        self.held_bytes = 0  # of the request, while there is nobody to give it to
        self.is_head = request.method == b"HEAD"
        self._client = client
        self._behind = behind
        self._visit: Visit | None = None
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._held: list[bytes] = []
        self._head = b""  # of the answer, which goes with its first byte
        self._out: list[bytes] = []  # of the answer
        self._is_chunked = self._has_length = False  # the answer
        self._is_switched = False
        self._is_awaited = False  # the request, a command that is obeyed when all of it is here
        self._waits = b"100-continue" in request.fields.get(b"expect").lower() and not request.is_http_1_0

    @property
    def is_over(self) -> bool:
        return self.is_answered and self.is_here

    # what the client does

    def start(self) -> None:
        """It is this request's turn."""
        request = self.request
        if request.defect:
            self.closes = True
            self._answer(problem(400, "Bad request", request.defect, readable(split(request.target)[1])))
            self._client.close()  # where the request ends is not certain
        elif request.target.startswith(CONTROL):
            self._go_ahead()
            self._is_awaited = True
            if self.is_here:
                self._command()
            else:
                self._client.linger()  # only all of it shows whether it is the control plane's
        else:
            visit = self._behind.door.enter(request)
            if isinstance(visit, Answer):
                self._answer(visit)
            else:
                self._visit = visit
                self._go_ahead()
                self._forward(visit)

    def receive(self, data: bytes) -> None:
        """A part of the request's body, or of what follows it in another protocol."""
        if self.is_answered:
            return
        if self._connection is None or (self.request.upgrades and not self._is_switched):
            self._held.append(data)
            self.held_bytes += len(data)
            if self.held_bytes > _MAX_HELD_BYTES:
                self.closes = True
                if self._connection:
                    self._connection.drop()
                self._answer(problem(413, "Too much", f"The agent itself takes {_MAX_HELD_BYTES:,} bytes.", ""))
        else:
            self._connection.send(_chunk(data) if self.request.is_chunked else data)

    def received(self) -> None:
        """That was all of the request."""
        self.is_here = True
        if self.is_answered:
            return
        if self._connection:
            if self.request.is_chunked:
                self._connection.send(_END)
            self._connection.sent()
        elif self._is_awaited:
            self._command()

    def client_is_full(self, is_full: bool) -> None:
        if self._connection and not self.is_answered:
            self._connection.pause(is_full)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        if self._task:
            self._task.cancel()
        if self._silence:
            self._silence.cancel()
        if self._connection and not self.is_answered:
            (self._connection.finish if self._is_switched else self._connection.drop)()
        self.is_answered = True
        self._leave()

    # what the engine does

    def answer_begins(self, status: int, reason: bytes, fields: Fields) -> None:
        request, door = self.request, self._behind.door
        if self._visit and 300 <= status < 400 and b"location" in fields.by_name:
            location = door.location(request, self._visit, status, fields.by_name[b"location"])
            fields.lines = [(low, name, location if low == b"location" else value) for low, name, value in fields.lines]
        lines = fields.end_to_end(OF_THE_HOP)
        if status == 101:
            lines.append(UPGRADE)
        elif length := fields.get(b"content-length"):
            self._has_length = True
            lines.append(b"Content-Length: %b\r\n" % length)
        elif not (self.is_head or status in (204, 304) or request.is_http_1_0):
            self._is_chunked = True
            lines.append(CHUNKED)
        self.closes |= self._behind.gate.draining
        self._head = for_client(request, status, reason, lines, closes=self.closes and status != 101)

    def answer_goes_on(self, data: bytes) -> None:
        self._show_head()
        self._out.append(_chunk(data) if self._is_chunked else data)
        if self._is_switched:
            self._flush()

    def answer_paused(self) -> None:
        # Engines send a stream's headers before they have a token (vLLM does), and a client that has them can no longer ask
        # again by itself. So they are held back until there is something to go with them: whatever dies before that, engine
        # or machine, leaves the client a request that nobody had begun to answer.
        if self._head and self._silence is None:
            self._silence = self._client.call_later(self._behind.patience.silence_s, self._break_silence)
        self._flush()

    def switched(self, data: bytes) -> None:
        if not (self.request.upgrades and self._connection):
            self.abandon()
            self._client.abort()
            return
        self._is_switched = True
        held, self._held = self._held, []
        if held:
            self._connection.send(b"".join(held))
        self.answer_goes_on(data)

    def answered(self) -> None:
        self._connection = None  # another's from here on: it must not be paused for this client
        self._show_head()
        if self._is_chunked:
            self._out.append(_END)
        self._flush()
        self._finish()

    def unanswered(self, why: str) -> None:
        if not self.has_begun:
            self._answer(problem(502, "Engine did not answer", why, self._path))
            return
        self._flush()
        self.abandon()
        # No length, no end: what says that half of the answer is missing. Where there is neither, only a reset says it.
        (self._client.close if self._has_length or self._is_chunked else self._client.abort)()

    def engine_is_full(self, is_full: bool) -> None:
        self.is_stuck = is_full
        self._client.look()

    # the rest

    @property
    def _path(self) -> str:
        return readable(self._visit.target) if self._visit else self.request.path

    def _go_ahead(self) -> None:
        """A client may wait for this before it sends its body."""
        if self._waits:
            self._waits = False
            self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _forward(self, visit: Visit) -> None:
        connection = self._behind.upstream.take()
        if connection:
            self._send(visit, connection)
        else:
            self.is_stuck = True
            self._task = asyncio.create_task(self._connect(visit))

    async def _connect(self, visit: Visit) -> None:
        try:
            connection = await self._behind.upstream.connect()
        except OSError:
            detail = "Nothing listens on the engine's port of the replica yet."
            self._answer(problem(503, "Engine is not up", detail, self._path, ENGINE_START_RETRY_S))
            return
        self.is_stuck = False
        self._send(visit, connection)
        self._client.look()

    def _send(self, visit: Visit, connection: Connection) -> None:
        """The request, as far as it is here, in one piece: for most it is all."""
        request, behind = self.request, self._behind
        head = for_engine(request, visit.target, behind.engine_host, behind.dropped, behind.credentials)
        held, self._held = [] if request.upgrades else self._held, self._held if request.upgrades else []
        body = [_chunk(data) for data in held] if request.is_chunked else held
        if self.is_here and request.is_chunked:
            body.append(_END)
        self._connection = connection
        connection.ask(self, b"".join((head, *body)))
        if self.is_here:
            connection.sent()
        if self._client.is_full:
            connection.pause(is_paused=True)

    def _command(self) -> None:
        self._client.stay()
        self._task = asyncio.create_task(self._obey(b"".join(self._held)))

    async def _obey(self, body: bytes) -> None:
        try:
            answer = await self._behind.control(self.request, body)
            if isinstance(answer.body, bytes):
                self._answer(answer)
            else:
                await self._stream(answer, answer.body)
        finally:
            if not self.is_answered:
                self._client.abort()

    async def _stream(self, answer: Answer, body: AsyncIterator[bytes]) -> None:
        self._is_chunked = not self.request.is_http_1_0
        self._head = _head(self.request, answer, [CHUNKED] if self._is_chunked else [], closes=self.closes)
        async for data in body:
            if data:
                self.answer_goes_on(data)
                self._flush()
            if self._client.is_full:
                await self._client.drained.wait()
        self.answered()

    def _answer(self, answer: Answer) -> None:
        """With the agent's own words."""
        self.closes |= self._waits or self._behind.gate.draining
        self._client.write(_whole(self.request, answer, closes=self.closes))
        self._finish()

    def _break_silence(self) -> None:
        self._show_head()
        self._flush()

    def _show_head(self) -> None:
        if self._head:
            self._out.append(self._head)
            self._head = b""
            self.has_begun = True

    def _flush(self) -> None:
        if self._out:
            self._client.write(b"".join(self._out))
            self._out.clear()

    def _finish(self) -> None:
        if self._silence:
            self._silence.cancel()
        self.is_answered = True
        self.is_stuck = False
        self.closes |= self._behind.gate.draining
        self._leave()
        if not self.is_here:
            self._client.linger()
        self._client.look()

    def _leave(self) -> None:
        if self._visit:
            self._behind.door.leave(self._visit)
            self._visit = None


_END = b"0\r\n\r\n"


def _miss_the_vanished(listener: socket.socket) -> None:
    """Connections inherit it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENCE_BEFORE_ASKING_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PAUSE_S)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _TIMES)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole(request: Request, answer: Answer, *, closes: bool) -> bytes:
    body = cast("bytes", answer.body)
    length = [] if answer.status == 204 else [b"Content-Length: %d\r\n" % len(body)]
    return _head(request, answer, length, closes=closes) + (b"" if request.method == b"HEAD" else body)


def _head(request: Request, answer: Answer, framing: list[bytes], *, closes: bool) -> bytes:
    lines = [f"{name}: {value}\r\n".encode("latin-1") for name, value in answer.headers.items()]
    return for_client(request, answer.status, HTTPStatus(answer.status).phrase.encode(), lines + framing, closes=closes)
