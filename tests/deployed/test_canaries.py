"""Secrets are planted wherever there is a place for one, everything is done and asked, and nothing that comes out has any."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from chalice import Chalice
from click.testing import CliRunner

from chalicelib import identity
from chalicelib.api.app import create_app
from chalicelib.errors import LaunchRefused
from chalicelib.launching import launch_request
from chalicelib.providers.boot import configuration, user_data
from sailplane.cli import cli
from tests.cli.conftest import KEY, YAML, Plane, plane
from tests.e2e.test_laptop import Laptop, cache, laptop
from tests.waiting import until

__all__ = ["cache", "laptop", "plane"]
pytestmark = pytest.mark.deployed

# What users type, and what a deployment is made with. `canary` in each, so that none hides behind another.
SECRET, ENGINE_KEY, ENV = "canary-secret-0123456789", "canary-engine-key-456789", "canary-env-0123456789"
ROUTER_TOKEN, AGENT_KEY = "canary-router-token-0123456789abcdef", "canary-agent-key-0123456789abcdef"
WRONG_KEY, LITERAL = "canary-wrong-key-0123456789abcdef", "canary-literal-0123456789"
PLANTED = (SECRET, ENGINE_KEY, ENV, ROUTER_TOKEN, AGENT_KEY, WRONG_KEY, LITERAL, KEY)

FILE = YAML + "envs: {TOKEN: }\nsecrets: {HF_TOKEN: , VLLM_API_KEY: }\n"
BROKEN = (
    YAML + f"secrets: {{HF_TOKEN: {LITERAL}}}\n",
    YAML + f"secrets: [{LITERAL}]\n",
    YAML + f"secrets: {{HF_TOKEN: {{ref: '{LITERAL} '}}}}\n",
    YAML + f"envs: {{TOKEN: {{a: {LITERAL}}}}}\n",
    YAML + f"envs: {{A: {LITERAL}}}\nsecrets: {{A: }}\n",
    YAML.replace("/health", "/health?key=$HF_TOKEN") + "secrets: {HF_TOKEN: }\n",
    YAML + "secrets: {MISSING: }\n",
)


class Outputs:
    """Everything that somebody could read, by where it came from."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._told: dict[str, str] = {}

    def note(self, source: str, text: str) -> None:
        self._told[f"{len(self._told)} {source}"] = text

    def run(self, *args: str, stdin: str = "") -> str:
        """Run a command; its stdout. Two streams, and what it may have died of, are noted."""
        done = CliRunner().invoke(cli, args, env=self._plane.env, input=stdin)
        died = "".join(traceback.format_exception(done.exception)) if done.exception else ""
        self.note(" ".join(args), done.output + died)
        return done.stdout

    def holding(self, *secrets: str) -> list[str]:
        """Where one of these was found."""
        return [source for source, text in self._told.items() if any(secret in text for secret in secrets)]


def _derived(plane: Plane) -> Iterator[str]:
    """What is derived for each replica, and told to its machine only."""
    for replica in plane.world.store.history("svc"):
        boot = (replica.id, replica.boot_nonce)
        yield identity.agent_token(AGENT_KEY, *boot)
        yield from identity.grant_keys((ROUTER_TOKEN,), *boot).values()


def _webhook(plane: Plane) -> str:
    """The secret of a webhook, which its making tells and nothing else."""
    wanted = {"kind": "github", "service": "svc", "repository": "team/repo", "token_secret": "HF_TOKEN"}
    headers = {"Authorization": f"Bearer {KEY}"}
    made = httpx.post(f"{plane.url}/v1/webhooks", json=wanted, headers=headers).raise_for_status()
    secret: str = made.json()["secret"]
    return secret


@pytest.fixture
def outputs(plane: Plane, caplog: pytest.LogCaptureFixture) -> Outputs:
    caplog.set_level(logging.DEBUG)
    settings = plane.world.runtime.settings
    settings = replace(settings, router_tokens=(ROUTER_TOKEN,), agent_key=AGENT_KEY, control_url=plane.url)
    plane.world.runtime = replace(plane.world.runtime, settings=settings)
    outputs = Outputs(plane)
    outputs.run("secrets", "set", "HF_TOKEN", "--all", stdin=SECRET)
    outputs.run("secrets", "set", "VLLM_API_KEY", "--all", stdin=ENGINE_KEY)
    return outputs


