"""Who gets in, by which door, and what the others are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_router.counts import REPORT_S
from edge_router.messages import Request, Response
from edge_router.router import Router
from tests.edge.fakes import BEARER, KEY, KEY_ID, TOKEN, seal, table
from tests.edge.test_router import Clock, header
from tests.edge.verifier import Verifier, of_location

URL = "http://10.0.0.1:8000"
CHAT = b'{"messages": [], "model": "%b"}'


def document(**hello: Any) -> dict[str, Any]:
    """Three services: `hello` needs a key and is as the arguments say, `open` needs none, `private` is another's."""
    made = table(
        ("hello", "least_load", "READY", [URL]),
        ("open", "least_load", "READY", [URL]),
        ("private", "least_load", "READY", [URL]),
        access="required",
    )
    made["services"]["open"]["access"] = "open"
    made["services"]["hello"] |= hello
    made["keys"][KEY_ID]["services"] = ["hello"]
    return made


def routed(made: dict[str, Any], clock: Clock | None = None, **settings: Any) -> Router:
    router = Router(clock=clock or Clock(), random=lambda: 0.0, first_seq=1, token=TOKEN, **settings)
    router.accept(seal(made))
    return router


def ask(
    router: Router, path: bytes, key: str = KEY, method: bytes = b"POST", body: bytes | None = None, **headers: bytes
) -> Response:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    shown = {b"authorization": b"Bearer " + key.encode()} if key else {}
    return router.handle(Request(method, path, b"", shown | named, "192.0.2.1", 4711, body))


def problem(response: Response) -> dict[str, Any]:
    document = json.loads(response.body)
    assert header(response, b"content-type") == b"application/problem+json"
    assert document["status"] == response.status
    return dict(document)


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer " + KEY.encode()},
        {b"authorization": b"bearer  " + KEY.encode()},
        {b"x-api-key": KEY.encode()},
        {b"x-api-key": KEY.encode(), b"authorization": b"Basic dXNlcjpwYXNz"},
    ],
)
def test_a_key_is_shown_as_clients_do(headers: dict[bytes, bytes]) -> None:
    """As OpenAI's clients do, as Anthropic's do, and beside an Authorization that is for somebody else."""
    assert routed(document()).handle(Request(b"POST", b"/hello/x", b"", headers)).status == 307


def test_nobody_learns_nothing() -> None:
    """No key, a wrong key, an expired key; a service that is there, one that is not: one and the same 401."""
    clock = Clock()
    made = document()
    made["keys"]["0ld0000000"] = made["keys"][KEY_ID] | {"expires_at": clock.now}
    router = routed(made, clock)
    seen = {
        (response.status, response.headers, json.dumps(problem(response) | {"instance": ""}), response.hold_s)
        for key in ("", "sk-other", KEY.replace(KEY_ID, "0ld0000000"), KEY[:-1] + "B")
        for path in (b"/hello/v1/xy", b"/gone/v1/xyz", b"/private/v1/", b"/no/_resolve")
        for response in [ask(router, path, key)]
    }
    assert len(seen) == 1
    status, headers, _, hold_s = seen.pop()
    assert (status, hold_s) == (401, 0)
    assert (b"www-authenticate", b"Bearer") in headers


@pytest.mark.parametrize("path", [b"/hello/x", b"/gone/x", b"/hello/_resolve", b"/hello/~wait.1/x", b"/private/x"])
def test_who_has_no_key_neither_counts_nor_wakes(path: bytes) -> None:
    """Scanners and health checks cost nothing: no count, nobody held, no key called used."""
    router = routed(document(replicas=[], status="IDLE", wait_for_replica_s=60))
    for key in ("", "sp_wrong"):
        response = ask(router, path, key)
        assert (response.status, response.hold_s) == (401, 0)
    for alive in (b"/", b"/healthz"):
        assert ask(router, alive, "").status == 200
    batch = router.batch()
    assert set(batch.requests.values()) == {()}
    assert batch.used == {}


def test_a_key_for_one_service_is_told_of_the_others() -> None:
    """403 where it may not, 404 where nothing is, and the latter only after a look for a newer table."""
    router = routed(document())
    assert ask(router, b"/hello/x").status == 307
    assert ask(router, b"/private/x").status == 403
    gone = ask(router, b"/gone/x")
    assert (gone.status, gone.hold_s, gone.counted) == (404, 1, False)
    assert KEY_ID in problem(ask(router, b"/private/x"))["detail"]


