"""A control plane in AWS gets what it needs to make machines in other clouds, or is not made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click
import pytest

from chalicelib.errors import Invalid
from sailplane.cli import deploying
from sailplane.cli.deploying import Chosen
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.deploy import credentials
from sailplane.deploy.account import Account, DeployFailed
from sailplane.deploy.bootstrap import Bootstrap
from sailplane.deploy.deployment import KEYS
from sailplane.deploy.package import Package
from tests.deploy.accounts import BreaksOff, BrokenOffError, FakeAccount
from tests.deploy.test_bootstrap import ACME, TEMPLATE, packed, silent, tear_down
from tests.test_credentials import APP, AZURE, FEDERATED, GCP, KEY, SECRET

CLOUDS = {
    "Providers": "aws,gcp,azure",
    "GcpProject": "acme-1",
    "AzureSubscription": "sub",
    "AzureResourceGroup": "group",
}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    told = {name: {"Default": ""} for name in ("GcpProject", "AzureSubscription", "AzureResourceGroup")}
    return packed(tmp_path / "dist", template={**TEMPLATE, "Parameters": {**TEMPLATE["Parameters"], **told}})


def written(directory: Path, found: Any) -> Path:
    file = directory / "credentials.json"
    file.write_text(found if isinstance(found, str) else json.dumps(found))
    return file


def run(account: FakeAccount | BreaksOff, package: Package, given: Mapping[str, str]) -> Bootstrap:
    settings = {"Providers": "aws,azure"}
    return Bootstrap(cast("Account", account), ACME, package, settings, lambda: None, given)


def deploy(account: FakeAccount | BreaksOff, package: Package, **given: str) -> None:
    bootstrap = run(account, package, given)
    bootstrap.carry_out(bootstrap.plan(silent), silent)


def test_a_file_is_read_into_what_is_kept(tmp_path: Path) -> None:
    """In the fewest bytes, by the name of the variable; a service account's key fits into a parameter."""
    kept = credentials.read({"azure": written(tmp_path, APP)})
    assert kept == {AZURE: json.dumps(APP, separators=(",", ":"))}
    longest = {**KEY, "private_key": f"-----BEGIN PRIVATE KEY-----\n{'x' * 1700}\n-----END PRIVATE KEY-----\n"}
    assert len(credentials.read({"gcp": written(tmp_path, longest)})[GCP]) < 2100
    assert len(credentials.read({"gcp": written(tmp_path, FEDERATED)})[GCP]) < 1000


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (SECRET, "expected an object in JSON"),
        ({**APP, "tenant_id": "?"}, "expected `tenant_id`"),
        ({**APP, "client_secret": [SECRET]}, "expected `client_secret`"),
    ],
    ids=["text", "tenant", "secret"],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, found: Any, says: str) -> None:
    """It says which option, which file and what is missing, and repeats nothing of it."""
    with pytest.raises(
        Invalid, match=rf"^--azure-credentials: .*credentials.json: {says}.* Nothing was changed"
    ) as refusal:
        credentials.read({"azure": written(tmp_path, found)})
    assert SECRET not in str(refusal.value)


def test_a_key_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """With what would fit; it would otherwise be SSM that says so, after half of it was made."""
    large = {**KEY, "private_key": f"-----BEGIN PRIVATE KEY-----\n{'x' * 4000}\n-----END PRIVATE KEY-----\n"}
    with pytest.raises(Invalid, match=r"4,\d{3} bytes, and SSM keeps 4,096: use a smaller key"):
        credentials.read({"gcp": written(tmp_path, large)})


@pytest.mark.parametrize(
    ("cloud", "command"),
    [
        (
            "gcp",
            "workload-identity-pools create-cred-config .*@acme-1.iam.gserviceaccount.com --aws --output-file=gcp.json",
        ),
        (
            "azure",
            "az ad sp create-for-rbac .*'/subscriptions/sub/resourceGroups/group'.*client_id:appId.* > azure.json",
        ),
    ],
)
def test_without_credentials_nothing_is_made(package: Package, cloud: str, command: str) -> None:
    """The refusal has the command that makes them. A function has no credentials of that cloud to find."""
    account = FakeAccount()
    target = Target(ACME, cast("Any", account))
    chosen = Chosen({**CLOUDS, "Providers": f"aws,{cloud}"}, {})
    with pytest.raises(Invalid, match=rf"need --{cloud}-credentials FILE\. Nothing was changed[\s\S]*{command}"):
        deploying.deploy(Output(), target, None, chosen, package.directory, yes=True)
    assert account.is_empty()


