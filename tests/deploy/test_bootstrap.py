"""Bootstrap, upgrade and teardown against an account in memory; tests/deployed does the same with CloudFormation's API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from chalicelib.errors import Invalid
from sailplane.deploy import teardown
from sailplane.deploy.account import Account, CloudUnreachable, DeployFailed, Stack
from sailplane.deploy.bootstrap import Bootstrap
from sailplane.deploy.deployment import KEYS, Deployment
from sailplane.deploy.package import Package
from tests.deploy.accounts import BreaksOff, BrokenOffError, FakeAccount, Formation

ACME = Deployment("acme")
FOUNDATION: Mapping[str, Any] = {
    "Parameters": {"Deployment": {}},
    "Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}, "Table": {"Type": "AWS::DynamoDB::Table"}},
    "Outputs": {"Bucket": {}, "Table": {}},
}
TEMPLATE: Mapping[str, Any] = {
    "Parameters": {"Deployment": {}, "CodeKey": {}, "EdgeKey": {}, "RouterToken": {}, "Providers": {"Default": "aws"}}
    | {"Credentials": {"Default": ""}, "Awake": {"Default": "no"}},
    "Resources": {
        **FOUNDATION["Resources"],
        "Api": {
            "Type": "AWS::Lambda::Function",
            "Code": {"Ref": "CodeKey"},
            "Env": [{"Ref": "Providers"}, {"Ref": "Credentials"}],
        },
        "Edge": {"Type": "AWS::Lambda::Function", "Code": {"Ref": "EdgeKey"}, "Env": {"Ref": "RouterToken"}},
        "Log": {"Type": "AWS::Logs::LogGroup"},
    },
    "Outputs": {**FOUNDATION["Outputs"], "ApiUrl": {}, "Version": {}},
}


def packed(directory: Path, code: str = "one", template: Mapping[str, Any] = TEMPLATE) -> Package:
    directory.mkdir(exist_ok=True)
    texts = {"foundation.json": json.dumps(FOUNDATION), "template.json": json.dumps(template)}
    for name, text in {**texts, "control.zip": code, "edge-aws.zip": "edge"}.items():
        (directory / name).write_text(text)
    return Package(directory)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return packed(tmp_path / "dist")


def bootstrap(account: FakeAccount | BreaksOff, package: Package, **settings: str) -> Bootstrap:
    return Bootstrap(cast("Account", account), ACME, package, settings, pause=lambda: None)


def deploy(account: FakeAccount | BreaksOff, package: Package, **settings: str) -> Stack:
    run = bootstrap(account, package, **settings)
    return run.carry_out(run.plan(silent), silent)


def silent(_text: str) -> None:
    """Shows nothing."""


def tear_down(account: FakeAccount | BreaksOff) -> None:
    teardown.remove(cast("Account", account), ACME, silent, lambda: None)


def test_a_first_bootstrap_makes_everything(package: Package) -> None:
    """The plan is the whole template; then the stack is there with code, and three different keys of 256 bits."""
    account = FakeAccount()
    plan = bootstrap(account, package).plan(silent)
    assert (plan.is_new, {change.resource for change in plan.changes}) == (True, set(TEMPLATE["Resources"]))
    assert account.is_empty()  # nothing is made before somebody has said yes
    stack = deploy(account, package)
    assert (stack.status, stack.has_code) == ("UPDATE_COMPLETE", True)
    keys = account.keys(ACME)
    assert sorted(keys) == sorted(KEYS)
    assert {len(bytes.fromhex(key)) for key in keys.values()} == {32}
    assert len(set(keys.values())) == 3
    assert account.stacks[ACME.stack].parameters["RouterToken"] == keys["SAILPLANE_ROUTER_TOKEN"]


def test_a_second_bootstrap_has_nothing_to_do(package: Package) -> None:
    """No change is planned, no key is made anew, nothing is uploaded again."""
    account = FakeAccount()
    deploy(account, package)
    keys = dict(account.parameters)
    plan = bootstrap(account, package).plan(silent)
    assert (plan.is_new, plan.changes) == (False, ())
    deploy(account, package)
    assert account.parameters == keys
    assert account.proposed == {}


def test_an_upgrade_changes_what_has_changed(package: Package, tmp_path: Path) -> None:
    """Its code only; settings chosen before stay as they are, and the old code is not kept."""
    account = FakeAccount()
    deploy(account, package, Providers="aws,gcp")
    newer = packed(tmp_path / "newer", "two")
    plan = bootstrap(account, newer).plan(silent)
    assert [(change.action, change.resource) for change in plan.changes] == [("Modify", "Api")]
    account.ages = dict.fromkeys(package.uploads, 90_000.0)
    deploy(account, newer)
    assert account.awake == {ACME.stack}  # or services that run would not be looked after any more
    assert account.stacks[ACME.stack].parameters["Providers"] == "aws,gcp"
    assert account.buckets["bucket-acme"].keys() == newer.uploads.keys()


def test_an_upgrade_takes_nothing_that_another_waits_with(package: Package, tmp_path: Path) -> None:
    """Two at once: what the first has uploaded stays while its plan is looked at and, if it is gone, is uploaded again."""
    account = FakeAccount()
    deploy(account, package)
    mine = bootstrap(account, packed(tmp_path / "mine", "two"))
    mine.plan(silent)
    deploy(account, packed(tmp_path / "theirs", "three"))
    assert mine.package.uploads.keys() <= account.buckets["bucket-acme"].keys()
    plan = mine.plan(silent)
    account.delete_objects("bucket-acme", mine.package.uploads.keys() - package.uploads.keys())
    assert mine.carry_out(plan, silent).status == "UPDATE_COMPLETE"
    assert mine.package.uploads.keys() <= account.buckets["bucket-acme"].keys()


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_an_upgrade_broken_off_anywhere_leaves_services_looked_after(
    package: Package, tmp_path: Path, *, is_done: bool
) -> None:
    """Nobody runs it again: CloudFormation ends what was begun, and what wakes the functions is on, as it was."""
    newer = packed(tmp_path / "newer", "two")
    for at in range(1, 100):
        account = FakeAccount()
        deploy(account, package)
        account.awake = {ACME.stack}  # a service was created
        try:
            deploy(BreaksOff(account, at, is_done=is_done), newer)
        except BrokenOffError:
            pass
        else:
            break
        while account.stacks[ACME.stack].looks_left:
            account.stack(ACME)
        assert account.awake == {ACME.stack}, f"broken off at call {at}"
    assert at > 10


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_first_upgrade_that_is_rolled_back_with_nobody_there_leaves_services_looked_after(
    package: Package, tmp_path: Path, *, is_done: bool
) -> None:
    """The laptop was shut, at any call: CloudFormation puts the rules back to how they were made."""
    newer = packed(tmp_path / "newer", "two")
    for at in range(1, 100):
        account = FakeAccount()
        deploy(account, package)
        account.broken["Edge"] = "no such handler"
        try:
            deploy(BreaksOff(account, at, is_done=is_done), newer)
        except BrokenOffError:
            pass
        except DeployFailed:
            break
        while account.stacks[ACME.stack].looks_left:
            account.stack(ACME)
        assert account.awake == {ACME.stack}, f"broken off at call {at}"
    assert at > 10


def test_a_second_upgrade_does_not_turn_off_what_a_service_turned_on_meanwhile(
    package: Package, tmp_path: Path
) -> None:
    """It was planned when nothing was there to wake for."""
    account = FakeAccount()
    deploy(account, package)
    deploy(account, packed(tmp_path / "newer", "two"))
    account.awake.clear()  # by the tick
    run = bootstrap(account, packed(tmp_path / "newest", "three"))
    plan = run.plan(silent)
    account.awake = {ACME.stack}
    killed = bootstrap(BreaksOff(account, 5, is_done=False), run.package)
    with pytest.raises(BrokenOffError):
        killed.carry_out(plan, silent)
    while account.stacks[ACME.stack].looks_left:
        account.stack(ACME)
    assert account.stacks[ACME.stack].parameters["CodeKey"] == run.package.code_key
    assert account.awake == {ACME.stack}


def test_an_upgrade_never_loses_data(package: Package, tmp_path: Path) -> None:
    """A template that takes the table away is refused, and the change set is gone."""
    account = FakeAccount()
    deploy(account, package)
    without = {name: one for name, one in TEMPLATE["Resources"].items() if name != "Table"}
    with pytest.raises(DeployFailed, match=r"Table anew, empty\. Nothing was changed"):
        deploy(account, packed(tmp_path / "newer", "two", {**TEMPLATE, "Resources": without}))
    assert account.proposed == {}
    assert "Table" in account.stacks[ACME.stack].resources


def test_a_plan_that_is_not_wanted_changes_nothing(package: Package, tmp_path: Path) -> None:
    """Withdrawn, the change set is gone and the version before is what a bootstrap finds."""
    account = FakeAccount()
    deploy(account, package)
    run = bootstrap(account, packed(tmp_path / "newer", "two"))
    assert run.plan(silent).changes
    run.withdraw()
    assert account.proposed == {}
    assert bootstrap(account, package).plan(silent).changes == ()


def test_a_router_is_given_all_tokens_that_are_accepted(package: Package) -> None:
    """While the token is being changed: the control plane may seal the table with either, whoever of them is changed first."""
    account = FakeAccount()
    deploy(account, package)
    account.parameters[f"{ACME.parameters}/SAILPLANE_ROUTER_TOKEN"] = f"{'n' * 32},{'o' * 32}"
    deploy(account, package)
    assert account.stacks[ACME.stack].parameters["RouterToken"] == f"{'n' * 32},{'o' * 32}"


@pytest.mark.parametrize("name", KEYS)
def test_a_key_changed_in_the_account_reaches_functions_that_have_read_the_old_one(package: Package, name: str) -> None:
    """They read it once in their life, of hours: an upgrade makes them anew, and the next one has nothing to do."""
    account = FakeAccount()
    deploy(account, package)
    account.parameters[f"{ACME.parameters}/{name}"] = "n" * 32
    plan = bootstrap(account, package).plan(silent)
    assert ("Modify", "Api") in [(change.action, change.resource) for change in plan.changes]
    deploy(account, package)
    assert bootstrap(account, package).plan(silent).changes == ()
    assert "n" * 32 not in account.stacks[ACME.stack].parameters["Credentials"]


class Lagging(FakeAccount):
    """It shows a stack as it was before an operation was begun, until somebody has waited a while."""

    shown: Stack | None = None

    def stack(self, deployment: Deployment) -> Stack | None:
        return self.shown or super().stack(deployment)

    def execute(self, deployment: Deployment) -> None:
        self.shown = super().stack(deployment)
        super().execute(deployment)

    def delete_stack(self, deployment: Deployment) -> None:
        self.shown = super().stack(deployment)
        super().delete_stack(deployment)

    def pause(self) -> None:
        self.shown = None


def test_what_was_begun_is_waited_for_though_it_does_not_show_at_once(package: Package, tmp_path: Path) -> None:
    """Or a stack that is not there yet counts as failed, an upgrade as done, and one that is being deleted as left."""
    account = Lagging()
    for packed_one in (package, packed(tmp_path / "newer", "two")):
        run = Bootstrap(cast("Account", account), ACME, packed_one, {}, account.pause)
        run.carry_out(run.plan(silent), silent)
        assert account.stacks[ACME.stack].parameters["CodeKey"] == packed_one.code_key
    teardown.remove(cast("Account", account), ACME, silent, account.pause)
    assert account.is_empty()


@pytest.mark.parametrize("broken", ["Table", "Api"])
def test_a_first_deployment_that_fails_leaves_nothing(package: Package, broken: str) -> None:
    """Whichever half fails, the error has the resource's own reason, not that of those which it took along."""
    account = FakeAccount(broken={broken: "the quota of concurrent executions is 10"})
    with pytest.raises(DeployFailed, match=rf"{broken} .*the quota of concurrent executions is 10") as failure:
        deploy(account, package)
    assert "cancelled" not in str(failure.value)
    assert "removed again" in str(failure.value)
    assert account.is_empty()
    account.broken.clear()
    assert deploy(account, package).has_code