def test_a_service_that_is_open_takes_anybody() -> None:
    """Without a key, with a wrong one and with another's; the grant names no key then."""
    router = routed(document())
    for key in ("", "sk-whatever", KEY):
        location = header(ask(router, b"/open/x", key), b"location") or b""
        assert of_location(location)[0].split(b".")[2] == b"-"
    assert router.batch().used == {}


def test_the_grant_names_the_key_and_its_shares() -> None:
    """What the agent needs to keep the key's limits: thousandths of requests a second, and concurrent ones."""
    made = document(replicas=[{"id": f"r{n}", "url": f"http://r{n}"} for n in range(3)])
    made["keys"][KEY_ID] |= {"rate_per_s": 10, "concurrency": 30}
    grant, _ = of_location(header(ask(routed(made), b"/hello/x"), b"location") or b"")
    assert grant.split(b".")[2] == KEY_ID.encode()
    assert grant.split(b".")[3] in (b"3333", b"3334")
    assert grant.split(b".")[4] == b"10"


def test_a_key_keeps_its_rate() -> None:
    """A bucket of one second's requests: then 429 with Retry-After, uncounted, until there is room again."""
    clock = Clock()
    made = document()
    made["keys"][KEY_ID]["rate_per_s"] = 4
    router = routed(made, clock)
    assert [ask(router, b"/hello/x").status for _ in range(6)] == [307] * 4 + [429] * 2
    refused = ask(router, b"/hello/x")
    assert header(refused, b"retry-after") == b"1"
    assert refused.hold_s == 0
    clock.now += 0.5
    assert [ask(router, b"/hello/x").status for _ in range(3)] == [307] * 2 + [429]
    router.accept(seal(made))
    assert ask(router, b"/hello/x").status == 429  # a new table fills no bucket
    clock.now += 100
    assert [ask(router, b"/hello/x").status for _ in range(5)] == [307] * 4 + [429]
    assert sum(count for _, count in router.batch().requests["hello"]) == 4 + 2 + 4


def test_a_slow_rate_lets_one_through_at_a_time() -> None:
    """Less than one a second is no bucket that never fills."""
    clock = Clock()
    made = document()
    made["keys"][KEY_ID]["rate_per_s"] = 0.1
    router = routed(made, clock)
    assert ask(router, b"/hello/x").status == 307
    assert header(ask(router, b"/hello/x"), b"retry-after") == b"10"
    clock.now += 10
    assert ask(router, b"/hello/x").status == 307


def test_use_is_told_once() -> None:
    """The second of a key's last use goes out with counts, when some are due, unchanged until they are acknowledged."""
    clock = Clock()
    router = routed(document(), clock)
    ask(router, b"/hello/x")
    clock.now += 2
    ask(router, b"/hello/x")
    first = router.batch()
    clock.now += 1
    ask(router, b"/hello/x")
    assert router.batch() is first
    assert first.used == {KEY_ID: 1_700_000_002}
    router.acknowledge(first)
    assert router.batch().used == {}
    clock.now += REPORT_S
    assert router.batch().used == {KEY_ID: 1_700_000_003}


def test_no_path_hides_that_a_key_is_used() -> None:
    """Anybody can write what looks like a hop; a stolen key that was "never used" would be found by nobody."""
    router = routed(document())
    assert ask(router, b"/hello/~wait.1/x").status == 307
    assert router.batch().used == {KEY_ID: 1_700_000_000}


# --- resolve


@pytest.mark.parametrize("mode", ["redirect", "resolve"])
def test_resolve_tells_a_url_for_a_minute(mode: str) -> None:
    """The grant in it is good for any method and path, and the answer is not kept by caches."""
    clock = Clock()
    response = ask(routed(document(mode=mode), clock), b"/hello/_resolve", method=b"GET")
    told = json.loads(response.body)
    assert response.status == 200
    assert header(response, b"cache-control") == b"no-store"
    assert told["expires_at"] == "2023-11-14T22:14:15Z"
    assert told["url"].startswith(f"{URL}/~")
    grant = told["url"].removeprefix(f"{URL}/~").encode()
    replica = Verifier(TOKEN, "hello", "hello-a1b2-0-1", "b0070")
    assert replica.honours(grant, b"GET", b"/ws/chat", clock.now)
    assert replica.honours(grant, b"POST", b"/v1/completions", clock.now + 54)
    assert not replica.honours(grant, b"POST", b"/v1/completions", clock.now + 55)


