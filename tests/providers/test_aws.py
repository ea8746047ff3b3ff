"""The AWS provider: boto3 over HTTP against EC2 in a box."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from chalicelib import catalog
from chalicelib.errors import LaunchRefused, NoCapacity, QuotaExceeded, Unauthorized, Unreachable
from chalicelib.model import (
    CapacityType,
    Instance,
    InstanceStatus,
    InterruptionNotice,
    LaunchRequest,
    LeftoverKind,
    Location,
    NoticeKind,
    Offer,
    Requirement,
)
from chalicelib.providers.aws import interruption
from chalicelib.providers.aws.clients import Clients
from chalicelib.providers.aws.compute import AwsProvider
from chalicelib.providers.aws.machine import is_arm
from chalicelib.providers.aws.offers import spot_prices
from chalicelib.providers.boot import AGENT_PORT, agent_url, user_data
from sailplane.deploy import machines
from sailplane.deploy.deployment import Deployment
from tests.clouds.aws import AwsBox
from tests.clouds.box import Fault, OnPaper
from tests.fakes import START, FakeClock
from tests.providers.contract import FIRST, LAST, KeepsLog, ProviderContract, launch_request
from tests.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

REGIONS = ("us-east-1", "us-west-2")
CONTROL_URL = "https://control.example"


@dataclass
class AwsCloud:
    """`contract.Cloud` in a box."""

    box: AwsBox
    clock: FakeClock
    paper: OnPaper
    provider: AwsProvider
    offer: Offer

    def another_deployment(self) -> AwsProvider:
        return self.another("another")

    def another(self, deployment: str = "test", regions: tuple[str, ...] = REGIONS) -> AwsProvider:
        """A provider without memory of this one."""
        return AwsProvider(
            deployment=deployment,
            control_url=CONTROL_URL,
            clock=self.clock,
            regions=regions,
            endpoint_url=self.box.endpoint_url,
        )

    def ec2(self, region: str = "us-east-1") -> EC2Client:
        """The SDK itself, for what the provider does not show."""
        return Clients(self.box.endpoint_url).ec2(region)

    def run_out(self) -> None:
        self.box.faults.capacity[""] = 0

    def until_logged(self, instance: Instance) -> None:
        self.paper.write(instance.id, f"{FIRST}\r\n{LAST}\r\n")  # as a serial console ends its lines


def offer(zone: str = "use1-az1", kind: str = "g5.2xlarge", accelerator: str = "A10G", *, spot: bool = False) -> Offer:
    """Something that EC2 sells in us-east-1."""
    capacity_type = CapacityType.SPOT if spot else CapacityType.ON_DEMAND
    return Offer(
        Location("aws", "us-east-1", zone), kind, 8.0, 32.0, capacity_type, 1.2, accelerator, bool(accelerator)
    )


WEST = replace(offer(), location=Location("aws", "us-west-2", "usw2-az1"))


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    clock, paper = FakeClock(), OnPaper()
    box = AwsBox(paper, clock)
    box.enable_only(*REGIONS)
    provider = AwsProvider(
        deployment="test", control_url=CONTROL_URL, clock=clock, regions=REGIONS, endpoint_url=box.endpoint_url
    )
    yield AwsCloud(box, clock, paper, provider, offer())
    box.close()


class TestAws(ProviderContract, KeepsLog):
    """The contract."""


def sent(cloud: AwsCloud, action: str) -> list[dict[str, Any]]:
    """The parameters of every call of an action that EC2 understood."""
    return [read for _, name, read in cloud.box.requests if name == action]


def wanting(cloud: AwsCloud, offer: Offer | None = None, **requirement: Any) -> LaunchRequest:
    """A request for a machine of certain properties."""
    request = launch_request(offer or cloud.offer)
    return replace(request, replica=replace(request.replica, requirement=Requirement(**requirement)))


# --- what a launch asks for


def test_a_spot_machine_is_asked_for_with_everything_the_service_wants(cloud: AwsCloud) -> None:
    """Every field that goes to RunInstances, as the box read it by EC2's published contract."""
    request = wanting(
        cloud, offer("use1-az4", spot=True), disk_size_gib=200, disk_tier="high", labels=(("team", "ml"),)
    )
    cloud.provider.launch(request)

    [read] = sent(cloud, "RunInstances")
    [group] = cloud.ec2().describe_security_groups(GroupNames=["sailplane-test"])["SecurityGroups"]
    tags = {
        "Name": request.replica.id,
        "team": "ml",
        "sailplane-deployment": "test",
        "sailplane-service": "hello",
        "sailplane-replica": request.replica.id,
    }
    kinds = ("instance", "volume", "network-interface", "spot-instances-request")
    assert read == {
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": read["ClientToken"],
        "InstanceType": "g5.2xlarge",
        "ImageId": "resolve:ssm:/aws/service/deeplearning/ami/x86_64"
        "/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id",
        "Placement": {"AvailabilityZoneId": "use1-az4"},
        "SecurityGroupIds": [group["GroupId"]],
        "UserData": read["UserData"],
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/sda1",
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": 200,
                    "Iops": 6000,
                    "Throughput": 500,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            for kind in kinds
        ],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "InstanceMarketOptions": {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        },
    }
    assert 0 < len(read["ClientToken"]) <= 64
    assert [(booked.zone, booked.spot) for booked in cloud.box.machines()] == [("use1-az4", True)]


