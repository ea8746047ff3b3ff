"""The agent's connections to its engine.

Each carries one request at a time, and a request is sent once: only the client knows whether asking again is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from replica_agent.heads import MAX_HEAD_BYTES, Fields

# Idle connections go before uvicorn's 5 s and gunicorn's 2 s: one that the engine is just closing fails a POST.
_KEEPALIVE_S = 1.5
_CONNECT_S = 10.0


class Asker(Protocol):
    """Who waits for an answer. What it is told comes in this order; nothing comes after `answered` or `unanswered`."""

    is_head: bool  # asks for no body, whatever its length

    def answer_begins(self, status: int, reason: bytes, fields: Fields) -> None: ...
    def answer_goes_on(self, data: bytes) -> None: ...
    def answer_paused(self) -> None:
        """All that has come is told, and more is to come."""

    def switched(self, data: bytes) -> None:
        """The engine speaks another protocol from here on, of which this is the beginning."""

    def answered(self) -> None: ...
    def unanswered(self, why: str) -> None:
        """The engine has broken the connection, or rules, at any point."""

    def engine_is_full(self, is_full: bool) -> None: ...


class Connection(asyncio.Protocol):
    """One connection to the engine."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._asker: Asker | None = None
        self._is_paused = False
        self.idle_since = 0.0

    def ask(self, asker: Asker, data: bytes) -> None:
        """Send a request, or its beginning, and tell `asker` the answer."""
        self._asker = asker
        self._parser = httptools.HttpResponseParser(self)
        self._is_complete = self._is_reusable = self._is_sent = self._is_switched = self._needs_end = False
        self._new_head()
        self._transport.write(data)

    def send(self, data: bytes) -> None:
        """More of the request, or of what follows it in another protocol."""
        self._transport.write(data)

    def sent(self) -> None:
        """That was all of the request."""
        self._is_sent = True

    def pause(self, is_paused: bool) -> None:
        """Let the engine wait, whose answer nobody can take any more of, or let it go on."""
        if is_paused != self._is_paused and not self._transport.is_closing():
            self._is_paused = is_paused
            (self._transport.pause_reading if is_paused else self._transport.resume_reading)()

    def drop(self) -> None:
        """Nobody waits for the answer any more: the engine sees it and can stop working on it."""
        self._asker = None
        self._transport.abort()

    def finish(self) -> None:
        """Nothing follows in the other protocol; what was sent still arrives."""
        self._asker = None
        self._transport.close()

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        asker = self._asker
        if asker is None:  # nobody has asked
            self._transport.abort()
        elif self._is_switched:
            asker.answer_goes_on(data)
        else:
            self._parse(asker, data)

    def connection_lost(self, error: Exception | None) -> None:
        self._upstream.forget(self)
        asker, self._asker = self._asker, None
        if asker is None:
            return
        if error is None and (self._needs_end or self._is_switched):
            asker.answered()
        else:
            asker.unanswered("The engine broke the connection.")

    def pause_writing(self) -> None:
        if self._asker:
            self._asker.engine_is_full(True)

    def resume_writing(self) -> None:
        if self._asker:
            self._asker.engine_is_full(False)

    def _parse(self, asker: Asker, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._is_switched = True
            asker.switched(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError:
            self._fail(asker)
            return
        if self._asker is None:  # it has given up over what it was told
            return
        if self._is_complete:
            self._asker = None
            self._release()
            asker.answered()
            return
        self._head_bytes += 0 if self._has_head else len(data)
        if self._head_bytes > MAX_HEAD_BYTES or self._fields.size > MAX_HEAD_BYTES:
            self._fail(asker)
        else:
            asker.answer_paused()

    def _fail(self, asker: Asker) -> None:
        self.drop()
        asker.unanswered("The engine's answer is not HTTP.")

    def _release(self) -> None:
        if self._is_reusable and self._is_sent and not self._transport.is_closing():
            self.pause(is_paused=False)
            self._upstream.keep(self)
        else:
            self._transport.close()

    def _new_head(self) -> None:
        self._fields = Fields()
        self._reason = b""
        self._has_head = False
        self._head_bytes = 0

    # the parser's calls

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._is_reusable = False  # says more than it was asked

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head and not self._is_complete:  # trailers stop here
            self._fields.add(name, value)

    def on_headers_complete(self) -> None:
        status, asker = self._parser.get_status_code(), self._asker
        if self._is_complete or asker is None or (100 <= status < 200 and status != 101):
            return
        self._has_head = True
        by_name = self._fields.by_name
        self._is_reusable = self._parser.should_keep_alive()
        self._needs_end = not (
            b"content-length" in by_name or b"transfer-encoding" in by_name or status in (101, 204, 304)
        )
        asker.answer_begins(status, self._reason, self._fields)
        if asker.is_head:
            self._is_complete, self._is_reusable = True, False  # the parser waits for a body now

    def on_body(self, data: bytes) -> None:
        if self._asker and not self._is_complete:
            self._asker.answer_goes_on(data)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = True
        else:
            self._new_head()  # that was 1xx, of which clients were told all they need


class Upstream:
    """Connections to the engine, kept for the next request."""

    def __init__(self, port: int, now: Callable[[], float]) -> None:
        self._port = port
        self._now = now
        self._idle: list[Connection] = []

    def take(self) -> Connection | None:
        """One that is open, if any is."""
        self.sweep()
        while self._idle:
            if not (newest := self._idle.pop()).is_closing:
                return newest
        return None

    async def connect(self) -> Connection:
        """A new one.

        Raises:
            OSError: nothing listens on the engine's port. TimeoutError is one.
        """
        async with asyncio.timeout(_CONNECT_S):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), "127.0.0.1", self._port
            )
        return connection

    def keep(self, connection: Connection) -> None:
        connection.idle_since = self._now()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close those that nobody uses; nobody takes one any more."""
        while self._idle:
            self._idle.pop().drop()

    def sweep(self) -> None:
        """Close those that have been idle for too long."""
        while self._idle and self._idle[0].idle_since <= self._now() - _KEEPALIVE_S:
            self._idle.pop(0).drop()