def test_a_service_that_redirects_nobody_says_how() -> None:
    """421 names the way out; nothing is counted for it."""
    router = routed(document(mode="resolve"))
    for method, path in ((b"POST", b"/hello/v1/x"), (b"POST", b"/hello/_resolve"), (b"GET", b"/hello/")):
        response = ask(router, path, method=method)
        assert response.status == 421
        assert "GET /hello/_resolve" in problem(response)["detail"]
    assert router.batch().requests["hello"] == ()


@pytest.mark.parametrize(
    ("length", "limit", "status"),
    [(b"101", 100, 413), (b"100", 100, 307), (b"101", 0, 307), (b"many", 100, 307), (b"9" * 30, 100, 413)],
)
def test_a_body_that_the_platform_cannot_take_is_told_the_way_out(length: bytes, limit: int, status: int) -> None:
    """413 by Content-Length, before anybody sends it."""
    response = ask(routed(document(), max_body_bytes=limit), b"/hello/x", content_length=length)
    assert response.status == status
    if status == 413:
        assert "GET /hello/_resolve" in problem(response)["detail"]


# --- models


def test_models_are_those_that_the_key_may_use() -> None:
    """OpenAI's list; with a key its services' and the open ones', without one the open ones'."""
    made = document(models=["meta/llama-3", "tiny"])
    router = routed(made)

    def listed(key: str) -> list[str]:
        told = json.loads(ask(router, b"/v1/models", key, b"GET").body)
        assert told["object"] == "list"
        assert all(set(model) == {"id", "object", "created", "owned_by"} for model in told["data"])
        return [model["id"] for model in told["data"]]

    assert listed(KEY) == ["meta/llama-3", "tiny", "open"]
    assert listed("") == ["open"]
    assert json.loads(ask(router, b"/v1/models/meta/llama-3", method=b"GET").body)["owned_by"] == "hello"
    assert ask(router, b"/v1/models/private", method=b"GET").status == 404
    assert router.batch().requests == {"hello": (), "open": (), "private": ()}


def test_without_open_services_models_are_nobodys_business() -> None:
    """401 for the list as for everything else."""
    made = document()
    del made["services"]["open"]
    router = routed(made)
    assert ask(router, b"/v1/models", "", b"GET").status == 401
    assert ask(router, b"/v1/chat/completions", "", body=CHAT % b"hello").status == 401
    assert router.body_limit(Request(b"POST", b"/v1/chat/completions", b"", {})) == 0


@pytest.mark.parametrize("key", [KEY[:-1] + "B", KEY.replace(KEY_ID, "0ld0000000")])
def test_a_wrong_key_is_told_so_beside_open_services(key: str) -> None:
    """401 for the list, a model and a question, of open services too: 404 would send its holder looking for the model."""
    made = document()
    made["keys"]["0ld0000000"] = made["keys"][KEY_ID] | {"expires_at": 1_700_000_000}
    router = routed(made)
    assert ask(router, b"/v1/models", key, b"GET").status == 401
    assert ask(router, b"/v1/models/open", key, b"GET").status == 401
    for model in (b"open", b"hello", b"gone"):
        assert ask(router, b"/v1/chat/completions", key, body=CHAT % model).status == 401
    assert set(router.batch().requests.values()) == {()}


@pytest.mark.parametrize("key", ["EMPTY", "sk-other"])
def test_open_services_take_what_stands_in_for_a_key(key: str) -> None:
    """OpenAI's clients insist on an `api_key`: one that is none of ours opens what is open, and nothing else."""
    router = routed(document())
    assert ask(router, b"/v1/chat/completions", key, body=CHAT % b"open").status == 307
    assert ask(router, b"/v1/chat/completions", key, body=CHAT % b"hello").status == 404
    assert ask(router, b"/v1/models/open", key, b"GET").status == 200


@pytest.mark.parametrize("key", ["", KEY])
def test_only_who_shows_a_key_is_told_about_it(key: str) -> None:
    """What is not there is not there "for this key", where there is one."""
    router = routed(document())
    asked = (
        ask(router, b"/v1/models/gone", key, b"GET"),
        ask(router, b"/v1/chat/completions", key, body=CHAT % b"gone"),
    )
    assert {response.status for response in asked} == {404}
    assert {"for this key" in problem(response)["detail"] for response in asked} == {bool(key)}


