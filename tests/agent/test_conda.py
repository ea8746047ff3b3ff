"""Scripts written for SkyPilot's machines find their conda."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.running import ENGINE, Agent

NewAgent = Callable[..., Agent]
CONDA_SH = 'conda() { echo "conda $*" >> "$HOME/calls"; }\n'
# What fetches the installer, and the installer: it makes what the real one makes.
CURL = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
printf '%s' "$3" > "$HOME/fetched"
cat > "$2" <<'INSTALLER'
mkdir -p "$3/etc/profile.d"
echo 'conda() { echo "conda $*" >> "$HOME/calls"; }' > "$3/etc/profile.d/conda.sh"
INSTALLER
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def calls(home: Path) -> list[str]:
    return (home / "calls").read_text().splitlines()


def test_a_conda_that_is_there_is_used(new_agent: NewAgent, home: Path) -> None:
    """`conda activate` is a function of the shell, in setup and in run."""
    (home / "miniconda3" / "etc" / "profile.d").mkdir(parents=True)
    (home / "miniconda3" / "etc" / "profile.d" / "conda.sh").write_text(CONDA_SH)
    run = f"conda activate engine\n{ENGINE}"
    new_agent(cloud="aws", env={"HOME": str(home)}, setup="conda create -n engine -y", run=run).until_ready()
    assert calls(home) == ["conda create -n engine -y", "conda activate engine"]


def test_where_there_is_none_it_is_installed_once(
    new_agent: NewAgent, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the script that names it first; the installer of this kind of machine, into the user's home."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "curl").write_text(CURL)
    (commands / "curl").chmod(0o700)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    run = f"conda activate engine\n{ENGINE}"
    agent = new_agent(cloud="gcp", env={"HOME": str(home)}, setup="conda create -n engine -y", run=run).until_ready()
    assert calls(home) == ["conda create -n engine -y", "conda activate engine"]
    assert "/Miniforge3-" in (home / "fetched").read_text()
    assert agent.log.count("installing Miniforge") == 1


def test_scripts_that_name_no_conda_are_left_as_they_are(new_agent: NewAgent, home: Path) -> None:
    """Nothing is fetched for them, and on a laptop for nobody."""
    new_agent(cloud="aws", env={"HOME": str(home)}, setup="true").until_ready()
    local = new_agent(cloud="local", env={"HOME": str(home)}, setup="type conda || true").until_ready()
    assert "Miniforge" not in local.log
    assert list(home.iterdir()) == []
