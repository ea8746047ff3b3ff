"""What the commands promise, against a real API and real passes over a fake cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import NoCapacity
from chalicelib.model import ReplicaStatus
from sailplane.cli.logs import overlap
from tests.cli.conftest import YAML, Plane
from tests.fakes import Interposed
from tests.waiting import interrupted, until


def test_up_shows_plan_and_progress_and_ends_when_ready(plane: Plane) -> None:
    """Data (plan, service) go to stdout, progress to stderr, one line a change; it returns only when READY."""
    result = plane.up()
    assert result.exit_code == 0, result.stderr
    assert "Chosen:" in result.stdout
    assert "svc: READY, 2 of 2 ready" in result.stdout
    assert "Endpoint: http://127.0.0.1:7490/svc" in result.stdout
    progress = result.stderr.splitlines()
    assert "svc: READY, 2 of 2 ready" in progress
    assert len(progress) == len(set(progress))
    assert len(plane.world.replicas(ReplicaStatus.READY)) == 2


def test_up_json_is_one_object_with_stable_keys(plane: Plane) -> None:
    """With --json stdout is the service as the API gives it and nothing else."""
    service = plane.json("up", plane.file(), "-n", "svc", "-y")
    assert {"name", "status", "endpoint", "version", "target", "ready", "updating", "replicas"} <= service.keys()
    assert (service["name"], service["status"], service["ready"]) == ("svc", "READY", 2)


def test_up_without_terminal_or_yes_starts_nothing(plane: Plane) -> None:
    """A script that forgot --yes is told so, with nothing started."""
    result = plane.run("up", plane.file(), "-n", "svc")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert plane.world.store.service_names() == ()


def test_up_of_a_broken_file_needs_no_control_plane(plane: Plane) -> None:
    """A wrong file is refused before anybody is asked, with every problem and exit code 3."""
    plane.url = "http://127.0.0.1:1"
    result = plane.run("up", plane.file("service:\n  readines_probe: /\n  replicas: -1\n"), "-n", "svc", "-y")
    assert result.exit_code == 3
    assert "readines_probe" in result.stderr
    assert "replicas" in result.stderr


def test_up_of_a_name_in_use_is_refused_before_asking(plane: Plane) -> None:
    """The running service is left alone and the exit code is 5."""
    plane.up()
    before = plane.world.state().service
    result = plane.up()
    assert result.exit_code == 5
    assert "is a service 'svc' already" in result.stderr
    assert f"sailplane update svc {plane.file()}" in result.stderr
    assert "Chosen" not in result.stdout
    assert plane.world.state().service.spec_version == before.spec_version


@pytest.mark.parametrize("name", ["Hello", "h\u00e9llo", "a_b", "v1", "healthz", "_resolve", "~x", "a" * 41])
def test_up_with_a_name_that_cannot_be_one_is_refused_before_the_plan(plane: Plane, name: str) -> None:
    """The name is quoted and the way out told; the file, in which nothing is wrong, is not blamed."""
    result = plane.run("up", plane.file(), "-n", name, "-y")
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"Error: {name!r} " in result.stderr
    assert "-n NAME" in result.stderr


def test_up_takes_the_name_from_the_file(plane: Plane) -> None:
    """Without -n the file's `name` counts; with neither the command line is wrong."""
    assert plane.json("up", plane.file(f"name: given\n{YAML}"), "-y", "--detach")["name"] == "given"
    assert plane.run("up", plane.file(), "-y").exit_code == 2


def test_up_sends_workdir_absolute(plane: Plane) -> None:
    """A relative workdir means the file's directory, wherever the control plane runs."""
    plane.json("up", plane.file(f"workdir: .  # here\n{YAML}"), "-n", "svc", "-y", "--detach")
    source = plane.world.store.spec("svc", 1).source
    assert source.splitlines()[0] == f'workdir: "{plane.directory}"  # here'


def test_up_that_fails_tells_error_log_and_what_to_do(plane: Plane) -> None:
    """A `run` that exits at once ends the command with exit code 7 and the engine's last words."""
    plane.cloud.broken = True
    result = plane.up()
    assert result.exit_code == 7
    assert "the engine exited with code 3" in result.stderr
    assert "Traceback: no such model" in result.stderr
    assert "sailplane update svc FILE" in result.stderr
    assert "ENGINE_EXITED: the engine exited with code 3\n" in plane.run("status", "svc").stdout


