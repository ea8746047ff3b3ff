"""Real agents in real processes for tests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

import psutil
from aiohttp import web

from chalicelib.providers.local.processes import TAG, kill_all, processes_of
from replica_agent.door import Door
from replica_agent.engine import Phase
from replica_agent.gate import Gate
from replica_agent.heads import OF_THE_HOP, REWRITTEN, Request
from replica_agent.problem import Answer as AgentsAnswer
from replica_agent.problem import problem
from replica_agent.quota import Quotas
from replica_agent.server import Behind, Patience, Server
from replica_agent.times import ControlTime
from replica_agent.upstream import Upstream
from tests.waiting import until

TOKEN = "agent-token-of-a-test"
KID, GRANT_KEY = "0a1b2c3d", bytes(range(32))
ENGINE = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).parent / 'engine.py'))}"


def granted(method: str, target: str, **changes: Any) -> str:
    """The target with a grant for it before it, as a router makes one."""
    return f"/~{grant(method, target.partition('?')[0], **changes)}{target}"


def grant(  # noqa: PLR0917 - the contract's fields in its order
    method: str,
    path: str,
    expires_in_s: float = 60,
    key_id: str = "k123456789",
    rate: str = "-",
    concurrency: str = "-",
    scope: str = "x",
    *,
    kid: str = KID,
    key: bytes = GRANT_KEY,
    service: str = "hello",
) -> str:
    text = f"{kid}.{int(time.time() + expires_in_s)}.{key_id}.{rate}.{concurrency}.{scope}"
    bound = [b"", b""] if scope == "p" else [method.encode(), unquote_to_bytes(path)]
    mac = hmac.digest(key, b"\n".join([text.encode(), service.encode(), *bound]), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def signed(method: str, target: str, body: str = "", token: str = TOKEN, at: float | None = None) -> dict[str, str]:
    """The header of a command, as the control plane signs it."""
    seconds, nonce = int(time.time() if at is None else at), secrets.token_hex(16)
    message = f"{seconds}\n{nonce}\n{method}\n{target}\n{hashlib.sha256(body.encode()).hexdigest()}"
    mac = hmac.digest(token.encode(), message.encode(), "sha256").hex()
    return {"Authorization": f"Sailplane {seconds}.{nonce}.{mac}"}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Agent:
    """One agent process and the directory it lives in."""

    directory: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, **overrides: object) -> Agent:
        config = {
            "replica_id": "hello-k3f9-0-1",
            "service": "hello",
            "boot_nonce": "nonce-1",
            "agent_token": TOKEN,
            "grant_keys": {KID: GRANT_KEY.hex()},
            "edge_url": "https://edge.example",
            "access": "required",
            "engine_key": "",
            "engine_key_env": "",
            "secrets_url": "",
            "host": "127.0.0.1",
            "port": 0,
            "engine_port": 0,
            "cloud": "local",
            "metadata_url": "",
            "control_url": "",
            "image": "",
            "setup": "",
            "run": ENGINE,
            "env": {},
            "workdir": "",
            "drain_timeout_s": 10,
            **overrides,
        }
        self.directory.mkdir(exist_ok=True)
        (self.directory / "agent.json").write_text(json.dumps(config))
        self.process = self.spawn()
        until(lambda: self.place or self.process.poll() is not None)
        return self

    def spawn(self) -> subprocess.Popen[bytes]:
        env = {"PATH": os.environ["PATH"], TAG: str(self.directory)}
        with (self.directory / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "replica_agent", "--config", str(self.directory / "agent.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )

    @property
    def place(self) -> dict[str, Any]:
        path = self.directory / "agent.lock"
        return json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}

    @property
    def said(self) -> str:
        return (self.directory / "agent.log").read_text()

    @property
    def log(self) -> str:
        return (self.directory / "replica.log").read_text()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.place["port"], timeout=15)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Answer:
        """Ask as a client that a router has sent here."""
        return self.ask_raw(method, granted(method, path), body, headers, chunked=chunked)

    def ask_raw(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Answer:
        return _ask(self.connect(), method, target, body, headers or {}, chunked=chunked)

    def ask_engine(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.place["engine_port"], timeout=15)
        body = _ask(connection, "GET", path, None, {}, chunked=False).body
        return json.loads(body) if body else None

    def command(self, method: str, path: str, document: object = None, token: str = TOKEN) -> Answer:
        body = "" if document is None else json.dumps(document)
        return self.ask_raw(method, f"/_sailplane/{path}", body, signed(method, f"/_sailplane/{path}", body, token))

    def probe(self, path: str = "/headers", **more: object) -> dict[str, Any]:
        told: dict[str, Any] = self.command(
            "POST", "probe", {"method": "GET", "path": path, "timeout_s": 5, **more}
        ).json
        return told

    def until_phase(self, phase: str) -> dict[str, Any]:
        return until(lambda: (seen := self.probe())["engine"]["phase"] == phase and seen)

    def until_ready(self) -> Agent:
        until(lambda: self.probe()["ready"])
        return self

    def processes(self) -> list[psutil.Process]:
        return processes_of(self.directory, None)

    def destroy(self) -> None:
        """Kill everything and make sure that nothing is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        kill_all(self.directory, None, is_locked=lambda: False)


@asynccontextmanager
async def serving(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """The port of a server on 127.0.0.1 that answers everything with `handler`."""
    runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@asynccontextmanager
async def before(engine_port: int, **patience: float) -> AsyncIterator[int]:
    """The port of the agent's server in this process, before an engine that is there already."""
    server = Server(behind(engine_port, **patience))
    watching = asyncio.create_task(server.watch())
    yield await server.listen("127.0.0.1", 0)
    watching.cancel()
    server.stop_listening()
    await server.close()


def behind(engine_port: int, **patience: float) -> Behind:
    engine: Any = SimpleNamespace(port=engine_port, phase=Phase.RUNNING)
    config: Any = SimpleNamespace(grant_keys={KID: GRANT_KEY}, service="hello", edge_url="")
    gate = Gate()
    return Behind(
        door=Door(config, engine, gate, Quotas(time.monotonic), ControlTime()),
        gate=gate,
        upstream=Upstream(engine_port, time.monotonic),
        engine_host=b"engine",
        control=refusing,
        dropped=OF_THE_HOP | REWRITTEN,
        credentials=b"",
        patience=Patience(**patience),
    )


async def refusing(request: Request, _body: bytes) -> AgentsAnswer:
    return problem(401, "Not authorized", "", request.path)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object,
    headers: dict[str, str],
    *,
    chunked: bool,
) -> Answer:
    try:
        connection.request(method, path, body, headers, encode_chunked=chunked)  # type: ignore[arg-type]  # any body it takes
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
