"""The `aws` provider: EC2 machines in the regions of one account, through boto3.

What it makes carries the tag `sailplane-deployment`; it lists and removes nothing else. Machines stand in each region's
default network, behind one security group that lets in the agent's port only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from chalicelib.errors import QuotaExceeded, Unreachable
from chalicelib.model import Instance, InstanceStatus, LaunchRequest, Leftover, LeftoverKind
from chalicelib.ports import Clock
from chalicelib.providers.aws import errors, machine
from chalicelib.providers.aws.clients import Clients
from chalicelib.providers.aws.machine import DEPLOYMENT_TAG, REPLICA_TAG, SERVICE_TAG
from chalicelib.providers.boot import AGENT_PORT, agent_url, user_data

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef, TagTypeDef

T = TypeVar("T")

# More than an account has enabled as a rule (17): all wait at once, so a list takes as long as the slowest region.
_REGIONS_AT_ONCE = 20
_HOME = "us-east-1"  # enabled in every account; where the account is asked which others are
_PAGE = 1000  # the most that EC2 gives at once

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
_STATUS = {
    "pending": InstanceStatus.PENDING,
    "running": InstanceStatus.RUNNING,
    "shutting-down": InstanceStatus.STOPPING,
    "stopping": InstanceStatus.STOPPING,
    # Nothing of ours stops by itself, and nobody is ending it: its disk is billed until it is terminated.
    "stopped": InstanceStatus.RUNNING,
    "terminated": InstanceStatus.GONE,
}
_PREEMPTED = ("Server.SpotInstanceTermination", "Server.SpotInstanceShutdown")
_INGRESS: Any = {
    "IpProtocol": "tcp",
    "FromPort": AGENT_PORT,
    "ToPort": AGENT_PORT,
    "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
}


class AwsProvider:
    """`ports.Provider` and `ports.Janitor` over EC2.

    `regions` are those to launch in, as far as the account has enabled them; empty: all of those. Machines are looked for in
    every region that the account has enabled: one may have been taken out of `regions` while machines run there.
    `control_url` is where machines reach the control plane. See `Clients` for `endpoint_url`.
    """

    name = "aws"
    # EC2 says "eventually consistent" and gives no bound; its guide has clients wait up to five minutes
    # (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html). Costs nothing: a machine that is gone
    # stays listed as terminated for an hour, so few are ever given up for being absent.
    listing_lag_s = 300.0

    def __init__(
        self,
        *,
        deployment: str,
        control_url: str,
        clock: Clock,
        regions: tuple[str, ...] = (),
        endpoint_url: str | None = None,
    ) -> None:
        self._deployment = deployment
        self._control_url = control_url
        self._clock = clock
        self._wanted = frozenset(regions)
        self._clients = Clients(endpoint_url)
        # What may be forgotten: each is asked for again when missing.
        self._enabled: tuple[str, ...] = ()
        self._groups: dict[str, str] = {}
        self._root_devices: dict[tuple[str, str], str] = {}
        self._region_of: dict[str, str] = {}

    def list_instances(self) -> tuple[Instance, ...]:
        with errors.reaching():
            # Anew each time: another process may have launched in a region that was enabled since.
            self._ask_regions()
            found = list(self._in_all(lambda region: self._seen(region, ())))
            self._region_of.update({each["InstanceId"]: region for region, each in found})
            return tuple(_instance(each) for _, each in found)

    def launch(self, request: LaunchRequest) -> Instance:
        region = request.replica.offer.location.region
        with errors.launching():
            self._require(region)
            image = machine.image_of(request.replica)
            parameters = machine.parameters(
                self._deployment,
                request,
                user_data("aws", self._control_url, request),
                image=image,
                root_device=machine.root_device(image) or self._root_device(region, image),
                group_id=self._group(region),
            )
            try:
                answer = self._clients.ec2(region).run_instances(**parameters)
            except ClientError as error:
                return self._known(request, error)
            launched = answer["Instances"][0]
            self._region_of[launched["InstanceId"]] = region
            return _instance(launched)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        with errors.reaching():
            for region, machine_id in self._find(replica_id, instance_id):
                try:
                    self._clients.ec2(region).terminate_instances(InstanceIds=[machine_id])
                except ClientError as error:
                    # Gone long ago, or so young that this part of EC2 has not heard of it: then it is listed, later, and
                    # terminated again.
                    if errors.code(error) != "InvalidInstanceID.NotFound":
                        raise

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        with errors.reaching():
            for region, machine_id in self._find(replica_id, instance_id):
                try:
                    answer = self._clients.ec2(region).get_console_output(InstanceId=machine_id, Latest=True)
                except ClientError as error:
                    # `Latest` is for Nitro machines only.
                    if errors.code(error) not in ("InvalidInstanceID.NotFound", "UnsupportedOperation"):
                        raise
                    continue
                if text := answer.get("Output"):
                    return "".join(f"{line}\n" for line in text.splitlines()[-tail:]) if tail else ""
        return None

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        with errors.reaching():
            self._ask_regions()
            found = [each for _, each in self._in_all(self._ours)]
        return tuple(each for each in found if each.replica_id not in live and (each.replica_id or not live))

    def remove(self, leftover: Leftover) -> None:
        client = self._clients.ec2(leftover.region)
        removals: Mapping[LeftoverKind, Callable[[], object]] = {
            LeftoverKind.MACHINE: lambda: client.terminate_instances(InstanceIds=[leftover.id]),
            LeftoverKind.DISK: lambda: client.delete_volume(VolumeId=leftover.id),
            LeftoverKind.NETWORK: lambda: client.delete_network_interface(NetworkInterfaceId=leftover.id),
            LeftoverKind.FIREWALL: lambda: client.delete_security_group(GroupId=leftover.id),
        }
        with errors.reaching():
            try:
                removals[leftover.kind]()
            except ClientError as error:
                if not errors.code(error).endswith(".NotFound"):
                    raise
        if leftover.kind is LeftoverKind.FIREWALL:
            self._groups.pop(leftover.region, None)

    # --- regions

    def _ask_regions(self) -> None:
        """Which regions the account has enabled. Others refuse every call, and one that refuses would hide all."""
        answer = self._clients.ec2(_HOME).describe_regions()
        self._enabled = tuple(sorted(region["RegionName"] for region in answer["Regions"]))

    def _is_to_launch(self, region: str) -> bool:
        return region in self._enabled and (not self._wanted or region in self._wanted)

    def _require(self, region: str) -> None:
        if not self._is_to_launch(region):
            self._ask_regions()
        if not self._is_to_launch(region):
            raise QuotaExceeded(
                f"AWS region {region} is not enabled in this account, or not among the control plane's regions; enable it under"
                " Account > AWS Regions"
            )

    def _in_all(self, look: Callable[[str], Iterable[T]]) -> Iterator[tuple[str, T]]:
        """What `look` finds in each of the account's regions, all at once. Raises what it raises in any of them."""
        if not self._enabled:
            self._ask_regions()
        regions = self._enabled
        if not regions:  # nothing that was looked at nowhere may count as gone
            raise Unreachable("AWS says that this account has enabled no region")
        with ThreadPoolExecutor(_REGIONS_AT_ONCE) as pool:
            for region, found in zip(regions, pool.map(lambda region: list(look(region)), regions), strict=True):
                yield from ((region, each) for each in found)

    # --- machines

    def _described(self, region: str, filters: tuple[FilterTypeDef, ...]) -> Iterator[InstanceTypeDef]:
        pages = (
            self._clients.ec2(region)
            .get_paginator("describe_instances")
            .paginate(Filters=[self._our_tag(), *filters], PaginationConfig={"PageSize": _PAGE})
        )
        for page in pages:
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _seen(self, region: str, filters: tuple[FilterTypeDef, ...]) -> list[InstanceTypeDef]:
        """Our machines there. None where the account keeps us out and nothing is to be launched either.

        Organizations close regions by policy, and `regions` is how to live with that.
        """
        with errors.reaching(region):
            try:
                return list(self._described(region, filters))
            except ClientError as error:
                # One that is launched in answers for our credentials: where those are refused, nothing may count as gone.
                is_other = any(map(self._is_to_launch, self._enabled)) and not self._is_to_launch(region)
                if is_other and errors.code(error) in errors.CLOSED:
                    return []
                raise

    def _find(self, replica_id: str, instance_id: str) -> list[tuple[str, str]]:
        """Region and id of the machine, which a region that does not answer hides no other's, or of every one with the tag."""
        if region := self._region_of.get(instance_id):
            return [(region, instance_id)]
        tagged: tuple[FilterTypeDef, ...] = ({"Name": f"tag:{REPLICA_TAG}", "Values": [replica_id]},)
        failed: list[Unreachable] = []

        def look(region: str) -> list[InstanceTypeDef]:
            try:
                return self._seen(region, tagged)
            except Unreachable as error:
                failed.append(error)
                return []

        found = [(region, each["InstanceId"]) for region, each in self._in_all(look)]
        if instance_id:
            found = [each for each in found if each[1] == instance_id]
        if failed and not (instance_id and found):
            raise failed[0]
        return found

    def _known(self, request: LaunchRequest, error: ClientError) -> Instance:
        """The machine that an earlier call with this token has started; otherwise raise what EC2 said."""
        name = errors.code(error)
        region = request.replica.offer.location.region
        if name == "InvalidGroup.NotFound":
            self._groups.pop(region, None)  # somebody removed it; the next attempt makes it again
        if name not in ("IdempotentParameterMismatch", "IdempotentInstanceTerminated"):
            raise error
        tagged: tuple[FilterTypeDef, ...] = ({"Name": f"tag:{REPLICA_TAG}", "Values": [request.replica.id]},)
        for each in self._described(region, tagged):
            return _instance(each)
        if name == "IdempotentInstanceTerminated":
            replica = request.replica
            return Instance(self.name, "", replica.id, replica.service, InstanceStatus.GONE, self._clock.now())
        # Only a launch that succeeded makes a token known, so there is a machine and it will be listed.
        raise Unreachable(
            f"AWS started {request.replica.id} before, by other parameters, and does not list it yet"
        ) from error

    def _root_device(self, region: str, image: str) -> str:
        if (region, image) not in self._root_devices:
            answer = self._clients.ec2(region).describe_images(ImageIds=[image])
            self._root_devices[region, image] = answer["Images"][0]["RootDeviceName"]
        return self._root_devices[region, image]

    # --- the security group

    def _group(self, region: str) -> str:
        if region not in self._groups:
            self._groups[region] = self._open_group(self._clients.ec2(region))
        return self._groups[region]

    def _open_group(self, client: EC2Client) -> str:
        """The deployment's security group, made if there is none, open for the agent. Any number may do this at once."""
        name = f"sailplane-{self._deployment}"
        found = self._find_group(client, name) or self._make_group(client, name) or self._find_group(client, name)
        if not found:
            raise Unreachable(f"AWS says there is a security group {name}, but does not list it with our tag (yet)")
        try:
            client.authorize_security_group_ingress(GroupId=found, IpPermissions=[_INGRESS])
        except ClientError as error:
            if errors.code(error) != "InvalidPermission.Duplicate":
                raise
        return found

    def _find_group(self, client: EC2Client, name: str) -> str:
        answer = client.describe_security_groups(Filters=[self._our_tag(), {"Name": "group-name", "Values": [name]}])
        return next((group["GroupId"] for group in answer["SecurityGroups"]), "")

    def _make_group(self, client: EC2Client, name: str) -> str:
        """Its id; empty when another was faster. Made with its tag at once, in the default network."""
        try:
            return client.create_security_group(
                GroupName=name,
                Description="Sailplane replicas: the agent's port",
                TagSpecifications=[
                    {"ResourceType": "security-group", "Tags": [{"Key": DEPLOYMENT_TAG, "Value": self._deployment}]}
                ],
            )["GroupId"]
        except ClientError as error:
            if errors.code(error) != "InvalidGroup.Duplicate":
                raise
            return ""

    # --- what would be left

    def _ours(self, region: str) -> Iterator[Leftover]:
        """Everything of this deployment in a region that is not part of something else."""
        client, tag = self._clients.ec2(region), self._our_tag()
        free: FilterTypeDef = {"Name": "status", "Values": ["available"]}

        def leftover(kind: LeftoverKind, of: str, why: str, tags: list[TagTypeDef]) -> Leftover:
            # Interfaces and groups are free of charge; what a machine or a disk costs depends on more than is known here.
            usd = 0.0 if kind in (LeftoverKind.NETWORK, LeftoverKind.FIREWALL) else None
            return Leftover(self.name, kind, of, region, why, _tag(tags, REPLICA_TAG), usd)

        for each in self._described(region, ()):
            if _STATUS[each["State"]["Name"]] is not InstanceStatus.GONE:
                since = each["LaunchTime"].astimezone(UTC)
                why = f"{each['InstanceType']}, {each['State']['Name']}, started {since:%Y-%m-%d %H:%M} UTC"
                yield leftover(LeftoverKind.MACHINE, each["InstanceId"], why, each["Tags"])
        for volumes in client.get_paginator("describe_volumes").paginate(Filters=[tag, free]):
            for volume in volumes["Volumes"]:
                why = f"{volume['Size']} GiB, attached to nothing"
                yield leftover(LeftoverKind.DISK, volume["VolumeId"], why, volume["Tags"])
        for interfaces in client.get_paginator("describe_network_interfaces").paginate(Filters=[tag, free]):
            for nic in interfaces["NetworkInterfaces"]:
                yield leftover(LeftoverKind.NETWORK, nic["NetworkInterfaceId"], "attached to nothing", nic["TagSet"])
        for groups in client.get_paginator("describe_security_groups").paginate(Filters=[tag]):
            for group in groups["SecurityGroups"]:
                yield leftover(LeftoverKind.FIREWALL, group["GroupId"], "no replica is left to need it", [])

    def _our_tag(self) -> FilterTypeDef:
        return {"Name": f"tag:{DEPLOYMENT_TAG}", "Values": [self._deployment]}


def _instance(seen: InstanceTypeDef) -> Instance:
    status, tags = _STATUS[seen["State"]["Name"]], seen["Tags"]
    return Instance(
        provider="aws",
        id=seen["InstanceId"],
        replica_id=_tag(tags, REPLICA_TAG),
        service=_tag(tags, SERVICE_TAG),
        status=status,
        created_at=seen["LaunchTime"].timestamp(),
        # Not earlier: a machine has its private address first, which a public one then replaces.
        url=agent_url(seen.get("PublicIpAddress") or seen["PrivateIpAddress"])
        if status is InstanceStatus.RUNNING
        else "",
        preempted=seen.get("StateReason", {}).get("Code") in _PREEMPTED,
    )


def _tag(tags: list[TagTypeDef], key: str) -> str:
    return next((tag["Value"] for tag in tags if tag["Key"] == key), "")
