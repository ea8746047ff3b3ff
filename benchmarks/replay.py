"""Recorded traffic through the whole stack on this machine, while its replicas are preempted.

    python benchmarks/replay.py [--trace FILE] [--minutes 5] [--speed 1] [--every 30] [--notices 0 2 10] [--min 2] [--max 4]

FILE is a CSV of requests with the columns TIMESTAMP, ContextTokens and GeneratedTokens, as those of Azure's LLM inference
traces of 2023 (https://github.com/Azure/AzurePublicDataset, CC-BY-4.0); without one, a generated load of 5 requests a second
is sent. Control plane, router and agents are the shipped ones, the engine makes tokens at a steady pace, and the clients are
OpenAI's own, which follow redirects and retry twice: half of the requests stream, half do not.

Every `--every` seconds after the last one has been replaced, a ready replica is taken, with each of the `--notices` in turn;
0 is a machine that dies without a word to anybody. A request that had begun to answer on a taken machine when that went is
excused and counted apart. Every other one must be answered in full, after as many retries as the client makes by itself.
Ends with 1 if one was not. Everything shares this machine's cores: latencies are for comparing runs.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

from chalicelib.api.schemas import Service
from chalicelib.model import ReplicaStatus
from sailplane.cli.client import Client
from sailplane.cli.connection import locate
from sailplane.local.home import Home

SAILPLANE = str(Path(sys.executable).with_name("sailplane"))
NAME = "replay"
SPEC = """
service:
  access: {{keys: open}}
  readiness_probe: {{path: /health, endpoint_probe_interval_seconds: {probe_s}, initial_delay_seconds: 60}}
  replica_policy:
    min_replicas: {least}
    max_replicas: {most}
    {follows}
    qps_window_seconds: 30
    upscale_delay_seconds: 5
    downscale_delay_seconds: 20
  load_balancing_policy: {policy}
resources: {{infra: local, ports: 8080}}
workdir: {here}
run: exec {python} token_engine.py $SAILPLANE_PORT {prefill_ms} {token_ms}
"""
RATE = "target_qps_per_replica: 2"
POLL_S = 0.5
PATIENCE_S = 180.0  # for the last answers
EXCUSED_S = 5.0  # a broken connection is noticed at once, on one machine
PREFILL_MS, TOKEN_MS = 200.0, 20.0  # of 1,000 tokens, and of one: about a 13B model on an A100


@dataclass(frozen=True)
class Request:
    """One line of the trace: seconds after the first, tokens in, tokens out."""

    at_s: float
    prompt: int
    tokens: int
    stream: bool


@dataclass
class Fate:
    """What became of one request. `sent_to` holds the address of a replica for each attempt that was redirected to one."""

    request: Request
    sent_to: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    attempts: int = 0
    received: int = 0
    error: str = ""
    seconds: float = 0.0
    ended_at: float = 0.0


@dataclass(frozen=True)
class Taken:
    """A replica that was preempted: when it was announced, when its machine went, and how long a replacement took."""

    replica: str
    address: str
    notice_s: float
    announced_at: float
    recovered_s: float | None = None

    @property
    def gone_at(self) -> float:
        return self.announced_at + self.notice_s


@dataclass
class Watch:
    """What the service looked like, every half second."""

    replicas: list[tuple[float, int, int]] = field(default_factory=list)  # seconds, ready, wanted
    taken: list[Taken] = field(default_factory=list)


def recorded(path: Path, minutes: float, speed: float) -> list[Request]:
    """The first minutes of a trace, every other request streaming."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        found: list[Request] = []
        begin: datetime | None = None
        for row in rows:
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            begin = begin or at
            at_s = (at - begin).total_seconds() / speed
            if at_s > minutes * 60:
                break
            tokens = max(1, int(row["GeneratedTokens"]))
            found.append(Request(at_s, int(row["ContextTokens"]), tokens, len(found) % 2 == 0))
    return found


def generated(minutes: float, speed: float) -> list[Request]:
    """Poisson arrivals, 5 a second, with lengths of about those of conversations. The same at every run."""
    draw = random.Random(1)
    found: list[Request] = []
    at_s = 0.0
    while (at_s := at_s + draw.expovariate(5.0 * speed)) < minutes * 60:
        prompt, tokens = int(draw.lognormvariate(6.6, 1.0)), max(1, int(draw.lognormvariate(4.9, 0.8)))
        found.append(Request(at_s, min(prompt, 8_000), min(tokens, 1_000), len(found) % 2 == 0))
    return found


