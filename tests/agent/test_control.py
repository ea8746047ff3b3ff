"""What the control plane asks and what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.running import TOKEN, Agent
from tests.waiting import until


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "ü"])
@pytest.mark.parametrize(("method", "path"), [("POST", "probe"), ("POST", "drain"), ("GET", "log"), ("GET", "other")])
def test_only_the_control_plane_may_ask(agent: Agent, token: str, method: str, path: str) -> None:
    """401 for every other token, on every path, and nothing happens."""
    headers: Any = {"Authorization": f"Bearer {token}".encode()}  # as bytes, for what is not ASCII
    answer = agent.ask(method, f"/_sailplane/{path}", headers=headers)
    assert answer.status == 401
    assert TOKEN not in answer.body.decode()
    assert agent.probe()["draining"] is False


def test_without_any_token_the_answer_is_401(agent: Agent) -> None:
    """Nothing of the agent's own is public."""
    assert agent.ask("POST", "/_sailplane/probe").status == 401


def test_an_unknown_question_is_404_and_never_the_engines(agent: Agent) -> None:
    """The prefix belongs to the agent."""
    assert agent.command("GET", "nothing").status == 404
    assert agent.command("GET", "probe").status == 404


def test_the_probe_tells_identity_and_readiness(agent: Agent) -> None:
    """Id and boot nonce prove who answers; 200 from the engine means ready."""
    assert agent.probe() == {
        "replica_id": "hello-k3f9-0-1",
        "boot_nonce": "nonce-1",
        "ready": True,
        "detail": "",
        "in_flight": 0,
        "draining": False,
        "engine": {"phase": "RUNNING", "exit_code": None, "log_tail": ""},
        "interruption_at": None,
        "load": None,
    }


@pytest.mark.parametrize(
    ("question", "detail"),
    [
        ({"path": "/status?404"}, "GET /status answered 404"),
        ({"path": "/status?201"}, "GET /status answered 201"),
        ({"path": "/redirect"}, "GET /redirect answered 307"),
        ({"path": "/break/early"}, "GET /break/early failed: Server disconnected"),
        ({"path": "/break/head?key=k"}, "GET /break/head failed: ClientResponseError"),
        ({"path": "/never?probe", "timeout_s": 0.05}, "GET /never was not answered within 0.05 s"),
    ],
)
def test_anything_but_200_is_not_ready_and_says_why(agent: Agent, question: dict[str, Any], detail: str) -> None:
    """The reason is what the owner reads in `status`. The query is left out of it: it may hold a key."""
    told = agent.probe(**question)
    assert (told["ready"], told["detail"]) == (False, detail)


def test_a_probe_may_post(agent: Agent) -> None:
    """`post_data` goes out as JSON with the given headers, once."""
    body = json.dumps({"prompt": "hi"})
    assert agent.probe("/echo", method="POST", body=body, headers={"X-Key": "k"})["ready"] is True
    assert "POST /echo" in agent.ask_engine("/_seen")["seen"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"method": "DELETE", "path": "/", "timeout_s": 1}',
        '{"method": "GET", "path": "no-slash", "timeout_s": 1}',
        '{"method": "GET", "path": "/", "timeout_s": "soon"}',
        '{"method": "GET", "path": "/", "timeout_s": 1, "headers": {"a": 1}}',
        '{"method": "POST", "path": "/", "timeout_s": 1, "body": {}}',
        '{"method": "POST", "path": "/", "timeout_s": 1, "body": [1]}',
    ],
)
def test_a_senseless_probe_is_refused(agent: Agent, text: str) -> None:
    """400 and a reason instead of a guess."""
    answer = agent.ask("POST", "/_sailplane/probe", text, {"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status, answer.json["title"]) == (400, "Bad probe")


def test_a_probe_in_an_unknown_encoding_is_refused(agent: Agent) -> None:
    """JSON is UTF-8, whatever the header says; the agent does not break over it."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json; charset=none-such"}
    assert agent.ask("POST", "/_sailplane/probe", b"\xff", headers).status == 400


def test_an_endless_answer_is_ready_as_soon_as_it_begins(agent: Agent) -> None:
    """The status tells; what follows it is not collected, so that it cannot fill the machine's memory."""
    assert agent.probe("/endless?probe", timeout_s=5)["ready"] is True
    until(lambda: "/endless?probe" in agent.ask_engine("/_seen")["left"])


def test_the_log_is_the_engines_output(agent: Agent) -> None:
    """The last lines, as many as asked for."""
    assert agent.command("GET", "log?tail=1").body.decode() == "engine up\n"
    assert agent.command("GET", "log?tail=0").body.decode() == ""
    assert agent.command("GET", "log?tail=many").status == 400
    assert agent.command("GET", f"log?tail={'9' * 5000}").status == 400


def test_a_followed_log_goes_on(agent: Agent) -> None:
    """New lines arrive while the connection stays open."""
    connection = agent.connect()
    connection.request("GET", "/_sailplane/log?tail=1&follow=1", headers={"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    assert response.readline() == b"engine up\n"
    with (agent.directory / "replica.log").open("a") as log:
        log.write("more\n")
    assert response.readline() == b"more\n"
    connection.close()


def test_a_notice_is_reported(new_agent: Callable[..., Agent]) -> None:
    """The control plane learns of an interruption with its next probe, and whoever withdraws the file is late."""
    agent = new_agent().until_ready()
    notice = agent.directory / "notice.json"
    notice.write_text('{"interruption_at": 99999999999.5}')
    until(lambda: agent.probe()["interruption_at"] == 99999999999.5)
    notice.unlink()
    assert agent.probe()["interruption_at"] == 99999999999.5
