"""A local stack's home: secrets, the claim on it, and finding who runs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chalicelib.errors import Exists, Invalid
from sailplane.local.home import Home, Running
from sailplane.local.processes import ProcessId

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
CLAIMER = """
import sys, pathlib
from sailplane.local.home import Home
with Home(pathlib.Path(sys.argv[1])).claimed():
    print("claimed", flush=True)
    sys.stdin.read()
"""


def running(daemon: ProcessId, router: ProcessId) -> Running:
    return Running(daemon, router, "http://127.0.0.1:1", "http://127.0.0.1:2")


def test_a_home_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    """The directory is named, and the option that takes another one."""
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match=r"file/home.*--home"), Home(tmp_path / "file" / "home").claimed():
        pass


def test_nobody_else_gets_in_whatever_the_umask(tmp_path: Path) -> None:
    """Who may write to the home could put another stack in the place of this one."""
    before = os.umask(0)
    try:
        with Home(tmp_path / "home").claimed():
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home", tmp_path / "home" / "local")]
    finally:
        os.umask(before)
    assert modes == [0o700, 0o700]


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    """The second start finds the first one's keys; nobody else may read the file; they never show in a repr."""
    home = Home(tmp_path)
    with home.claimed():
        made = home.secrets()
    path = home.local / "secrets.json"
    assert Home(tmp_path).secrets() == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len({made.admin_key, made.router_token, made.agent_key}) == 3
    assert made.admin_key not in repr(made)


def test_only_one_process_holds_a_home_and_its_death_frees_it(tmp_path: Path) -> None:
    """A second claim is refused with the holder's pid; SIGKILL of the holder leaves nothing that blocks the next."""
    command = [sys.executable, "-c", CLAIMER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(Exists, match=str(holder.pid)), Home(tmp_path).claimed():
            pass
        holder.kill()
    with Home(tmp_path).claimed():
        pass


def test_running_is_told_from_what_a_killed_one_left(tmp_path: Path) -> None:
    """A state file counts while its very process lives, and not for a later one that got the same pid."""
    home = Home(tmp_path)
    assert home.running() is None
    with subprocess.Popen(SLEEPER) as process:
        home.local.mkdir()
        daemon = ProcessId.of(process.pid)
        home.publish(running(daemon, daemon))
        assert home.running() == running(daemon, daemon)
        earlier = ProcessId(process.pid, daemon.created_at - 100)
        home.publish(running(earlier, earlier))
        assert home.running() is None
        home.publish(running(daemon, daemon))
        process.kill()
    assert home.running() is None


def test_a_router_left_by_a_killed_stack_is_ended_at_the_next_start(tmp_path: Path) -> None:
    """It would hold the edge's port; the state file of the dead stack says which process it is."""
    home = Home(tmp_path)
    with subprocess.Popen(SLEEPER) as router:
        home.local.mkdir()
        home.publish(running(ProcessId(router.pid, 1.0), ProcessId.of(router.pid)))
        left = ProcessId.of(router.pid)
        with home.claimed():
            assert left.find() is None
        assert home.running() is None
