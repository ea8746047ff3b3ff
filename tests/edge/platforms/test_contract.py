"""One contract for all platforms: whatever runs the router, a client sees the same."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chalicelib import identity
from edge_router.platforms import aws, azure, gcp
from replica_agent import grants
from tests.edge.fakes import KEY, KEY_ID, TOKEN, FakeControl
from tests.edge.platforms.runtimes import PLATFORMS, Answer, Call
from tests.waiting import until

OTHER_KEY_ID, OTHER_KEY = "0therkey00", f"sp_0therkey00_{'B' * 43}"
REPLICAS = ["http://198.51.100.1:8000", "https://198.51.100.2/prefix"]
BEARER = {"Authorization": f"Bearer {KEY}"}
JSON = {"Content-Type": "application/json"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# As clients write them: encoded slash, question mark, percent sign and letters, twice encoded, empty segments, file names
# that a framework keeps for itself, characters that need no encoding and some that should have it.
TARGETS = (
    "/hello",
    "/hello/",
    "/hello/v1/chat/completions?a=1&a=2&b=",
    "/hello/a%2Fb%3Fc%25d%20e/%C3%A9%5C?q=%2F%3F%20+%C3%A9",
    "/hello/%2541//b//?x=//y",
    "/hello/static/robots.txt",
    "/hello/favicon.ico?",
    "/hello/a~!$&'()*+,;=:@-._?[]|^{}`<>\"",
)


@dataclass(frozen=True)
class Stack:
    """All platforms, each with a router of its own, on one control plane."""

    control: FakeControl
    calls: Mapping[str, Call]


def service(replicas: list[str], **fields: Any) -> dict[str, Any]:
    listed = [{"id": f"r-{slot}", "url": url, "boot": f"b007{slot}"} for slot, url in enumerate(replicas)]
    status = "READY" if replicas else "STARTING"
    return {"policy": "round_robin", "status": status, "access": "required", "replicas": listed} | fields


def document(etag: str, **services: dict[str, Any]) -> dict[str, Any]:
    """KEY is good for all services, OTHER_KEY for `other` only."""
    keys = {
        KEY_ID: {"hash": hashlib.sha256(KEY.encode()).hexdigest(), "services": ["*"]},
        OTHER_KEY_ID: {"hash": hashlib.sha256(OTHER_KEY.encode()).hexdigest(), "services": ["other"]},
    }
    return {"etag": etag, "issued_at": 1_700_000_000.0, "keys": keys, "services": services}


def everything(**more: dict[str, Any]) -> dict[str, Any]:
    """`hello` has two replicas and three models, `late` and `never` have none and patience."""
    services = {
        "hello": service(REPLICAS, models=["llama", "org/llama:8b"]),
        "other": service(REPLICAS[:1]),
        "static": service(REPLICAS[:1]),
        "late": service([], wait_for_replica_s=60),
        "never": service([], wait_for_replica_s=5),
    }
    return document("-".join(["table", *more]), **(services | more))


@pytest.fixture(scope="module")
def stack(artefacts: Mapping[str, Path]) -> Iterator[Stack]:
    """Each runtime runs what its zip holds, and refreshes twenty times a second."""
    with FakeControl().running() as control, ExitStack() as exits:
        control.table = everything()
        env = {
            "SAILPLANE_CONTROL_URL": control.url,
            "SAILPLANE_ROUTER_TOKEN": TOKEN,
            "SAILPLANE_REFRESH_S": "0.05",
        }
        calls = {name: exits.enter_context(start(artefacts[name], env)) for name, start in PLATFORMS.items()}
        yield Stack(control, calls)


@pytest.fixture(params=PLATFORMS)
def call(stack: Stack, request: pytest.FixtureRequest) -> Call:
    """One platform, as a client reaches it."""
    return stack.calls[request.param]


def granted(location: str, method: str, rest: str) -> str:
    """Take the grant out of a Location, and ask the agent of that replica whether it takes it for `method` and `rest`."""
    slot = next(slot for slot, url in enumerate(REPLICAS) if location.startswith(f"{url}/~"))
    keys = identity.grant_keys([TOKEN], f"r-{slot}", f"b007{slot}")
    text, target = grants.split(location.removeprefix(REPLICAS[slot]).encode())
    agent = grants.Grants({name: bytes.fromhex(key) for name, key in keys.items()}, "hello")
    grant = agent.read(text, method.encode(), f"/{rest}".encode())
    assert grant is not None
    assert grant.key_id == KEY_ID.encode()
    return target.decode()


def problem(answer: Answer) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    return dict(json.loads(answer.body))


@pytest.mark.parametrize("target", TARGETS)
def test_path_and_query_arrive_as_they_were_sent(call: Call, target: str) -> None:
    """Byte for byte in the Location, and the grant is bound to the very path that the replica is going to see."""
    answer = call("POST", target, BEARER | JSON, b'{"a": 1}')
    assert answer.status == 307
    path, question_mark, query = target.removeprefix("/hello").removeprefix("/").partition("?")
    expected = f"/{path}{question_mark if query else ''}{query}"
    assert granted(answer.headers["location"], "POST", path) == expected
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_redirected_as_itself(call: Call, method: str) -> None:
    """The grant names the method. There is no body, to HEAD least of all."""
    answer = call(method, "/hello/x", BEARER, b"")
    assert answer.status == 307
    assert granted(answer.headers["location"], method, "x") == "/x"
    assert answer.body == b""


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b'{"a": 1}', mtime=0), bytes(range(256)), "né".encode(), b""],
    ids=["gzip", "bytes", "text", "none"],
)
def test_bodies_are_whatever_they_are(call: Call, body: bytes) -> None:
    """Compressed, binary or empty: redirected. Where the model in it is asked for, a problem and not a crash."""
    headers = BEARER | {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    assert call("POST", "/hello/upload", headers, body).status == 307
    answer = call("POST", "/v1/chat/completions", headers, body)
    assert answer.status == 400
    assert "names a model" in problem(answer)["detail"]


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION", "x-api-key", "X-API-Key"])
def test_a_key_opens_in_either_header(call: Call, name: str) -> None:
    """However the client or the platform writes the header's name."""
    value = KEY if name.lower() == "x-api-key" else f"bearer {KEY}"
    assert call("GET", "/hello/x", {name: value}, b"").status == 307


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {KEY[:-1]}C"}, {"X-Api-Key": "é"}])
@pytest.mark.parametrize("target", ["/hello/x", "/nobody/x", "/v1/models", "/hello/_resolve"])
def test_nobody_gets_in_without_a_key(call: Call, target: str, headers: dict[str, str]) -> None:
    """401, the same for a service that exists and one that does not."""
    answer = call("GET", target, headers, b"")
    assert answer.status == 401
    assert "endpoint key" in problem(answer)["detail"]


