"""The load that an agent tells of: its own count exactly, the engine's figures as it exports them, and never a guess."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from replica_agent.load import QUEUE_DEPTH, EngineMetrics
from replica_agent.session import client_session
from tests.agent.running import TOKEN, Agent, granted, serving
from tests.fakes import FakeClock
from tests.waiting import until

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
TEXTS = Path(__file__).parent / "metrics"


def question(metric: str, name: str = "", panic_s: float = 6) -> dict[str, Any]:
    return {"metric": metric, "name": name, "stable_s": 60, "panic_s": panic_s}


def saying(body: bytes, **options: Any) -> Handler:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, **options)

    return handler


async def flooding(request: web.BaseRequest) -> web.StreamResponse:
    """More than a megabyte, the wanted sample first."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"tgi_queue_size 1\n")
    for _ in range(40):
        await response.write(b"# " + b"x" * 65_536 + b"\n")
    return response


async def hanging(_request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


@asynccontextmanager
async def engine_saying(handler: Handler, clock: FakeClock) -> AsyncIterator[EngineMetrics]:
    """Samples of an engine whose every answer is the handler's."""
    async with serving(handler) as port, client_session() as session:
        engine: Any = SimpleNamespace(port=port)
        yield EngineMetrics(engine, session, clock.now, timeout_s=0.2)


async def sampled(handler: Handler, names: tuple[str, ...] = QUEUE_DEPTH) -> float | None:
    async with engine_saying(handler, FakeClock()) as metrics:
        metrics.average(names, 60)
        await metrics.sample()
        return metrics.average(names, 60)


@pytest.mark.parametrize(("engine", "waiting"), [("vllm", 15.0), ("tgi", 7.0), ("sglang", 2826.0)])
def test_the_queue_of_each_engine_is_known_without_its_name(engine: str, waiting: float) -> None:
    """A service says `queue_depth` and need not say which engine it runs."""
    assert asyncio.run(sampled(saying((TEXTS / f"{engine}.txt").read_bytes()))) == waiting


@pytest.mark.parametrize(
    "handler",
    [
        saying(b""),
        saying(b"tgi_queue_size NaN\n"),
        saying(b"tgi_queue_size 1\n", status=500),
        saying(b"tgi_queue_size 1\n", status=307, headers={"Location": "/elsewhere"}),
        saying(b"\x1f\x8b\x08 not text", headers={"Content-Encoding": "gzip"}),
        flooding,
        hanging,
    ],
)
def test_an_engine_that_does_not_say_is_unknown(handler: Handler) -> None:
    """No number is made of an error, a flood or silence; it has its time and no more."""
    assert asyncio.run(sampled(handler)) is None


def test_an_engine_that_stops_answering_becomes_unknown() -> None:
    """Its last figures count for 15 s more, and never turn into 0."""
    clock, answers = FakeClock(), iter([saying(b"m 4"), saying(b"m 8"), saying(b"", status=503)])

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return await next(answers)(request)

    async def play() -> list[float | None]:
        async with engine_saying(handler, clock) as metrics:
            seen = [metrics.average(("m",), 60)]
            for _ in range(3):
                await metrics.sample()
                seen.append(metrics.average(("m",), 60))
                clock.advance(5)
            clock.advance(5)
            return [*seen, metrics.average(("m",), 60)]

    assert asyncio.run(play()) == [None, 4, 6, 6, None]


def test_another_metric_starts_anew() -> None:
    """Samples of the one before are not mixed into it."""

    async def play() -> list[float | None]:
        async with engine_saying(saying(b"a 1\nb 9\n"), FakeClock()) as metrics:
            metrics.average(("a",), 60)
            await metrics.sample()
            seen = [metrics.average(("a",), 60), metrics.average(("b",), 60)]
            await metrics.sample()
            return [*seen, metrics.average(("b",), 60)]

    assert asyncio.run(play()) == [1, None, 9]


def test_concurrency_is_the_agents_own_count(agent: Agent) -> None:
    """Requests inside the replica, whatever the engine says, as an average that rises while one stays."""
    assert agent.probe(load=question("concurrency"))["load"] == {"stable": 0, "panic": 0}
    connection = agent.connect()
    connection.request("GET", granted("GET", "/never?load"))
    load = until(lambda: (seen := agent.probe(load=question("concurrency"))["load"])["stable"] and seen)
    assert 0 < load["stable"] < load["panic"] < 1
    agent.ask_engine("/_open?load")
    connection.close()


def test_the_engines_figures_are_scraped_once_asked_for(new_agent: Callable[..., Agent]) -> None:
    """Not known at the first question, which makes the agent look; nothing is scraped before."""
    agent = new_agent().until_ready()
    agent.ask_engine("/_export?vllm:num_requests_waiting%2012%0Amy:own{}%203%0A")
    assert "GET /metrics" not in agent.ask_engine("/_seen")["seen"]
    assert agent.probe(load=question("queue_depth"))["load"] is None
    until(lambda: agent.probe(load=question("queue_depth"))["load"] == {"stable": 12, "panic": 12})
    assert "GET /metrics" in agent.ask_engine("/_seen")["seen"]


def test_any_metric_may_be_named(new_agent: Callable[..., Agent]) -> None:
    """By the service's own file; without a panic window both averages are the same."""
    agent = new_agent().until_ready()
    agent.ask_engine("/_export?my:own{a=%22b%22}%203%0A")
    until(lambda: agent.probe(load=question("prometheus", "my:own", 0))["load"] == {"stable": 3, "panic": 3})


@pytest.mark.parametrize("load", [None, question("concurrencies"), question("qps")])
def test_what_an_agent_has_not_heard_of_is_unknown(agent: Agent, load: object) -> None:
    """A control plane may be newer than its agents."""
    told = agent.probe(load=load)
    assert (told["ready"], told["load"]) == (True, None)


@pytest.mark.parametrize(
    "load",
    [
        "concurrency",
        ["concurrency"],
        {"metric": "concurrency"},
        {**question("concurrency"), "stable_s": "long"},
        {**question("concurrency"), "stable_s": 0},
        {**question("concurrency"), "panic_s": -1},
        {**question("concurrency"), "name": 5},
    ],
)
def test_a_senseless_question_about_load_is_refused(agent: Agent, load: object) -> None:
    """400 and a reason instead of a guess."""
    answer = agent.command("POST", "probe", {"method": "GET", "path": "/headers", "timeout_s": 5, "load": load}, TOKEN)
    assert (answer.status, answer.json["title"]) == (400, "Bad probe")