class Clients:
    """OpenAI's client as it comes, with an ear at its HTTP client for where its requests go."""

    def __init__(self, endpoint: str) -> None:
        self._fates: dict[str, Fate] = {}
        self._numbers = count()
        http = openai.DefaultAsyncHttpxClient(
            event_hooks={"request": [self._on_request], "response": [self._on_response]}, trust_env=False
        )
        self._client = openai.AsyncOpenAI(base_url=f"{endpoint}/v1", api_key="none", http_client=http)
        self._edge = urlsplit(endpoint).netloc

    async def send(self, request: Request) -> Fate:
        """Call the service once and tell what came of it."""
        number = str(next(self._numbers))
        fate = self._fates[number] = Fate(request)
        started = time.monotonic()
        try:
            await self._call(request, fate, number)
        except (openai.OpenAIError, httpx.HTTPError) as error:
            cause = error.__cause__
            fate.error = f"{type(error).__name__}{f' from {type(cause).__name__}' if cause else ''}: {str(error)[:150]}"
        if not fate.error and fate.received != request.tokens:
            fate.error = f"{fate.received} of {request.tokens} tokens"
        fate.seconds, fate.ended_at = time.monotonic() - started, time.time()
        return fate

    async def close(self) -> None:
        await self._client.close()

    async def _call(self, request: Request, fate: Fate, number: str) -> None:
        asked: Any = {
            "model": "tokens",
            "max_tokens": request.tokens,
            "messages": [{"role": "user", "content": text_of(request)}],
            "extra_headers": {"X-Request": number},
        }
        completions = self._client.chat.completions
        if not request.stream:
            fate.received = len((await completions.create(**asked)).choices[0].message.content or "")
            return
        async for chunk in await completions.create(**asked, stream=True):
            fate.received += bool(chunk.choices[0].delta.content)

    async def _on_request(self, request: httpx.Request) -> None:
        fate = self._fates[request.headers["X-Request"]]
        if request.url.netloc.decode() == self._edge:
            fate.attempts += 1
        else:
            fate.sent_to.append(request.url.netloc.decode())

    async def _on_response(self, response: httpx.Response) -> None:
        if response.status_code != 307:
            self._fates[response.request.headers["X-Request"]].statuses.append(response.status_code)


async def replay(
    home: Path, client: Client, requests: Sequence[Request], every_s: float, notices_s: Sequence[float]
) -> tuple[list[Fate], Watch]:
    """Send each request at its instant, whatever became of those before it."""
    watch, clients = Watch(), Clients(client.service(NAME).endpoint)
    started = time.monotonic()
    observer = asyncio.create_task(observe(client, watch, started))
    villain = asyncio.create_task(preempt(home, client, watch, every_s, notices_s))
    tasks: list[asyncio.Task[Fate]] = []
    for number, request in enumerate(requests):
        await asyncio.sleep(started + request.at_s - time.monotonic())
        tasks.append(asyncio.create_task(clients.send(request)))
        if number % 100 == 99:
            ready = watch.replicas[-1][1] if watch.replicas else 0
            done = sum(task.done() for task in tasks)
            print(
                f"\r{done} of {len(requests)} answered, {ready} ready, {len(watch.taken)} taken ",
                end="",
                file=sys.stderr,
            )
    villain.cancel()
    fates = await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    observer.cancel()
    await asyncio.gather(villain, observer, return_exceptions=True)
    await clients.close()
    print(file=sys.stderr)
    return fates, watch


async def observe(client: Client, watch: Watch, started: float) -> None:
    """Note how many replicas are ready and wanted."""
    while True:
        service = await asyncio.to_thread(client.service, NAME)
        watch.replicas.append((time.monotonic() - started, service.ready, service.target))
        await asyncio.sleep(POLL_S)


async def preempt(home: Path, client: Client, watch: Watch, every_s: float, notices_s: Sequence[float]) -> None:
    """Take one of at least two ready replicas, wait until as many serve as before, and so on."""
    draw = random.Random(2)
    for notice_s in cycle(notices_s):
        await asyncio.sleep(every_s)
        service = await until(client, lambda seen: seen.ready >= 2)
        victim = draw.choice([one for one in service.replicas if one.id in ready(service)])
        announced_at = time.time()
        if not notice_s:
            kill(home, victim.id)
        else:
            await asyncio.to_thread(client.act, NAME, victim.id, "preempt", {"notice_s": notice_s})
        taken = Taken(victim.id, urlsplit(victim.url).netloc, notice_s, announced_at)
        watch.taken.append(taken)
        await until(client, partial(is_replaced, victim.id, service.ready))
        watch.taken[-1] = replace(taken, recovered_s=time.time() - announced_at)


def kill(home: Path, replica: str) -> None:
    """All of a machine at once, and nobody is told: `sailplane replica kill` would wake the control plane."""
    (lock,) = home.rglob(f"{replica}/agent.lock")
    os.killpg(json.loads(lock.read_text())["pid"], signal.SIGKILL)


async def until(client: Client, true: Callable[[Service], bool]) -> Service:
    while True:
        service = await asyncio.to_thread(client.service, NAME)
        if true(service):
            return service
        await asyncio.sleep(POLL_S / 2)


def is_replaced(victim: str, before: int, seen: Service) -> bool:
    """As many serve without the victim as did with it, or as many as are wanted by now."""
    return victim not in ready(seen) and len(ready(seen)) >= min(before, seen.target)


