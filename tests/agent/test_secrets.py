"""The agent asks for its secrets before its engine starts; they are in no file, log, command line or answer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replica_agent.secrets import Refused, with_secrets
from tests.agent.running import ENGINE, TOKEN, Agent
from tests.agent.test_container import IMAGE, Docker, docker
from tests.waiting import until

__all__ = ["docker"]

TEXT = 'it\'s a "canary" $HOME `id`\nof two lines'
KEY = "canary-engine-key"
NewAgent = Callable[..., Agent]


class Plane(ThreadingHTTPServer):
    """A control plane that gives each of `answers` in turn, the last one ever after; `asked` holds path, body and token."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, str, Any]] = [
            (200, "application/json", {"envs": {"TOKEN": TEXT, "ENGINE_KEY": KEY}})
        ]
        self.asked: list[tuple[str, Any, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/replicas/hello-k3f9-0-1/secrets"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        plane: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        plane.asked.append((self.path, body, self.headers["Authorization"]))
        status, kind, document = plane.answers.pop(0) if len(plane.answers) > 1 else plane.answers[0]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(document if isinstance(document, bytes) else json.dumps(document).encode())

    def log_message(self, *_: object) -> None:
        """Tests are silent."""


@pytest.fixture
def plane() -> Iterator[Plane]:
    with Plane() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _traces(agent: Agent) -> str:
    """All that anybody can read: every file of the replica, the log as it is told, command lines, the probe's answer."""
    kept = [
        path.read_text(errors="replace")
        for path in agent.directory.rglob("*")
        if path.is_file() and path.name != "seen"
    ]
    commands = [" ".join(process.cmdline()) for process in agent.processes()]
    told = agent.command("GET", "log?tail=1000").body.decode()
    return "\n".join([*kept, *commands, told, json.dumps(agent.probe())])


def test_the_engine_finds_its_secrets(new_agent: NewAgent, plane: Plane) -> None:
    """In `setup` and in `run`, exactly as they were kept, asked for once with the replica's own token."""
    setup = 'printf %s "$TOKEN" > seen'
    agent = new_agent(secrets_url=plane.url, engine_key_env="ENGINE_KEY", setup=setup, run=ENGINE).until_ready()
    assert (agent.directory / "seen").read_text() == TEXT
    assert plane.asked == [("/v1/replicas/hello-k3f9-0-1/secrets", {"boot_nonce": "nonce-1"}, f"Bearer {TOKEN}")]
    shown = agent.ask("GET", "/headers").json
    assert ["Authorization", f"Bearer {KEY}"] in shown["headers"]
    assert "canary" not in _traces(agent)


def test_docker_takes_them_from_its_own_environment(new_agent: NewAgent, plane: Plane, docker: Docker) -> None:
    """The container's engine has them; the file beside it, from which it has everything else, does not."""
    run = 'printf %s "$TOKEN" > seen; sleep 600'
    agent = new_agent(secrets_url=plane.url, image=IMAGE, run=run, env={"MODEL": "tiny"})
    until(lambda: (agent.directory / "seen").exists() and (agent.directory / "seen").read_text())
    assert (agent.directory / "seen").read_text() == TEXT
    assert "MODEL" in (agent.directory / "container" / "environment").read_text()
    assert docker.running
    assert "canary" not in _traces(agent) + "".join(docker.arguments)


def test_an_answer_is_waited_for(new_agent: NewAgent, plane: Plane) -> None:
    """Nobody there, trouble, nonsense, a gateway's own word: none of it is the control plane's last."""
    plane.answers = [
        (503, "application/problem+json", {"detail": "AWS refused ssm:GetParameters"}),
        (403, "application/json", {"detail": "canary"}),
        (200, "application/json", b"canary"),
        *plane.answers,
    ]
    agent = new_agent(secrets_url=plane.url, setup='printf %s "$TOKEN" > seen', run=ENGINE)
    assert len(plane.asked) == 4
    agent.until_phase("RUNNING")
    said = [line.partition("secrets: ")[2].partition(";")[0] for line in agent.log.splitlines()[:3]]
    assert said == ["AWS refused ssm:GetParameters", "HTTP 403", "JSONDecodeError"]
    assert "canary" not in _traces(agent)


def test_it_is_not_waited_for_without_end(plane: Plane) -> None:
    """Who cannot be told in time says why: a machine that merely does not come up would explain nothing."""
    plane.answers = [(503, "application/problem+json", {"detail": "AWS refused ssm:GetParameters: AccessDenied."})]
    told: Any = SimpleNamespace(secrets_url=plane.url, boot_nonce="n", agent_token=TOKEN)
    said: list[str] = []
    with pytest.raises(Refused, match="AccessDenied"):
        asyncio.run(with_secrets(told, said.append, patience_s=0.3))
    assert len(plane.asked) == 2
    assert len(said) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "application/problem+json", {"detail": "There is no secret 'TOKEN'"}), "There is no secret 'TOKEN'"),
        (
            (200, "application/json", {"envs": {"KEY": "canary\n"}}),
            "behind KEY holds a character that no header can carry",
        ),
    ],
)
def test_an_engine_without_its_secrets_does_not_run(
    new_agent: NewAgent, plane: Plane, answer: tuple[int, str, Any], said: str
) -> None:
    """It has exited before it started, and why stands where the control plane reads it."""
    plane.answers = [answer]
    agent = new_agent(secrets_url=plane.url, engine_key_env="KEY", run="touch ran")
    engine = agent.until_phase("EXITED")["engine"]
    assert engine["exit_code"] is None
    assert said in engine["log_tail"]
    assert not Path(agent.directory / "ran").exists()
    assert "canary" not in _traces(agent)


SERVER = "registry.example"


def test_an_image_is_pulled_from_a_private_registry(new_agent: NewAgent, plane: Plane, docker: Docker) -> None:
    """Docker is logged in for that long, its password being in no command line, and on no disk afterwards."""
    secrets = {"SKYPILOT_DOCKER_PASSWORD": TEXT}
    plane.answers = [(200, "application/json", {"envs": secrets})]
    env = {"SKYPILOT_DOCKER_SERVER": SERVER, "SKYPILOT_DOCKER_USERNAME": "ci"}
    agent = new_agent(secrets_url=plane.url, image="team/engine:v1", env=env, run="sleep 600")
    agent.until_phase("RUNNING")
    until(lambda: docker.running)
    assert (docker.directory / "logged-in-as").read_text() == f"ci:{TEXT}@{SERVER}"
    assert f"{SERVER}/team/engine:v1" in docker.arguments
    until(lambda: not (agent.directory / "registry").exists())
    assert "canary" not in _traces(agent)


def test_a_registry_that_refuses_is_told(new_agent: NewAgent, docker: Docker) -> None:
    """In docker's own words; the engine has exited before it started."""
    env = {f"SKYPILOT_DOCKER_{name}": "wrong" for name in ("SERVER", "USERNAME", "PASSWORD")}
    agent = new_agent(image=IMAGE, env=env, run="touch ran")
    engine = agent.until_phase("EXITED")["engine"]
    assert engine["exit_code"] == 1
    assert "incorrect username or password" in engine["log_tail"]
    assert not (agent.directory / "registry").exists()
    assert not docker.running