def test_user_data_arrives_as_it_was_written(cloud: AwsCloud) -> None:
    """The machine boots with the script of `providers.boot`, byte for byte."""
    request = launch_request(cloud.offer)
    launched = cloud.provider.launch(request)
    assert cloud.paper.user_data[launched.id] == user_data("aws", CONTROL_URL, request)


def test_disk_and_interface_carry_the_tags_too(cloud: AwsCloud) -> None:
    """Whatever a machine leaves behind can be found by its replica."""
    request = launch_request(cloud.offer)
    cloud.provider.launch(request)
    ours: Any = [{"Name": "tag:sailplane-replica", "Values": [request.replica.id]}]
    assert len(cloud.ec2().describe_volumes(Filters=ours)["Volumes"]) == 1
    assert len(cloud.ec2().describe_network_interfaces(Filters=ours)["NetworkInterfaces"]) == 1


UBUNTU = "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id"
DEEP_LEARNING = "resolve:ssm:/aws/service/deeplearning/ami/{}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"


@pytest.mark.parametrize(
    ("kind", "accelerator", "image_id", "asked_for"),
    [
        ("g6.xlarge", "L4", "", DEEP_LEARNING.format("x86_64")),
        ("g5g.xlarge", "T4G", "", DEEP_LEARNING.format("arm64")),
        ("m7i.large", "", "", UBUNTU.format("amd64")),
        ("m7g.large", "", "", UBUNTU.format("arm64")),
        ("g6.xlarge", "L4", "docker:vllm/vllm-openai:latest", DEEP_LEARNING.format("x86_64")),
    ],
)
def test_the_image_suits_the_machine(
    cloud: AwsCloud, kind: str, accelerator: str, image_id: str, asked_for: str
) -> None:
    """With drivers for a GPU, for the processor's architecture; an AMI as it is; a container on the default image."""
    cloud.provider.launch(wanting(cloud, offer("", kind, accelerator), image_id=image_id))
    [read] = sent(cloud, "RunInstances")
    assert read["ImageId"] == asked_for
    assert "Placement" not in read


def test_an_ami_is_taken_as_it_is_and_its_disk_by_its_name(cloud: AwsCloud) -> None:
    """Another name would add a second disk instead of sizing the first one. EC2 is asked once for each image."""
    image = cloud.box.register_image("us-east-1", "/dev/xvda")
    for _ in range(2):
        cloud.provider.launch(wanting(cloud, image_id=image))
    seen = {(read["ImageId"], read["BlockDeviceMappings"][0]["DeviceName"]) for read in sent(cloud, "RunInstances")}
    assert seen == {(image, "/dev/xvda")}
    assert len(sent(cloud, "DescribeImages")) == 1


def test_an_ami_of_another_region_is_refused(cloud: AwsCloud) -> None:
    """With the words that help."""
    image = cloud.box.register_image("us-west-2", "/dev/xvda")
    with pytest.raises(LaunchRefused, match=f"{image}"):
        cloud.provider.launch(wanting(cloud, image_id=image))


def test_every_type_is_given_its_own_architecture() -> None:
    """What a type's name says of its processor is true of every type that EC2 has."""
    wrong = [
        name
        for name, info in INSTANCE_TYPES.items()
        if is_arm(name) != ("arm64" in info["ProcessorInfo"]["SupportedArchitectures"]) and not name.startswith("mac")
    ]
    assert len(INSTANCE_TYPES) > 1000
    assert wrong == []
    assert is_arm("p6e-gb200.36xlarge")  # newer than moto's list: Grace beside Blackwell
    assert not is_arm("p6-b200.48xlarge")


