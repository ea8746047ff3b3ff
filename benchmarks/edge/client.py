"""The load: `python -m benchmarks.edge.client URL --connections N --seconds S --pid FRONT [--per-second R] [--follow]`.

So many users, each with a connection of its own to the front and, where it is redirected, to each replica; all are kept
open. A user asks again as soon as it has its answer (closed loop), or, with `--per-second`, whenever a request is due that no
other user has taken (open loop: what is late counts from when it was due). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

import psutil
import uvloop

WARM_UP_S = 0.5
BODY = b'{"model": "bench", "messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 64}'

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LOCATION = re.compile(rb"\r\nlocation: http://([^/\r]+)([^\r]*)", re.IGNORECASE)


class Link(asyncio.Protocol):
    """A kept-alive connection with one request at a time on it."""

    def __init__(self) -> None:
        self._received = b""
        self._done: Callable[[bytes], None] | None = None
        self._missing = -1  # bytes; -1 while the head is not there, -2 for chunks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, done: Callable[[bytes], None]) -> None:
        """`done` gets the answer's head when all of the answer is there, b"" when the connection ended before."""
        self._done = done
        self._received = b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        if length := _LENGTH.search(received, 0, end):
            if len(received) < end + int(length[1]):
                return
        elif _CHUNKED.search(received, 0, end) and not received.endswith(b"0\r\n\r\n"):
            return
        self._answered(received[:end])

    def connection_lost(self, _: Exception | None) -> None:
        self._answered(b"")

    def _answered(self, head: bytes) -> None:
        done, self._done = self._done, None
        if done:
            done(head)


class User:
    """Asks the front, and follows it where it says."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._links: dict[bytes, Link] = {}

    def ask(self, since: float) -> None:
        """Send one request; the load is told when it is over."""
        self._since = since
        self._go(self._load.host, self._load.target, self._front_answered)

    def _go(self, host: bytes, target: bytes, done: Callable[[bytes], None]) -> None:
        link = self._links.get(host)
        request = b"POST %b HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n%b"
        message = request % (target, host, self._load.headers, len(BODY), BODY)
        if link and not link.transport.is_closing():
            link.ask(message, done)
        else:
            self._connecting = asyncio.create_task(self._connect(host, message, done))

    async def _connect(self, host: bytes, message: bytes, done: Callable[[bytes], None]) -> None:
        name, _, port = host.decode().partition(":")
        try:
            _, link = await asyncio.get_running_loop().create_connection(Link, name, int(port))
        except OSError:
            done(b"")
            return
        self._links[host] = link
        link.ask(message, done)

    def _front_answered(self, head: bytes) -> None:
        where = _LOCATION.search(head) if self._load.follows and head[9:12] == b"307" else None
        if where:
            self._go(where[1], where[2], self._replica_answered)
        else:
            self._replica_answered(head)

    def _replica_answered(self, head: bytes) -> None:
        self._load.finished(self, head[9:12].decode() or "closed", self._since)


class Load:
    """All users, and what became of their requests."""

    def __init__(self, url: str, key: str, follows: bool, per_second: float) -> None:
        _, _, self.host, target = url.encode().split(b"/", 3)
        self.target = b"/" + target
        self.headers = b"Authorization: Bearer %b\r\n" % key.encode() if key else b""
        self.headers += b"Content-Type: application/json\r\nAccept: */*\r\nUser-Agent: bench\r\n"
        self.follows = follows
        self._per_second = per_second
        self._idle: deque[User] = deque()
        self._due: deque[float] = deque()
        self.latencies_s: list[float] = []
        self.statuses: Counter[str] = Counter()

    def finished(self, user: User, status: str, since: float) -> None:
        """Called by the user."""
        now = time.perf_counter()
        self.latencies_s.append(now - since)
        self.statuses[status] += 1
        if not self._per_second:
            user.ask(now)
        elif self._due:
            user.ask(self._due.popleft())
        else:
            self._idle.append(user)

    def forget(self) -> None:
        """What has been until now was for warming up."""
        self.latencies_s, self.statuses = [], Counter()

    async def run(self, users: int, seconds: float, front: psutil.Process) -> float:
        """Ask for so long, after the warm-up. Returns the seconds of CPU that the front took meanwhile."""
        if self._per_second:
            self._idle.extend(User(self) for _ in range(users))
            self._clock = asyncio.create_task(self._tick())
        else:
            for _ in range(users):
                User(self).ask(time.perf_counter())
        await asyncio.sleep(WARM_UP_S)
        self.forget()
        before = sum(front.cpu_times()[:2])
        await asyncio.sleep(seconds)
        return sum(front.cpu_times()[:2]) - before

    async def _tick(self) -> None:
        next_at = time.perf_counter()
        while True:
            while next_at <= time.perf_counter():
                if self._idle:
                    self._idle.popleft().ask(next_at)
                else:
                    self._due.append(next_at)
                next_at += 1 / self._per_second
            await asyncio.sleep(max(0.0, next_at - time.perf_counter()))


def main() -> None:
    """Run, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, required=True, help="the front's process, whose CPU is measured")
    parser.add_argument("--key", default="")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--per-second", type=float, default=0.0)
    parser.add_argument("--follow", action="store_true")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    load = Load(options.url, options.key, options.follow, options.per_second)
    cpu_s = uvloop.run(load.run(options.connections, options.seconds, psutil.Process(options.pid)))
    load.latencies_s.sort()
    at_ms = [
        load.latencies_s[int(share * len(load.latencies_s))] * 1e3 if load.latencies_s else None
        for share in (0.5, 0.99)
    ]
    told = {"requests": len(load.latencies_s), "statuses": load.statuses, "cpu_s": cpu_s}
    print(json.dumps(told | {"p50_ms": at_ms[0], "p99_ms": at_ms[1]}))


if __name__ == "__main__":
    main()
