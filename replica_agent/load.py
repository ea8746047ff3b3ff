"""How loaded this replica is: one metric, averaged over the two windows that the control plane's autoscaler asks about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from replica_agent.average import SampleAverage
from replica_agent.engine import Engine
from replica_agent.exposition import total
from replica_agent.gate import Gate

# Requests that wait inside the engine, as vLLM, Hugging Face's TGI and SGLang (with --enable-metrics) call them.
QUEUE_DEPTH = ("vllm:num_requests_waiting", "tgi_queue_size", "sglang:num_queue_reqs")
_PAUSE_S = 5.0
_SCRAPE_TIMEOUT_S = 2.0
_MAX_BYTES = 2**20  # vLLM's are 100 KB
_FORGOTTEN_AFTER_S = 150.0  # EventBridge's finest schedule asks once a minute; two calls may get lost


@dataclass(frozen=True, slots=True)
class LoadQuestion:
    """Which metric, and the seconds it is averaged over. `panic_s` 0 asks for no second average."""

    metric: str
    name: str
    stable_s: float
    panic_s: float

    @classmethod
    def parse(cls, document: Any) -> Self | None:
        """None for None. Raises TypeError, KeyError or ValueError when a field is missing or senseless."""
        if document is None:
            return None
        name, stable_s, panic_s = document["name"], float(document["stable_s"]), float(document["panic_s"])
        if not isinstance(name, str) or not (stable_s >= 1 and panic_s >= 0):
            raise ValueError("name must be text, stable_s at least 1 and panic_s at least 0")
        return cls(document["metric"], name, stable_s, panic_s)


class EngineMetrics:
    """Samples of the engine's `/metrics`, taken every 5 s for as long as somebody asks for them.

    The engine's own API is on this machine, and what it says is its own: it is given 2 s and 1 MB.
    """

    def __init__(
        self,
        engine: Engine,
        session: aiohttp.ClientSession,
        now: Callable[[], float] = time.monotonic,
        timeout_s: float = _SCRAPE_TIMEOUT_S,
    ) -> None:
        self._url = f"http://127.0.0.1:{engine.port}/metrics"
        self._session = session
        self._now = now
        self._timeout_s = timeout_s
        self._names: tuple[str, ...] = ()
        self._samples = SampleAverage()
        self._asked_at = 0.0
        self._asked = asyncio.Event()

    def average(self, names: tuple[str, ...], window_s: float) -> float | None:
        """Of the first of `names` that the engine exports. None while it is not known, as at the first question."""
        if names != self._names:
            self._names, self._samples = names, SampleAverage()
        self._asked_at = self._now()
        self._asked.set()
        return self._samples.average(window_s, self._now())

    async def watch(self) -> None:
        """Take samples until cancelled."""
        while True:
            await self._asked.wait()
            await self.sample()
            await asyncio.sleep(_PAUSE_S)
            if self._now() > self._asked_at + _FORGOTTEN_AFTER_S:
                self._asked.clear()

    async def sample(self) -> None:
        """Take one. An engine that does not answer, or does not say, adds none."""
        names, samples = self._names, self._samples
        text = await self._scrape()
        value = next((found for name in names if (found := total(text, name)) is not None), None)
        if value is not None:
            samples.add(value, self._now())

    async def _scrape(self) -> str:
        """What the engine says of itself; empty when that is not to be had within the bounds."""
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.get(self._url, headers={"Accept": "text/plain"}, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    return ""
                async for data in answer.content.iter_any():
                    body += data
                    if len(body) > _MAX_BYTES:
                        return ""
        except (aiohttp.ClientError, TimeoutError):
            return ""
        return body.decode(errors="replace")


class Load:
    """Answers the control plane's question.

    Concurrency is what the agent counts itself, the requests inside the replica whether the engine runs them or lets them
    wait: it is exact between two questions, works with every engine, and does not stop at the largest batch, as the
    number that an engine exports as running does when it is overloaded.
    """

    def __init__(self, gate: Gate, metrics: EngineMetrics) -> None:
        self._gate = gate
        self._metrics = metrics

    def answer(self, question: LoadQuestion | None) -> dict[str, float] | None:
        """Both averages, or None: not asked for, not known, or a metric that this agent has not heard of."""
        if question is None:
            return None
        stable = self._average(question, question.stable_s)
        panic = self._average(question, question.panic_s or question.stable_s)
        return None if stable is None or panic is None else {"stable": stable, "panic": panic}

    def _average(self, question: LoadQuestion, window_s: float) -> float | None:
        match question.metric:
            case "concurrency":
                return self._gate.average_in_flight(window_s)
            case "queue_depth":
                return self._metrics.average(QUEUE_DEPTH, window_s)
            case "prometheus":
                return self._metrics.average((question.name,), window_s)
            case _:
                return None