def test_a_key_for_another_service_is_refused(call: Call) -> None:
    """403, and 307 where it is good."""
    headers = {"Authorization": f"Bearer {OTHER_KEY}"}
    assert call("GET", "/hello/x", headers, b"").status == 403
    assert call("GET", "/other/x", headers, b"").status == 307


def test_no_path_is_the_platforms_own(call: Call) -> None:
    """A service may be called `static`; what frameworks answer by themselves comes to the router."""
    assert call("GET", "/static/x", BEARER, b"").status == 307
    assert [call("GET", target, {}, b"").status for target in ("/robots.txt", "/favicon.ico", "/a//b")] == [401] * 3


def test_a_browser_may_ask(call: Call) -> None:
    """A preflight needs no key and is answered here; what comes then can be read by the page."""
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    answer = call("OPTIONS", "/hello/x", asks | {"Access-Control-Request-Headers": "authorization"}, b"")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "authorization"
    answer = call("POST", "/hello/x", BEARER | {"Origin": "https://page.example"}, b"")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (307, "*")


def test_the_platform_can_ask_whether_it_lives(call: Call) -> None:
    """`/` and `/healthz`, without a key."""
    for target in ("/", "/healthz"):
        answer = call("GET", target, {}, b"")
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


def test_who_cannot_follow_resolves(call: Call) -> None:
    """A base URL with a grant in it for any path, and until when it is good."""
    answer = call("GET", "/hello/_resolve", BEARER, b"")
    assert answer.status == 200
    resolved = json.loads(answer.body)
    assert any(resolved["url"].startswith(f"{url}/~") for url in REPLICAS)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", resolved["expires_at"])