@pytest.mark.parametrize("tier", ["", "low", "medium", "high", "ultra", "best"])
def test_every_disk_tier_is_a_disk_that_ec2_has(cloud: AwsCloud, tier: str) -> None:
    """Whatever the service file may say."""
    cloud.provider.launch(wanting(cloud, disk_size_gib=100, disk_tier=tier))
    assert [each["Size"] for each in cloud.ec2().describe_volumes()["Volumes"]] == [100]


def test_a_gpu_that_no_image_has_a_driver_for_needs_an_ami(cloud: AwsCloud) -> None:
    """Only this type is avoided then, and the user reads what to do."""
    with pytest.raises(NoCapacity, match=r"p3\.2xlarge; set resources\.image_id to an AMI"):
        cloud.provider.launch(launch_request(offer("", "p3.2xlarge", "V100")))


# --- once and only once


@pytest.mark.parametrize("fault", [Fault.LOST_RESPONSE, Fault.THROTTLED, Fault.SERVER_ERROR])
def test_a_launch_without_an_answer_is_asked_again(cloud: AwsCloud, fault: Fault) -> None:
    """`Unreachable`, whatever has become of it; asked again there is one machine."""
    request = launch_request(cloud.offer)
    cloud.box.faults.once("launch", fault)
    with pytest.raises(Unreachable):
        cloud.provider.launch(request)
    launched = cloud.another().launch(request)
    assert [booked.id for booked in cloud.box.machines()] == [launched.id]


def test_a_request_delivered_twice_starts_one_machine(cloud: AwsCloud) -> None:
    """The second delivery is answered with the first one's machine."""
    cloud.box.faults.once("launch", Fault.DUPLICATED)
    launched = cloud.provider.launch(launch_request(cloud.offer))
    assert [booked.id for booked in cloud.box.machines()] == [launched.id]


def test_a_new_attempt_after_a_refusal_is_another_machine(cloud: AwsCloud) -> None:
    """The boot nonce belongs to the token: EC2 may remember the first one for a day."""
    first = launch_request(cloud.offer, "hello-0001-0-1")
    second = launch_request(cloud.offer, "hello-0001-0-1")
    assert cloud.provider.launch(first).id != cloud.provider.launch(second).id


def test_a_launch_repeated_by_another_version_of_this_program_finds_its_machine(cloud: AwsCloud) -> None:
    """EC2 refuses a known token with other parameters; the tag leads to the machine, as soon as it is listed."""
    request = launch_request(cloud.offer)
    changed = replace(request, boot_token="another")
    cloud.box.faults.list_lag_s = 30.0
    launched = cloud.provider.launch(request)
    with pytest.raises(Unreachable, match="does not list it yet"):
        cloud.provider.launch(changed)
    cloud.clock.advance(31)
    assert cloud.provider.launch(changed).id == launched.id


def test_a_token_whose_machine_is_over_starts_nothing(cloud: AwsCloud) -> None:
    """EC2 may also say it with an error of its own: the machine is gone."""
    cloud.box.refuse_once("RunInstances", "IdempotentInstanceTerminated", "The instance has been terminated")
    launched = cloud.provider.launch(launch_request(cloud.offer))
    assert (launched.status, cloud.box.machines()) == (InstanceStatus.GONE, [])


# --- the security group


def test_one_group_opens_the_agents_port_and_no_other(cloud: AwsCloud) -> None:
    """Also when many launch at once, each without knowledge of the others."""
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: cloud.another().launch(launch_request(cloud.offer)), range(6)))
    [group] = [
        each for each in cloud.ec2().describe_security_groups()["SecurityGroups"] if each["GroupName"] != "default"
    ]
    assert group["GroupName"] == "sailplane-test"
    [rule] = group["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", AGENT_PORT, AGENT_PORT)
    assert [each["CidrIp"] for each in rule["IpRanges"]] == ["0.0.0.0/0"]
    assert [each["CidrIpv6"] for each in rule["Ipv6Ranges"]] == ["::/0"]


def test_a_group_that_was_left_closed_is_opened(cloud: AwsCloud) -> None:
    """A crash between making the group and opening it is repaired by the next launch."""
    cloud.box.refuse_once("AuthorizeSecurityGroupIngress", "InternalError", "crash", 500)
    request = launch_request(cloud.offer)
    with pytest.raises(Unreachable):
        cloud.provider.launch(request)
    cloud.another().launch(request)
    [group] = cloud.ec2().describe_security_groups(GroupNames=["sailplane-test"])["SecurityGroups"]
    assert len(group["IpPermissions"]) == 1


