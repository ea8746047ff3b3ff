"""Probing agents over real sockets: whatever a machine does, the prober returns in time and believes only the right one."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from chalicelib.identity import agent_token
from chalicelib.model import EnginePhase, Metric, ProbeSpec, Replica, ReplicaLoad, ReplicaStatus, ScalingSpec
from chalicelib.prober import MAX_ANSWER_BYTES, MAX_LOG_BYTES, SIGNATURE, HttpProber
from replica_agent.signatures import Signatures
from replica_agent.times import ControlTime
from tests.fakes import START, FakeClock, offer

KEY = "agent-key"
SPEC = ProbeSpec(path="/health", timeout_s=30)  # an answer comes for certain, on a busy machine too
HASTY = ProbeSpec(path="/health", timeout_s=0.2)  # none comes, however long one waits
BY_RATE = ScalingSpec()  # routers count: agents are asked nothing about their load
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Agents:
    """A server on 127.0.0.1 that answers for any number of agents, each under a path of its own."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.bodies: list[bytes] = []
        self.peers: set[Any] = set()
        self._handlers: dict[str, Handler] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def answering(self, handler: Handler, name: str = "agent") -> Replica:
        self._handlers[name] = handler
        return _replica(f"{self.url}/{name}")

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_route("*", "/{name}/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        # A server forgets a request whose client has gone; those that nobody answers are still being handled.
        handled = asyncio.all_tasks() - {asyncio.current_task()}
        for task in handled:
            task.cancel()
        await asyncio.gather(*handled, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.bodies.append(body)
        self.seen.append((request.method, request.path_qs, dict(request.headers), json.loads(body) if body else None))
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        response = await self._handlers[request.match_info["name"]](request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            response.headers.setdefault(SIGNATURE, _signature(response.body, _nonce(request.headers["Authorization"])))
        return response


@pytest.fixture
def agents() -> Iterator[Agents]:
    server = Agents()
    yield server
    server.close()


@pytest.fixture
def prober() -> Iterator[HttpProber]:
    made = HttpProber(KEY, FakeClock(), budget_s=60.0)
    yield made
    made.close()


def _replica(url: str, nonce: str = "n0") -> Replica:
    return Replica("svc", "svc-ab12-0-1", 0, 1, 1, "v1", offer(), nonce, ReplicaStatus.READY, START, START, url=url)


def _nonce(authorization: str) -> str:
    return authorization.split(".")[1]


def _signature(body: bytes, nonce: str, replica_id: str = "svc-ab12-0-1", boot_nonce: str = "n0") -> str:
    token = agent_token(KEY, replica_id, boot_nonce)
    return hmac.digest(token.encode(), nonce.encode() + b"\n" + body, "sha256").hex()


def _answer(**changes: Any) -> dict[str, Any]:
    return {
        "replica_id": "svc-ab12-0-1",
        "boot_nonce": "n0",
        "ready": True,
        "detail": "",
        "in_flight": 3,
        "draining": False,
        "engine": {"phase": "RUNNING", "exit_code": None, "log_tail": ""},
        "interruption_at": None,
        **changes,
    }


def _json(document: Any, status: int = 200) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response(document, status=status)

    return handler


def _raw(body: bytes, **options: Any) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, **options)

    return handler


async def _never(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def _dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


def test_a_ready_replica_is_believed(agents: Agents, prober: HttpProber) -> None:
    """Everything the agent says of itself arrives, stamped with our clock."""
    replica = agents.answering(_json(_answer(interruption_at=START + 30)))
    result = prober.probe([(replica, SPEC)], BY_RATE)[replica.id]
    assert (result.identified, result.ready, result.in_flight, result.engine) == (True, True, 3, EnginePhase.RUNNING)
    assert (result.at, result.interruption_at) == (START, START + 30)


def test_the_agent_is_asked_what_the_spec_says(agents: Agents, prober: HttpProber) -> None:
    """Method, path, body, headers and timeout of the readiness probe travel in the question."""
    spec = ProbeSpec(path="/v1/x", post_data='{"a": 1}', headers=(("X-Key", "v"),), timeout_s=2.5)
    replica = agents.answering(_json(_answer()))
    prober.probe([(replica, spec)], BY_RATE)
    ((method, path, _, question),) = agents.seen
    assert (method, path) == ("POST", "/agent/_sailplane/probe")
    assert question == {
        "method": "POST",
        "path": "/v1/x",
        "body": '{"a": 1}',
        "headers": {"X-Key": "v"},
        "timeout_s": 2.5,
    }


@pytest.mark.parametrize("metric", [Metric.CONCURRENCY, Metric.QUEUE_DEPTH, Metric.PROMETHEUS])
def test_the_agent_is_asked_for_the_metric_that_the_service_follows(
    agents: Agents, prober: HttpProber, metric: Metric
) -> None:
    """Its name and both windows travel with the probe, and the answer's averages come back."""
    replica = agents.answering(_json(_answer(load={"stable": 2.5, "panic": 4})))
    scaling = ScalingSpec(metric=metric, metric_name="x:y", qps_window_s=60, panic_window_s=6)
    result = prober.probe([(replica, SPEC)], scaling)[replica.id]
    assert agents.seen[0][3]["load"] == {"metric": metric, "name": "x:y", "stable_s": 60, "panic_s": 6}
    assert result.load == ReplicaLoad(stable=2.5, panic=4.0)


def test_a_service_that_follows_the_rate_of_requests_asks_for_no_load(agents: Agents, prober: HttpProber) -> None:
    """Routers count requests; agents need not know."""
    replica = agents.answering(_json(_answer()))
    assert prober.probe([(replica, SPEC)], BY_RATE)[replica.id].load is None
    assert "load" not in agents.seen[0][3]


@pytest.mark.parametrize(
    "load",
    [
        None,
        "much",
        [1, 2],
        {"stable": 1.0},
        {"stable": -1.0, "panic": 1.0},
        {"stable": 1.0, "panic": float("nan")},
        {"stable": float("inf"), "panic": 1.0},
        {"stable": 1.7e308, "panic": 1.0},
        {"stable": None, "panic": 1.0},
    ],
)
def test_a_senseless_load_is_unknown_and_the_replica_still_ready(
    agents: Agents, prober: HttpProber, load: object
) -> None:
    """No number is guessed, and a replica that serves is not given up for a broken figure. Old agents send none at all."""
    replica = agents.answering(_json(_answer(load=load)))
    result = prober.probe([(replica, SPEC)], ScalingSpec(metric=Metric.CONCURRENCY))[replica.id]
    assert (result.ready, result.load) == (True, None)


def test_an_engine_that_exited_tells_why(agents: Agents, prober: HttpProber) -> None:
    """Its code and the end of its log, bounded: they go into the replica's record."""
    engine = {"phase": "EXITED", "exit_code": 1, "log_tail": "x" * 9_000 + "no such model"}
    replica = agents.answering(_json(_answer(ready=False, engine=engine, detail="d" * 900)))
    result = prober.probe([(replica, SPEC)], BY_RATE)[replica.id]
    assert (result.engine, result.exit_code) == (EnginePhase.EXITED, 1)
    assert result.log_tail.endswith("no such model")
    assert len(result.log_tail) == 8_000
    assert len(result.detail) == 500


def test_an_engine_whose_last_words_are_binary_is_understood(agents: Agents, prober: HttpProber) -> None:
    """The agent's 16 KB of log are 98 KB of JSON when no byte of them is text."""
    engine = {"phase": "EXITED", "exit_code": 1, "log_tail": "\ufffd" * 16_384}
    replica = agents.answering(_json(_answer(ready=False, engine=engine)))
    assert prober.probe([(replica, SPEC)], BY_RATE)[replica.id].engine is EnginePhase.EXITED


@pytest.mark.parametrize("ask", ["probe", "drain", "read_log"])
def test_every_question_is_signed_with_the_agents_own_token(agents: Agents, prober: HttpProber, ask: str) -> None:
    """As the agent itself checks it, by the control plane's clock; the token is not sent."""
    replica = agents.answering(_json(_answer()))
    asked: dict[str, Callable[[], object]] = {
        "probe": lambda: prober.probe([(replica, SPEC)], BY_RATE),
        "drain": lambda: prober.drain(replica),
        "read_log": lambda: prober.read_log(replica, 7),
    }
    asked[ask]()
    ((method, path, headers, _),) = agents.seen
    (body,) = agents.bodies
    token = agent_token(KEY, replica.id, replica.boot_nonce)
    clock = ControlTime(FakeClock().now, FakeClock().now)
    authorization, target = headers["Authorization"].encode(), path.removeprefix("/agent").encode()
    assert Signatures("another", clock).check(authorization, method.encode(), target, body) is None
    assert Signatures(token, clock).check(authorization, method.encode(), target, body) == _nonce(
        headers["Authorization"]
    )
    assert clock.told() == START
    assert token not in str(headers)


def test_no_question_is_asked_twice_under_one_name(agents: Agents, prober: HttpProber) -> None:
    """An agent takes each nonce once."""
    replica = agents.answering(_json(_answer()))
    for _ in range(3):
        prober.probe([(replica, SPEC), (replica, SPEC)], BY_RATE)
    assert len({_nonce(headers["Authorization"]) for _, _, headers, _ in agents.seen}) == 6


@pytest.mark.parametrize(
    "forge",
    [
        lambda _body, _nonce: "",
        lambda _body, _nonce: "ü",
        lambda _body, nonce: _signature(b"{}", nonce),
        lambda body, nonce: _signature(body, nonce[::-1]),
        lambda body, nonce: _signature(body, nonce, replica_id="svc-ab12-0-2"),
        lambda body, nonce: _signature(body, nonce, boot_nonce="n1"),
    ],
    ids=["none", "nonsense", "another answer's", "another question's", "another replica's", "another boot's"],
)
def test_another_machine_at_the_address_is_nobody(
    agents: Agents, prober: HttpProber, forge: Callable[[bytes, str], str]
) -> None:
    """Clouds reuse addresses and machines reboot: only this replica in this boot can sign this answer to this question."""
    body = json.dumps(_answer()).encode()

    async def forging(request: web.Request) -> web.Response:
        headers = {SIGNATURE: forge(body, _nonce(request.headers["Authorization"]))}
        return web.Response(body=body, headers=headers)

    replica = agents.answering(forging)
    result = prober.probe([(replica, SPEC)], BY_RATE)[replica.id]
    assert (result.identified, result.ready) == (False, False)
    assert "another machine" in result.detail


@pytest.mark.parametrize(
    ("handler", "detail"),
    [
        (_raw(b"<html>hello</html>"), "malformed"),
        (_raw(b""), "malformed"),
        (_raw(b"[]"), "malformed"),
        (_raw(b"\xff\xfe"), "malformed"),
        (_json(_answer(ready="perhaps")), "malformed: ready"),
        (_json(_answer(in_flight=-1)), "malformed: in_flight"),
        (_json(_answer(interruption_at=float("nan"))), "malformed: interruption_at"),
        (_json(_answer(engine={"phase": "DREAMING"})), "malformed: engine.phase"),
        (_json({"ready": True}), "malformed: engine"),
        (_raw(b" " * (MAX_ANSWER_BYTES + 1)), "longer than 128 KB"),
        (_raw(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), "malformed"),
        (_json({}, status=401), "HTTP 401"),
        (_json(_answer(), status=500), "HTTP 500"),
    ],
)
def test_what_is_no_answer_is_silence_with_a_reason(
    agents: Agents, prober: HttpProber, handler: Handler, detail: str
) -> None:
    """Garbage, refusals and floods neither raise nor count as ready."""
    replica = agents.answering(handler)
    result = prober.probe([(replica, SPEC)], BY_RATE)[replica.id]
    assert (result.identified, result.ready) == (False, False)
    assert detail in result.detail


@pytest.mark.parametrize("handler", [_never, _dripping])
def test_what_does_not_come_to_its_end_in_time_is_silence(agents: Agents, prober: HttpProber, handler: Handler) -> None:
    """However much of an answer is there by then, and whatever may come later."""
    replica = agents.answering(handler)
    result = prober.probe([(replica, HASTY)], BY_RATE)[replica.id]
    assert (result.identified, result.ready) == (False, False)
    assert "did not answer within 1.2 s" in result.detail


def test_a_redirect_is_not_followed(agents: Agents, prober: HttpProber) -> None:
    """Whoever answers elsewhere is not the machine that was asked, and must not get its token."""
    agents.answering(_json(_answer()), "elsewhere")
    headers = {"Location": f"{agents.url}/elsewhere/_sailplane/probe"}
    replica = agents.answering(_raw(b"", status=307, headers=headers))
    assert "HTTP 307" in prober.probe([(replica, SPEC)], BY_RATE)[replica.id].detail
    assert len(agents.seen) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://[::1", "http://no-such-host.invalid", "ftp://x", "nonsense"]
)
def test_nobody_at_the_address_is_silence(prober: HttpProber, url: str) -> None:
    """A refused connection, a name that does not resolve, an address that is none."""
    replica = _replica(url)
    result = prober.probe([(replica, SPEC)], BY_RATE)[replica.id]
    assert not result.identified
    assert "cannot be reached" in result.detail


def test_a_listener_that_never_accepts_is_silence(prober: HttpProber) -> None:
    """The connection stands in the kernel's queue; nobody speaks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        replica = _replica(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert "did not answer" in prober.probe([(replica, HASTY)], BY_RATE)[replica.id].detail


def test_all_are_asked_at_once(agents: Agents, prober: HttpProber) -> None:
    """Forty agents of which half never answer take as long as one that never answers, and all are reported on."""
    healthy = agents.answering(_json(_answer()), "healthy")
    silent = agents.answering(_never, "silent")
    pairs = [((healthy, SPEC), (silent, HASTY))[number % 2] for number in range(40)]
    targets = [(replace(replica, id=f"svc-{number}"), spec) for number, (replica, spec) in enumerate(pairs)]
    started = time.monotonic()
    results = prober.probe(targets, BY_RATE)
    assert time.monotonic() - started < 10 * (HASTY.timeout_s + 1)  # one after the other, they take twice as long
    assert results.keys() == {replica.id for replica, _ in targets}
    assert sum("another machine" in result.detail for result in results.values()) == 20
    assert sum("did not answer" in result.detail for result in results.values()) == 20


def test_no_probe_outlasts_the_pass(agents: Agents) -> None:
    """A probe timeout of a minute is cut to the budget."""
    prober = HttpProber(KEY, FakeClock(), budget_s=0.2)
    replica = agents.answering(_never)
    started = time.monotonic()
    assert "within 0.2 s" in prober.probe([(replica, replace(SPEC, timeout_s=60))], BY_RATE)[replica.id].detail
    assert time.monotonic() - started < 30
    prober.close()


def test_connections_are_kept_between_passes(agents: Agents, prober: HttpProber) -> None:
    """Ten passes over one replica open one connection."""
    replica = agents.answering(_json(_answer()))
    for _ in range(10):
        assert prober.probe([(replica, SPEC)], BY_RATE)[replica.id].ready
    assert len(agents.peers) == 1


def test_threads_may_probe_at_the_same_time(agents: Agents) -> None:
    """Passes and API requests share one prober, from its first moment on."""
    prober = HttpProber(KEY, FakeClock(), budget_s=60.0)
    replica = agents.answering(_json(_answer()))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: prober.probe([(replica, SPEC)], BY_RATE)[replica.id].ready, range(64)))
    assert results == [True] * 64
    prober.close()


def test_no_targets_no_thread() -> None:
    """A service at zero costs nothing."""
    before = threading.active_count()
    assert HttpProber(KEY, FakeClock()).probe([], BY_RATE) == {}
    assert threading.active_count() == before


def test_drain_asks_the_agent_and_bears_its_silence(agents: Agents, prober: HttpProber) -> None:
    """The replica is unrouted either way."""
    replica = agents.answering(_json({"in_flight": 2}))
    prober.drain(replica)
    assert [(method, path) for method, path, _, _ in agents.seen] == [("POST", "/agent/_sailplane/drain")]
    prober.drain(_replica("http://127.0.0.1:1"))
    prober.drain(_replica(""))


def test_a_log_is_read_and_bounded(agents: Agents, prober: HttpProber) -> None:
    """The last lines as text, never more than a function may answer with; the end is what is kept."""
    replica = agents.answering(_raw(b"line 1\n\xff line 2\n"))
    assert prober.read_log(replica, 2) == "line 1\n� line 2\n"
    assert agents.seen[0][1] == "/agent/_sailplane/log?tail=2"
    text = prober.read_log(agents.answering(_raw(b"x" * MAX_LOG_BYTES + b"the end")), 10)
    assert text is not None
    assert len(text) == MAX_LOG_BYTES
    assert text.endswith("the end")


def test_no_agent_no_log(agents: Agents, prober: HttpProber) -> None:
    """So that the provider is asked instead."""
    assert prober.read_log(agents.answering(_json({}, status=404)), 10) is None
    assert prober.read_log(_replica("http://127.0.0.1:1"), 10) is None
    assert prober.read_log(_replica(""), 10) is None


def test_routers_are_asked_whether_they_live(agents: Agents, prober: HttpProber) -> None:
    """With nothing that anybody could steal, and whatever they answer."""

    async def unwell(_request: web.Request) -> web.Response:
        return web.Response(status=503)

    prober.ask_routers(agents.answering(unwell, "edge").url)
    [(method, path, headers, body)] = agents.seen
    assert (method, path, body) == ("GET", "/edge/", None)
    assert "Authorization" not in headers


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no.invalid", "http://[", ""])
def test_routers_that_are_silent_are_no_error(agents: Agents, prober: HttpProber, url: str) -> None:
    """Their silence shows in the load; those of the next minute are asked again."""

    async def well(_request: web.Request) -> web.Response:
        return web.Response()

    prober.ask_routers(url)
    prober.ask_routers(agents.answering(well, "edge").url)
    assert len(agents.seen) == 1
