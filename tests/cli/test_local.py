"""`sailplane local` beside a stack that runs already."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sailplane.cli import cli
from sailplane.local.home import Home, Running
from sailplane.local.processes import ProcessId


def start(root: Path, *args: str) -> Result:
    return CliRunner().invoke(cli, ["local", "start", "--detach", *args], env={"SAILPLANE_HOME": str(root)})


@pytest.fixture
def running(tmp_path: Path) -> Running:
    """A stack with GCP and Azure; its supervisor is this process."""
    home = Home(tmp_path)
    home.make()
    this = ProcessId.of(os.getpid())
    running = Running(this, this, "http://127.0.0.1:1", "http://127.0.0.1:2", ("gcp", "azure"))
    home.publish(running)
    return running


def test_a_running_stack_that_has_the_clouds_is_left_as_it_is(running: Running, tmp_path: Path) -> None:
    """Which ones it has is shown to people and to programs."""
    assert Home(tmp_path).running() == running
    result = start(tmp_path, "--clouds", "azure", "--clouds", " gcp,gcp")
    assert result.exit_code == 0, result.stderr
    assert "Clouds:       local, gcp, azure\n" in result.stdout
    document: Any = json.loads(start(tmp_path, "--json").stdout)
    assert document["clouds"] == ["gcp", "azure"]


def test_a_running_stack_without_the_clouds_is_not_passed_off_as_one_with_them(
    running: Running, tmp_path: Path
) -> None:
    """The missing ones are named, with the way to them; exit code 3."""
    Home(tmp_path).publish(replace(running, clouds=("gcp",)))
    result = start(tmp_path, "--clouds", "aws", "--clouds", "gcp")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "running already, without aws. Stop it" in result.stderr
