"""What a replica's agent costs: small JSON POSTs through it to an engine that answers at once, and the same without it.

    python -m benchmarks.agent [--requests 20000] [--connections 16 64]

Every request carries a grant, which the agent checks. Agent, engine and load are a process each, so requests per second depend
on how many cores are free; the agent's CPU time for a request does not, and its inverse is what one core could do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import uvloop

from chalicelib.identity import grant_keys
from edge_router.grants import ONE, Grants, Use
from edge_router.quotas import Share
from edge_router.sealing import secrets
from edge_router.table import Replica

TOKEN, SERVICE, REPLICA, NONCE = "router-token", "bench", "bench-k3f9-0-1", "n0"
PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 200}]}).encode()
ENGINE = Path(__file__).with_name("instant_engine.py")


@dataclass(frozen=True)
class Row:
    """One run. Latencies in seconds, sorted."""

    latencies_s: list[float]
    seconds: float
    cpu_s: float

    def at_ms(self, share: float) -> float:
        return self.latencies_s[int(len(self.latencies_s) * share)] * 1e3


class Asker(asyncio.Protocol):
    """Asks one after the other on one connection, for as long as `numbers` has more."""

    def __init__(self, raw: bytes, numbers: Iterator[int], latencies_s: list[float]) -> None:
        self._raw = raw
        self._numbers = numbers
        self._latencies_s = latencies_s
        self._received = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        if next(self._numbers, None) is None:
            self._transport.close()
            return
        self._asked_at = time.perf_counter()
        self._transport.write(self._raw)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            assert head.startswith(b"HTTP/1.1 200 "), self._received
            self._latencies_s.append(time.perf_counter() - self._asked_at)
            self._received = b""
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(error)


def measure(port: int, target: str, requests: int, connections: int, pid: int) -> Row:
    """Send so many requests and see what they cost the process `pid`."""
    head = (
        f"POST {target} HTTP/1.1\r\nHost: replica.example:7481\r\nAccept: application/json\r\nUser-Agent: bench/1.0\r\n"
        f"Authorization: Bearer sp_0123456789_{'x' * 43}\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    latencies_s: list[float] = []

    async def run() -> None:
        loop, numbers = asyncio.get_running_loop(), iter(range(requests))
        askers = [
            (
                await loop.create_connection(
                    lambda: Asker(head.encode() + BODY, numbers, latencies_s), "127.0.0.1", port
                )
            )[1]
            for _ in range(connections)
        ]
        assert not any(await asyncio.gather(*(asker.ended for asker in askers)))

    process = psutil.Process(pid)
    before, started = process.cpu_times(), time.perf_counter()
    uvloop.run(run())
    seconds, after = time.perf_counter() - started, process.cpu_times()
    assert len(latencies_s) == requests
    return Row(sorted(latencies_s), seconds, after.user + after.system - before.user - before.system)


def configuration(
    replica_id: str = REPLICA,
    boot_nonce: str = NONCE,
    router_token: str = TOKEN,
    run: str = f"exec {sys.executable} {ENGINE} $SAILPLANE_PORT",
) -> dict[str, Any]:
    """Of an agent on this machine; with the instant engine, unless another is `run`."""
    return {
        "replica_id": replica_id,
        "service": SERVICE,
        "boot_nonce": boot_nonce,
        "agent_token": "agent-token",
        "grant_keys": grant_keys([router_token], replica_id, boot_nonce),
        "edge_url": "",
        "access": "required",
        "engine_key": "",
        "engine_key_env": "",
        "secrets_url": "",
        "cloud": "local",
        "metadata_url": "",
        "control_url": "",
        "host": "127.0.0.1",
        "port": 0,
        "engine_port": 0,
        "image": "",
        "setup": "",
        "run": run,
        "env": {},
        "workdir": "",
        "drain_timeout_s": 1,
    }


@contextmanager
def agent() -> Iterator[dict[str, Any]]:
    """What a running agent says of itself: pid, port, engine_port."""
    with tempfile.TemporaryDirectory(prefix="sailplane-bench-") as home:
        path, lock = Path(home) / "agent.json", Path(home) / "agent.lock"
        path.write_text(json.dumps(configuration()))
        process = subprocess.Popen(
            [sys.executable, "-m", "replica_agent", "--config", str(path)], start_new_session=True
        )
        try:
            while not (lock.exists() and lock.stat().st_size):
                time.sleep(0.05)
            place: dict[str, Any] = json.loads(lock.read_text())
            while not _listens(place["engine_port"]):
                time.sleep(0.05)
            yield place
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    arguments = parser.parse_args()
    replica = Replica(REPLICA, "", boot=NONCE)
    use = Use(SERVICE, b"POST", PATH.encode())
    grant = Grants(secrets(TOKEN)).issue(
        replica, use, key_id="0123456789", share=Share(), scope=ONE, now=time.time() + 3_600
    )
    with agent() as place:
        ways = {"directly": (place["engine_port"], PATH), "agent": (place["port"], f"/~{grant.decode()}{PATH}")}
        print(f"{arguments.requests:,} POSTs of {len(BODY)} B\n")
        print(
            f"{'connections':>11} {'way':<9} {'p50 ms':>7} {'p99 ms':>7} {'req/s':>7} {'CPU us/req':>11} {'req/s/core':>11}"
        )
        for connections in arguments.connections:
            for way, (port, target) in ways.items():
                measure(port, target, 500, connections, place["pid"])
                row = measure(port, target, arguments.requests, connections, place["pid"])
                cost = row.cpu_s / arguments.requests
                figures = f"{row.at_ms(0.5):>7.2f} {row.at_ms(0.99):>7.2f} {arguments.requests / row.seconds:>7.0f}"
                core = f"{cost * 1e6:>11.0f} {1 / cost:>11.0f}" if way == "agent" else ""
                print(f"{connections:>11} {way:<9} {figures} {core}")


if __name__ == "__main__":
    main()