@pytest.mark.parametrize("broken", ["Table", "Api"])
def test_a_first_deployment_that_fails_leaves_the_secrets_of_one_before(package: Package, broken: str) -> None:
    """Of a stack that was deleted by hand, say: nobody else has the texts."""
    secrets = {"/sailplane/acme/secrets/hf": "s"}
    account = FakeAccount(broken={broken: "no"}, parameters=dict(secrets))
    for _ in range(2):
        with pytest.raises(DeployFailed, match="removed again"):
            deploy(account, package)
        assert account.parameters == secrets
    account.broken.clear()
    account.propose(ACME, package.foundation, {"Deployment": "acme"}, is_new=True)  # and no more: a dead stack
    assert deploy(account, package).has_code
    assert account.parameters.items() >= secrets.items()


def test_a_first_deployment_that_is_overtaken_takes_nothing_away(package: Package) -> None:
    """Two that run at once: the slower one says so, and what the faster one makes stays, with its keys."""

    class Overtaken(FakeAccount):
        def execute(self, deployment: Deployment) -> None:
            super().execute(deployment)  # the other's
            raise CloudUnreachable("Somebody else was faster.")

    account = Overtaken()
    with pytest.raises(CloudUnreachable, match="faster"):
        deploy(account, package)
    assert account.stacks[ACME.stack].status == "CREATE_IN_PROGRESS"


