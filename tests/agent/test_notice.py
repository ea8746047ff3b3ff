"""A cloud's notice is seen in the machine's metadata, told in probes, and told to the control plane."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from replica_agent.metadata import Aws, Azure, Gcp
from replica_agent.notice import Cloud, Notice
from tests.agent.running import TOKEN, Agent
from tests.waiting import until

NewAgent = Callable[..., Agent]
TOLD = "/v1/replicas/hello-k3f9-0-1/interruption"


@dataclass
class Outside:
    """What an agent sees of the world: every cloud's metadata service, and the control plane."""

    url: str = ""
    action: dict[str, str] | None = None  # EC2's spot/instance-action
    risk: dict[str, str] | None = None  # EC2's rebalance recommendation
    events: list[dict[str, Any]] = field(default_factory=list)  # Azure's
    preempted: threading.Event = field(default_factory=threading.Event)  # GCP's
    broken: bytes | None = None  # what metadata answers instead
    imds_token: str = "token-1"
    answers: list[int] = field(default_factory=list)  # the control plane's next statuses, 0 = none; then 202
    told: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes, dict[str, str]] | None:  # noqa: PLR0911 - a line for each path
        headers, path = request.headers, urlsplit(request.path)
        if path.path == TOLD:
            assert headers["Authorization"] == f"Bearer {TOKEN}"
            self.told.append(json.loads(body))
            status = self.answers.pop(0) if self.answers else 202
            return (status, b"{}", {}) if status else None
        self.asked.append(f"{request.command} {path.path}")
        if self.broken is not None:
            return 200, self.broken, {}
        match path.path:
            case "/latest/api/token" if headers["X-aws-ec2-metadata-token-ttl-seconds"] and request.command == "PUT":
                return 200, self.imds_token.encode(), {}
            case "/latest/meta-data/spot/instance-action":
                return self._of_ec2(headers["X-aws-ec2-metadata-token"], self.action)
            case "/latest/meta-data/events/recommendations/rebalance":
                return self._of_ec2(headers["X-aws-ec2-metadata-token"], self.risk)
            case "/computeMetadata/v1/instance/preempted" if headers["Metadata-Flavor"] == "Google":
                return self._of_gcp(parse_qs(path.query))
            case "/metadata/scheduledevents" if headers["Metadata"] == "true" and path.query:
                return 200, json.dumps({"DocumentIncarnation": 1, "Events": self.events}).encode(), {}
        return 400, b"", {}

    def _of_ec2(self, token: str, document: dict[str, str] | None) -> tuple[int, bytes, dict[str, str]]:
        if token != self.imds_token:
            return 401, b"", {}
        return (404, b"", {}) if document is None else (200, json.dumps(document).encode(), {})

    def _of_gcp(self, query: dict[str, list[str]]) -> tuple[int, bytes, dict[str, str]]:
        assert query["wait_for_change"] == ["true"]
        if query["last_etag"] == ["etag-of-false"]:
            self.preempted.wait(10)
        is_preempted = self.preempted.is_set()
        return 200, str(is_preempted).upper().encode(), {"ETag": f"etag-of-{is_preempted}".lower()}


@pytest.fixture
def outside() -> Iterator[Outside]:
    world = Outside()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = world.answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            if answer is None:
                return
            status, body, headers = answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_GET  # noqa: N815 - the base class names them so

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    world.url = f"http://127.0.0.1:{server.server_port}"
    yield world
    world.preempted.set()
    server.shutdown()
    server.server_close()


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _preempt(at: float) -> dict[str, Any]:
    return {
        "EventId": "602d9444-d2cd-49c7-8624-8643e7171297",
        "EventType": "Preempt",
        "ResourceType": "VirtualMachine",
        "Resources": ["hello"],
        "EventStatus": "Scheduled",
        "NotBefore": formatdate(at, usegmt=True),
        "EventSource": "Platform",
    }


def _at_cloud(new_agent: NewAgent, outside: Outside, cloud: str, **more: object) -> Agent:
    return new_agent(cloud=cloud, metadata_url=outside.url, control_url=outside.url, **more)


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_a_notice_is_told_once(new_agent: NewAgent, outside: Outside, cloud: str) -> None:
    """In every probe from then on, and to the control plane in one request; the replica goes on serving."""
    at = float(int(time.time()) + 30)
    if cloud == "aws":  # which is looked at every 5 s only
        outside.action = {"action": "terminate", "time": _iso(at)}
    agent = _at_cloud(new_agent, outside, cloud).until_ready()
    outside.preempted.set()
    outside.events = [_preempt(at)]

    seen = until(lambda: agent.probe()["interruption_at"])
    assert seen == pytest.approx(at, abs=5)
    until(lambda: outside.told)
    looks = len(outside.asked)
    until(lambda: cloud == "aws" or len(outside.asked) > looks)
    assert outside.told == [{"boot_nonce": "nonce-1", "kind": "INTERRUPTION", "at": seen}]
    assert agent.ask("GET", "/headers").status == 200
    assert "INTERRUPTION: the cloud names" in agent.log
    assert TOKEN not in agent.log + agent.said


def test_a_lost_answer_is_asked_for_again(new_agent: NewAgent, outside: Outside) -> None:
    """A broken connection, a 503: until somebody has taken the notice, and no longer."""
    outside.answers = [0, 503, 202]
    outside.events = [_preempt(time.time() + 30)]
    agent = _at_cloud(new_agent, outside, "azure")
    until(lambda: len(outside.told) == 3)
    looks = len(outside.asked)
    until(lambda: len(outside.asked) > looks + 1)
    assert len(outside.told) == 3
    assert all(each == outside.told[0] for each in outside.told)
    assert agent.probe()["interruption_at"] == outside.told[0]["at"]


