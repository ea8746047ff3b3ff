"""`sailplane.resolve`: httpx asks the router where to go, and goes there."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from sailplane.resolve import Resolve

ENDPOINT = "https://edge.example/chat"
REPLICA = "http://10.0.0.7:7481/~1a2b3c4d.60.-.-.-.p.mac"


class World:
    """A router and a replica, and what they were asked."""

    def __init__(self, status: int = 200) -> None:
        self.asked: list[httpx.Request] = []
        self._status = status

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path.endswith("/_resolve"):
            document = {"url": REPLICA, "expires_at": "2026-11-22T12:00:00Z"}
            return httpx.Response(self._status, json=document if self._status == 200 else {"title": "No"})
        return httpx.Response(200, content=request.content)

    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self), auth=Resolve(ENDPOINT, "sp_key"))


def test_a_request_goes_to_the_replica_and_only_there() -> None:
    """Method, body, path and query arrive as they are, under the grant; the router saw neither body nor path."""
    world = World()
    answer = world.client().post(f"{ENDPOINT}/v1/files%2Fa?b=%7E", content=b"large", headers={"Accept": "x/y"})
    assert answer.content == b"large"
    question, request = world.asked
    assert (question.method, str(question.url), question.content) == ("GET", f"{ENDPOINT}/_resolve", b"")
    assert (request.method, str(request.url)) == ("POST", f"{REPLICA}/v1/files%2Fa?b=%7E")
    assert (request.headers["host"], request.headers["accept"]) == ("10.0.0.7:7481", "x/y")


def test_the_key_stays_with_the_router() -> None:
    """The replica sees no key, whichever header the client puts it in; hosts that are not the router never do."""
    world = World()
    world.client().get(f"{ENDPOINT}/v1", headers={"Authorization": "Bearer sp_key", "X-Api-Key": "sp_key"})
    world.client().get("https://elsewhere.example/chat/v1")
    question, request, other = world.asked
    assert question.headers["authorization"] == "Bearer sp_key"
    for seen in (request, other):
        assert "sp_key" not in str(seen.headers.raw)
    assert str(other.url) == "https://elsewhere.example/chat/v1"


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_refusal_is_the_answer(status: int) -> None:
    """What the router refuses is the caller's answer, and no replica is asked."""
    world = World(status)
    assert world.client().post(f"{ENDPOINT}/v1/x").status_code == status
    assert len(world.asked) == 1


def test_an_asynchronous_client_does_the_same() -> None:
    """One class serves both of httpx's clients."""
    world = World()

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.MockTransport(world), auth=Resolve(ENDPOINT)) as client:
            return await client.get(f"{ENDPOINT}/v1/models")

    assert asyncio.run(ask()).status_code == 200
    assert str(world.asked[-1].url) == f"{REPLICA}/v1/models"
    assert "authorization" not in world.asked[0].headers