def test_an_upgrade_that_fails_leaves_the_version_before(package: Package, tmp_path: Path) -> None:
    """With its code, its keys and its data; what is wrong is said, and a mended one goes through."""
    account = FakeAccount()
    deploy(account, package)
    before = account.stacks[ACME.stack].parameters["CodeKey"]
    keys = dict(account.parameters)
    account.broken["Edge"] = "no such handler"
    with pytest.raises(DeployFailed, match=r"no such handler[\s\S]*version before is in place"):
        deploy(account, packed(tmp_path / "newer", "two"))
    assert account.stacks[ACME.stack].parameters["CodeKey"] == before
    assert account.parameters == keys
    assert account.awake == {ACME.stack}  # the rollback too puts what wakes the functions as it is made: off
    account.broken.clear()
    assert deploy(account, packed(tmp_path / "newest", "three")).status == "UPDATE_COMPLETE"


@pytest.mark.parametrize("status", ["REVIEW_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_a_dead_stack_is_replaced(package: Package, status: str) -> None:
    """What an earlier run could not finish, and CloudFormation will not touch any more, is deleted first."""
    account = FakeAccount(broken={"Table": "no"})
    run = bootstrap(account, package)
    account.propose(ACME, package.foundation, {"Deployment": "acme"}, is_new=True)
    account.stacks[ACME.stack].status = status
    if status != "REVIEW_IN_PROGRESS":
        account.stacks[ACME.stack].parameters = {"Deployment": "acme"}
    account.broken.clear()
    assert run.plan(silent).is_new
    assert deploy(account, package).has_code


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_IN_PROGRESS", "ROLLBACK_COMPLETE", "DELETE_FAILED"])
def test_a_stack_of_somebody_else_s_is_left_alone(package: Package, status: str) -> None:
    """It is called as ours would be, has a bucket too, and is neither changed nor emptied nor deleted."""
    account = FakeAccount(buckets={"photos": {"holiday.jpg": "x"}})
    theirs = Formation("stack/theirs", status, parameters={"Size": "1"}, outputs={"Bucket": "photos"})
    account.stacks[ACME.stack], account.happened[theirs.id] = theirs, []
    for do in (lambda: deploy(account, package), lambda: tear_down(account)):
        with pytest.raises(Invalid, match=r"not Sailplane's.*Nothing was changed"):
            do()
    assert (account.stacks[ACME.stack].status, account.buckets) == (status, {"photos": {"holiday.jpg": "x"}})
    assert account.parameters == {}


def test_a_rollback_that_got_stuck_is_taken_up_again(package: Package, tmp_path: Path) -> None:
    """UPDATE_ROLLBACK_FAILED accepts nothing but that; the new version follows."""
    account = FakeAccount()
    deploy(account, package)
    account.stacks[ACME.stack].status = "UPDATE_ROLLBACK_FAILED"
    assert deploy(account, packed(tmp_path / "newer", "two")).status == "UPDATE_COMPLETE"


def test_teardown_takes_everything(package: Package) -> None:
    """The users' secrets, late log groups and the tables in the bucket too; and nothing of a neighbour by a longer name."""
    account = FakeAccount()
    deploy(account, package)
    account.buckets["bucket-acme"]["table"] = "sealed"
    account.parameters |= {"/sailplane/acme/secrets/hf": "s", "/sailplane/acme-two/SAILPLANE_ADMIN_KEY": "theirs"}
    account.logs |= {"/aws/lambda/sailplane-acme-tick", "/aws/lambda/sailplane-acme-two-tick"}
    assert len(teardown.leftovers(cast("Account", account), ACME)) == 1 + 4 + 2
    tear_down(account)
    assert teardown.leftovers(cast("Account", account), ACME) == ()
    assert account.parameters == {"/sailplane/acme-two/SAILPLANE_ADMIN_KEY": "theirs"}
    assert account.logs == {"/aws/lambda/sailplane-acme-two-tick"}
    tear_down(account)  # and once more finds nothing to do


def test_what_cannot_be_deleted_is_named(package: Package) -> None:
    """With CloudFormation's reason; the keys stay as long as something may run that knows them, and it can be run again."""
    account = FakeAccount(stuck={"Table"})
    deploy(account, package)
    with pytest.raises(DeployFailed, match=r"Bucket \(AWS::S3::Bucket\)[\s\S]*not empty[\s\S]*teardown` again"):
        tear_down(account)
    assert account.keys(ACME)
    account.stuck.clear()
    tear_down(account)
    assert account.is_empty()


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_broken_off_anywhere_it_is_finished_by_running_it_again(package: Package, *, is_done: bool) -> None:
    """Bootstrap is killed at every one of its calls in turn, then runs again, then teardown does: always clean.

    Killed before the call, and after its effect but before its answer.
    """
    last = 0
    for at in range(1, 200):
        account = FakeAccount()
        try:
            deploy(BreaksOff(account, at, is_done=is_done), package)
        except BrokenOffError:
            last = at
        else:
            break
        assert deploy(account, package).has_code
        assert sorted(account.keys(ACME)) == sorted(KEYS)
        assert bootstrap(account, package).plan(silent).changes == ()
        tear_down(account)
        assert account.is_empty(), f"broken off at call {at}"
    assert last > 20  # it has that many steps, so it was broken off that often


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_failing_bootstrap_broken_off_anywhere_leaves_nothing_after_the_next(
    package: Package, *, is_done: bool
) -> None:
    """While it removes what it made, too."""
    for at in range(1, 200):
        account = FakeAccount(broken={"Edge": "no"})
        try:
            deploy(BreaksOff(account, at, is_done=is_done), package)
        except BrokenOffError:
            pass
        except DeployFailed:
            break
        with pytest.raises(DeployFailed):
            deploy(account, package)
        assert account.is_empty(), f"broken off at call {at}"
    assert at > 25


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_teardown_broken_off_anywhere_is_finished_by_running_it_again(package: Package, *, is_done: bool) -> None:
    """Or by a bootstrap, which then finds nothing of the old one in its way."""
    for at in range(1, 100):
        account = FakeAccount()
        deploy(account, package)
        try:
            tear_down(BreaksOff(account, at, is_done=is_done))
        except BrokenOffError:
            pass
        else:
            break
        if at % 2:
            assert deploy(account, package).has_code
        tear_down(account)
        assert account.is_empty(), f"broken off at call {at}"
    assert at > 8


@pytest.mark.parametrize("name", ["", "a", "Acme", "acme-", "1st", "a" * 41, "acme_prod", "acme\n"])
def test_a_name_that_not_all_clouds_take_is_refused(name: str) -> None:
    """Before anything is asked of any of them."""
    with pytest.raises(Invalid, match="2 to 40 characters"):
        Deployment(name)


def test_an_incomplete_package_is_refused(tmp_path: Path) -> None:
    """With what is missing and how to build it."""
    packed(tmp_path / "dist")
    (tmp_path / "dist" / "control.zip").unlink()
    with pytest.raises(Invalid, match=r"lacks control.zip\. Build it with `python -m infra.package"):
        Package(tmp_path / "dist")
