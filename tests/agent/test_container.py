"""A service that names a docker image has its commands executed in one container of it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent import fake_docker
from tests.agent.running import ENGINE, Agent
from tests.waiting import until

IMAGE = "registry.example/engine:v1"
SECRET = 'it\'s a "secret" $HOME `id`\nof two lines'


@dataclass
class Docker:
    """The stand-in on PATH, and what it was told."""

    directory: Path

    @property
    def running(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("containers/*") if path.suffix != ".removed")

    @property
    def removed(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("containers/*.removed"))

    @property
    def arguments(self) -> list[str]:
        return next(self.directory.glob("containers/*/arguments")).read_text().split("\n")


NewAgent = Callable[..., Agent]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    directory = tmp_path / "docker"
    directory.mkdir()
    program = shutil.copy(fake_docker.__file__, directory / "fake_docker.py")
    command = directory / "docker"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(program))} "$@"\n')
    command.chmod(0o700)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return Docker(directory)


def test_setup_and_run_share_one_container(new_agent: NewAgent, docker: Docker) -> None:
    """What setup does, run finds; the engine listens on the machine's own port."""
    agent = new_agent(image=IMAGE, setup="touch prepared", run=f"test -e prepared && {ENGINE}").until_ready()
    assert docker.running == ["hello-k3f9-0-1"]
    assert agent.ask("GET", "/headers").status == 200
    assert f"Unable to find image '{IMAGE}' locally" in agent.log


def test_docker_is_told_nothing_secret(new_agent: NewAgent, docker: Docker) -> None:
    """Values arrive exactly, line breaks too, through a file that only its owner reads; the host's environment does not."""
    run = 'printf %s "$TOKEN" > token; printf %s "$SAILPLANE_REPLICA_ID" > who; env > environment; sleep 600'
    agent = new_agent(image=IMAGE, run=run, env={"TOKEN": SECRET})
    until(lambda: (agent.directory / "environment").exists() and (agent.directory / "environment").read_text())
    assert (agent.directory / "token").read_text() == SECRET
    assert (agent.directory / "who").read_text() == "hello-k3f9-0-1"
    assert not any("secret" in argument for argument in docker.arguments)
    commands = [" ".join(process.cmdline()) for process in agent.processes()]
    assert not any("secret" in command for command in commands)
    kept = agent.directory / "container"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in kept.iterdir() if path.name != "up"} == {0}
    assert SECRET not in agent.log + agent.said


@pytest.mark.parametrize("gpus", ["0", "8"])
def test_gpus_are_asked_for_where_there_are_some(new_agent: NewAgent, docker: Docker, gpus: str) -> None:
    """`--gpus all` fails on a machine without any."""
    new_agent(image=IMAGE, run="sleep 600", env={"SAILPLANE_NUM_GPUS_PER_NODE": gpus}).until_phase("RUNNING")
    until(lambda: docker.running)
    assert ("--gpus" in docker.arguments) == (gpus == "8")


def test_an_image_that_cannot_be_had_is_told(new_agent: NewAgent, docker: Docker) -> None:
    """Docker's own words, and its exit code."""
    engine = new_agent(image="no/such:image", setup="true").until_phase("EXITED")["engine"]
    assert engine["exit_code"] == 125
    assert "manifest for no/such:image not found" in engine["log_tail"]
    assert not docker.running


def test_a_machine_without_docker_says_so(new_agent: NewAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """127 and the program that is missing."""
    commands = [Path(name).parent for name in (shutil.which("bash"), shutil.which("sh")) if name]
    monkeypatch.setenv("PATH", ":".join(str(each) for each in commands))
    engine = new_agent(image=IMAGE).until_phase("EXITED")["engine"]
    assert engine["exit_code"] == 127
    assert "docker" in engine["log_tail"]


def test_an_engine_that_ends_takes_its_container_along(new_agent: NewAgent, docker: Docker) -> None:
    """Its exit code is told, and nothing it left behind goes on."""
    agent = new_agent(image=IMAGE, run="sleep 600 & exit 7")
    assert agent.until_phase("EXITED")["engine"]["exit_code"] == 7
    assert (docker.running, docker.removed) == ([], ["hello-k3f9-0-1"])
    until(lambda: [process.pid for process in agent.processes()] == [agent.process.pid])


def test_an_engine_in_a_container_may_say_goodbye(new_agent: NewAgent, docker: Docker) -> None:
    """SIGTERM reaches it there; then the container is removed."""
    run = "trap 'echo saved; exit' TERM; touch up; while true; do sleep 0.05; done"
    agent = new_agent(image=IMAGE, run=run)
    until((agent.directory / "up").exists)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(10) == 0
    assert "saved" in agent.log
    assert (docker.running, docker.removed) == ([], ["hello-k3f9-0-1"])


@pytest.mark.usefixtures("docker")
def test_no_container_outlives_its_agent(new_agent: NewAgent) -> None:
    """However it dies: the container waits on a pipe that the agent holds."""
    agent = new_agent(image=IMAGE).until_ready()
    agent.process.kill()
    agent.process.wait()
    until(lambda: agent.processes() == [])
