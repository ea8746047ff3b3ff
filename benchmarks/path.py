"""The whole path, measured: POSTs through router and agent to two replicas, beside the same calls made directly.

    python benchmarks/path.py [--requests 10000] [--connections 16]

Every request carries an id of its own and each engine counts the ids it met: none may be lost and none may arrive twice.
Ends with 1 if any was. Everything shares this machine's cores, so compare the rows with each other and with nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

SAILPLANE = str(Path(sys.executable).with_name("sailplane"))
SPEC = """
service:
  readiness_probe: {{path: /health, endpoint_probe_interval_seconds: 2}}
  replicas: 2
resources: {{infra: local, ports: 8080}}
workdir: {here}
run: exec {python} counting_engine.py $SAILPLANE_PORT
"""
BODY = "x" * 1_000


@dataclass(frozen=True)
class Row:
    """One way to the engines."""

    way: str
    latencies_s: list[float]
    seconds: float
    errors: list[str]

    def at_ms(self, share: float) -> float:
        return sorted(self.latencies_s)[min(int(len(self.latencies_s) * share), len(self.latencies_s) - 1)] * 1e3


async def measure(way: str, urls: list[str], key: str, requests: int, connections: int) -> Row:
    """Send `requests` POSTs with ids `<way>-<n>` over so many connections, spread over the urls, redirects followed."""
    latencies_s: list[float] = []
    errors: list[str] = []
    numbers = iter(range(requests))

    async def worker(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            started = time.perf_counter()
            body = f"{way}-{number} {BODY}"
            try:
                async with session.post(f"{urls[number % len(urls)]}/echo", data=body) as answer:
                    if answer.status != 200 or await answer.text() != body:
                        errors.append(f"{number}: HTTP {answer.status}")
            except aiohttp.ClientError as error:
                errors.append(f"{number}: {error!r}")
            latencies_s.append(time.perf_counter() - started)

    started = time.perf_counter()
    # Connections are kept apart by worker, as the clients of a service would have their own.
    sessions = [aiohttp.ClientSession(headers=bearer(key)) for _ in range(connections)]
    await asyncio.gather(*(worker(session) for session in sessions))
    for session in sessions:
        await session.close()
    return Row(way, latencies_s, time.perf_counter() - started, errors)


async def met(engines: list[str]) -> Counter[str]:
    """How often all engines together met each id."""
    total: Counter[str] = Counter()
    async with aiohttp.ClientSession() as session:
        for url in engines:
            async with session.get(f"{url}/seen") as answer:
                total.update(await answer.json())
    return total


def bearer(key: str) -> dict[str, str]:
    """The header that shows an endpoint key."""
    return {"Authorization": f"Bearer {key}"}


async def resolved(endpoint: str, key: str, replicas: int) -> list[str]:
    """Where the router sends clients that do not follow: a URL with a grant, good for 60 s, for each replica."""
    urls: dict[str | None, str] = {}
    async with aiohttp.ClientSession(headers=bearer(key)) as session:
        while len(urls) < replicas:
            async with session.get(f"{endpoint}/_resolve") as answer:
                if answer.status == 200:
                    url = (await answer.json())["url"]
                    urls[urlsplit(url).netloc] = url
                else:  # the router has yet to learn of the key
                    await asyncio.sleep(0.1)
    return list(urls.values())


async def run(endpoint: str, key: str, engines: list[str], requests: int, connections: int) -> int:
    agents = await resolved(endpoint, key, len(engines))
    ways = {"engine": engines, "agent": agents, "router": [endpoint]}
    await asyncio.gather(*(measure("warm-up", urls, key, 200, connections) for urls in ways.values()))
    print(f"{requests:,} POSTs of 1 kB each way, {connections} connections, 2 replicas\n")
    print(f"{'to the engine':<28} {'p50 ms':>8} {'p99 ms':>8} {'req/s':>8} {'lost':>6} {'doubled':>8} {'errors':>7}")
    faults = 0
    titles = {"engine": "directly", "agent": "through the agent", "router": "through router and agent"}
    for way, known in ways.items():
        urls = await resolved(endpoint, key, len(engines)) if way == "agent" else known
        row = await measure(way, urls, key, requests, connections)
        counts = await met(engines)
        times = [counts[f"{way}-{number}"] for number in range(requests)]
        lost, doubled = times.count(0), sum(count > 1 for count in times)
        faults += lost + doubled + len(row.errors)
        figures = f"{row.at_ms(0.5):>8.2f} {row.at_ms(0.99):>8.2f} {requests / row.seconds:>8.0f}"
        print(f"{titles[way]:<28} {figures} {lost:>6} {doubled:>8} {len(row.errors):>7}")
        for error in row.errors[:3]:
            print(f"  {error}")
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="sailplane-bench-"))
    try:
        sailplane(home, "local", "start", "--detach", "--api-port", "0", "--edge-port", "0")
        spec = home / "service.yaml"
        spec.write_text(SPEC.format(here=Path(__file__).parent, python=sys.executable))
        sailplane(home, "up", str(spec), "-n", "bench", "-y")
        service: dict[str, Any] = json.loads(sailplane(home, "status", "bench", "--json"))
        replicas = [replica for replica in service["replicas"] if replica["status"] == "READY"]
        engines = [engine_url(home, replica["id"]) for replica in replicas]
        key = sailplane(home, "keys", "create", "bench").strip()
        return asyncio.run(run(service["endpoint"], key, engines, arguments.requests, arguments.connections))
    finally:
        sailplane(home, "local", "stop", "--down")
        shutil.rmtree(home, ignore_errors=True)


def engine_url(home: Path, replica: str) -> str:
    """Past the agent: its lock file says where its engine listens."""
    (lock,) = home.rglob(f"{replica}/agent.lock")
    return f"http://127.0.0.1:{json.loads(lock.read_text())['engine_port']}"


def sailplane(home: Path, *words: str) -> str:
    environment = {**os.environ, "SAILPLANE_HOME": str(home)}
    done = subprocess.run([SAILPLANE, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`sailplane {' '.join(words)}` ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
