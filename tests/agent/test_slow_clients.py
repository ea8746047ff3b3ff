"""Who sends slowly, or has vanished, is not waited for: sockets are few, and places in an engine are fewer."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from replica_agent.problem import Answer
from replica_agent.server import Client, Patience
from tests.agent.running import Agent, before

COMMAND = b"POST /_sailplane/probe HTTP/1.1\r\nHost: r\r\nContent-Length: 4\r\n\r\n"


class Wire(asyncio.Transport):
    """Takes everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False


async def silent(*_: object) -> Answer:
    """The control plane's question is being answered."""
    await asyncio.Event().wait()
    raise AssertionError


async def waits_s(*pieces: bytes) -> float:
    """How long a client is waited for that has sent these bytes."""
    behind: Any = SimpleNamespace(control=silent, patience=Patience())
    client = Client(behind, set(), asyncio.Event())
    client.connection_made(Wire())
    for piece in pieces:
        client.data_received(piece)
    left_s = client.ends_at - asyncio.get_running_loop().time()
    client.connection_lost(None)
    return left_s


@pytest.mark.parametrize("sent", [(COMMAND[:9],), (COMMAND,), (COMMAND, b"abc")])
def test_who_has_shown_nothing_is_waited_for_shortly(sent: tuple[bytes, ...]) -> None:
    """Half a head, half a command: anybody can send these, thousands of times."""
    assert 0 < asyncio.run(waits_s(*sent)) <= 10


def test_a_command_takes_the_time_it_takes() -> None:
    """A probe waits for the engine, and a log is followed for hours."""
    assert asyncio.run(waits_s(COMMAND, b"abcd")) == float("inf")


def test_sockets_are_as_many_as_the_machine_allows(new_agent: Callable[..., Agent]) -> None:
    """The usual 1,024 are two for each stream, and all of them for anybody who opens a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))  # what the agent inherits
    try:
        agent = new_agent()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert psutil.Process(agent.place["pid"]).rlimit(psutil.RLIMIT_NOFILE) == (min(hard, 65_536), hard)


def test_who_has_vanished_is_missed() -> None:
    """A laptop that was shut sends no end: its WebSocket would hold one of its key's places for ever."""
    assert asyncio.run(_options()) == (1, 60, 30, 4)


async def _options() -> tuple[int, ...]:
    """Of the agent's side of a connection."""
    async with before(1) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        while not (ours := _accepted(port)):  # noqa: ASYNC110 the kernel sets no event
            await asyncio.sleep(0)
        with socket.socket(fileno=os.dup(ours[0])) as connection:
            found = (
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                *(
                    connection.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                ),
            )
        writer.close()
    return found


def _accepted(port: int) -> list[int]:
    return [
        each.fd
        for each in psutil.Process().net_connections("tcp")
        if each.laddr.port == port and each.status == psutil.CONN_ESTABLISHED and each.fd != -1
    ]
