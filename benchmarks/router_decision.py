"""What starting the router costs, and one routing decision, and how many redirects one core serves.

    python benchmarks/router_decision.py

The first table calls the router directly; the second asks a real uvicorn over keep-alive connections of 127.0.0.1,
with a client in another process. CPU time is the figure to compare: requests per second depend on who shares the
machine, and on a busy one even CPU time doubles.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import psutil
import uvloop

from edge_router.router import Caller, Router
from edge_router.table import POLICIES

DECISIONS = 50_000
DURATION_S = 4.0
REQUEST = (
    b"POST /hello/v1/chat/completions HTTP/1.1\r\nHost: router\r\nContent-Type: application/json\r\n"
    b'Accept: */*\r\nUser-Agent: bench\r\nContent-Length: 17\r\n\r\n{"model": "tiny"}'
)


def table(policy: str, replicas: int) -> dict[str, object]:
    urls = [{"id": f"hello-a1b2-{n}-1", "url": f"http://10.0.0.{n}:8000", "in_flight": n} for n in range(replicas)]
    service = {"policy": policy, "status": "READY", "replicas": urls}
    return {"etag": "bench", "issued_at": 1.0, "services": {"hello": service}}


def start_ms(code: str) -> float:
    """CPU milliseconds of a Python process that runs `code`, best of 20."""
    runs = []
    for _ in range(20):
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        runs.append((usage.ru_utime + usage.ru_stime) * 1e3)
    return min(runs)


def decision_us(policy: str, replicas: int) -> float:
    """CPU microseconds of one decision, best of three rounds, 16 client connections."""
    router = Router(clock=time.time, random=random.random, first_seq=1)
    router.accept(table(policy, replicas))
    rounds = []
    for _ in range(3):
        start = time.process_time()
        for number in range(DECISIONS):
            router.handle(b"/hello/v1/chat/completions", b"", Caller("127.0.0.1", 40_000 + number % 16))
        rounds.append((time.process_time() - start) / DECISIONS * 1e6)
    return min(rounds)


class Control(BaseHTTPRequestHandler):
    """A control plane that answers every exchange with the same table."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"table": table("least_load", 3)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Client(asyncio.Protocol):
    """One keep-alive connection: the next request goes out when the answer to the last one is there."""

    def __init__(self, latencies_s: list[float], statuses: set[bytes]) -> None:
        self._latencies_s = latencies_s
        self._statuses = statuses
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked_at = time.perf_counter()
        self._transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):  # a redirect has no body
            self._latencies_s.append(time.perf_counter() - self._asked_at)
            self._statuses.add(self._received[:12])
            self._received = b""
            self._ask()


async def load(port: int, connections: int) -> tuple[list[float], set[bytes]]:
    latencies_s: list[float] = []
    statuses: set[bytes] = set()
    loop = asyncio.get_running_loop()
    clients = [
        await loop.create_connection(lambda: Client(latencies_s, statuses), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(DURATION_S)
    for transport, _ in clients:
        transport.abort()
    return latencies_s, statuses


@contextmanager
def serving() -> Iterator[tuple[psutil.Process, int]]:
    """A router process with its control plane, and its port, once it routes."""
    control = ThreadingHTTPServer(("127.0.0.1", 0), Control)
    Thread(target=control.serve_forever, daemon=True).start()
    command = [sys.executable, "-m", "uvicorn", "--factory", "edge_router.platforms.asgi:from_env", "--port", "0"]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-proxy-headers"]
    env = os.environ | {
        "SAILPLANE_CONTROL_URL": f"http://127.0.0.1:{control.server_address[1]}",
        "SAILPLANE_ROUTER_TOKEN": "bench",
    }
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        ports = (re.search(r"running on http://127\.0\.0\.1:(\d+)", line) for line in process.stderr)
        port = next(int(match[1]) for match in ports if match)
        time.sleep(0.5)  # the first table
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait()
        control.shutdown()


def print_decisions() -> None:
    print(f"{'policy':<12} {'replicas':>8} {'us CPU per decision':>20}")
    for policy in POLICIES:
        for replicas in (1, 3, 30, 300):
            print(f"{policy:<12} {replicas:>8} {decision_us(policy, replicas):>20.1f}")


def print_served(server: psutil.Process, port: int) -> None:
    print(
        f"\n{'connections':>11} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'us CPU per request':>19} {'req per core-s':>15}"
    )
    for connections in (1, 16, 64):
        before = sum(server.cpu_times()[:2])
        latencies_s, statuses = uvloop.run(load(port, connections))
        cpu_s = sum(server.cpu_times()[:2]) - before
        assert statuses == {b"HTTP/1.1 307"}, statuses
        latencies_s.sort()
        p50_ms, p99_ms = (latencies_s[int(len(latencies_s) * share)] * 1e3 for share in (0.5, 0.99))
        served = len(latencies_s)
        print(
            f"{connections:>11} {served / DURATION_S:>8.0f} {p50_ms:>8.2f} {p99_ms:>8.2f}"
            f" {cpu_s / served * 1e6:>19.0f} {served / cpu_s:>15.0f}"
        )


if __name__ == "__main__":
    import_ms = start_ms("import edge_router.platforms.asgi") - start_ms("pass")
    print(f"import, over bare Python: {import_ms:.0f} ms CPU (at most 60)\n")
    print_decisions()
    with serving() as (server, port):
        print_served(server, port)