def ready(service: Service) -> set[str]:
    return {one.id for one in service.replicas if one.status is ReplicaStatus.READY}


def judged(fate: Fate, taken: Sequence[Taken]) -> str:
    """What a request counts as."""
    if not fate.error:
        return "answered" if fate.attempts == 1 else "answered after a retry"
    last = fate.sent_to[-1] if fate.sent_to else ""
    machine = [one for one in taken if one.address == last and -1 < fate.ended_at - one.gone_at < EXCUSED_S]
    return "excused" if machine and fate.received else "LOST"


def report(fates: Sequence[Fate], watch: Watch) -> int:
    """Print what was seen; the exit status."""
    verdicts = Counter(judged(fate, watch.taken) for fate in fates)
    retries = Counter(fate.attempts - 1 for fate in fates)
    print(f"{len(fates)} requests: {', '.join(f'{number} {what}' for what, number in sorted(verdicts.items()))}")
    print("(excused: had begun to answer on a machine that was then taken)")
    print(f"retries each: {', '.join(f'{each}: {number}' for each, number in sorted(retries.items()))}\n")
    answered = sorted(fate.seconds - paced_s(fate.request) for fate in fates if not fate.error)
    over = [answered[min(int(len(answered) * share), len(answered) - 1)] for share in (0.5, 0.9, 0.99, 1.0)]
    print(
        "seconds on top of the engine's own: "
        + " ".join(f"{n} {s:.3f}" for n, s in zip(("p50", "p90", "p99", "max"), over, strict=True))
    )
    print(
        "\nreplicas ready/wanted, every 15 s: "
        + " ".join(f"{r}/{w}" for _, r, w in watch.replicas[:: int(15 / POLL_S)])
    )
    print(f"\n{'taken':<22} {'notice s':>8} {'recovered after s':>18}")
    for one in watch.taken:
        print(
            f"{one.replica:<22} {one.notice_s:>8g} {'not yet' if one.recovered_s is None else f'{one.recovered_s:.1f}':>18}"
        )
    for fate in fates:
        if judged(fate, watch.taken) == "LOST":
            print(f"LOST at {fate.request.at_s:.1f} s: {fate}")
    return 1 if verdicts["LOST"] else 0


def text_of(request: Request) -> str:
    """A prompt of so many tokens. People's have 3.5 to 4.5 letters a token, so that hardly two of them are equally long."""
    return "x" * int(request.prompt * random.Random(request.at_s).uniform(3.5, 4.5))


def paced_s(request: Request) -> float:
    """What the engine takes for it."""
    return request.prompt / 1e6 * PREFILL_MS + request.tokens / 1e3 * TOKEN_MS


def main() -> int:
    """Replay and report; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="CSV; a generated load if not given")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--speed", type=float, default=1.0, help="2 sends twice as fast")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two preemptions")
    parser.add_argument("--min", type=int, default=2, help="replicas")
    parser.add_argument("--max", type=int, default=4, help="replicas")
    parser.add_argument(
        "--concurrency", type=float, help="requests in progress per replica to scale by, not by the rate"
    )
    parser.add_argument("--notices", type=float, nargs="+", default=[0.0, 2.0, 10.0], metavar="SECONDS")
    parser.add_argument("--probe-interval", type=float, default=10.0, help="the service's; SkyServe's default is 10 s")
    parser.add_argument("--events", type=Path, help="write the service's events to this file")
    parser.add_argument("--policy", default="least_load")
    told = parser.parse_args()
    requests = recorded(told.trace, told.minutes, told.speed) if told.trace else generated(told.minutes, told.speed)
    with stack() as home:
        spec = home / "service.yaml"
        spec.write_text(
            SPEC.format(
                here=Path(__file__).parent,
                python=sys.executable,
                prefill_ms=PREFILL_MS,
                token_ms=TOKEN_MS,
                policy=told.policy,
                follows=f"metric: concurrency\n    target: {told.concurrency}" if told.concurrency else RATE,
                probe_s=told.probe_interval,
                least=told.min,
                most=told.max,
            )
        )
        sailplane(home, "up", str(spec), "-n", NAME, "-y")
        with Client(partial(locate, Home(home))) as client:
            fates, watch = asyncio.run(replay(home, client, requests, told.every, told.notices))
        if told.events:
            told.events.write_text(sailplane(home, "events", NAME, "--json"))
    return report(fates, watch)


@contextmanager
def stack() -> Iterator[Path]:
    """A local stack of its own, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="sailplane-replay-"))
    try:
        sailplane(home, "local", "start", "--detach", "--api-port", "0", "--edge-port", "0")
        yield home
    finally:
        sailplane(home, "local", "stop", "--down")
        shutil.rmtree(home, ignore_errors=True)


def sailplane(home: Path, *words: str) -> str:
    """Run the command as a user would and return what it printed."""
    environment = {**os.environ, "SAILPLANE_HOME": str(home)}
    done = subprocess.run([SAILPLANE, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`sailplane {' '.join(words)}` ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
