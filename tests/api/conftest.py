"""The app over a memory store and a fake cloud, called through Chalice's own test client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from chalice.test import Client, HTTPResponse

from chalicelib.api.app import create_app
from chalicelib.ports import Settings
from tests.fakes import World

ADMIN_KEY = "admin-key-of-the-tests"
ROUTER_TOKEN = "router-token-of-the-tests"
SETTINGS = Settings(
    edge_url="http://127.0.0.1:7490",
    admin_key=ADMIN_KEY,
    router_tokens=(ROUTER_TOKEN,),
    agent_key="agent-key-of-the-tests",
)
YAML = """\
service:
  readiness_probe: /health
  replicas: 2
  ports: 8080
resources:
  cpus: 2+
run: serve
"""


class Api:
    """Requests to the control plane of `world`, with the admin key unless told otherwise; whose pass they asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.poked: list[str] = []
        world.runtime = replace(world.runtime, poke=self.poked.append, settings=SETTINGS)
        self.app = create_app(lambda: world.runtime)
        self.client = Client(self.app)

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = ADMIN_KEY, **headers: str
    ) -> HTTPResponse:
        sent = {"Content-Type": "application/json", **headers}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.client.http.request(method, path, headers=sent, body=raw)

    def get(self, path: str) -> HTTPResponse:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> HTTPResponse:
        return self.call("POST", path, body)

    def exchange(self, body: Mapping[str, Any]) -> HTTPResponse:
        return self.call("POST", "/v1/edge/exchange", body, key=ROUTER_TOKEN)


def assert_problem(response: HTTPResponse, status: int) -> dict[str, Any]:
    """The response is RFC 9457 problem details with this status; its document."""
    document: dict[str, Any] = json.loads(response.body)
    assert response.status_code == status, document
    assert response.headers["Content-Type"] == "application/problem+json"
    assert document["status"] == status
    assert {"type", "title", "detail", "instance"} <= document.keys()
    return document


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def api(world: World) -> Api:
    return Api(world)
