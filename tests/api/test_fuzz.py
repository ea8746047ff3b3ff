"""schemathesis asks the served API what its OpenAPI document allows and what it does not: `make fuzz`."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import uvicorn

from chalicelib import identity
from chalicelib.api import once, schemas
from chalicelib.api.app import create_app
from chalicelib.model import Hook, HookKind
from sailplane.local.gateway import Gateway, Receive, Send
from tests.api.conftest import ADMIN_KEY, SETTINGS
from tests.fakes import FakeClock, FakeCloud, World
from tests.waiting import until

CONFIG = Path(__file__).parent / "fuzz.toml"
FEWEST_CASES = 2_000
FEWEST_STATEFUL = 400
FEWEST_REPEATED = 200
FEWEST_DELIVERED = 5  # of some 40 that are signed
KEY = b"idempotency-key"


class Cloud(FakeCloud):
    """One that breaks its machines when told to."""

    def preempt(self, replica_id: str, notice_s: float) -> None:
        """Nothing in the tests of routes waits for it."""

    def kill(self, replica_id: str) -> None:
        self.machines.pop(replica_id, None)


class Repeating:
    """Stands before the API: every write that comes with a good key gets one of its own, and is sent twice.

    schemathesis makes few keys, and with one key for all only the first request would be acted on. `differences` has every
    write whose second answer was another than its first.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.keys = 0
        self.differences: list[str] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if not re.fullmatch(once.PATTERN, headers.get(KEY, b"").decode("latin-1")):
            await self.gateway(scope, receive, send)
            return
        self.keys += 1
        scope = {**scope, "headers": [*(headers | {KEY: b"%d" % self.keys}).items()]}
        body = await _whole(receive)
        first, second = [await self._asked(scope, body) for _ in range(2)]
        if _comparable(first) != _comparable(second):
            self.differences.append(f"{scope['method']} {scope['path']} {body!r}: {first} and then {second}")
        for message in first:
            await send(message)

    async def _asked(self, scope: MutableMapping[str, Any], body: bytes) -> list[MutableMapping[str, Any]]:
        said: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: MutableMapping[str, Any]) -> None:
            said.append(message)

        await self.gateway(scope, receive, send)
        return said


