"""From the first line to the last process: what an agent does with its engine and its directory."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.agent.running import ENGINE, Agent, granted
from tests.waiting import until

NewAgent = Callable[..., Agent]


def test_setup_comes_before_run(new_agent: NewAgent) -> None:
    """While setup runs, clients are asked to come back; then the engine serves."""
    agent = new_agent(setup="until test -e go; do sleep 0.02; done")
    told = agent.probe()
    assert (told["ready"], told["engine"]["phase"]) == (False, "SETUP")
    answer = agent.ask("GET", "/headers")
    assert (answer.status, answer.headers["Retry-After"], answer.json["status"]) == (503, "5", 503)

    (agent.directory / "go").touch()

    agent.until_ready()
    assert agent.ask("GET", "/headers").status == 200


def test_an_engine_that_does_not_listen_yet_is_not_up(new_agent: NewAgent) -> None:
    """RUNNING is not ready: a model loads for minutes."""
    agent = new_agent(run="sleep 30")
    told = agent.until_phase("RUNNING")
    assert told["ready"] is False
    assert told["detail"].startswith("nothing listens on port")
    answer = agent.ask("GET", "/headers")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


def test_a_failed_setup_ends_the_engine(new_agent: NewAgent) -> None:
    """`run` is not tried; exit code and last 20 lines tell why."""
    agent = new_agent(setup="seq 1 50; echo no such package >&2; exit 3", run="touch ran")
    engine = agent.until_phase("EXITED")["engine"]
    assert engine["exit_code"] == 3
    assert engine["log_tail"].splitlines()[-2:] == ["no such package", "[sailplane] setup exited with code 3"]
    assert len(engine["log_tail"].splitlines()) == 20
    assert not (agent.directory / "ran").exists()


def test_an_engine_that_exits_is_not_restarted_and_leaves_nothing(new_agent: NewAgent) -> None:
    """Its background children go with it, and the agent stays to tell."""
    agent = new_agent(run="sleep 300 & echo done; exit 7")
    assert agent.until_phase("EXITED")["engine"]["exit_code"] == 7
    assert [process.pid for process in agent.processes()] == [agent.process.pid]
    assert agent.ask("GET", "/").status == 503


def test_a_daemon_of_setup_lives_on_into_run(new_agent: NewAgent) -> None:
    """`setup` may start what `run` needs."""
    agent = new_agent(
        setup="(until test -e stop; do sleep 0.02; done; echo daemon saw it) &", run="touch stop; sleep 30"
    )
    until(lambda: "daemon saw it" in agent.log)


def test_an_engine_that_was_killed_tells_the_signal(new_agent: NewAgent) -> None:
    """Out of memory looks like this."""
    agent = new_agent(run="kill -KILL $$")
    engine = agent.until_phase("EXITED")["engine"]
    assert engine["exit_code"] == -9
    assert "run was ended by signal 9" in engine["log_tail"]


def test_a_taken_port_is_told_and_never_mistaken_for_the_engine(new_agent: NewAgent) -> None:
    """Another process's answer on that port must not make this replica ready."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        agent = new_agent(engine_port=other.getsockname()[1])
        engine = agent.until_phase("EXITED")["engine"]
    assert "is taken by another process" in engine["log_tail"]
    assert "$SAILPLANE_PORT" in engine["log_tail"]


def test_a_missing_workdir_is_told(new_agent: NewAgent) -> None:
    """127, as a shell says it, and a readable line."""
    engine = new_agent(workdir="nowhere").until_phase("EXITED")["engine"]
    assert engine["exit_code"] == 127
    assert "cannot start run" in engine["log_tail"]


def test_the_users_words_are_data(new_agent: NewAgent, tmp_path: Path) -> None:
    """Quotes, newlines and dollar signs in scripts, values and paths arrive as they are."""
    value = "a 'b' \"c\" $HOME `id` \\ \n d"
    agent = new_agent(
        run='printf %s "$VALUE" > value; printf %s "$SAILPLANE_REPLICA_ID $SAILPLANE_SERVICE" > who; sleep 30',
        env={"VALUE": value, "SAILPLANE_REPLICA_ID": "an impostor"},
    )
    until((tmp_path / "replica-0" / "who").exists)
    agent.until_phase("RUNNING")
    until(lambda: (agent.directory / "who").read_text() == "hello-k3f9-0-1 hello")
    assert (agent.directory / "value").read_text() == value


def test_draining_goes_on_serving(new_agent: NewAgent) -> None:
    """A router that has not heard of it yet is served, and told to close the connection."""
    agent = new_agent().until_ready()
    assert agent.command("POST", "drain").json == {"in_flight": 0}
    assert agent.probe()["draining"] is True
    answer = agent.ask("GET", "/headers")
    assert (answer.status, answer.headers["Connection"]) == (200, "close")


def test_sigterm_finishes_what_is_in_flight(new_agent: NewAgent) -> None:
    """The stream ends properly, nothing new is taken, then engine and agent end."""
    agent = new_agent().until_ready()
    idle = agent.connect()
    idle.request("GET", granted("GET", "/headers"))
    idle.getresponse().read()
    connection = agent.connect()
    connection.request("GET", granted("GET", "/sse?farewell"))
    response = connection.getresponse()
    assert response.readline() == b"data: first\n"

    agent.process.send_signal(signal.SIGTERM)
    until(lambda: _refuses(agent.place["port"]))
    idle.request("GET", granted("GET", "/headers"))
    late = idle.getresponse()
    assert (late.status, late.headers["Connection"]) == (503, "close")
    idle.close()
    agent.ask_engine("/_open?farewell")

    assert response.read() == b"\ndata: second\n\n"
    connection.close()
    assert agent.process.wait(10) == 0
    assert agent.processes() == []