def test_a_group_too_young_to_be_known_is_no_refusal(cloud: AwsCloud) -> None:
    """EC2 may not know yet, a moment later, what it has just made: another time, not another cloud."""
    cloud.box.refuse_once("AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound", "The security group does not exist")
    request = launch_request(cloud.offer)
    with pytest.raises(Unreachable):
        cloud.provider.launch(request)
    assert cloud.provider.launch(request).replica_id == request.replica.id


def test_a_group_that_was_removed_is_made_again(cloud: AwsCloud) -> None:
    """The provider remembers groups only as long as EC2 does."""
    first = cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.terminate(first.replica_id, first.id)
    cloud.ec2().delete_security_group(GroupName="sailplane-test")
    request = launch_request(cloud.offer)
    with pytest.raises(Unreachable, match=r"security group .* does not exist"):
        cloud.provider.launch(request)
    assert cloud.provider.launch(request).replica_id == request.replica.id


def test_somebody_elses_group_is_not_used(cloud: AwsCloud) -> None:
    """A group of that name without our tag is left as it is."""
    cloud.ec2().create_security_group(GroupName="sailplane-test", Description="mine")
    with pytest.raises(Unreachable, match="does not list it with our tag"):
        cloud.provider.launch(launch_request(cloud.offer))
    [group] = cloud.ec2().describe_security_groups(GroupNames=["sailplane-test"])["SecurityGroups"]
    assert group["IpPermissions"] == []


# --- refusals


BLOB = "qZ7x" * 200
REFUSALS: list[tuple[tuple[str, int, str], type[Exception], str]] = [
    (("InsufficientInstanceCapacity", 500, "No capacity"), NoCapacity, "No capacity"),
    (("InsufficientHostCapacity", 500, "No host"), NoCapacity, "No host"),
    (("SpotMaxPriceTooLow", 400, "Too low"), NoCapacity, "Too low"),
    (("Unsupported", 400, "Not supported in your zone"), NoCapacity, "Not supported"),
    (("InvalidInput", 400, "No default subnet for availability zone: 'us-east-1e'."), NoCapacity, "us-east-1e"),
    (("VcpuLimitExceeded", 400, "vCPU limit of 0"), QuotaExceeded, "Service Quotas"),
    (("MaxSpotInstanceCountExceeded", 400, "Max spot"), QuotaExceeded, "Service Quotas"),
    (("InstanceLimitExceeded", 400, "Limit"), QuotaExceeded, "Service Quotas"),
    (("VPCIdNotSpecified", 400, "No default VPC for this user"), QuotaExceeded, "create-default-vpc"),
    (("AuthFailure", 401, "Not able to validate"), Unauthorized, "check the AWS credentials"),
    (("OptInRequired", 403, "Not subscribed"), Unauthorized, "check the AWS credentials"),
    (
        ("UnauthorizedOperation", 403, f"You are not authorized. Encoded authorization failure message: {BLOB}"),
        Unauthorized,
        "ec2:RunInstances",
    ),
    (("InvalidAMIID.NotFound", 400, "The image id '[ami-1]' does not exist"), LaunchRefused, "ami-1"),
    (("InvalidParameterValue", 400, "Tag keys starting with 'aws:' are reserved"), LaunchRefused, "reserved"),
    (("InvalidParameterCombination", 400, "Cannot be combined"), LaunchRefused, "combined"),
    (("NeverHeardOf", 400, "New in 2030"), LaunchRefused, "NeverHeardOf"),
    (("RequestLimitExceeded", 503, "Request limit exceeded."), Unreachable, "RequestLimitExceeded"),
    (("Throttling", 400, "Rate exceeded"), Unreachable, "Throttling"),
    (("InternalError", 500, "Internal"), Unreachable, "InternalError"),
    (("Unavailable", 503, "Overloaded"), Unreachable, "Unavailable"),
]


