"""EC2 in a box: what the provider's tests do not show of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError

from chalicelib.providers.aws.clients import Clients
from tests.clouds.aws import AwsBox
from tests.clouds.box import Metadata, OnPaper
from tests.fakes import START, FakeClock

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

IMAGE = "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


class Listening(OnPaper):
    """Keeps what answers for the machines' metadata services."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: dict[str, Metadata] = {}

    def boot(self, machine_id: str, user_data: str, metadata: Metadata) -> str:
        self.metadata[machine_id] = metadata
        return super().boot(machine_id, user_data, metadata)


@dataclass
class World:
    box: AwsBox
    clock: FakeClock
    paper: Listening
    heard: list[dict[str, Any]] = field(default_factory=list)

    def ec2(self, region: str = "us-east-1") -> EC2Client:
        return Clients(self.box.endpoint_url).ec2(region)

    def run(self, **more: Any) -> str:
        """A new machine's id."""
        asked: dict[str, Any] = {"MinCount": 1, "MaxCount": 1, "ImageId": IMAGE, "InstanceType": "m7i.large", **more}
        return self.ec2().run_instances(**asked)["Instances"][0]["InstanceId"]

    def post(self, **form: str) -> httpx.Response:
        """A request as no SDK would make it."""
        url, key = self.box.endpoint_url, self.box.endpoint_url.partition("//")[2].partition("@")[0]
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/ec2/aws4_request"}
        return httpx.post(url.replace(f"{key}@", ""), data=form, headers=headers)

    def metadata(self, machine_id: str, path: str, token: str = "") -> tuple[int, str]:
        """What the machine is told."""
        answer = self.paper.metadata[machine_id]("GET", path, {"x-aws-ec2-metadata-token": token})
        return answer[0], answer[2].decode()

    def token(self, machine_id: str) -> str:
        """A session of the metadata service."""
        headers = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
        return self.paper.metadata[machine_id]("PUT", "/latest/api/token", headers)[2].decode()


@pytest.fixture
def world() -> Iterator[World]:
    clock, paper = FakeClock(), Listening()
    made = World(AwsBox(paper, clock), clock, paper)
    yield made
    made.box.close()


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Action": "RunInstance"}, "InvalidAction"),
        ({"Action": "RunInstances", "MinCount": "1"}, "MissingParameter"),
        ({"Action": "RunInstances", "MinCount": "1", "MaxCount": "one"}, "InvalidParameterValue"),
        ({"Action": "RunInstances", "MinCount": "1", "MaxCount": "1", "Colour": "red"}, "UnknownParameter"),
        ({"Action": "RunInstances", "MinCount": "1", "MaxCount": "1", "Placement.Row": "3"}, "UnknownParameter"),
        ({"Action": "RunInstances", "MinCount": "1", "MaxCount": "1", "EbsOptimized": "yes"}, "InvalidParameterValue"),
        (
            {"Action": "RunInstances", "MinCount": "1", "MaxCount": "1", "InstanceType": "g9.huge"},
            "InvalidParameterValue",
        ),
    ],
)
def test_what_is_not_in_the_contract_is_refused(world: World, form: dict[str, str], code: str) -> None:
    """400, in EC2's words, and nothing is done."""
    answer = world.post(Version="2016-11-15", **form)
    assert (answer.status_code, f"<Code>{code}</Code>" in answer.text) == (400, True)
    assert world.box.machines() == []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"ImageId": "ami-00000000"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "resolve:ssm:/aws/service/no/such/parameter"}, "InvalidParameterValue"),
        ({"InstanceType": "m7g.large"}, "InvalidParameterValue"),  # the image is x86
        ({"InstanceType": "g5.xlarge", "Placement": {"AvailabilityZone": "us-east-1e"}}, "Unsupported"),
        ({"UserData": "x" * 16385}, "InvalidParameterValue"),
        (
            {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:x", "Value": ""}]}]},
            "InvalidParameterValue",
        ),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 4}}]}, "InvalidBlockDeviceMapping"),
        (
            {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeType": "gp3", "Iops": 16000}}]},
            "InvalidParameterCombination",
        ),
        (
            {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeType": "gp3", "Throughput": 1000}}]},
            "InvalidParameterCombination",
        ),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeType": "io2"}}]}, "MissingParameter"),
    ],
)
def test_what_ec2_does_not_sell_is_refused(world: World, asked: dict[str, Any], code: str) -> None:
    """Right by the contract, and yet there is no such machine."""
    with pytest.raises(ClientError) as refused:
        world.run(**asked)
    assert refused.value.response["Error"]["Code"] == code
    assert world.box.machines() == []


def test_a_token_is_good_for_one_request_only(world: World) -> None:
    """The same again is the same machine; something else under it is refused."""
    first = world.run(ClientToken="token")
    assert world.run(ClientToken="token") == first
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        world.run(ClientToken="token", EbsOptimized=True)