@pytest.mark.parametrize("key", ["", KEY])
def test_a_model_of_several_services_is_the_first_ones(key: str) -> None:
    """By name, of those that the key may use; in the list once, with the service that it is routed to as its owner."""
    made = document(models=["tiny"])
    made["services"]["private"]["models"] = made["services"]["open"]["models"] = ["tiny"]
    made["services"] = dict(reversed(made["services"].items()))
    router = routed(made)
    listed = json.loads(ask(router, b"/v1/models", key, b"GET").body)["data"]
    assert [model["owned_by"] for model in listed] == ["hello" if key else "open"]
    assert json.loads(ask(router, b"/v1/models/tiny", key, b"GET").body) == listed[0]
    assert ask(router, b"/v1/chat/completions", key, body=CHAT % b"tiny").status == 307
    counted = {name for name, seconds in router.batch().requests.items() if seconds}
    assert counted == {listed[0]["owned_by"]}


def test_the_model_in_the_body_picks_the_service() -> None:
    """One base URL for all: the replica of the model's service gets the same path, and the service is counted."""
    router = routed(document(models=["meta/llama-3"]))
    request = Request(b"POST", b"/v1/chat/completions", b"a=1", BEARER, body=CHAT % b"meta/llama-3")
    assert router.body_limit(request) >= 6_000_000
    response = router.handle(request)
    assert response.status == 307
    location = header(response, b"location") or b""
    assert location.endswith(b"/v1/chat/completions?a=1")
    assert router.batch().requests["hello"] == ((1_700_000_000, 1),)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (CHAT % b"private", 404),
        (CHAT % b"gone", 404),
        (b'{"model": 7}', 400),
        (b'{"messages": []}', 400),
        (b"model=hello", 400),
        (b"[" * 100_000, 400),
        (b"", 400),
        (None, 400),
        (b" " * 8_000_001, 413),
    ],
)
def test_a_body_that_names_no_model_is_told_so(body: bytes | None, status: int) -> None:
    """404 for what the key may not use as for what is not there; 400 with the other way; nothing is counted."""
    router = routed(document())
    response = ask(router, b"/v1/chat/completions", body=body)
    assert response.status == status
    assert "/v1/" in problem(response)["detail"]
    assert router.batch().requests["hello"] == ()


def test_only_bodies_that_matter_are_read() -> None:
    """The model's and the prompt's, of those who may: otherwise the platform reads nothing."""
    router = routed(document(policy="prefix_aware"))

    def limit(path: bytes, key: str = KEY, method: bytes = b"POST") -> int:
        return router.body_limit(Request(method, path, b"", {b"x-api-key": key.encode()}))

    assert limit(b"/hello/v1/completions") == 1_000_000
    assert limit(b"/v1/completions") == 8_000_000
    assert limit(b"/v1/completions", "") == 8_000_000  # `open` is for everybody
    assert limit(b"/v1/completions", "sp_wrong") == 0
    assert limit(b"/hello/v1/completions", "wrong") == 0
    assert limit(b"/hello/v1/completions", method=b"GET") == 0
    assert limit(b"/open/v1/completions") == 0
    assert limit(b"/gone/x") == limit(b"/hello/~nonsense/x") == limit(b"*") == 0
    assert Router(clock=Clock(), random=lambda: 0.0, first_seq=1, token=TOKEN).body_limit(
        Request(b"POST", b"/v1/completions", b"", BEARER)
    ) == 0  # fmt: skip


# --- affinity


def hosts(router: Router, requests: list[Request]) -> list[bytes]:
    return [(header(router.handle(request), b"location") or b"").split(b"/~")[0] for request in requests]


@pytest.mark.parametrize(
    "form",
    [
        b'{"messages": [{"role": "system", "content": "%b"}, {"role": "user", "content": "%d"}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "%b"}, {"type": "text", "text": "%d"}]}]}',
        b'{"prompt": "%b %d"}',
        b'{"prompt": ["%b", "%d"]}',
        b'{"input": [{"role": "user", "content": "%b %d"}], "model": "hello"}',
    ],
)
def test_the_same_beginning_meets_the_same_replica(form: bytes) -> None:
    """Chats, completions and inputs that share their first 40 characters; others are spread; a retry goes elsewhere."""
    made = document(policy="prefix_aware", prefix_characters=40)
    made["services"]["hello"]["replicas"] = [{"id": f"r{n}", "url": f"http://r{n}", "in_flight": 50} for n in range(8)]
    router = routed(made)

    def requests(prefix: bytes, retry: bytes = b"0") -> list[Request]:
        headers = BEARER | {b"x-stainless-retry-count": retry}
        bodies = [form % (prefix * 40, number) for number in range(5)]
        return [Request(b"POST", b"/hello/v1/x", b"", headers, "192.0.2.1", 4711, body) for body in bodies]

    seen = [set(hosts(router, requests(prefix))) for prefix in (b"a", b"b", b"c", b"d", b"e", b"f")]
    assert {len(each) for each in seen} == {1}
    assert len(set.union(*seen)) >= 3
    assert not seen[0] & set(hosts(router, requests(b"a", retry=b"1")[:1]))