def test_a_refused_notice_is_let_go(new_agent: NewAgent, outside: Outside) -> None:
    """404: the replica has ended for the control plane."""
    outside.answers = [404]
    outside.events = [_preempt(time.time() + 30)]
    _at_cloud(new_agent, outside, "azure")
    until(lambda: outside.told)
    until(lambda: outside.asked.count("GET /metadata/scheduledevents") > 2)
    assert len(outside.told) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"[]",
        b'{"Events": [{}]}',
        b'{"Events": [{"EventType": "Preempt", "NotBefore": "soon"}]}',
        b'{"Events": [{"EventType": "Preempt", "NotBefore": 5}]}',
    ],
)
def test_metadata_that_makes_no_sense_hurts_nobody(new_agent: NewAgent, outside: Outside, nonsense: bytes) -> None:
    """The replica serves, and is asked again until the answer makes sense."""
    outside.broken = nonsense
    agent = _at_cloud(new_agent, outside, "azure").until_ready()
    until(lambda: outside.asked)
    assert agent.probe()["interruption_at"] is None
    outside.broken, outside.events = None, [_preempt(time.time() + 30)]
    until(lambda: agent.probe()["interruption_at"])


def test_without_metadata_or_control_plane_a_replica_serves(new_agent: NewAgent) -> None:
    """Nothing listens at either address."""
    agent = new_agent(cloud="aws", metadata_url="http://127.0.0.1:1", control_url="http://127.0.0.1:1").until_ready()
    assert agent.ask("GET", "/headers").status == 200
    assert agent.process.poll() is None


def test_a_cloud_takes_its_machines_itself(new_agent: NewAgent, outside: Outside) -> None:
    """The instant passes and the agent lives on: the cloud may be late, and every answer counts."""
    outside.events = [_preempt(time.time() - 5)]
    agent = _at_cloud(new_agent, outside, "azure").until_ready()
    until(lambda: agent.probe()["interruption_at"])
    looks = len(outside.asked)
    until(lambda: len(outside.asked) > looks + 1)
    assert agent.ask("GET", "/headers").status == 200


def test_an_unknown_cloud_is_refused(new_agent: NewAgent) -> None:
    """By name, before anything runs."""
    agent = new_agent(cloud="vast")
    assert agent.process.wait(10) == 2
    assert "cloud must be one of local, aws, gcp, azure" in agent.said


def test_the_console_shows_the_engines_last_words(new_agent: NewAgent, outside: Outside) -> None:
    """A cloud keeps the console when the machine and its log are gone; at most 2 KB a second reach it."""
    agent = _at_cloud(new_agent, outside, "azure", run="seq 1 100000; echo the last word; sleep 600")
    until(lambda: "the last word" in agent.said)
    assert len(agent.said) <= 3 * 2048


def _looks(make: Callable[[aiohttp.ClientSession], Cloud], between: Sequence[Callable[[], None]]) -> list[Any]:
    """What a cloud answers to one look after each step; an error is its answer too."""

    async def look() -> list[Any]:
        seen: list[Any] = []
        async with aiohttp.ClientSession() as session:
            cloud = make(session)
            for step in between:
                step()
                try:
                    seen.append(list(await cloud.look()))
                except aiohttp.ClientError as error:
                    seen.append(type(error))
        return seen

    return asyncio.run(look())


def test_a_rebalance_recommendation_is_no_interruption(outside: Outside) -> None:
    """Both kinds are told, each with its own instant."""
    at = float(int(time.time()))
    outside.risk = {"noticeTime": _iso(at)}

    def warn() -> None:
        outside.action = {"action": "terminate", "time": _iso(at + 120)}

    seen = _looks(lambda session: Aws(session, outside.url), [lambda: None, warn])
    assert seen == [[Notice("REBALANCE", at)], [Notice("INTERRUPTION", at + 120), Notice("REBALANCE", at)]]


def test_an_expired_imds_token_is_renewed(outside: Outside) -> None:
    """One look is lost, the next one sees."""

    def expire() -> None:
        outside.imds_token = "token-2"

    seen = _looks(lambda session: Aws(session, outside.url), [lambda: None, expire, lambda: None])
    assert seen == [[], aiohttp.ClientResponseError, []]


def test_gcps_flag_is_seen_when_it_changes(outside: Outside) -> None:
    """The first look answers at once, the second when there is news."""
    threading.Timer(0.2, outside.preempted.set).start()
    begun = time.monotonic()
    first, second = _looks(lambda session: Gcp(session, outside.url), [lambda: None, lambda: None])
    assert first == []
    assert [notice.kind for notice in second] == ["INTERRUPTION"]
    assert 0.1 < time.monotonic() - begun < 5


def test_azures_other_events_are_no_interruption(outside: Outside) -> None:
    """A reboot or a live migration leaves the machine."""
    outside.events = [
        {**_preempt(time.time()), "EventType": kind} for kind in ("Freeze", "Reboot", "Redeploy", "Terminate")
    ]
    assert _looks(lambda session: Azure(session, outside.url), [lambda: None]) == [[]]


def test_an_azure_event_that_has_begun_is_now(outside: Outside) -> None:
    """Its `NotBefore` is empty by then."""
    outside.events = [{**_preempt(0), "EventStatus": "Started", "NotBefore": ""}]
    ((notice,),) = _looks(lambda session: Azure(session, outside.url), [lambda: None])
    assert notice.at == pytest.approx(time.time(), abs=5)