def test_draining_has_an_end(new_agent: NewAgent) -> None:
    """What is not finished after `drain_timeout_s` is cut off, and an engine deaf to SIGTERM is killed."""
    agent = new_agent(drain_timeout_s=0.2, run="trap '' TERM; touch up; while true; do sleep 0.1; done")
    until((agent.directory / "up").exists)
    begun = time.monotonic()
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(20) == 0
    assert time.monotonic() - begun > 4, "the engine has 5 s between SIGTERM and SIGKILL"
    assert agent.processes() == []


def test_an_engine_may_say_goodbye(new_agent: NewAgent) -> None:
    """SIGTERM comes first, to the whole group, and what is said then is in the log."""
    agent = new_agent(run="(trap 'sleep 0.2; echo saved; exit' TERM; touch up; while true; do sleep 0.05; done)")
    until((agent.directory / "up").exists)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(10) == 0
    assert "saved" in agent.log


def test_no_engine_outlives_its_agent(new_agent: NewAgent) -> None:
    """After kill -9 of the agent alone, the leash kills the engine and its children."""
    agent = new_agent(run=f"sleep 300 & ({ENGINE})").until_ready()
    assert len(agent.processes()) >= 4
    agent.process.kill()
    agent.process.wait()
    until(lambda: agent.processes() == [])


def test_an_interruption_takes_everything_at_its_instant(new_agent: NewAgent) -> None:
    """Not before: until then the replica serves."""
    agent = new_agent().until_ready()
    at = time.time() + 1.5
    draft = agent.directory / "draft"
    draft.write_text(json.dumps({"interruption_at": at}))
    draft.rename(agent.directory / "notice.json")
    until(lambda: agent.probe()["interruption_at"] == at)
    assert agent.ask("GET", "/headers").status == 200
    assert agent.process.wait(10) == -signal.SIGKILL
    assert time.time() >= at
    until(lambda: agent.processes() == [])


def test_a_second_agent_in_the_same_directory_leaves(new_agent: NewAgent) -> None:
    """Exit code 3 and a reason; the first one goes on."""
    agent = new_agent().until_ready()
    second = agent.spawn()
    assert second.wait(10) == 3
    assert "another agent is running in" in agent.said
    assert agent.probe()["ready"] is True


def test_a_directory_has_one_life(new_agent: NewAgent) -> None:
    """After the agent's death, however it died, the directory stays dead."""
    agent = new_agent()
    agent.process.kill()
    agent.process.wait()
    assert agent.spawn().wait(10) == 3
    assert "an agent has lived in" in agent.said


def test_a_machine_that_was_ended_never_begins(tmp_path: Path) -> None:
    """An agent that comes too late, after its machine was given up, starts nothing."""
    agent = Agent(tmp_path / "late")
    agent.directory.mkdir()
    (agent.directory / "ended.json").write_text("{}")
    agent.start(run="touch ran")
    assert agent.process.wait(10) == 3
    assert not (agent.directory / "ran").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"agent_token": "hush"}', "replica_id is missing"),
        ('{"replica_id": 5, "agent_token": "hush"}', "replica_id has the wrong type"),
    ],
)
def test_a_bad_configuration_is_refused_by_name(tmp_path: Path, text: str | None, complaint: str) -> None:
    """Exit code 2, the file and the field, and none of its secrets."""
    path = tmp_path / "agent.json"
    if text is not None:
        path.write_text(text)
    command = [sys.executable, "-m", "replica_agent", "--config", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert str(path) in ended.stderr
    assert "hush" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_cannot_be_had_is_told(new_agent: NewAgent) -> None:
    """Exit code 2, before anything of the user's has run."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        agent = new_agent(port=other.getsockname()[1], run="touch ran")
        assert agent.process.wait(10) == 2
    assert "cannot listen on 127.0.0.1" in agent.said
    assert agent.place == {}
    assert not (agent.directory / "ran").exists()


def test_the_agent_writes_no_requests_and_no_secrets(new_agent: NewAgent) -> None:
    """Its own log stays empty: paths and headers may carry credentials, and whoever sends nonsense must not fill the disk."""
    agent = new_agent().until_ready()
    agent.ask("GET", "/headers?key=secret", headers={"Authorization": "Bearer secret"})
    with pytest.raises(http.client.IncompleteRead):
        agent.ask("GET", "/break/chunked")
    agent.command("POST", "probe", token="wrong")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", agent.place["port"])) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer secret\r\n\r\n")
            assert b" 400 " in client.recv(1000)
    assert agent.said == ""


def test_the_agent_leads_its_own_group(new_agent: NewAgent) -> None:
    """And the engine another one, so that stopping the engine spares the agent."""
    agent = new_agent().until_ready()
    groups = {os.getpgid(process.pid) for process in agent.processes()}
    assert os.getpgid(agent.process.pid) == agent.process.pid
    assert len(groups) == 2
    assert psutil.Process(agent.process.pid).status() != psutil.STATUS_ZOMBIE


def _refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0
