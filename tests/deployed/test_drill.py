"""Bootstrap killed at random calls, run again, taken out again: against CloudFormation's own API, in an account on this machine."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import boto3
import pytest

from sailplane.deploy import stacks, teardown
from sailplane.deploy.aws import AwsAccount
from sailplane.deploy.bootstrap import Bootstrap
from sailplane.deploy.deployment import KEYS, TAG, Deployment
from sailplane.deploy.package import Package
from tests.deploy.accounts import BrokenOffError
from tests.deploy.test_bootstrap import silent
from tests.deployed.stand_in import StandIn

pytestmark = pytest.mark.deployed

ACME = Deployment("acme")
RUNS = 20


class Calls:
    """Counts the calls to AWS of a session's clients, and ends the caller at one of them."""

    def __init__(self, session: boto3.Session, last: int | None = None, *, is_done: bool = False) -> None:
        self.count = 0
        self._last = last
        session.events.register("after-call" if is_done else "before-call", self._count)

    def _count(self, **_: Any) -> None:
        self.count += 1
        if self.count == self._last:
            raise BrokenOffError


@pytest.fixture(scope="module")
def light(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The package with code of no weight, which nothing calls here."""
    directory = tmp_path_factory.mktemp("light")
    for name in ("foundation.json", "template.json", "edge-aws.zip"):
        (directory / name).write_bytes((package.directory / name).read_bytes())
    (directory / "control.zip").write_bytes((directory / "edge-aws.zip").read_bytes())
    return Package(directory)


def deploy(stand_in: StandIn, session: boto3.Session, package: Package) -> bool:
    """Whether there was anything to do."""
    run = Bootstrap(AwsAccount(session, stand_in.endpoint), ACME, package, {}, lambda: None)
    plan = run.plan(silent)
    run.carry_out(plan, silent)
    return bool(plan.changes)


def tear_down(stand_in: StandIn, session: boto3.Session) -> None:
    teardown.remove(AwsAccount(session, stand_in.endpoint), ACME, silent, lambda: None)


def test_broken_off_at_random_it_is_finished_by_running_it_again(stand_in: StandIn, light: Package) -> None:
    """20 times at a call drawn from all that there are, half of them done but unanswered: always clean.

    Every second teardown is killed too, and run again.
    """
    before = stand_in.everything()
    session = stand_in.session()
    calls = Calls(session)
    assert deploy(stand_in, session, light)
    to_deploy = calls.count
    tear_down(stand_in, session)
    to_remove = calls.count - to_deploy
    assert stand_in.everything() == before
    draw = random.Random(20261122)
    for run in range(RUNS):
        broken = stand_in.session()
        at, is_done = draw.randint(1, to_deploy), draw.random() < 0.5
        Calls(broken, at, is_done=is_done)
        with pytest.raises(BrokenOffError):
            deploy(stand_in, broken, light)
        deploy(stand_in, stand_in.session(), light)
        assert not deploy(stand_in, stand_in.session(), light), f"run {run}: broken off at {at}, {is_done=}"
        assert set(KEYS) <= stand_in.account.keys(ACME).keys()
        if run % 2:
            broken = stand_in.session()
            Calls(broken, draw.randint(1, to_remove), is_done=draw.random() < 0.5)
            with pytest.raises(BrokenOffError):
                tear_down(stand_in, broken)
        tear_down(stand_in, stand_in.session())
        assert stand_in.everything() == before, f"run {run}: broken off at {at}, {is_done=}"


def test_an_upgrade_that_its_laptop_leaves_alone_leaves_services_looked_after(
    stand_in: StandIn, light: Package, tmp_path: Path
) -> None:
    """It dies when the update has begun, and nobody runs it again: what wakes the functions is on, as it was."""
    before = stand_in.everything()
    session = stand_in.session()
    assert deploy(stand_in, session, light)
    assert all(is_on(stand_in)), "until the first ticks find nothing to wake for"
    broken = stand_in.session()
    broken.events.register("after-call.cloudformation.ExecuteChangeSet", die)
    newer = another_version(light, tmp_path / "newer")
    with pytest.raises(BrokenOffError):
        deploy(stand_in, broken, newer)
    stack = stacks.settled(stand_in.account, ACME, silent, lambda: None)
    assert stack is not None
    assert stack.parameters["CodeKey"] == newer.code_key
    assert all(is_on(stand_in))
    tear_down(stand_in, stand_in.session())
    assert stand_in.everything() == before


def test_machines_of_a_stack_that_was_deleted_by_hand_are_found_and_ended(stand_in: StandIn, tmp_path: Path) -> None:
    """`sailplane teardown` with nothing but the user's own credentials; it says where it did not look."""
    ec2 = stand_in.session().client("ec2", region_name="us-west-2", endpoint_url=stand_in.endpoint)
    tags: Any = [{"ResourceType": "instance", "Tags": [{"Key": TAG, "Value": ACME.name}]}]
    made = ec2.run_instances(ImageId="ami-1", InstanceType="g5.xlarge", MinCount=1, MaxCount=1, TagSpecifications=tags)
    machine = made["Instances"][0]["InstanceId"]
    said = stand_in.cli(tmp_path, "teardown", "-d", ACME.name, code=2)
    assert machine in said
    assert "g5.xlarge" in said
    assert "Looking at aws only" in said
    assert "Add --yes" in said
    assert stand_in.json(tmp_path, "teardown", "-d", ACME.name, "-y")["machines"] == {
        "leftovers": [],
        "unreachable": {},
    }
    (found,) = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"]
    assert found["State"]["Name"] in ("shutting-down", "terminated")


def die(**_: Any) -> None:
    raise BrokenOffError


def another_version(light: Package, directory: Path) -> Package:
    """Other code, and another description of the minute's rule: one that an update does not touch stays as it is."""
    directory.mkdir()
    for path in light.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes() + (b"newer" if path.name == "control.zip" else b""))
    template = json.loads((light.directory / "template.json").read_text())
    template["Resources"]["Tick"]["Properties"]["Events"]["TickEvent"]["Properties"]["Description"] = "newer"
    (directory / "template.json").write_text(json.dumps(template))
    return Package(directory)


def is_on(stand_in: StandIn) -> list[bool]:
    """The rules; the mapping is on in the stand-in from the first, whatever the template says."""
    events = stand_in.client("events")
    return [events.describe_rule(Name=rule)["State"] == "ENABLED" for rule in ACME.rules]
