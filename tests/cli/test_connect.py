"""Which control plane commands talk to."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from sailplane.cli import cli
from sailplane.local.home import Connected, Home
from tests.cli.conftest import KEY, Plane


def at_home(root: Path, *args: str, **env: str) -> tuple[int, str]:
    nothing = dict.fromkeys(("SAILPLANE_URL", "SAILPLANE_KEY", "SAILPLANE_DEPLOYMENT", "AWS_ENDPOINT_URL"), "")
    result = CliRunner().invoke(cli, args, env={**nothing, "SAILPLANE_HOME": str(root), **env})
    return result.exit_code, result.output


def test_commands_talk_to_what_is_connected_and_back(plane: Plane, tmp_path: Path) -> None:
    """Until `connect local`, which forgets the key; the file with it is for its owner only."""
    home = Home(tmp_path / "home")
    home.connect(Connected(plane.url, KEY, "acme", "us-east-1"))
    file = home.root / "connection.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, said = at_home(home.root, "status")
    assert (code, "No services." in said) == (0, True)
    assert at_home(home.root, "connect", "local")[0] == 0
    assert not file.exists()
    code, said = at_home(home.root, "status")
    assert (code, "is not running" in said) == (6, True)


def test_a_key_that_is_given_goes_before_the_one_kept(plane: Plane, tmp_path: Path) -> None:
    """Whoever tries a key that may do little does not act as root because they named no address."""
    home = Home(tmp_path / "home")
    home.connect(Connected(plane.url, KEY, "acme", "us-east-1"))
    assert at_home(home.root, "status")[0] == 0
    code, said = at_home(home.root, "status", SAILPLANE_KEY="sa_0123456789_another")
    assert (code, "revoked" in said) == (9, True)


@pytest.mark.parametrize(
    "url", ["nonsense", "127.0.0.1:7480", "ftp://host", "http://", "http://host:port", "http://[::1"]
)
def test_what_is_no_address_is_no_control_plane_that_is_away(tmp_path: Path, url: str) -> None:
    """Code 2, with the variable's name and without its value, in which a password may stand."""
    code, said = at_home(tmp_path, "status", SAILPLANE_URL=url, SAILPLANE_KEY=KEY)
    assert (code, "SAILPLANE_URL (or --url) is no address" in said, url in said) == (2, True, False)


def test_an_address_that_is_given_goes_before_the_one_connected_to(plane: Plane, tmp_path: Path) -> None:
    """For a command that is meant for another control plane, once."""
    home = Home(tmp_path / "home")
    home.connect(Connected("https://gone.invalid", "another-key", "acme", "us-east-1"))
    assert at_home(home.root, "status", SAILPLANE_URL=plane.url, SAILPLANE_KEY=KEY)[0] == 0


def test_one_that_is_away_and_silent_is_not_looked_for_on_this_machine(tmp_path: Path) -> None:
    """What to do next is about the account."""
    home = Home(tmp_path)
    home.connect(Connected("https://gone.invalid", "k" * 40, "acme", "us-east-1"))
    code, said = at_home(tmp_path, "status")
    assert code == 6
    assert "sailplane check aws" in said
    assert "local start" not in said
    assert "k" * 40 not in said


def test_what_to_do_about_an_address_that_is_given_is_not_about_the_stack_of_this_machine(tmp_path: Path) -> None:
    """Starting that one would not help. Where it is the one that is asked, starting it is what helps, and not looking again."""
    named = at_home(tmp_path, "status", SAILPLANE_URL="http://127.0.0.1:9", SAILPLANE_KEY=KEY)
    assert (named[0], "sailplane local" in named[1], "without SAILPLANE_URL" in named[1]) == (6, False, True)
    stopped = at_home(tmp_path, "local", "status")
    assert (stopped[0], "sailplane local start" in stopped[1], "sailplane local status" in stopped[1]) == (
        6,
        True,
        False,
    )


@pytest.mark.parametrize("command", [("bootstrap", "aws"), ("upgrade",), ("teardown",), ("connect", "aws")])
def test_without_a_name_nothing_is_asked_of_anybody(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Exit code 2, and the option that names one."""
    code, said = at_home(tmp_path, *command)
    assert code == 2
    assert "--deployment NAME" in said


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--providers", "aws,lambda"), 2, "'lambda' is none of aws, gcp, azure"),
        (("-d", "Acme"), 2, "2 to 40 characters"),
    ],
    ids=["provider", "name"],
)
def test_what_cannot_be_deployed_is_refused_before_an_account_is_asked(
    tmp_path: Path, options: tuple[str, ...], code: int, says: str
) -> None:
    """With what is wrong and what would do."""
    ended, said = at_home(tmp_path, "bootstrap", "aws", *options, AWS_REGION="us-east-1")
    assert ended == code
    assert says in said


def test_what_a_check_is_not_told_is_said_before_any_cloud_is_asked(tmp_path: Path) -> None:
    """Or what the first had to say would be lost: here nobody has credentials, and nobody is asked for them."""
    code, said = at_home(tmp_path, "check", "aws", "gcp", "azure", AWS_REGION="us-east-1", SAILPLANE_GCP_PROJECT="")
    assert code == 2
    assert "--gcp-project" in said
    assert "Asking" not in said