def test_up_ends_when_every_cloud_refuses(plane: Plane) -> None:
    """Exit code 8 and what the clouds said, while the control plane goes on asking: it comes up when one has room again."""
    plane.cloud.refusal = NoCapacity("none left")
    result = plane.up()
    assert result.exit_code == 8
    assert "svc gets no machine now" in result.stderr
    assert "none left" in result.stderr
    assert "sailplane status svc --watch" in result.stderr
    assert plane.world.store.service_names() == ("svc",)
    plane.cloud.refusal = None
    until(lambda: len(plane.world.replicas(ReplicaStatus.READY)) == 2)


def test_up_ends_when_there_is_room_for_some_only(plane: Plane) -> None:
    """A replica that is ready is no reason to wait for ever for the other one."""
    plane.cloud.capacity_left = 1
    result = plane.up()
    assert result.exit_code == 8
    assert "1 of 2 ready" in result.stderr


def test_up_interrupted_detaches(plane: Plane) -> None:
    """Ctrl-C while waiting ends with 130, says how to go on, and leaves the service starting."""
    plane.cloud.ready_at_once = False
    file = plane.file(YAML.replace("/health", "{path: /health, initial_delay_seconds: 86400}"))
    command = [sys.executable, "-m", "sailplane", "up", file, "-n", "svc", "-y"]
    with subprocess.Popen(command, env=plane.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        until(lambda: "STARTING" in str(run.stderr and run.stderr.readline()))
        said = interrupted(run)
    assert run.returncode == 130
    assert "sailplane status svc --watch" in said
    assert plane.world.store.service_names() == ("svc",)


def test_status_lists_and_shows(plane: Plane) -> None:
    """Without NAME a line a service, with NAME its replicas; --endpoint prints the endpoint alone."""
    assert plane.json("status") == {"services": []}
    plane.up()
    assert [service["name"] for service in plane.json("status")["services"]] == ["svc"]
    ids = {replica.id for replica in plane.world.replicas()}
    assert {replica["id"] for replica in plane.json("status", "svc")["replicas"]} == ids
    assert all(replica_id in plane.run("status", "svc").stdout for replica_id in ids)
    assert plane.run("status", "svc", "--endpoint").stdout == "http://127.0.0.1:7490/svc\n"


def test_status_of_an_unknown_service_is_4(plane: Plane) -> None:
    """An unknown name has its own exit code, and the nearest name is told."""
    plane.up()
    result = plane.run("status", "svk")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "'svc'" in result.stderr


def test_unreachable_control_plane_is_6(plane: Plane) -> None:
    """Nobody at the URL: exit code 6 and the URL."""
    plane.url = "http://127.0.0.1:1"
    result = plane.run("status")
    assert result.exit_code == 6
    assert "127.0.0.1:1" in result.stderr


def test_wrong_key_is_refused_and_never_shown(plane: Plane) -> None:
    """A key that does not fit has an exit code of its own, and the message repeats no key."""
    result = plane.run("status", "--key", "wrong-key-wrong-key")
    assert result.exit_code == 9
    assert "wrong-key" not in result.stderr


@pytest.mark.parametrize("key", ["kept-secret\n", "k\u00e9pt-secret"])
def test_a_key_that_no_header_takes_is_refused_and_never_shown(plane: Plane, key: str) -> None:
    """A line's end read along with the key is a mistake in the command line, told without the key."""
    result = plane.run("status", "--key", key)
    assert result.exit_code == 2
    assert "SAILPLANE_KEY" in result.stderr
    assert "pt-secret" not in result.stderr


def test_update_shows_the_difference_and_what_it_means(plane: Plane) -> None:
    """A change of policy replaces nothing; a change of `run` replaces every replica, and the command waits for it."""
    plane.up()
    before = {replica.id for replica in plane.world.replicas()}
    result = plane.run("update", "svc", plane.file(YAML.replace("/health", "/healthz")), "-y")
    assert result.exit_code == 0, result.stderr
    assert "-  readiness_probe: /health\n+  readiness_probe: /healthz" in result.stderr
    assert "none is replaced" in result.stderr
    assert {replica.id for replica in plane.world.replicas()} == before
    result = plane.run("update", "svc", plane.file(YAML.replace("run: serve", "run: serve better")), "-y")
    assert result.exit_code == 0, result.stderr
    assert "Every replica is replaced" in result.stderr
    ready = {replica.id for replica in plane.world.replicas(ReplicaStatus.READY)}
    assert len(ready) == 2
    assert not ready & before


def test_broken_update_leaves_the_old_version_serving(plane: Plane) -> None:
    """A new version whose engine exits ends the command with 7; the old replicas stay ready."""
    plane.up()
    before = {replica.id for replica in plane.world.replicas()}
    plane.cloud.broken = True
    result = plane.run("update", "svc", plane.file(YAML.replace("run: serve", "run: exit 3")), "-y")
    assert result.exit_code == 7
    assert "the version before serve on" in result.stderr
    assert before <= {replica.id for replica in plane.world.replicas(ReplicaStatus.READY)}


def test_failed_update_with_no_old_version_left_does_not_say_that_one_serves(plane: Plane) -> None:
    """A ready replica of the failing version itself is not taken for one of the version before."""
    plane.cloud.broken = True
    plane.up()
    plane.cloud.sound = 1
    result = plane.run("update", "svc", plane.file(YAML.replace("run: serve", "run: serve worse")), "-y")
    assert result.exit_code == 7
    assert "of 2 replicas are ready, none of them of the version before" in result.stderr


def test_update_with_the_same_file_changes_nothing(plane: Plane) -> None:
    """The version stays, and the command says that nothing is replaced, also where `workdir` is relative."""
    file = plane.file(f"workdir: .\n{YAML}")
    plane.run("up", file, "-n", "svc", "-y")
    result = plane.run("update", "svc", file, "-y")
    assert "The file is the same.\nWhat replicas are made of stays the same: none is replaced." in result.stderr
    assert plane.json("update", "svc", file, "-y")["version"] == 1


def test_down_waits_until_the_last_replica_is_gone(plane: Plane) -> None:
    """When it returns, the service and its machines are gone."""
    plane.up()
    assert plane.json("down", "svc", "-y") == {"shut_down": ["svc"]}
    assert plane.world.store.service_names() == ()
    assert plane.cloud.machines == {}


def test_without_a_terminal_nothing_is_changed_without_yes(plane: Plane) -> None:
    """Code 2, with what to add, from every command that asks on a terminal."""
    plane.up()
    before = plane.world.state().service.spec_version
    (plane.directory / "backup").write_text(plane.run("export").stdout)
    changed = plane.file(YAML.replace("replicas: 2", "replicas: 1"))
    commands = {
        "up": (changed, "-n", "other"),
        "update": ("svc", changed),
        "down": ("svc",),
        "import": (str(plane.directory / "backup"),),
    }
    for command, arguments in commands.items():
        refused = plane.run(command, *arguments)
        assert (refused.exit_code, "Add --yes" in refused.stderr) == (2, True)
    assert plane.world.store.service_names() == ("svc",)
    assert (plane.world.state().service.spec_version, plane.world.state().service.deleting) == (before, False)


@pytest.mark.parametrize(("answer", "exit_code"), [("n", 1), ("y", 0)])
def test_an_answer_of_no_is_exit_code_1(answer: str, exit_code: int) -> None:
    """So that a script on a terminal does not go on as if it were done."""
    ours, theirs = os.openpty()
    code = "import click; from sailplane.cli.output import Output; out = Output(); click.command()(lambda: out.confirm('Go?') or out.declined())()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.write(ours, f"{answer}\n".encode())
        _, said = process.communicate()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == exit_code
    assert ("Nothing was changed." in said) == (answer == "n")


def test_down_interrupted_says_that_it_goes_on(plane: Plane) -> None:
    """Ctrl-C while waiting ends with 130 and takes nothing back."""
    plane.up()
    plane.cloud.down = True
    command = [sys.executable, "-m", "sailplane", "down", "svc", "--yes"]
    with subprocess.Popen(command, env=plane.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        until(lambda: "SHUTTING_DOWN" in str(run.stderr and run.stderr.readline()))
        said = interrupted(run)
    assert run.returncode == 130
    assert "goes on shutting down" in said
    assert plane.world.state().service.deleting


def test_down_with_one_unknown_name_does_nothing(plane: Plane) -> None:
    """All names are checked first: exit code 4, and the known service is left alone."""
    plane.up()
    assert plane.run("down", "svc", "svk", "-y").exit_code == 4
    assert not plane.world.state().service.deleting


def test_down_all(plane: Plane) -> None:
    """--all takes every service; it goes with no name, and no name goes without it."""
    plane.up("one")
    plane.up("two")
    assert plane.json("down", "--all", "-y") == {"shut_down": ["one", "two"]}
    assert plane.run("down").exit_code == 2
    assert plane.run("down", "one", "--all").exit_code == 2


def test_logs_of_the_newest_or_the_named_replica(plane: Plane) -> None:
    """A replica may be named by the end of its id; without one the newest is taken, and named when there are several."""
    plane.up()
    first, second = sorted(replica.id for replica in plane.world.replicas())
    assert plane.json("logs", "svc", first[-3:])["replica"] == first
    result = plane.run("logs", "svc")
    shown = second if second in result.stderr else first
    assert result.stdout == f"{shown} one\n{shown} two\n"


def test_events_and_why_tell_what_happened(plane: Plane) -> None:
    """Events tell the story in order; why tells what the passes would do now. Both have the same in --json."""
    plane.up()
    kinds = [event["kind"] for event in plane.json("events", "svc")["events"]]
    assert kinds[0] == "service.created"
    assert "replica.ready" in kinds
    why = plane.json("why", "svc")
    assert why.keys() == {"now", "decisions", "unavailable"}
    assert why["now"]
    assert "Last decisions:" in plane.run("why", "svc").stdout


def test_replica_actions(plane: Plane) -> None:
    """Preempt passes the notice on, kill takes the machine, drain takes it out of use; each names the replica in full."""
    plane.up()
    first, second = sorted(replica.id for replica in plane.world.replicas())
    plane.json("replica", "preempt", "svc", first[-3:], "--notice", "7")
    assert plane.cloud.notices == [(first, 7.0)]
    assert plane.json("replica", "drain", "svc", first[-3:]) == {"replica": first, "action": "drain"}
    plane.run("replica", "kill", "svc", second)
    assert second not in plane.cloud.machines
    assert plane.run("replica", "kill", "svc", "9-9").exit_code == 4


def test_following_events_shows_each_once_however_long_nothing_happens(plane: Plane) -> None:
    """`events --follow --json` is JSON Lines: what has happened, then only what is new, also after looks without any news."""
    plane.up()
    known = plane.json("events", "svc")["events"]
    looks = Counter[str]()
    store: Any = Interposed(plane.world.store, lambda call: looks.update([call]))
    plane.world.runtime = replace(plane.world.runtime, store=store)
    command = [sys.executable, "-m", "sailplane", "events", "svc", "--follow", "--json"]
    with subprocess.Popen(command, env=plane.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        assert [json.loads(run.stdout.readline()) for _ in known] == known
        until(lambda: looks["after events_page"] > 3)
        plane.cloud.kill(plane.world.replicas(ReplicaStatus.READY)[0].id)
        assert json.loads(run.stdout.readline()) not in known
        interrupted(run)


def test_watch_in_a_pipe_prints_a_line_of_json_for_every_change(plane: Plane) -> None:
    """`status --watch --json` is JSON Lines: the first state at once, then one line for each change."""
    plane.up()
    command = [sys.executable, "-m", "sailplane", "status", "svc", "--watch", "--json"]
    with subprocess.Popen(command, env=plane.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        assert run.stdout is not None
        before = json.loads(run.stdout.readline())
        plane.cloud.kill(before["replicas"][0]["id"])
        after = json.loads(run.stdout.readline())
        assert before["status"] == "READY"
        assert after["replicas"] != before["replicas"]
        interrupted(run)
    assert run.returncode == 130


@pytest.mark.parametrize(
    ("seen", "lines", "expected"),
    [
        ([], ["a"], 0),
        (["a", "b"], ["a", "b"], 2),
        (["a", "b"], ["b", "c"], 1),
        (["a", "b"], ["c", "d"], 0),
        (["a", "a"], ["a", "a", "a"], 2),
    ],
)
def test_following_a_log_neither_repeats_nor_drops_lines(seen: list[str], lines: list[str], expected: int) -> None:
    """What a look shows anew is all that the look before did not end with."""
    assert overlap(seen, lines) == expected
