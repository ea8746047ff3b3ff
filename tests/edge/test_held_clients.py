"""Clients that wait in the server until there is news for them; the server in this process, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from edge_router.exchange import ExchangeFailed
from edge_router.messages import Request, Response
from edge_router.platforms import server
from edge_router.platforms.server import Server
from edge_router.router import Router
from tests.edge.fakes import TOKEN, seal, table

GET = b"GET /idle/x HTTP/1.1\r\nHost: r\r\n\r\n"


class CountingRouter(Router):
    """Knows how often it was asked."""

    asked = 0

    def handle(self, request: Request, *, again: bool = False) -> Response:
        self.asked += 1
        return super().handle(request, again=again)


class Edge:
    """A server whose control plane is `news`: the table that the next exchange brings, None for no change."""

    def __init__(self, hold_s: float, max_connections: int, wait_s: float) -> None:
        self.listener = server.listener("127.0.0.1", 0)
        self.router = CountingRouter(
            clock=lambda: 1_700_000_000.0, random=lambda: 0.5, first_seq=1, token=TOKEN, hold_cap_s=hold_s
        )
        self.news: dict[str, Any] | None = idle("one", wait_s=wait_s)
        self.exchanges = 0
        self.is_gone = False
        self.server = Server(self.router, self._exchange, 3600.0, max_connections)

    def _exchange(self) -> None:
        self.exchanges += 1
        if self.is_gone:
            raise ExchangeFailed("gone")
        if self.news:
            self.router.accept(seal(self.news))
        self.news = None

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listener.getsockname())

    async def ask(self, request: bytes = GET) -> bytes:
        """The head of the answer."""
        reader, writer = await self.client()
        with closing(writer):
            writer.write(request)
            return await reader.readuntil(b"\r\n\r\n")


def idle(etag: str, *urls: str, wait_s: float = 3600.0) -> dict[str, Any]:
    document = table(("idle", "round_robin", "READY" if urls else "IDLE", list(urls)), etag=etag)
    document["services"]["idle"]["wait_for_replica_s"] = wait_s
    return document


def play(story: Coroutine[None, None, None]) -> None:
    """Run it; nobody who is held waits for ever."""
    asyncio.run(asyncio.wait_for(story, 30))


@asynccontextmanager
async def running(hold_s: float = 30.0, max_connections: int = 2_000, wait_s: float = 3600.0) -> AsyncIterator[Edge]:
    edge = Edge(hold_s, max_connections, wait_s)
    await edge.server.start(edge.listener)
    await seen(lambda: edge.router.etag == "one")
    yield edge
    await edge.server.stop()


async def seen(look: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not look():  # noqa: ASYNC110 what is waited for has no event
            await asyncio.sleep(0.005)


def test_hundreds_of_held_clients_cost_one_look_each_when_there_is_news() -> None:
    """The router is asked when they come, and again when the table is another; then each gets its own redirect."""

    async def story() -> None:
        async with running() as edge:
            waiting = [asyncio.create_task(edge.ask()) for _ in range(500)]
            await seen(lambda: edge.router.asked == 500)
            exchanges = edge.exchanges
            await seen(lambda: edge.exchanges > exchanges + 1)  # knocked for, though the next refresh is an hour away
            assert edge.router.asked == 500
            edge.news = idle("two")
            await seen(lambda: edge.router.asked == 1000)
            assert not any(task.done() for task in waiting)
            edge.news = idle("three", "http://10.0.0.1:8000")
            heads = await asyncio.gather(*waiting)
            assert edge.router.asked == 1500
            assert all(b"\r\nlocation: http://10.0.0.1:8000/~" in head for head in heads)

    play(story())


def test_a_storm_of_held_clients_is_few_exchanges() -> None:
    """One when they come, and then one a second."""

    async def story() -> None:
        async with running() as edge:
            before, began = edge.exchanges, asyncio.get_running_loop().time()
            tasks = [asyncio.create_task(edge.ask()) for _ in range(100)]
            await seen(lambda: edge.exchanges >= before + 3)
            assert asyncio.get_running_loop().time() - began > 1.0
            assert not any(task.done() for task in tasks)

    play(story())


def test_patience_ends_with_the_last_word() -> None:
    """Sent round again to the same router, which the client then reaches with its key; the connection stays open."""

    async def story() -> None:
        async with running(hold_s=0.2) as edge:
            head = await edge.ask()
            assert b"307 " in head
            assert b"\r\nlocation: /idle/~wait.1/x\r\n" in head
            assert b"connection:" not in head

    play(story())


@pytest.mark.parametrize("is_gone", [False, True])
def test_without_patience_one_look_at_a_newer_table_is_all(is_gone: bool) -> None:
    """A 503 as soon as an exchange has brought nothing, or failed."""

    async def story() -> None:
        async with running(wait_s=0.0) as edge:
            before, edge.is_gone = edge.exchanges, is_gone
            assert b" 503 " in await edge.ask()
            assert edge.exchanges > before
            edge.is_gone, edge.news = False, idle("two", "http://10.0.0.1:8000", wait_s=0.0)
            edge.server._refresher._failures = 0
            assert b" 307 " in await edge.ask()

    play(story())


def test_who_has_gone_is_forgotten() -> None:
    """A held client that hangs up frees its place at once."""

    async def story() -> None:
        async with running() as edge:
            _, writer = await edge.client()
            writer.write(GET)
            await seen(lambda: edge.server._held)
            writer.close()
            await seen(lambda: not edge.server._held and not edge.server._connections)

    play(story())


def test_who_is_late_is_cut_but_not_who_is_held() -> None:
    """The server looks at deadlines every second; while it keeps a client itself, that client has none."""

    async def story() -> None:
        async with running() as edge:
            waiting = asyncio.create_task(edge.ask())
            await seen(lambda: edge.server._held)
            reader, writer = await edge.client()
            with closing(writer):
                await seen(lambda: len(edge.server._connections) == 2)
                for connection in edge.server._connections:
                    connection.deadline = 0.0
                assert await reader.read() == b""
            assert not waiting.done()
            assert len(edge.server._connections) == 1

    play(story())


def test_held_clients_leave_room_for_others() -> None:
    """Half of all connections at most wait; the next one is sent round at once. Beyond all of them: 503."""

    async def story() -> None:
        async with running(max_connections=10) as edge:
            waiting = [asyncio.create_task(edge.ask()) for _ in range(5)]
            await seen(lambda: len(edge.server._held) == 5)
            assert b"~wait.1" in await edge.ask()
            assert b" 200 " in await edge.ask(b"GET /healthz HTTP/1.1\r\nHost: r\r\n\r\n")
            await seen(lambda: len(edge.server._connections) == 5)
            idlers = [await edge.client() for _ in range(5)]
            await seen(lambda: len(edge.server._connections) == 10)
            assert b" 503 " in await edge.ask()
            assert not any(task.done() for task in waiting)
            for _, writer in idlers:
                writer.close()

    play(story())


def test_a_stop_answers_who_is_held() -> None:
    """With the last word at once, told that the connection ends; whoever serves next takes it from there."""

    async def story() -> None:
        async with running() as edge:
            waiting = [asyncio.create_task(edge.ask()) for _ in range(20)]
            await seen(lambda: len(edge.server._held) == 20)
        heads = await asyncio.gather(*waiting)
        assert all(b"~wait.1" in head and b"\r\nconnection: close\r\n" in head for head in heads)

    play(story())
