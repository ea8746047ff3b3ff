"""`ports.Prober` over HTTP: asks replica agents how they are, tells them to drain, reads their logs.

All conversations run on one event loop in a thread of the prober's own. So a probe of hundreds of replicas takes as long
as the slowest, each ends at its own deadline whatever the other side does, connections are kept from one pass to the
next, and any number of threads (passes, API) may call at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import Annotated, Any, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from chalicelib.identity import agent_token
from chalicelib.model import EnginePhase, Metric, ProbeResult, ProbeSpec, Replica, ReplicaLoad, ScalingSpec
from chalicelib.ports import Clock

# A probe's answer is 1 KB and 16 KB of log, of which JSON makes six times as many when no byte is text. A log is what a
# function may answer with, less room for JSON's escapes.
MAX_ANSWER_BYTES = 128 * 1024
MAX_LOG_BYTES = 2 * 1024 * 1024
MAX_DETAIL_CHARACTERS = 500
MAX_LOG_TAIL_CHARACTERS = 8_000
# The agent waits `timeout_s` for its engine; the second is for the way there and back.
TRAVEL_S = 1.0
COMMAND_TIMEOUT_S = 5.0
# Two probe intervals. aiohttp's server, which the agent is, keeps an idle connection for 75 s.
KEEPALIVE_S = 30.0
SIGNATURE = "X-Sailplane-Signature"

T = TypeVar("T")


class HttpProber:
    """Talks to agents at their replica's URL.

    Args:
        agent_key: agents' tokens are derived from it.
        clock: stamps the questions and the results.
        budget_s: no probe lasts longer, whatever its own timeout.
        new_nonce: names one question; what is asked twice under one name is answered once.
    """

    def __init__(
        self,
        agent_key: str,
        clock: Clock,
        budget_s: float = 50.0,
        new_nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._agent_key = agent_key
        self._clock = clock
        self._budget_s = budget_s
        self._new_nonce = new_nonce
        self._starting = threading.Lock()

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        if not targets:
            return {}
        results = self._run(self._probe_all(targets, _load_question(scaling)))
        return {result.replica_id: result for result in results}

    def drain(self, replica: Replica) -> None:
        if replica.url:
            self._run(self._drain(replica))

    def read_log(self, replica: Replica, tail: int) -> str | None:
        return self._run(self._read_log(replica, tail)) if replica.url else None

    def ask_routers(self, edge_url: str) -> None:
        """Ask the edge whether it lives, so that a function there reports. Silence is no error: it shows in the load."""
        self._run(self._ask_routers(edge_url))

    def close(self) -> None:
        """Close the connections and end the thread. Only for tests and orderly shutdowns; the thread is a daemon."""
        self._run(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, conversation: Coroutine[Any, Any, T]) -> T:
        with self._starting:  # from Python 3.12 on `cached_property` does not lock
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(conversation, loop).result()

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=_serve, args=(loop,), name="prober", daemon=True).start()
        return loop

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        """Used on the loop only. Neither proxies nor .netrc: agents are reached directly and have their own tokens."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=KEEPALIVE_S)
        return httpx.AsyncClient(limits=limits, follow_redirects=False, trust_env=False, timeout=self._budget_s)

    async def _probe_all(
        self, targets: Sequence[tuple[Replica, ProbeSpec]], load: Mapping[str, Any]
    ) -> list[ProbeResult]:
        return await asyncio.gather(*(self._probe(replica, spec, load) for replica, spec in targets))

    async def _probe(self, replica: Replica, spec: ProbeSpec, load: Mapping[str, Any]) -> ProbeResult:
        timeout_s = min(spec.timeout_s + TRAVEL_S, self._budget_s)
        nonce = self._new_nonce()
        question = {
            "method": spec.method,
            "path": spec.path,
            "body": spec.post_data,
            "headers": dict(spec.headers),
            "timeout_s": spec.timeout_s,
            **load,
        }
        text = json.dumps(question).encode()
        try:
            async with self._ask(replica, "POST", "/_sailplane/probe", timeout_s, text, nonce=nonce) as response:
                if response.status_code != httpx.codes.OK:
                    return self._silent(replica, f"the agent answered HTTP {response.status_code}")
                body = await _read(response, MAX_ANSWER_BYTES)
                signature = response.headers.get(SIGNATURE, "")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return self._silent(replica, f"the agent cannot be reached: {type(error).__name__} {error}")
        except TimeoutError:
            return self._silent(replica, f"the agent did not answer within {timeout_s:g} s")
        if body is None:
            return self._silent(replica, f"the agent's answer is longer than {MAX_ANSWER_BYTES // 1024} KB")
        if not hmac.compare_digest(_mac(self._token(replica), f"{nonce}\n".encode() + body), signature.encode()):
            return self._silent(
                replica, "another machine answers at this address: its answer is not signed as it should be"
            )
        return self._judge(replica, body)

    def _judge(self, replica: Replica, body: bytes) -> ProbeResult:
        try:
            answer = _Answer.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            return self._silent(replica, f"the agent's answer is malformed: {where}: {first['msg']}")
        return ProbeResult(
            replica_id=replica.id,
            at=self._clock.now(),
            identified=True,
            ready=answer.ready,
            detail=answer.detail[:MAX_DETAIL_CHARACTERS],
            in_flight=answer.in_flight,
            engine=answer.engine.phase,
            exit_code=answer.engine.exit_code,
            log_tail=answer.engine.log_tail[-MAX_LOG_TAIL_CHARACTERS:],
            interruption_at=answer.interruption_at,
            load=_load(answer.load),
        )

    def _silent(self, replica: Replica, detail: str) -> ProbeResult:
        return ProbeResult(replica.id, self._clock.now(), identified=False, detail=detail[:MAX_DETAIL_CHARACTERS])

    async def _drain(self, replica: Replica) -> None:
        try:
            async with self._ask(replica, "POST", "/_sailplane/drain", COMMAND_TIMEOUT_S):
                pass
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return  # unrouted either way

    async def _read_log(self, replica: Replica, tail: int) -> str | None:
        path = f"/_sailplane/log?tail={tail}"
        try:
            async with self._ask(replica, "GET", path, COMMAND_TIMEOUT_S) as response:
                if response.status_code != httpx.codes.OK:
                    return None
                body = await _read_end(response, MAX_LOG_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return None
        return body.decode(errors="replace")

    async def _ask_routers(self, edge_url: str) -> None:
        with suppress(httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            async with asyncio.timeout(COMMAND_TIMEOUT_S), self._client.stream("GET", f"{edge_url}/"):
                pass

    @asynccontextmanager
    async def _ask(
        self, replica: Replica, method: str, path: str, timeout_s: float, body: bytes = b"", *, nonce: str = ""
    ) -> AsyncIterator[httpx.Response]:
        """Send one question. It is signed, not accompanied, by the agent's token: `replica_agent.signatures` says how."""
        seconds, nonce = int(self._clock.now()), nonce or self._new_nonce()
        signed = f"{seconds}\n{nonce}\n{method}\n{path}\n{hashlib.sha256(body).hexdigest()}".encode()
        headers = {
            "Authorization": f"Sailplane {seconds}.{nonce}.{_mac(self._token(replica), signed).decode()}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # so that a small answer cannot unpack into a huge one
        }
        async with (
            asyncio.timeout(timeout_s),
            self._client.stream(method, replica.url + path, headers=headers, content=body) as response,
        ):
            yield response

    def _token(self, replica: Replica) -> bytes:
        return agent_token(self._agent_key, replica.id, replica.boot_nonce).encode()


class _Engine(BaseModel):
    phase: EnginePhase
    exit_code: int | None = None
    log_tail: str = ""


class _Answer(BaseModel):
    """What an agent answers to a probe; members it may add later are ignored."""

    ready: bool
    detail: str = ""
    in_flight: Annotated[int, Field(ge=0)] = 0
    engine: _Engine
    interruption_at: Annotated[float, Field(allow_inf_nan=False)] | None = None
    load: Any = None


# More than any engine counts, bytes included, and sums of it over replicas stay far from what a float can hold.
_Amount = Annotated[float, Field(ge=0, le=1e15)]


class _Load(BaseModel):
    stable: _Amount
    panic: _Amount


def _load_question(scaling: ScalingSpec) -> Mapping[str, Any]:
    """What a probe holds besides the question whether the engine is ready."""
    if scaling.metric is Metric.QPS:
        return {}
    windows = {"stable_s": scaling.qps_window_s, "panic_s": scaling.panic_window_s}
    return {"load": {"metric": scaling.metric, "name": scaling.metric_name, **windows}}


def _load(told: Any) -> ReplicaLoad | None:
    """A senseless load is not known. It says nothing against the replica, which answered and may be ready."""
    try:
        load = _Load.model_validate(told)
    except ValidationError:
        return None
    return ReplicaLoad(load.stable, load.panic)


def _mac(token: bytes, message: bytes) -> bytes:
    return hmac.new(token, message, hashlib.sha256).hexdigest().encode()


async def _read(response: httpx.Response, max_bytes: int) -> bytes | None:
    """The body, or None when it is longer than `max_bytes`."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


async def _read_end(response: httpx.Response, max_bytes: int) -> bytes:
    """The last `max_bytes` of the body."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        del body[:-max_bytes]
    return bytes(body)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()