def test_no_command_shows_a_secret(plane: Plane, outputs: Outputs, caplog: pytest.LogCaptureFixture) -> None:
    """In text and in JSON, in success and in failure, with tracebacks; nor does a log or an event of the control plane."""
    file = plane.file(FILE)
    given = ("--env", f"TOKEN={ENV}")
    key = outputs.run("keys", "create", "svc", "--name", "ci").strip()
    admin_key = outputs.run("admin-keys", "create", "ci", "--scope", "deploy").strip()
    webhook = _webhook(plane)
    commands: tuple[tuple[str, ...], ...] = (
        ("plan", file, *given),
        ("up", file, "-n", "svc", "-y", *given),
        *(("status", "svc"), ("events", "svc"), ("why", "svc"), ("logs", "svc"), ("doctor",)),
        *(("keys", "list"), ("secrets", "list"), ("admin-keys", "list"), ("audit",), ("cost",), ("cost", "svc")),
        *(("webhook", "list"), ("trust", "list")),
        ("update", "svc", file, "-y", *given),
    )
    for command in commands:
        outputs.run(*command)
        outputs.run(*command, "--json")
    # What a service was given as an env is in a backup, or it could not be restored; of secrets there are names.
    outputs.note("export", plane.run("export").output.replace(ENV, ""))
    outputs.run("secrets", "set", "HF_TOKEN", stdin=f"{SECRET}2")
    outputs.run("update", "svc", file, "-y", *given)
    for number, broken in enumerate(BROKEN):
        path = plane.file(broken, f"broken-{number}.yaml")
        commands = (("plan", path), ("up", path, "-n", "svc2", "-y"), ("update", "svc", path, "-y"))
        for command, how in itertools.product(commands, ("--debug", "--json")):
            outputs.run(*command, how)
    commands = (
        ("secrets", "set", "HF_TOKEN", LITERAL),
        ("secrets", "set", f"HF_TOKEN={LITERAL}"),
        ("up", file, "-n", "svc3", "-y", "--secret", f"HF_TOKEN={LITERAL}"),
        ("up", file, "-n", "svc3", "-y", "--env", LITERAL),
        ("status", "--key", WRONG_KEY, "--url", plane.url, "--debug"),
        ("status", "--key", f"{WRONG_KEY}\n", "--url", plane.url, "--debug"),
    )
    for command in commands:
        outputs.run(*command)
    outputs.run("secrets", "set", "HF_TOKEN", stdin=LITERAL * 300)
    plane.cloud.refusal = LaunchRefused("the cloud does not like this request")
    outputs.run("replica", "kill", "svc", plane.world.replicas()[0].id)
    outputs.run("why", "svc")
    outputs.run("down", "svc", "-y")
    outputs.note("log", caplog.text)
    outputs.note("events", repr(plane.world.store.events("svc")))
    assert outputs.holding(*PLANTED, webhook, *_derived(plane)) == []
    assert len(outputs.holding(key)) == len(outputs.holding(admin_key)) == 1, "where it was made"


def _calls(app: Chalice) -> Iterator[tuple[str, str]]:
    """Every operation that the API has, on things that there are and on some that there are not."""
    there = {
        "{name}": ("svc", "HF_TOKEN"),
        "{number}": ("1",),
        "{replica}": ("0-1",),
        "{replica_id}": ("svc-u1d0-0-1",),
    }
    for path, methods in app.routes.items():
        parts = [there.get(part, ("x",)) if part.startswith("{") else (part,) for part in path.split("/")]
        yield from itertools.product(methods, map("/".join, itertools.product(*parts)))


def test_no_answer_shows_a_secret(plane: Plane, outputs: Outputs, caplog: pytest.LogCaptureFixture) -> None:
    """Of every route that there is, to the owner and to strangers, to sense and to nonsense, of which secrets are part."""
    outputs.run("up", plane.file(FILE), "-n", "svc", "-y", "--env", f"TOKEN={ENV}")
    webhook = _webhook(plane)
    sent = {"text": SECRET, "yaml": BROKEN[0], "envs": {"TOKEN": ENV}, "junk": LITERAL, "name": 5}
    bodies = [json.dumps(sent).encode(), LITERAL.encode(), json.dumps({"text": [LITERAL], "envs": LITERAL}).encode()]
    with httpx.Client(base_url=plane.url, headers={"Content-Type": "application/json"}) as client:
        for method, path in _calls(create_app(lambda: plane.world.runtime)):
            for key in (KEY, ROUTER_TOKEN, WRONG_KEY):
                for body in bodies if method in ("POST", "PUT", "PATCH") else [b""]:
                    headers = {"Authorization": f"Bearer {key}"}
                    answer = client.request(method, path, content=body, headers=headers)
                    # A backup is of services with their envs, or they could not be restored; of secrets it has names.
                    text = answer.text.replace(ENV, "") if path == "/v1/backup" else answer.text
                    outputs.note(f"{method} {path}", f"{answer.headers}\n{text}")
    outputs.note("log", caplog.text)
    secrets = {*PLANTED, webhook, *_derived(plane)}
    assert outputs.holding(*secrets) == []


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_no_machine_is_made_with_a_secret(plane: Plane, outputs: Outputs, cloud: str) -> None:
    """User data holds nothing but the ticket that is good once; what a disk then holds, no secret that is told by reference."""
    outputs.run("up", plane.file(FILE), "-n", "svc", "-y", "--env", f"TOKEN={ENV}")
    service, settings = plane.world.state().service.spec, plane.world.runtime.settings
    requests = [launch_request(replica, service, settings) for replica in plane.world.store.history("svc")]
    for request in requests:
        outputs.note("user data", user_data(cloud, "https://control.example", request))
        outputs.note("the record", repr(request) + repr(plane.world.state()))
    assert outputs.holding(*PLANTED, *_derived(plane)) == []
    told = json.dumps([configuration(request, cloud, "https://control.example") for request in requests])
    assert SECRET not in told
    assert ENGINE_KEY not in told
    assert AGENT_KEY not in told
    assert ROUTER_TOKEN not in told


