"""What the control plane asks and what it is told."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.running import TOKEN, Agent, signed
from tests.waiting import until

TARGET = "/_sailplane/probe"
BODY = json.dumps({"method": "GET", "path": "/headers", "timeout_s": 5})
MAC = "0" * 64


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "ü"])
@pytest.mark.parametrize(("method", "path"), [("POST", "probe"), ("POST", "drain"), ("GET", "log"), ("GET", "other")])
def test_only_the_control_plane_may_ask(agent: Agent, token: str, method: str, path: str) -> None:
    """401 for what is signed with any other token, on every path, and nothing happens."""
    answer = agent.command(method, path, token=token)
    assert answer.status == 401
    assert TOKEN not in answer.body.decode()
    assert agent.probe()["draining"] is False


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Sailplane",
        f"Bearer {TOKEN}",
        f"Sailplane 1.{'a' * 32}.{MAC}",
        f"Sailplane {'9' * 400}.{'a' * 32}.{MAC}",
        f"Sailplane \u0661.{'a' * 32}.{MAC}",
        f"Sailplane 1..{MAC}",
        f"Sailplane 1.{'a' * 32}.",
    ],
)
def test_without_a_signature_the_answer_is_401(agent: Agent, authorization: str) -> None:
    """Nothing of the agent's own is public, and the token itself opens nothing: it is not sent."""
    headers: Any = {"Authorization": authorization.encode()}  # as bytes, for what is not ASCII
    assert agent.ask_raw("POST", TARGET, BODY, headers).status == 401


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [("GET", TARGET, BODY), ("POST", "/_sailplane/drain", BODY), ("POST", TARGET + "?x", BODY), ("POST", TARGET, "{}")],
)
def test_a_signature_is_for_one_command(agent: Agent, method: str, target: str, body: str) -> None:
    """Not for another method, path, query or body."""
    assert agent.ask_raw(method, target, body, signed("POST", TARGET, BODY)).status == 401
    assert agent.probe()["draining"] is False


def test_a_command_is_good_once(agent: Agent) -> None:
    """Whoever overheard one cannot give it again."""
    headers = signed("POST", TARGET, BODY)
    assert agent.ask_raw("POST", TARGET, BODY, headers).status == 200
    assert agent.ask_raw("POST", TARGET, BODY, headers).status == 401


def test_an_old_command_is_refused(agent: Agent) -> None:
    """It may have been held back, 30 s at the most."""
    agent.probe()
    for age_s, status in ((20, 200), (40, 401)):
        headers = signed("POST", TARGET, BODY, at=time.time() - age_s)
        assert agent.ask_raw("POST", TARGET, BODY, headers).status == status


def test_the_answer_to_a_probe_is_signed(agent: Agent) -> None:
    """By this replica, in this boot, for this question: whoever sits at its address cannot say what it said before."""
    headers = signed("POST", TARGET, BODY)
    answer = agent.ask_raw("POST", TARGET, BODY, headers)
    nonce = headers["Authorization"].split(".")[1].encode()
    assert (
        answer.headers["X-Sailplane-Signature"]
        == hmac.digest(TOKEN.encode(), nonce + b"\n" + answer.body, "sha256").hex()
    )


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
    answer = agent.ask_raw("POST", TARGET, text, signed("POST", TARGET, text))
    assert (answer.status, answer.json["title"]) == (400, "Bad probe")


def test_a_probe_in_an_unknown_encoding_is_refused(agent: Agent) -> None:
    """JSON is UTF-8, whatever the header says; the agent does not break over it."""
    headers = {**signed("POST", TARGET, "ü"), "Content-Type": "application/json; charset=none-such"}
    assert agent.ask_raw("POST", TARGET, "ü".encode(), headers).status == 400


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
    target = "/_sailplane/log?tail=1&follow=1"
    connection.request("GET", target, headers=signed("GET", target))
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