class Delivering:
    """Stands before that: every other JSON object that is sent to a webhook becomes a delivery that one has signed.

    schemathesis cannot sign, and would see refusals only. `answers` counts what became of the deliveries.
    """

    def __init__(self, app: Repeating, world: World) -> None:
        self.app = app
        self.world = world
        self.sent = count()
        self.answers: Counter[str] = Counter()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        hooks = self.world.store.hooks() if scope["path"].startswith("/v1/hooks/") and scope["method"] == "POST" else ()
        if not hooks:
            await self.app(scope, receive, send)
            return
        body, number = await _whole(receive), next(self.sent)
        if number % 2 and _is_object(body) and dict(scope["headers"]).get(b"content-type") == b"application/json":
            hook = hooks[number % len(hooks)]
            headers, body = self._signed(hook, number)
            is_shared = scope["path"] == "/v1/hooks/github" and hook.kind is HookKind.GITHUB
            path = scope["path"] if is_shared else f"/v1/hooks/{hook.id}"
            scope = {**scope, "path": path, "raw_path": path.encode(), "headers": [*scope["headers"], *headers.items()]}

        async def again() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body}

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body" and b'"result":' in message["body"]:
                self.answers[json.loads(message["body"])["result"]] += 1
            await send(message)

        if number % 4 == 3:  # what is answered is a duplicate's
            await self.app.gateway(scope, again, _forget)
        await self.app.gateway(scope, again, counted)

    def _signed(self, hook: Hook, number: int) -> tuple[dict[bytes, bytes], bytes]:
        """A push to the hook's branch, or in every eighth case to another."""
        ref, commit = f"refs/heads/{'other' if number % 8 == 1 else hook.branch}", f"{number:040x}"
        secret = identity.webhook_secret(SETTINGS.agent_key, hook.id, hook.generation)
        now = self.world.clock.now()
        name = f"delivery-{number}"
        if hook.kind is HookKind.GITHUB:
            body = json.dumps({"ref": ref, "after": commit, "repository": {"full_name": hook.repository}}).encode()
            digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            headers = {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": name, "x-github-event": "push"}
        elif hook.kind is HookKind.GITLAB:
            project = {"path_with_namespace": hook.repository}
            body = json.dumps({"object_kind": "push", "ref": ref, "after": commit, "project": project}).encode()
            headers = {"x-gitlab-token": secret, "idempotency-key": name, "x-gitlab-event": "Push Hook"}
        else:
            data = {"commit": commit, "yaml": schemas.EXAMPLE_YAML}
            at = datetime.fromtimestamp(now, UTC)
            body = json.dumps({"type": "push", "timestamp": at.isoformat(), "data": data}).encode()
            signature = standardwebhooks.Webhook(secret).sign(name, at, body.decode())
            headers = {"webhook-id": name, "webhook-timestamp": f"{now:.0f}", "webhook-signature": signature}
        return {key.encode(): value.encode() for key, value in headers.items()}, body


async def _forget(_message: MutableMapping[str, Any]) -> None:
    """Nobody has asked."""


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


async def _whole(receive: Receive) -> bytes:
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    return body + bytes(message.get("body", b""))


def _comparable(said: list[MutableMapping[str, Any]]) -> tuple[int, bytes]:
    return said[0]["status"], said[1]["body"]


@contextmanager
def control_plane(listener: socket.socket) -> Iterator[tuple[Repeating, Delivering]]:
    """A control plane whose time runs while the body does."""
    world = World(cloud=Cloud(FakeClock()))
    settings = replace(SETTINGS, control_url="https://control.example")
    world.runtime = replace(world.runtime, settings=settings)
    gateway = Gateway(partial(create_app, lambda: world.runtime), threads=2)
    repeating = Repeating(gateway)
    delivering = Delivering(repeating, world)
    server = uvicorn.Server(uvicorn.Config(delivering, lifespan="off", log_config=None, access_log=False))
    over = threading.Event()
    threads = [
        threading.Thread(target=server.run, args=([listener],)),
        threading.Thread(target=_tick, args=(world, over)),
    ]
    for thread in threads:
        thread.start()
    try:
        until(lambda: server.started)
        yield repeating, delivering
    finally:
        over.set()
        server.should_exit = True
        for thread in threads:
            thread.join()
        gateway.close()


def _tick(world: World, over: threading.Event) -> None:
    while not over.wait(1):  # hundreds of services come together: passes must leave time for requests
        world.tick()


def _cases(url: str, directory: Path, phases: str, examples: int, seed: int = 1) -> int:
    """How many requests schemathesis has made in these phases, none of which failed."""
    command: list[str | Path] = [
        Path(sys.executable).parent / "schemathesis",
        *("--config-file", CONFIG, "run", f"{url}/openapi.json", "--phases", phases, "--max-examples", str(examples)),
        *("-H", f"Authorization: Bearer {ADMIN_KEY}", "--seed", str(seed), "--no-color"),
    ]
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    passed = re.search(r"([0-9]+) generated, ([0-9]+) passed", run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    assert passed, run.stdout
    assert passed[1] == passed[2], run.stdout
    return int(passed[1])


@pytest.mark.fuzz
def test_the_api_keeps_to_its_document(tmp_path: Path) -> None:
    """At least 2,000 requests, valid and invalid, alone and one after another with what was answered: no failure.

    Every one of schemathesis's checks is on: no 5xx, only documented answers in the documented form, what the schema allows is
    accepted and what it does not is refused, no route without its key, nothing that was removed is still there. And every
    write that is sent twice under one key is answered the same.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    with control_plane(listener) as (repeating, delivering):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        alone = _cases(url, tmp_path, "examples,coverage,fuzzing", 25)
        # What comes of a seed differs: from 100 requests to 500.
        one_after_another = sum(_cases(url, tmp_path, "stateful", 600, seed) for seed in range(1, 7))
    assert alone >= FEWEST_CASES
    assert one_after_another >= FEWEST_STATEFUL
    assert repeating.differences == []
    assert repeating.keys > FEWEST_REPEATED
    assert delivering.answers["accepted"] >= FEWEST_DELIVERED, delivering.answers
    assert {"ignored", "duplicate"} <= delivering.answers.keys(), delivering.answers
