"""Who may use a replica: whoever a router has sent there lately, for what it was sent for, and nobody else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.agent.running import GRANT_KEY, TOKEN, Agent, Answer, grant, granted
from tests.waiting import until

ENGINE_KEY = "the-engines-own-key"
CREDENTIALS = {"Authorization": "Bearer clients-own", "X-Api-Key": "clients-own-too"}


@pytest.fixture(scope="module")
def open_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Of a service that is open to everybody, with an engine that asks for a key."""
    shared = Agent(tmp_path_factory.mktemp("open") / "replica")
    yield shared.start(access="open", engine_key=ENGINE_KEY, edge_url="").until_ready()
    shared.destroy()


def arrived(answer: Answer) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.json["headers"]}


def refused(answer: Answer, status: int) -> bool:
    """And not with the engine's words."""
    return answer.status == status and answer.headers["Content-Type"].startswith("application/problem+json")


@pytest.mark.parametrize("target", ["/", "/headers", "/~/headers", "/x/~y/headers", "/headers?/~"])
def test_nobody_comes_in_without_a_grant(agent: Agent, target: str) -> None:
    """Not to the simplest page, with no key of any kind."""
    for headers in ({}, CREDENTIALS):
        assert refused(agent.ask_raw("GET", target, headers=headers), 401)


def test_an_open_service_wants_a_grant_too(open_agent: Agent) -> None:
    """Open means that routers send everybody; who comes past them is counted nowhere."""
    assert refused(open_agent.ask_raw("GET", "/headers"), 401)
    assert open_agent.ask_raw("GET", granted("GET", "/headers", key_id="-")).status == 200


@pytest.mark.parametrize("text", ["x", "~", "..", "%00", "0a1b2c3d.1.-.-.-.p." + "A" * 43])
def test_what_is_no_grant_is_refused(agent: Agent, text: str) -> None:
    """403, and nothing of it comes back."""
    answer = agent.ask_raw("GET", f"/~{text}/headers")
    assert refused(answer, 403)
    assert answer.json["instance"] == "/headers"
    # OpenAI's clients show what they find here.
    assert answer.json["error"] == {
        "message": answer.json["detail"],
        "type": "sailplane_error",
        "code": "bad_grant",
    }


@pytest.mark.parametrize(
    "forged",
    [
        {"path": "/other"},
        {"method": "POST"},
        {"service": "other"},
        {"key": b"of another replica"},
        {"kid": "ffffffff"},
        {"key": b"forged and expired", "expires_in_s": -3_600},
    ],
)
def test_a_grant_for_something_else_is_refused(agent: Agent, forged: dict[str, Any]) -> None:
    """For another request, another service, another replica or this one before it rebooted; it is not sent on either."""
    text = grant(**{"method": "GET", "path": "/headers", **forged})
    assert refused(agent.ask_raw("GET", f"/~{text}/headers"), 403)


def test_the_engine_never_sees_the_grant(agent: Agent) -> None:
    """Neither in the path nor in a header: engines log what they see."""
    text = grant("GET", "/headers")
    answer = agent.ask_raw("GET", f"/~{text}/headers?a=b")
    assert answer.json["line"] == "/headers?a=b"
    assert text not in answer.body.decode()


def test_a_resolved_grant_is_a_base_url(agent: Agent) -> None:
    """For clients that cannot follow redirects: any method and path below it."""
    base = f"/~{grant('', '', scope='p')}"
    assert agent.ask_raw("GET", base + "/headers").status == 200
    assert agent.ask_raw("POST", base + "/echo", b"hello").body == b"hello"


def test_an_expired_grant_leads_back_to_the_router(agent: Agent) -> None:
    """With itself as the ticket: on the way here the client has lost its key. Body, method and query stay."""
    text = grant("POST", "/echo", -1)
    answer = agent.ask_raw("POST", f"/~{text}/echo?q=%2F", b"a body")
    assert answer.status == 307
    assert answer.headers["Location"] == f"https://edge.example/hello/~{text}~hello-k3f9-0-1~nonce-1/echo?q=%2F"


def test_an_expired_grant_is_refused_where_no_router_is_known(open_agent: Agent) -> None:
    """401 tells the client to begin anew."""
    assert refused(open_agent.ask_raw("GET", granted("GET", "/headers", expires_in_s=-1)), 401)


def test_a_stream_is_not_cut_when_its_grant_expires(agent: Agent) -> None:
    """It is checked when the request comes."""
    connection = agent.connect()
    connection.request("GET", granted("GET", "/sse?outlived", expires_in_s=1))
    response = connection.getresponse()
    assert response.readline() == b"data: first\n"
    until(lambda: agent.ask_raw("GET", granted("GET", "/headers", expires_in_s=0)).status == 307)
    agent.ask_engine("/_open?outlived")
    assert response.read() == b"\ndata: second\n\n"
    connection.close()


def test_a_keys_limits_are_kept(agent: Agent) -> None:
    """429 and when to come again; another key is not concerned, and a place is free again after its request."""
    one = {"concurrency": "1", "key_id": "busy"}
    connection = agent.connect()
    connection.request("GET", granted("GET", "/never?quota", **one))
    until(lambda: agent.probe()["in_flight"] == 1)
    answer = agent.ask_raw("GET", granted("GET", "/headers", **one))
    assert refused(answer, 429)
    assert answer.headers["Retry-After"] == "1"
    assert agent.ask_raw("GET", granted("GET", "/headers", concurrency="1", key_id="idle")).status == 200
    connection.close()
    until(lambda: agent.ask_raw("GET", granted("GET", "/headers", **one)).status == 200)
    agent.ask_engine("/_open?quota")

    slow = granted("GET", "/headers", rate="100", key_id="slow")
    assert [agent.ask_raw("GET", slow).status for _ in range(2)] == [200, 429]