@pytest.mark.parametrize(("answer", "raised", "words"), REFUSALS, ids=[each[0][0] for each in REFUSALS])
def test_each_refusal_says_how_far_to_go(
    cloud: AwsCloud, answer: tuple[str, int, str], raised: type[Exception], words: str
) -> None:
    """Another zone, another region, another cloud or another time; in EC2's words, with what to do, and without its blobs."""
    code, status, message = answer
    cloud.box.refuse_once("RunInstances", code, f"{message} AKIA1234567890ABCDEF", status)
    with pytest.raises(raised, match=words) as caught:
        cloud.provider.launch(launch_request(cloud.offer))
    assert type(caught.value) is raised
    assert code in str(caught.value)
    assert len(str(caught.value)) < 600
    assert BLOB[:8] not in str(caught.value)
    assert "AKIA1234" not in str(caught.value)
    assert cloud.box.machines() == []


def test_a_full_zone_leaves_the_others(cloud: AwsCloud) -> None:
    """Capacity is a matter of one zone."""
    cloud.box.faults.capacity["use1-az1"] = 0
    with pytest.raises(NoCapacity, match="use1-az1"):
        cloud.provider.launch(launch_request(cloud.offer))
    assert cloud.provider.launch(launch_request(offer("use1-az4"))).replica_id


def test_a_zone_without_the_type_or_without_the_account_leaves_the_others(cloud: AwsCloud) -> None:
    """A zone that does not sell it, and one that this account does not have, are both no refusal of AWS as such."""
    for zone in ("use1-az3", "use1-zz9"):
        with pytest.raises(NoCapacity, match="vailability"):
            cloud.provider.launch(launch_request(offer(zone)))


def test_quotas_are_counted_in_the_region(cloud: AwsCloud) -> None:
    """Another region may still have room."""
    cloud.box.faults.quota["us-east-1"] = 0
    with pytest.raises(QuotaExceeded, match="VcpuLimitExceeded"):
        cloud.provider.launch(launch_request(cloud.offer))
    with pytest.raises(QuotaExceeded, match="MaxSpotInstanceCountExceeded"):
        cloud.provider.launch(launch_request(offer(spot=True)))
    elsewhere = replace(cloud.offer, location=Location("aws", "us-west-2", "usw2-az1"))
    assert cloud.provider.launch(launch_request(elsewhere)).replica_id


def test_refused_credentials_are_told_and_not_shown(cloud: AwsCloud) -> None:
    """The user reads what to check; the key is in no message and no repr."""
    key = cloud.box.endpoint_url.partition("//")[2].partition("@")[0]
    cloud.box.faults.once("launch", Fault.UNAUTHORIZED)
    cloud.box.faults.once("list", Fault.UNAUTHORIZED)
    request = launch_request(cloud.offer)
    with pytest.raises(Unauthorized, match="check the AWS credentials") as refused:
        cloud.provider.launch(request)
    with pytest.raises(Unreachable, match="check the AWS credentials") as unlisted:
        cloud.provider.list_instances()
    for text in (repr(cloud.provider), str(refused.value), str(unlisted.value)):
        assert key not in text
        assert request.boot_token not in text


def test_no_answer_at_all_is_unreachable(cloud: AwsCloud) -> None:
    """Every method says so, and none says that there is nothing."""
    cloud.provider.list_instances()
    cloud.box.faults.down = True
    calls: list[Callable[[], object]] = [
        cloud.provider.list_instances,
        lambda: cloud.provider.launch(launch_request(cloud.offer)),
        lambda: cloud.provider.terminate("hello-0000-0-1", ""),
        lambda: cloud.provider.read_log("hello-0000-0-1", "", 1),
        lambda: cloud.provider.leftovers(frozenset()),
    ]
    for call in calls:
        with pytest.raises(Unreachable, match="AWS did not answer"):
            call()


# --- regions


def test_a_region_that_cannot_be_listed_hides_all(cloud: AwsCloud) -> None:
    """A machine's absence from a part of the list would prove its end."""
    cloud.provider.launch(launch_request(cloud.offer))
    cloud.box.faults.once("list", Fault.SERVER_ERROR)
    with pytest.raises(Unreachable, match="InternalError"):
        cloud.provider.list_instances()
    assert len(cloud.provider.list_instances()) == 1


def test_regions_that_the_account_has_not_enabled_are_left_out(cloud: AwsCloud) -> None:
    """They refuse every call, so one of them would hide all machines for ever. Once enabled they are used."""
    cloud.box.disabled_regions = {"us-west-2"}
    elsewhere = launch_request(replace(cloud.offer, location=Location("aws", "us-west-2", "usw2-az1")))
    assert cloud.provider.list_instances() == ()
    with pytest.raises(QuotaExceeded, match="us-west-2 is not enabled"):
        cloud.provider.launch(elsewhere)
    another = cloud.another()
    another.list_instances()
    cloud.box.disabled_regions = set()
    launched = another.launch(elsewhere)  # in another process, whose machines this one's list must not go without
    assert [each.id for each in cloud.provider.list_instances()] == [launched.id]