def test_those_that_nobody_needs_are_not_kept() -> None:
    """A secret that is not there cannot be taken."""
    with pytest.raises(Invalid, match="--gcp-credentials: gcp is none of --providers"):
        credentials.require(["aws"], [GCP], [], CLOUDS)


def test_they_are_asked_for_once(package: Package) -> None:
    """Kept beside the keys, they need not be given again, and a run without them has nothing to do."""
    account = FakeAccount()
    deploy(account, package, **{AZURE: json.dumps(APP)})
    stack = account.stack(ACME)
    assert stack is not None
    assert account.keys(ACME)[AZURE] == json.dumps(APP)
    assert run(account, package, {}).plan(silent).changes == ()
    told = {name: CLOUDS[name] for name in ("AzureSubscription", "AzureResourceGroup")}
    credentials.require(["aws", "azure"], [], account.keys(ACME), told)


def test_a_plan_names_where_they_are_kept_and_not_what_they_are(
    package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither does the stack, nor the repr of what is on its way there."""
    account = FakeAccount()
    deploy(account, package, **{AZURE: "old"})
    chosen = Chosen({**CLOUDS, "Providers": "aws,azure"}, {AZURE: json.dumps(APP)})
    target = Target(ACME, cast("Any", account))
    with pytest.raises(click.UsageError, match="no terminal to ask on"):
        deploying.deploy(Output(), target, account.stack(ACME), chosen, package.directory, yes=False)
    shown = capsys.readouterr()
    assert "Credentials are kept as SecureString: /sailplane/acme/SAILPLANE_AZURE_CREDENTIALS" in shown.err
    assert SECRET not in repr(chosen) + repr(run(account, package, chosen.credentials)) + shown.out + shown.err
    assert account.proposed == {}, "nobody could be asked, and the change set is still there"
    run(account, package, chosen.credentials).plan(silent)
    assert account.proposed
    assert SECRET not in repr(account.proposed)


def test_others_end_the_functions_that_have_read_the_old_ones(package: Package) -> None:
    """A function reads them once in its life; so a change of them is a change of the stack, and the plan shows it."""
    account = FakeAccount()
    deploy(account, package, **{AZURE: "old"})
    bootstrap = run(account, package, {AZURE: "new"})
    assert [(one.action, one.resource) for one in bootstrap.plan(silent).changes] == [("Modify", "Api")]
    assert account.keys(ACME)[AZURE] == "old"  # until somebody has said yes
    deploy(account, package, **{AZURE: "new"})
    assert account.keys(ACME)[AZURE] == "new"
    assert run(account, package, {}).plan(silent).changes == ()


def test_a_first_deployment_that_fails_keeps_none(package: Package) -> None:
    """And a teardown takes them along."""
    account = FakeAccount(broken={"Api": "no"})
    with pytest.raises(DeployFailed):
        deploy(account, package, **{AZURE: "text"})
    assert account.is_empty()
    account.broken.clear()
    deploy(account, package, **{AZURE: "text"})
    tear_down(account)
    assert account.is_empty()


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_change_broken_off_anywhere_is_finished_by_running_it_again(package: Package, *, is_done: bool) -> None:
    """Functions never go on with credentials that are not those which are kept."""
    last = 0
    for at in range(1, 100):
        account = FakeAccount()
        deploy(account, package, **{AZURE: "old"})
        try:
            deploy(BreaksOff(account, at, is_done=is_done), package, **{AZURE: "new", GCP: "too"})
        except BrokenOffError:
            last = at
        else:
            break
        deploy(account, package, **{AZURE: "new", GCP: "too"})
        kept = account.keys(ACME)
        assert {name: kept[name] for name in (AZURE, GCP)} == {AZURE: "new", GCP: "too"}
        assert run(account, package, {}).plan(silent).changes == ()
        assert sorted(kept) == sorted([*KEYS, AZURE, GCP])
    assert last > 10