@pytest.mark.parametrize("model", ["llama", "org/llama:8b"])
def test_the_model_in_the_body_picks_the_service(call: Call, model: str) -> None:
    """One base URL for all services; the list of models is that of the key."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "né"}]}, ensure_ascii=False).encode()
    answer = call("POST", "/v1/chat/completions?x=1", BEARER | JSON, body)
    assert answer.status == 307
    assert granted(answer.headers["location"], "POST", "v1/chat/completions") == "/v1/chat/completions?x=1"
    listed = json.loads(call("GET", "/v1/models", BEARER, b"").body)
    assert model in [each["id"] for each in listed["data"]]


@pytest.mark.parametrize(
    ("platform", "limit"), [("aws", aws.MAX_BODY_BYTES), ("gcp", gcp.MAX_BODY_BYTES), ("azure", azure.MAX_BODY_BYTES)]
)
def test_too_large_a_body_is_told_the_way_out(stack: Stack, platform: str, limit: int) -> None:
    """413 when the platform could not take it (the server takes any), and the problem names `_resolve`."""
    body = b"x" * (limit + 1) if platform == "gcp" else b""  # the only one that reads it from a socket
    headers = BEARER | {"Content-Type": "text/plain", "Content-Length": str(limit + 1)}
    answer = stack.calls[platform]("POST", "/hello/upload", headers, body)
    assert answer.status == 413
    assert "/hello/_resolve" in problem(answer)["detail"]


def test_functions_say_that_they_report_on_demand(stack: Stack) -> None:
    """Each instance under an id of its own, that begins with its platform's name; the server reports by itself."""
    for call in stack.calls.values():
        call("GET", "/hello/x", BEARER, b"")
    said = {each["router_id"].partition("-")[0]: each["on_demand"] for each in stack.control.questions}
    assert said == {"aws": True, "gcp": True, "azure": True, "edge": False}


def test_strangers_neither_count_nor_wake(stack: Stack, call: Call) -> None:
    """Whatever a scanner asks for, no service hears of it."""
    before = stack.control.recorded["late"]
    assert call("GET", "/late/x", {}, b"").status == 401
    call("GET", "/hello/x", BEARER, b"")
    assert stack.control.recorded["late"] == before


def test_a_client_is_held_until_a_replica_appears(stack: Stack) -> None:
    """The knock is heard at once; no sooner is a replica there than the client is sent to it. On all platforms at a time."""
    before = stack.control.recorded["late"]
    with ThreadPoolExecutor(len(PLATFORMS)) as pool:
        held = [pool.submit(each, "POST", "/late/x?y", BEARER, b"{}") for each in stack.calls.values()]
        until(lambda: stack.control.recorded["late"] == before + len(PLATFORMS))
        assert not any(each.done() for each in held)
        stack.control.table = everything(late=service(REPLICAS[:1]))
        answers = [each.result(10) for each in held]
    assert [answer.status for answer in answers] == [307] * len(PLATFORMS)
    assert all(answer.headers["location"].startswith(f"{REPLICAS[0]}/~") for answer in answers)
    assert stack.control.recorded["late"] == before + len(PLATFORMS)  # looked at several times, counted once


def test_a_client_that_waited_long_enough_is_sent_round_again(stack: Stack) -> None:
    """To the same origin, with the same path and query, so that its key goes with it; its second knock is not counted."""
    with ThreadPoolExecutor(len(PLATFORMS)) as pool:
        held = [pool.submit(each, "POST", "/never/a%2Fb?y=%2F", BEARER, b"{}") for each in stack.calls.values()]
        answers = [each.result(10) for each in held]
    assert {(each.status, each.headers["location"]) for each in answers} == {(307, "/never/~wait.1/a%2Fb?y=%2F")}
    with ThreadPoolExecutor(len(PLATFORMS)) as pool:
        held = [pool.submit(each, "POST", "/never/~wait.1/x", BEARER, b"{}") for each in stack.calls.values()]
        answers = [each.result(10) for each in held]
    assert {each.status for each in answers} == {503}
    assert all(int(each.headers["retry-after"]) > 0 for each in answers)