def test_without_a_choice_every_enabled_region_is_looked_at(cloud: AwsCloud) -> None:
    """So that no machine is forgotten."""
    enabled = {"eu-west-1", "us-east-1"}
    cloud.box.enable_only(*enabled)
    cloud.box.requests.clear()
    cloud.another(regions=()).list_instances()
    assert {region for region, action, _ in cloud.box.requests if action == "DescribeInstances"} == enabled


@pytest.mark.parametrize("regions", [("us-esat-1",), ("us-west-2",), ("us-west-2", "us-esat-1")])
def test_regions_say_where_to_launch_and_hide_no_machine(cloud: AwsCloud, regions: tuple[str, ...]) -> None:
    """A name that is none, or fewer names than before, and what runs elsewhere is still listed, read and ended."""
    request = launch_request(cloud.offer)
    launched = cloud.provider.launch(request)
    assert [each.id for each in cloud.another(regions=regions).list_instances()] == [launched.id]
    with pytest.raises(QuotaExceeded, match="us-east-1 is not enabled in this account, or not among"):
        cloud.another(regions=regions).launch(launch_request(cloud.offer))
    cloud.another(regions=regions).terminate(request.replica.id, launched.id)
    assert [booked.running for booked in cloud.box.machines()] == [False]


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "AuthFailure", "OptInRequired"])
def test_a_region_closed_by_policy_blocks_nothing_once_it_is_not_wanted(cloud: AwsCloud, code: str) -> None:
    """Where machines are to be launched a refusal hides all, and names the region; elsewhere it is as good as disabled."""
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.box.forbid("us-west-2", code)
    with pytest.raises(Unreachable, match=f"DescribeInstances in us-west-2: {code}"):
        cloud.provider.list_instances()
    narrowed = cloud.another(regions=("us-east-1",))
    assert [each.id for each in narrowed.list_instances()] == [launched.id]
    cloud.box.forbid("us-east-1", code)
    with pytest.raises(Unreachable, match=f"in us-east-1: {code}"):
        narrowed.list_instances()
    with pytest.raises(Unreachable, match=code):
        cloud.another(regions=("us-esat-1",)).list_instances()


def test_a_region_that_is_away_keeps_no_machine_of_another(cloud: AwsCloud) -> None:
    """It is found by its id where it is, by a process that has never listed it; by its tag alone all must answer."""
    request = launch_request(cloud.offer)
    launched = cloud.provider.launch(request)
    cloud.box.forbid("us-west-2", "Unavailable")
    with pytest.raises(Unreachable, match="in us-west-2: Unavailable"):
        cloud.another().terminate(request.replica.id, "")
    with pytest.raises(Unreachable, match="in us-west-2: Unavailable"):
        cloud.another().terminate(request.replica.id, "i-0123456789abcdef0")
    cloud.another().terminate(request.replica.id, launched.id)
    assert [booked.running for booked in cloud.box.machines()] == [False]


# --- lists


def test_all_pages_are_read(cloud: AwsCloud) -> None:
    """However few machines EC2 gives at once."""
    launched = {cloud.provider.launch(launch_request(cloud.offer)).id for _ in range(5)}
    cloud.box.page_size = 2
    assert {each.id for each in cloud.provider.list_instances()} == launched
    assert len(sent(cloud, "DescribeInstances")) == 3 + 1  # us-west-2 has nothing


def test_each_state_of_a_machine_has_its_word(cloud: AwsCloud) -> None:
    """PENDING without an address, RUNNING with one, STOPPING, GONE; gone ones are listed for an hour."""
    cloud.box.faults.operation_s = 20.0
    launched = cloud.provider.launch(launch_request(cloud.offer))
    address = cloud.paper.running[launched.id]
    seen = [launched, *cloud.provider.list_instances()]
    cloud.clock.advance(20)
    seen += cloud.provider.list_instances()
    cloud.provider.terminate(launched.replica_id, launched.id)
    seen += cloud.provider.list_instances()
    cloud.clock.advance(20)
    seen += cloud.provider.list_instances()
    words = [(each.status, bool(each.url), each.created_at) for each in seen]
    assert words == [
        (InstanceStatus.PENDING, False, START),
        (InstanceStatus.PENDING, False, START),
        (InstanceStatus.RUNNING, True, START),
        (InstanceStatus.STOPPING, False, START),
        (InstanceStatus.GONE, False, START),
    ]
    assert seen[2].url == agent_url(address)
    cloud.clock.advance(3601)
    assert cloud.provider.list_instances() == ()