def _files(laptop: Laptop) -> dict[str, str]:
    """All that the stack keeps, but where secrets are kept: its own keys, and the stand-in for Parameter Store."""
    keeps = (laptop.home / "local" / "secrets.json", laptop.home / "local" / "ministack" / "state")
    return {
        str(path.relative_to(laptop.home)): path.read_text(errors="replace")
        for path in laptop.home.rglob("*")
        if path.is_file() and not any(path.is_relative_to(kept) for kept in keeps)
    }


def _processes(laptop: Laptop) -> dict[str, str]:
    """The command lines of all processes, and the environments of those that are not the engine's."""
    told = {}
    for process in laptop.processes():
        command = " ".join(process.cmdline())
        is_engines = "SAILPLANE_PORT" in process.environ()
        told[f"{process.pid} {command}"] = command + ("" if is_engines else str(process.environ()))
    return told


def _set(laptop: Laptop, name: str, text: str) -> str:
    command = [sys.executable, "-m", "sailplane", "secrets", "set", name, "--all"]
    done = subprocess.run(command, env=laptop.env, input=text, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


SERVICE = """\
service: {readiness_probe: {path: /, endpoint_probe_interval_seconds: 1}, replicas: 1, ports: 8080}
resources: {infra: local}
secrets: {HF_TOKEN: , OTHER: {ref: team.other}}
run: |
  printf '%s %s' "$HF_TOKEN" "$OTHER" | sha256sum > got
  exec python3 -m http.server --bind 127.0.0.1 $SAILPLANE_PORT
"""


def test_a_laptop_keeps_its_secrets_to_itself(laptop: Laptop, tmp_path: Path) -> None:
    """Daemon, database, agent and engine for real: the engine has its secrets, and no file, log, command line or answer.

    They outlive the stack, a changed one reaches the replicas at the next update, and one that is gone is named.
    """
    file = tmp_path / "service.yaml"
    file.write_text(SERVICE)
    laptop.start()
    outputs = [_set(laptop, "HF_TOKEN", f"{SECRET}\n"), _set(laptop, "team.other", ENGINE_KEY)]

    def run(*args: str) -> int:
        done = laptop.run(*args)
        outputs.append(done.stdout + done.stderr)
        return done.returncode

    def got() -> list[str]:
        return [path.read_text().split()[0] for path in laptop.home.rglob("workdir/got")]

    assert run("up", str(file), "-n", "svc", "-y") == 0
    assert got() == [_digest(f"{SECRET} {ENGINE_KEY}")]
    assert run("local", "stop", "--keep") == 0
    laptop.start()
    _set(laptop, "HF_TOKEN", f"{SECRET}2")
    assert run("update", "svc", str(file), "-y") == 0
    assert _digest(f"{SECRET}2 {ENGINE_KEY}") in got()
    for command in (("status", "svc"), ("events", "svc"), ("why", "svc"), ("logs", "svc"), ("secrets", "list")):
        assert run(*command, "--json") == 0
    assert run("secrets", "remove", "team.other") == 3
    assert run("secrets", "remove", "team.other", "--force") == 0
    (replica,) = [one["id"] for one in laptop.json("status", "svc")["replicas"] if one["status"] == "READY"]
    assert run("replica", "kill", "svc", replica) == 0
    named = "There is no secret 'team.other'"
    until(lambda: any(named in (one["error"] or "") for one in laptop.json("status", "svc")["replicas"]))
    assert run("status", "svc") == 0
    told = {**_files(laptop), **_processes(laptop), "outputs": "\n".join(outputs)}
    assert len(told) > 12
    assert [source for source, text in told.items() if SECRET in text or ENGINE_KEY in text] == []
    laptop.run("local", "stop", "--down")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