def test_a_machine_is_told_about_itself(world: World) -> None:
    """By version 2 of the metadata service, which asks for a token first."""
    machine_id = world.run(UserData="#!/bin/sh\necho ü\n", Placement={"AvailabilityZoneId": "use1-az4"})
    assert world.metadata(machine_id, "/latest/user-data")[0] == 401
    assert world.paper.metadata[machine_id]("PUT", "/latest/api/token", {})[0] == 400
    token = world.token(machine_id)
    told = {
        path: world.metadata(machine_id, f"/latest/{path}", token)
        for path in (
            "user-data",
            "meta-data/instance-id",
            "meta-data/local-ipv4",
            "meta-data/public-ipv4",
            "meta-data/placement/availability-zone-id",
            "meta-data/placement/region",
            "meta-data/spot/instance-action",
            "meta-data/events/recommendations/rebalance",
        )
    }
    address = world.paper.running[machine_id]
    assert told == {
        "user-data": (200, "#!/bin/sh\necho ü\n"),
        "meta-data/instance-id": (200, machine_id),
        "meta-data/local-ipv4": (200, address),
        "meta-data/public-ipv4": (200, address),
        "meta-data/placement/availability-zone-id": (200, "use1-az4"),
        "meta-data/placement/region": (200, "us-east-1"),
        "meta-data/spot/instance-action": (404, ""),
        "meta-data/events/recommendations/rebalance": (404, ""),
    }


def test_a_preemption_is_told_inside_and_outside(world: World) -> None:
    """The metadata service says when; EventBridge says so two minutes ahead; then the machine is taken."""
    machine_id = world.run(InstanceMarketOptions={"MarketType": "spot"}, Placement={"AvailabilityZoneId": "use1-az4"})
    world.box.on_event = world.heard.append
    world.box.advance()
    world.heard.clear()
    world.box.recommend_rebalance(machine_id)
    world.box.preempt(machine_id, 30.0)
    token = world.token(machine_id)
    _, action = world.metadata(machine_id, "/latest/meta-data/spot/instance-action", token)
    _, advice = world.metadata(machine_id, "/latest/meta-data/events/recommendations/rebalance", token)
    assert json.loads(action) == {"action": "terminate", "time": "2027-01-15T08:00:30Z"}
    assert json.loads(advice) == {"noticeTime": "2027-01-15T08:00:00Z"}

    [rebalance, warning] = world.heard
    zone = world.ec2().describe_instances()["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"]
    assert (rebalance["detail-type"], rebalance["time"]) == (
        "EC2 Instance Rebalance Recommendation",
        "2027-01-15T08:00:00Z",
    )
    assert {key: warning[key] for key in sorted(warning) if key not in ("id", "account")} == {
        "detail": {"instance-action": "terminate", "instance-id": machine_id},
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "region": "us-east-1",
        "resources": [f"arn:aws:ec2:{zone}:instance/{machine_id}"],
        "source": "aws.ec2",
        "time": "2027-01-15T07:58:30Z",  # the notice is shorter than EC2's two minutes: the end is what is true
        "version": "0",
    }
    world.clock.advance(30)
    world.box.advance()
    assert [event["detail"].get("state") for event in world.heard[2:]] == ["shutting-down", "terminated"]
    assert [booked.running for booked in world.box.machines()] == [False]
    assert machine_id not in world.paper.running


def test_a_machine_that_shuts_itself_down_is_seen_to_be_over(world: World) -> None:
    """As one whose owner said so, not the cloud; its network interface ends with it."""
    machine_id = world.run()
    world.paper.destroy(machine_id)
    [reservation] = world.ec2().describe_instances()["Reservations"]
    [machine] = reservation["Instances"]
    assert machine["State"]["Name"] == "terminated"
    assert machine["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert world.ec2().describe_network_interfaces()["NetworkInterfaces"] == []


def test_two_boxes_are_two_accounts(world: World) -> None:
    """Machines, groups and keys of one are nothing to the other."""
    another = AwsBox(OnPaper(), world.clock)
    world.run()
    world.ec2().create_security_group(GroupName="g", Description="d")
    ec2 = Clients(another.endpoint_url).ec2("us-east-1")
    assert ec2.describe_instances()["Reservations"] == []
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]
    assert another.endpoint_url.partition("@")[0] != world.box.endpoint_url.partition("@")[0]
    another.close()


def test_spot_prices_move_with_the_clock_and_not_with_the_asking(world: World) -> None:
    """The history of a day: the same whenever it is asked for, one price every six hours, none of the future."""

    def history() -> list[tuple[float, str]]:
        pages = (
            world.ec2()
            .get_paginator("describe_spot_price_history")
            .paginate(
                InstanceTypes=["g6.2xlarge"],
                Filters=[],
                StartTime="2027-01-14T08:00:00Z",
                PaginationConfig={"PageSize": 5},
            )
        )
        return [
            (entry["Timestamp"].timestamp(), entry["SpotPrice"])
            for page in pages
            for entry in page["SpotPriceHistory"]
            if entry["AvailabilityZoneId"] == "use1-az4"
        ]

    seen = history()
    assert [START - at for at, _ in seen] == [7200.0 + 21600 * step for step in range(5)]
    assert len({price for _, price in seen}) > 1
    world.clock.advance(6 * 3600)
    assert history()[1:] == seen