def test_a_young_machine_that_ec2_has_not_heard_of_is_terminated_later(cloud: AwsCloud) -> None:
    """NotFound does not mean gone: it is no error, and the machine is listed within the lag that the provider owns up to."""
    cloud.box.faults.list_lag_s = cloud.provider.listing_lag_s
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.terminate(launched.replica_id, launched.id)
    cloud.another().terminate(launched.replica_id, "")
    assert cloud.provider.list_instances() == ()
    assert [booked.running for booked in cloud.box.machines()] == [True]
    cloud.clock.advance(cloud.provider.listing_lag_s)
    [listed] = cloud.provider.list_instances()
    cloud.provider.terminate(listed.replica_id, listed.id)
    assert [booked.running for booked in cloud.box.machines()] == [False]


def test_every_machine_of_a_replica_is_terminated(cloud: AwsCloud) -> None:
    """By tag, in whatever region, also if there should be two."""
    first, second = (launch_request(cloud.offer, "hello-0001-0-1") for _ in range(2))
    cloud.provider.launch(first)
    cloud.provider.launch(replace(second, replica=replace(second.replica, offer=WEST)))
    cloud.another().terminate("hello-0001-0-1", "")
    assert [booked.running for booked in cloud.box.machines()] == [False, False]


# --- interruptions


def test_a_preempted_machine_is_announced_taken_and_listed_as_such(cloud: AwsCloud) -> None:
    """The warning says when, two minutes ahead; afterwards the list says who did it."""
    heard: list[dict[str, Any]] = []
    launched = cloud.provider.launch(launch_request(offer(spot=True)))
    cloud.provider.list_instances()
    cloud.box.on_event = heard.append
    cloud.box.recommend_rebalance(launched.id)
    cloud.box.preempt(launched.id, 120.0)
    [before] = cloud.provider.list_instances()
    cloud.clock.advance(120)
    [after] = cloud.provider.list_instances()

    assert (before.status, before.preempted) == (InstanceStatus.RUNNING, False)
    assert (after.status, after.preempted) == (InstanceStatus.GONE, True)
    until(lambda: len(heard) >= 4)
    assert [_notice(event) for event in heard if event["detail"].get("state") not in ("pending", "running")] == [
        InterruptionNotice("aws", NoticeKind.REBALANCE, START, instance_id=launched.id),
        InterruptionNotice("aws", NoticeKind.INTERRUPTION, START + 120, instance_id=launched.id),
        InterruptionNotice("aws", NoticeKind.ENDED, START + 120, instance_id=launched.id),
        InterruptionNotice("aws", NoticeKind.ENDED, START + 120, instance_id=launched.id),
    ]


def test_a_machine_that_dies_by_itself_was_not_preempted(cloud: AwsCloud) -> None:
    """The cloud did not take it."""
    launched = cloud.provider.launch(launch_request(offer(spot=True)))
    cloud.box.kill(launched.id)
    [seen] = cloud.provider.list_instances()
    assert (seen.status, seen.preempted) == (InstanceStatus.GONE, False)


def _notice(event: dict[str, Any]) -> InterruptionNotice | None:
    time = datetime.fromisoformat(event["time"]).timestamp()
    return interruption.notice(event["detail-type"], event["detail"], time)


@pytest.mark.parametrize("state", ["pending", "running"])
def test_a_machine_that_comes_is_no_notice(state: str) -> None:
    """Its agent will say so itself."""
    detail = {"instance-id": "i-abcd1111", "state": state}
    assert interruption.notice("EC2 Instance State-change Notification", detail, 0.0) is None


def test_understanding_an_event_loads_no_sdk() -> None:
    """The function that EventBridge wakes answers without a second of imports."""
    program = "import sys, chalicelib.providers.aws.interruption; print([m for m in ('boto3', 'botocore') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- what is left behind


