"""The router as a server of its own: one process, one event loop, one thread beside it that keeps the table fresh.

A request costs little more than what the kernel takes for it: no task and no timer of its own, one read, one write.
Thousands of clients that are held cost nothing until there is news for them: a timer each, and a connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from random import random

from edge_router import snapshot
from edge_router.exchange import ExchangeFailed
from edge_router.messages import Request, Response
from edge_router.patience import GLANCE_S
from edge_router.platforms import settings
from edge_router.platforms.http1 import READ_BYTES, Connection
from edge_router.refresh import Refresher
from edge_router.router import Router

_log = logging.getLogger("edge_router")

REFRESH_S = 1.0
EXCHANGE_TIMEOUT_S = 5.0
# 5 kB each.
MAX_CONNECTIONS = 10_000
# Files that are not connections: libraries, the control plane's connection, the loop's own.
_OTHER_FILES = 100
# A refused connection costs more than one that waits for its turn in the kernel.
_BACKLOG = 4_096
_TICK_S = 1.0
# Held clients looked at in a row, before others get their turn: 1 ms.
_LOOKS_AT_ONCE = 50
# For answers under way when the process is told to stop; then whoever is connected is cut off.
_STOP_S = 2.0


@dataclass(frozen=True, slots=True)
class _Held:
    """A client whose request nobody can take yet.

    `last_word` is what to answer when its time is over, `etag` the table's that it was judged by, `news` the number of
    the first attempt that can bring another.
    """

    request: Request
    last_word: Response
    etag: str | None
    news: int
    timer: asyncio.TimerHandle


class Server:
    """Serves one router from `start` to `stop`, on the event loop's thread.

    Args:
        router: what to serve.
        exchange: one exchange of this router with the control plane; raises `ExchangeFailed`. Called on a thread.
        refresh_s: from one exchange to the next.
        max_connections: whoever comes on top gets a 503 and is cut off. Half of them may be held: there is always room
            for clients who can be answered.
    """

    def __init__(self, router: Router, exchange: Callable[[], None], refresh_s: float, max_connections: int) -> None:
        self._router = router
        self._refresher = Refresher(exchange, self._exchanged, refresh_s, random)
        self._max_connections = max_connections
        self._connections: set[Connection] = set()
        self._held: dict[Connection, _Held] = {}
        self._stopping = False
        self._looked_at = 0.0
        self.buffer = bytearray(READ_BYTES)
        self.body_bytes = 0
        self.body_limit = router.body_limit

    async def start(self, listener: socket.socket) -> None:
        """Listen, and begin to exchange."""
        self._loop = asyncio.get_running_loop()
        self._tick()
        self._refresher.start()
        self._listening = await self._loop.create_server(lambda: Connection(self), sock=listener, backlog=_BACKLOG)

    async def stop(self) -> None:
        """Answer whoever waits, close, and hand the remaining counts over.

        Who is held gets what it would get at the end of its patience: most are sent round again, to whoever serves then.
        """
        self._stopping = True
        self._listening.close()
        for connection in list(self._connections):
            connection.stop()
        for connection in list(self._held):
            self._give_up(connection)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                while self._connections:  # noqa: ASYNC110 an event would have to be kept up to date with every request
                    await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.cut()
        self._router.hurry()
        await asyncio.to_thread(self._refresher.stop)

    # What a connection calls

    def opened(self, connection: Connection) -> bool:
        """Take note of a new connection; False when there are too many."""
        if len(self._connections) >= self._max_connections:
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """Take note of its end."""
        self._connections.discard(connection)
        if held := self._held.pop(connection, None):
            held.timer.cancel()

    def answer(self, connection: Connection, request: Request) -> Response | None:
        """The router's response; None when the client is held."""
        etag = self._router.etag
        response = self._router.handle(request)
        if response.hold_s <= 0 or self._stopping or 2 * len(self._held) >= self._max_connections:
            return response
        timer = self._loop.call_later(response.hold_s, self._give_up, connection)
        self._held[connection] = _Held(request, response, etag, self._refresher.knock(), timer)
        return None

    # Those who are held

    def _give_up(self, connection: Connection) -> None:
        self._let_go(connection, self._held[connection].last_word)

    def _let_go(self, connection: Connection, response: Response) -> None:
        self._held.pop(connection).timer.cancel()
        connection.release(response)

    def _exchanged(self, attempt: int) -> None:
        """Called on the refresher's thread."""
        self._loop.call_soon_threadsafe(self._look, attempt)

    def _look(self, attempt: int) -> None:
        """See who can go on after an attempt."""
        self._looked_at = self.now
        self._look_on([connection for connection, held in self._held.items() if held.news <= attempt])

    def _look_on(self, connections: list[Connection]) -> None:
        for connection in connections[:_LOOKS_AT_ONCE]:
            if held := self._held.get(connection):
                self._look_at(connection, held)
        if rest := connections[_LOOKS_AT_ONCE:]:
            self._loop.call_soon(self._look_on, rest)

    def _look_at(self, connection: Connection, held: _Held) -> None:
        if held.etag != self._router.etag:
            etag = self._router.etag
            response = self._router.handle(held.request, again=held.last_word.counted)
            if response.hold_s <= 0:
                self._let_go(connection, response)
                return
            self._held[connection] = replace(held, last_word=response, etag=etag)
        if held.last_word.hold_s <= GLANCE_S:
            self._give_up(connection)

    def _tick(self) -> None:
        """What has to happen every second: the clock, those who are late, and news for those who are held."""
        self.now = self._loop.time()
        self.date = b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
        for connection in [each for each in self._connections if each.deadline < self.now and not each.held]:
            connection.cut()
        if self._held and self.now - self._looked_at >= _TICK_S:
            self._refresher.knock()
        self._loop.call_later(_TICK_S, self._tick)


def listener(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def run(listening: socket.socket) -> None:
    """Serve as the environment says (`settings`) until SIGTERM or SIGINT.

    Raises:
        WrongSetting: a variable is missing or makes no sense.
    """
    env = settings.from_env(refresh_s=REFRESH_S)
    # Milliseconds: a router that restarts under its old id goes on above its last number (1,000 exchanges a second).
    router = Router(
        clock=time.time,
        random=random,
        first_seq=time.time_ns() // 1_000_000,
        token=env.token,
        location=env.location,
    )
    control = env.control_plane(env.router_id or f"edge-{os.urandom(4).hex()}", EXCHANGE_TIMEOUT_S)

    def exchange() -> None:
        try:
            control.exchange(router)
        except ExchangeFailed:
            if env.snapshot_url and router.etag is None:
                snapshot.read(env.snapshot_url, router, env.role)
            raise

    server = Server(router, exchange, env.refresh_s, _room_for_connections())
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(_serve(server, listening))


async def _serve(server: Server, listening: socket.socket) -> None:
    told_to_stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, told_to_stop.set)
    await server.start(listening)
    host, port = listening.getsockname()[:2]
    _log.info("edge router listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    await told_to_stop.wait()
    await server.stop()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """The one of uvloop where that is installed, which halves what a request costs."""
    try:
        import uvloop  # noqa: PLC0415 not on every machine
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _room_for_connections() -> int:
    """As many as the process may have files, which it is allowed to raise by itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = (
        MAX_CONNECTIONS + _OTHER_FILES if most == resource.RLIM_INFINITY else min(most, MAX_CONNECTIONS + _OTHER_FILES)
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return files - _OTHER_FILES
