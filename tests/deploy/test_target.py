"""Whose account a command is about, and what is missing in it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from chalicelib.errors import Invalid
from sailplane.cli import cli, deploying
from sailplane.cli import target as targets
from sailplane.cli.deploying import Chosen
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.deploy.account import DeployFailed, Identity, Stack
from sailplane.deploy.deployment import Deployment
from sailplane.local.home import Connected, Home
from tests.deploy.accounts import FakeAccount
from tests.deploy.test_bootstrap import deploy, packed

TARGET = Target(Deployment("acme"), cast("Any", FakeAccount()))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_account_is_named(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything else is said; and in the plan and the question, with the region."""
    found = targets.identified(Output(), TARGET, home)
    told = "In AWS account 123456789012 (acme-corp), us-east-1, as arn:aws:iam::123456789012:user/me.\n"
    assert capsys.readouterr().err == told
    assert str(found) == "acme in us-east-1 of AWS account 123456789012 (acme-corp)"


@pytest.mark.parametrize("account", ["", "123456789012"], ids=["kept before", "the same"])
def test_the_account_connected_to_is_changed(home: Home, account: str) -> None:
    """Older connections do not say which it is."""
    home.connect(Connected("https://api", "k" * 40, "acme", "us-east-1", account))
    assert targets.identified(Output(), TARGET, home).identity


def test_another_account_than_the_one_connected_to_is_refused(home: Home) -> None:
    """Credentials for the wrong account are the likeliest mistake: a second deployment of one name, or the wrong one's end."""
    home.connect(Connected("https://api", "k" * 40, "acme", "us-east-1", "999999999999"))
    with pytest.raises(
        Invalid, match=r"account 999999999999, and your credentials .*123456789012.*Nothing was changed"
    ):
        targets.identified(Output(), TARGET, home)
    other = Target(Deployment("another"), TARGET.account)
    assert targets.identified(Output(), other, home).identity


def test_a_key_that_is_gone_is_made_again_by_an_upgrade() -> None:
    """The error names the parameter and the command."""
    with pytest.raises(
        DeployFailed, match=r"SAILPLANE_ADMIN_KEY is gone[\s\S]*sailplane upgrade --deployment acme --reg"
    ):
        targets.admin_key(TARGET)


class SaysNo(Output):
    """A user who has thought better of it."""

    def confirm(self, question: str, **_: Any) -> bool:
        self.message(question)
        return False


def test_a_no_changes_nothing_and_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1: a script must not go on as if there were a control plane. The question names the account."""
    account = FakeAccount()
    target = targets.identified(Output(), Target(Deployment("acme"), cast("Any", account)), Home(tmp_path / "home"))
    directory = packed(tmp_path / "dist").directory
    with pytest.raises(click.exceptions.Exit) as ended:
        deploying.deploy(SaysNo(), target, None, Chosen({}, {}), directory, yes=False)
    assert ended.value.exit_code == 1
    told = capsys.readouterr().err
    assert told.endswith("Make acme in us-east-1 of AWS account 123456789012 (acme-corp)?\nNothing was changed.\n")
    assert account.is_empty()


def test_what_is_set_otherwise_is_shown() -> None:
    """By its option, before and after, and nothing that stays as it is."""
    now = {"Providers": "aws", "AwsRegions": "us-east-1"}
    stack = Stack("arn", "UPDATE_COMPLETE", parameters=now, outputs={"Version": "1.0"})
    wanted = {"Providers": "aws", "AwsRegions": "", "ReserveConcurrency": "yes"}
    assert deploying.settings_that_change(stack, wanted, "1.1") == [
        ("version", "1.0", "1.1"),
        ("--regions", "us-east-1", "-"),
        ("--reserve-concurrency", "-", "yes"),
    ]
    assert deploying.settings_that_change(stack, {"Providers": "aws"}, "1.0") == []
    assert deploying.settings_that_change(None, {"Providers": "aws,gcp"}, "1.0")[1] == ("--providers", "-", "aws,gcp")


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov"])
def test_another_partition_is_refused(tmp_path: Path, partition: str) -> None:
    """Its addresses end differently: what is made there would find neither its queue nor its bucket."""
    account = FakeAccount()
    identity = Identity("123456789012", f"arn:{partition}:iam::123456789012:user/me")
    target = Target(Deployment("acme"), cast("Any", account), identity=identity)
    with pytest.raises(Invalid, match=rf"partition {partition} .*Nothing was changed"):
        deploying.deploy(Output(), target, None, Chosen({}, {}), packed(tmp_path / "dist").directory, yes=True)
    assert account.is_empty()


class Enabled(FakeAccount):
    """Has some regions only."""

    def require_regions(self, names: Collection[str]) -> None:
        if "us-esat-1" in names:
            raise Invalid("'us-esat-1' is no AWS region")

    def not_enabled(self, regions: Collection[str]) -> tuple[str, ...]:
        return tuple(region for region in regions if region == "ap-east-1")


def test_regions_are_looked_at_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is none is a wrong command line, as with --region; one that is not enabled is said before the question."""
    account = Enabled()
    target = Target(Deployment("acme"), cast("Any", account))
    directory = packed(tmp_path / "dist").directory
    with pytest.raises(click.BadParameter, match="us-esat-1") as refused:
        deploying.deploy(SaysNo(), target, None, Chosen({"AwsRegions": "us-east-1,us-esat-1"}, {}), directory, yes=True)
    assert refused.value.exit_code == 2
    with pytest.raises(click.exceptions.Exit):
        deploying.deploy(SaysNo(), target, None, Chosen({"AwsRegions": "ap-east-1"}, {}), directory, yes=False)
    assert "ap-east-1: not enabled in this account" in capsys.readouterr().err
    assert account.is_empty()


@pytest.mark.parametrize("command", [("check", "aws"), ("bootstrap", "aws", "-d", "acme")])
def test_a_region_that_is_none_is_a_wrong_command_line(command: tuple[str, ...]) -> None:
    """Whichever command is given it: the same fault has the same code."""
    result = CliRunner().invoke(cli, [*command, "--region", "us-esat-1"])
    assert (result.exit_code, "Did you mean us-east-1?" in result.output) == (2, True)


def test_a_profile_that_is_none_is_a_line_of_the_check() -> None:
    """As credentials that are missing are: both are what it looks for."""
    result = CliRunner().invoke(cli, ["check", "aws", "--region", "us-east-1"], env={"AWS_PROFILE": "nobody"})
    assert (result.exit_code, "profile (nobody)" in result.output) == (1, True)


def test_what_a_cloud_needs_to_be_told_is_a_matter_of_the_command_line() -> None:
    """Exit code 2, as wherever an option is missing."""
    with pytest.raises(click.UsageError, match="it needs --gcp-project"):
        deploying.deploy(Output(), TARGET, None, Chosen({"Providers": "gcp"}, {}), None, yes=True)


def test_a_second_run_does_not_say_that_it_changes_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to do, and nothing to ask."""
    account, package = FakeAccount(), packed(tmp_path / "dist")
    deploy(account, package)
    target = Target(Deployment("acme"), cast("Any", account))
    stack = account.stack(target.deployment)
    assert deploying.deploy(SaysNo(), target, stack, Chosen({}, {}), package.directory, yes=False) == stack
    told = capsys.readouterr().err
    assert "nothing to do" in told
    assert "Changing" not in told