def test_everything_left_behind_is_found_and_removed(cloud: AwsCloud) -> None:
    """Machines, disks and interfaces of no live replica; the group when none is left. Nothing of anybody else's."""
    kept = cloud.provider.launch(launch_request(cloud.offer))
    lost = cloud.provider.launch(launch_request(WEST))
    other = cloud.another_deployment().launch(launch_request(cloud.offer))
    tags: Any = [
        {"Key": "sailplane-deployment", "Value": "test"},
        {"Key": "sailplane-replica", "Value": "hello-0009-0-1"},
    ]
    ec2 = cloud.ec2()
    disk = ec2.create_volume(
        AvailabilityZone="us-east-1a", Size=9, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )["VolumeId"]
    nic = ec2.create_network_interface(
        SubnetId=ec2.describe_subnets()["Subnets"][0]["SubnetId"],
        TagSpecifications=[{"ResourceType": "network-interface", "Tags": tags}],
    )["NetworkInterface"]["NetworkInterfaceId"]

    found = cloud.provider.leftovers(frozenset({kept.replica_id}))
    assert {(each.kind, each.id, each.region, each.replica_id) for each in found} == {
        (LeftoverKind.MACHINE, lost.id, "us-west-2", lost.replica_id),
        (LeftoverKind.DISK, disk, "us-east-1", "hello-0009-0-1"),
        (LeftoverKind.NETWORK, nic, "us-east-1", "hello-0009-0-1"),
    }
    for each in (*found, *found):
        cloud.provider.remove(each)
    cloud.box.advance()
    assert cloud.provider.leftovers(frozenset({kept.replica_id})) == ()

    rest = cloud.provider.leftovers(frozenset())
    groups = [each for each in rest if each.kind is LeftoverKind.FIREWALL]
    assert {each.region for each in groups} == set(REGIONS)
    with pytest.raises(Unreachable, match="DependencyViolation"):
        cloud.provider.remove(next(each for each in groups if each.region == "us-east-1"))
    for each in rest:
        cloud.provider.remove(each)
    cloud.box.advance()
    assert cloud.provider.leftovers(frozenset()) == ()
    assert [booked.id for booked in cloud.box.machines() if booked.running] == [other.id]


# --- prices


def test_spot_prices_are_those_of_the_instant_by_zone_id(cloud: AwsCloud) -> None:
    """Every type and zone once, across pages, near what the catalog says, and moving."""
    usual = {
        (each.instance_type, each.location.zone): each.price_usd_per_hour
        for each in catalog.offers(["aws"])
        if each.location.region == "us-west-2" and each.capacity_type is CapacityType.SPOT
    }
    cloud.box.page_size = 7
    seen = list(spot_prices("us-west-2", cloud.ec2("us-west-2"), START))
    by_place = {(each.instance_type, each.zone): each.usd_per_hour for each in seen}
    assert len(by_place) == len(seen) > 7
    assert by_place.keys() == usual.keys()
    assert all(by_place[place] == pytest.approx(usual[place], rel=0.11) for place in usual)
    assert {each.region for each in seen} == {"us-west-2"}
    assert max(each.since for each in seen) <= START
    assert seen != list(spot_prices("us-west-2", cloud.ec2("us-west-2"), START - 86400))


def test_a_region_taken_out_of_use_keeps_no_machine(cloud: AwsCloud) -> None:
    """Its machines are found by the doctor and removed with their replicas, or they would be billed unseen."""
    request = launch_request(cloud.offer)
    launched = cloud.provider.launch(request)
    without = cloud.another(regions=("us-west-2",))
    assert launched.id in [each.id for each in without.leftovers(frozenset())]
    without.terminate(request.replica.id, launched.id)
    assert not [each for each in cloud.box.machines() if each.running]


def test_without_a_control_plane_the_users_own_credentials_find_the_machines(cloud: AwsCloud) -> None:
    """In every region, with type and age; removed on request. Of a cloud of which too little is said it says so."""
    lost = cloud.provider.launch(launch_request(WEST))
    cloud.another_deployment().launch(launch_request(cloud.offer))
    places = machines.Places(aws_endpoint=cloud.box.endpoint_url)
    eyes = machines.clouds(Deployment("test"), places, ("aws", "azure"))
    seen = eyes.leftovers()
    assert seen.unreachable == {"azure": "say where with --azure-subscription and --azure-resource-group"}
    (found,) = (one for one in seen.leftovers if one.kind is LeftoverKind.MACHINE)
    assert (found.id, found.region) == (lost.id, "us-west-2")
    assert re.fullmatch(r"g5\.2xlarge, \w+, started \d{4}-\d\d-\d\d \d\d:\d\d UTC", found.why)
    eyes.remove_leftovers([found])
    cloud.box.advance()
    assert [one.kind for one in eyes.leftovers().leftovers] == [LeftoverKind.FIREWALL]
