"""The boxed clouds' process and its machines end with the stack, whoever of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chalicelib.errors import Unreachable
from chalicelib.providers.local.processes import TAG, processes_of
from sailplane.local.clouds import Clouds
from tests.waiting import until


@contextmanager
def machine(root: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs as a machine of the clouds."""
    directory = root / name
    directory.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"], env=os.environ | {TAG: str(directory)}) as process:
        try:
            yield process
        finally:
            process.kill()


def test_killed_clouds_take_their_machines_with_them(tmp_path: Path) -> None:
    """Whoever checks is told; when the block ends, machines and their files are gone."""
    root = tmp_path / "clouds"
    with machine(root, "m-0") as before, Clouds(["gcp"], root, tmp_path / "log") as clouds:
        assert before.wait(1) == -signal.SIGKILL, "one that was left before the start goes with it"
        clouds.deliver(lambda _event: None)
        with machine(root, "m-1") as one:
            (process,) = processes_of(root, None)
            process.kill()
            with pytest.raises(Unreachable, match="code -9"):
                until(clouds.check)
            clouds.__exit__(None, None, None)
            assert one.wait(1) == -signal.SIGKILL
    assert not root.exists()


def test_a_start_ends_the_clouds_of_a_killed_supervisor(tmp_path: Path) -> None:
    """There is never a second cloud beside the new one, with machines that nobody finds any more."""
    root, log = tmp_path / "clouds", tmp_path / "log"
    with Clouds(["gcp"], root, log) as left:
        left.deliver(lambda _event: None)
        (before,) = processes_of(root, None)
        with Clouds(["gcp"], root, log) as clouds:
            clouds.deliver(lambda _event: None)
            (now,) = processes_of(root, None)
            assert now.pid != before.pid


def test_clouds_end_with_whoever_listens_to_them(tmp_path: Path) -> None:
    """A supervisor that is killed closes the pipe; nothing needs to happen in the clouds for them to see it."""
    command = [sys.executable, "-m", "tests.clouds", "--root", str(tmp_path), "gcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as clouds:
        assert clouds.stdout is not None
        assert "endpoints" in json.loads(clouds.stdout.readline())
        clouds.stdout.close()
        assert clouds.wait(10) == 0