def test_an_endpoint_key_stays_here(agent: Agent) -> None:
    """The engine, which runs the owner's code or anybody's, learns no key to the service."""
    assert not arrived(agent.ask("GET", "/headers", headers=CREDENTIALS)).keys() & {"authorization", "x-api-key"}


def test_the_engine_gets_its_own_key(open_agent: Agent) -> None:
    """From clients and from probes, instead of theirs; what else a client shows an open service is the engine's."""
    seen = arrived(open_agent.ask("GET", "/headers", headers=CREDENTIALS))
    assert (seen["authorization"], seen["x-api-key"]) == (f"Bearer {ENGINE_KEY}", "clients-own-too")
    assert open_agent.probe("/guarded?" + ENGINE_KEY)["ready"] is True
    assert open_agent.probe("/guarded?other")["detail"] == "GET /guarded answered 401"


def test_an_open_engines_keys_are_between_it_and_its_clients(new_agent: Callable[..., Agent]) -> None:
    """Without a key for the engine, nothing of a client's request is changed."""
    agent = new_agent(access="open").until_ready()
    seen = arrived(agent.ask("GET", "/headers", headers=CREDENTIALS))
    assert (seen["authorization"], seen["x-api-key"]) == tuple(CREDENTIALS.values())


def preflight(path: str, *, method: str = "POST", **changes: Any) -> tuple[str, str, None, dict[str, str]]:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization, content-type"}
    return "OPTIONS", granted("POST", path, **changes), None, {"Origin": "https://app.example", **asked}


def test_a_browser_may_ask_first(agent: Agent) -> None:
    """It asks with the URL of what it is going to send; the engine is not asked."""
    for expires_in_s in (60, -1):  # then the request itself is sent back to the router
        answer = agent.ask_raw(*preflight("/echo", expires_in_s=expires_in_s))
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Allow-Methods"] == "POST"
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert refused(agent.ask_raw(*preflight("/echo", method="DELETE")), 403)
    assert not any(line.startswith("OPTIONS") for line in agent.ask_engine("/_seen")["seen"])


def test_a_browser_may_read_every_answer(agent: Agent) -> None:
    """The engine's, the way back to the router, and the reasons why not."""
    granted_, expired = granted("GET", "/headers"), granted("GET", "/headers", expires_in_s=-1)
    for target, status in ((granted_, 200), (expired, 307), ("/~forged/headers", 403), ("/headers", 401)):
        answer = agent.ask_raw("GET", target, headers={"Origin": "null"})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, "*")
        assert agent.ask_raw("GET", target).headers["Access-Control-Allow-Origin"] is None


def test_what_the_engine_says_to_browsers_stands(agent: Agent) -> None:
    """It may know better whose pages may read it."""
    answer = agent.ask("GET", "/cors", headers={"Origin": "https://app.example"})
    assert answer.headers.get_all("Access-Control-Allow-Origin") == ["https://engine.example"]


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/headers", "/headers"),
        ("/headers?a=%2F#part", "/headers?a=%2F#part"),
        ("headers", "/deep/headers"),
        ("../headers", "/headers"),
        ("http://127.0.0.1:{engine_port}/headers", "/headers"),
        ("http://localhost:{engine_port}/headers", "/headers"),
        ("http://127.0.0.1:{port}/headers", "/headers"),
        ("//127.0.0.1:{port}/headers", "/headers"),
        ("http://127.0.0.1:{port}//headers", "//headers"),
    ],
)
def test_the_engines_redirect_to_itself_keeps_the_grant(agent: Agent, location: str, path: str) -> None:
    """Frameworks redirect /v1 to /v1/: a client that follows it must get in again, and not see the engine's own port."""
    answer = agent.ask("GET", "/deep/redirect?307," + quote(location.format(**agent.place)))
    assert answer.status == 307
    assert answer.headers["Location"].startswith("/~")
    assert re.fullmatch(r"/~[^/]+", answer.headers["Location"].removesuffix(path))
    assert agent.ask_raw("GET", answer.headers["Location"].partition("#")[0]).status in (200, 404)


@pytest.mark.parametrize(("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_a_redirected_grant_is_for_the_method_that_clients_use_then(agent: Agent, status: int, method: str) -> None:
    """After 301, 302 and 303 they turn a POST into a GET, after 307 and 308 they do not."""
    location = agent.ask("POST", f"/deep/redirect?{status},/headers", b"").headers["Location"]
    assert agent.ask_raw(method, location).status == 200
    assert agent.ask_raw("PUT", location).status == 403


@pytest.mark.parametrize("location", ["https://elsewhere.example/headers", "http://[broken", "http://127.0.0.1:1/x"])
def test_the_engines_redirect_elsewhere_takes_no_grant_along(agent: Agent, location: str) -> None:
    """It would tell a stranger who may use this replica."""
    assert agent.ask("GET", "/deep/redirect?302," + quote(location)).headers["Location"] == location


def test_no_secret_is_written_anywhere(new_agent: Callable[..., Agent]) -> None:
    """Nothing that opens something stands beside the engine, which may serve any file: not keys, not grants, not tokens."""
    agent = new_agent(engine_key=ENGINE_KEY).until_ready()
    text = grant("GET", "/headers")
    for target in (f"/~{text}/headers", f"/~{text}x/headers", f"/~{grant('GET', '/headers', -1)}/headers"):
        agent.ask_raw("GET", target, headers=CREDENTIALS)
    written = "".join(_texts(agent.directory))
    assert agent.said == ""
    assert not [
        secret for secret in (ENGINE_KEY, "clients-own", text[-43:], TOKEN, GRANT_KEY.hex()) if secret in written
    ]


def _texts(directory: Path) -> Iterator[str]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.read_text(errors="replace")
