"""The protocol that loses nothing, with a real SIGKILL, a real database and real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.providers.conftest import LocalCloud


@pytest.mark.parametrize("scenario", ["launch", "shut_down"])
def test_the_control_plane_killed_after_every_call(scenario: str, ministack_url: str, thin_cloud: LocalCloud) -> None:
    """Killed anywhere between intent, provider call and outcome: two passes later exactly the wanted processes live."""
    command = [sys.executable, "-m", "tests.e2e.crashing_control_plane", scenario, ministack_url]
    command += [str(thin_cloud.root), thin_cloud.python]
    drill = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert drill.returncode == 0, drill.stderr[-2000:]
    assert int(drill.stdout) > 8