def test_what_has_no_prompt_goes_by_load() -> None:
    """A body that nobody read, or that is too long, or no JSON; so does an empty prompt."""
    made = document(policy="prefix_aware")
    made["services"]["hello"]["replicas"] = [
        {"id": "r0", "url": "http://r0", "in_flight": 9},
        {"id": "r1", "url": "http://r1"},
    ]
    bodies = [None, b"", b"no", b"[]", b'{"prompt": ""}', b'{"prompt": "%b"}' % (b"x" * 1_000_000), b'{"prompt": {}}']
    router = routed(made)
    requests = [Request(b"POST", b"/hello/x", b"", BEARER, "", port, body) for port, body in enumerate(bodies)]
    assert set(hosts(router, requests)) == {b"http://r1"}


def test_a_session_stays_at_its_replica() -> None:
    """By the header that the service names; who sends none goes by policy, and a declared retry elsewhere."""
    made = document(sticky_header="x-session")
    made["services"]["hello"]["replicas"] = [{"id": f"r{n}", "url": f"http://r{n}"} for n in range(8)]
    router = routed(made)

    def session(name: bytes, **more: bytes) -> bytes:
        headers = BEARER | {b"x-session": name} | {key.replace("_", "-").encode(): value for key, value in more.items()}
        return hosts(router, [Request(b"GET", b"/hello/x", b"", headers, "192.0.2.1", 4711)])[0]

    names = [b"session-%d" % number for number in range(40)]
    first = [session(name) for name in names]
    assert [session(name) for name in names] == first
    assert len(set(first)) == 8
    assert session(names[0], x_stainless_retry_count=b"1") != first[0]
    assert len(set(hosts(router, [Request(b"GET", b"/hello/x", b"", BEARER, "", n) for n in range(80)]))) >= 2


# --- browsers


def test_a_preflight_is_answered_here() -> None:
    """Without a key, for any path, uncounted: browsers send none with it."""
    router = routed(document())
    origin = {b"origin": b"https://app.example", b"access-control-request-method": b"POST"}
    response = router.handle(
        Request(b"OPTIONS", b"/hello/v1/x", b"", origin | {b"access-control-request-headers": b"authorization,x-a"})
    )
    assert response.status == 204
    assert header(response, b"access-control-allow-origin") == b"*"
    assert header(response, b"access-control-allow-methods") == b"POST"
    assert header(response, b"access-control-allow-headers") == b"authorization,x-a"
    odd = origin | {b"access-control-request-headers": b"a\r\nset-cookie: b", b"access-control-request-method": b"\xff"}
    answered = router.handle(Request(b"OPTIONS", b"/hello/v1/x", b"", odd))
    assert {name for name, _ in answered.headers} == {
        b"access-control-allow-origin",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
    assert router.batch().requests["hello"] == ()


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [(b"/hello/x", KEY, 307), (b"/hello/x", "", 401), (b"/healthz", "", 200), (b"/gone/x", KEY, 404)],
)
def test_pages_may_read_every_answer(path: bytes, key: str, status: int) -> None:
    """Whatever it is, if the request came from a page; an OPTIONS that is no preflight is a request like others."""
    router = routed(document())
    response = ask(router, path, key, origin=b"https://app.example")
    assert response.status == status
    assert header(response, b"access-control-allow-origin") == b"*"
    assert header(ask(router, path, key), b"access-control-allow-origin") is None
    assert ask(router, b"/hello/x", "", b"OPTIONS").status == 401
    assert ask(router, b"/hello/x", KEY, b"OPTIONS").status == 307


# --- secrets


@pytest.mark.parametrize("status", ["READY", "IDLE"])
def test_no_problem_repeats_a_credential(status: str) -> None:
    """Query, grants, tickets and keys appear in no body, whatever is wrong with them."""
    router = routed(document(status=status, replicas=[]))
    for path in (
        b"/hello/~secret/x",
        b"/hello/~secret~r~b/x",
        b"/hello/%7Esecret/x",
        b"/~secret/hello",
        b"/gone/~secret/",
    ):
        response = router.handle(Request(b"POST", path, b"q=secret", {b"x-api-key": b"sp_secret"}))
        assert response.status in (400, 401)
        assert b"secret" not in response.body
