"""EC2 in a box: moto's EC2, spoken to by the real SDK over HTTP, with what moto lacks in front of it.

Every request is checked against EC2's published contract, its credentials looked at, its fault (if one is due) applied;
then it is answered here, or handed to moto and the answer set right. One at a time: looking whether there is room, or whether a
token is known, and using it are one step.
"""

from __future__ import annotations

import base64
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

from flask import Flask
from moto.ec2.models import ec2_backends
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend
from moto.ec2.models.instances import InstanceState, StateReason
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.test import Client

from chalicelib.ports import Clock
from tests.clouds.aws import events, market
from tests.clouds.aws.machine import Machine, stamp
from tests.clouds.aws.requests import Refused, parameters, service
from tests.clouds.aws.wire import Answer, error, serve, text_of, without, xml
from tests.clouds.box import Booked, Fault, Faults, Hypervisor

_WORDS = {"RunInstances": "launch", "DescribeInstances": "list", "TerminateInstances": "terminate"}
_STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}
_IOPS_PER_GIB = {"gp3": 500, "io1": 50, "io2": 1000}
_HISTORY_S = 90 * 86400.0  # of spot prices, for who names no instant
_SHOWN_S = 3600.0  # how long a terminated machine stays in lists
_USER_DATA_BYTES = 16384
_DEAD = ("shutting-down", "terminated")
_CALL = "Client.UserInitiatedShutdown"
_SPOT = "Server.SpotInstanceTermination"
_POWER_OFF = "Client.InstanceInitiatedShutdown"


class AwsBox:
    """`tests.clouds.box.Box`. `on_event` receives what EventBridge would, in the thread that caused it, after its answer."""

    name = "aws"

    def __init__(
        self,
        hypervisor: Hypervisor,
        clock: Clock,
        port: int = 0,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.faults = Faults()
        self.disabled_regions: set[str] = set()  # as those that an account has to opt in to
        self._forbidden: dict[str, str] = {}  # regions that refuse to say which machines they have, with the code
        self.page_size = 1000  # the most reservations in an answer
        self.on_event = on_event
        # Region, action and parameters of the last ones that were understood.
        self.requests: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=1000)
        self._hypervisor, self._clock = hypervisor, clock
        # moto keeps everything of an account in this process' memory; an account of its own is what isolates a box.
        self._account = f"{secrets.randbelow(10**12):012d}"
        self._model = service()
        self._moto = Client(_moto())
        self._lock = threading.RLock()
        self._machines: dict[str, Machine] = {}
        self._tokens: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        self._canned: list[tuple[str, Refused]] = []
        self._events: list[dict[str, Any]] = []
        self._all_regions: Answer | None = None
        self._key = secrets.token_hex(10)
        self._server = serve(self.answer, self._deliver, port)
        self.endpoint_url = f"http://{self._key}@127.0.0.1:{self._server.server_port}"

    # --- tests.clouds.box.Box

    def machines(self) -> list[Booked]:
        with self._lock:
            self._advance()
            return [
                Booked(each.id, each.replica_id, each.region, each.zone_id, each.spot, each.record.state not in _DEAD)
                for each in self._machines.values()
            ]

    def preempt(self, machine_id: str, notice_s: float) -> None:
        with self._lock:
            machine = self._machines[machine_id]
            assert machine.spot, f"{machine_id} is on demand: EC2 does not take it"
            machine.interruption_at = self._clock.now() + notice_s
            self._events.append(events.interruption_warning(self._account, machine))
        self._deliver()

    def kill(self, machine_id: str) -> None:
        with self._lock:
            self._end(self._machines[machine_id], _POWER_OFF)
        self._deliver()

    def advance(self) -> None:
        with self._lock:
            self._advance()
        self._deliver()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for machine_id in self._machines:
            self._hypervisor.destroy(machine_id)
        ec2_backends.pop(self._account, None)

    # --- more than every box has

    def enable_only(self, *regions: str) -> None:
        """Let the account have these regions. Of moto's 38 each that is looked in costs 0.1 s, a client and a network."""
        self.disabled_regions = {region.name for region in RegionsAndZonesBackend.regions} - {*regions}

    def recommend_rebalance(self, machine_id: str) -> None:
        """The machine is at elevated risk."""
        with self._lock:
            machine = self._machines[machine_id]
            machine.rebalance_at = self._clock.now()
            self._events.append(events.rebalance_recommendation(self._account, machine))
        self._deliver()

    def register_image(self, region: str, root_device: str, architecture: str = "x86_64") -> str:
        """Make an AMI of the account's own; its id."""
        image = ec2_backends[self._account][region].register_image("own")
        image.root_device_name, image.architecture = root_device, architecture
        return str(image.id)

    def refuse_once(self, action: str, code: str, message: str, status: int = 400) -> None:
        """Let the next call of an action be answered with an error; nothing is done."""
        self._canned.append((action, Refused(code, message, status)))

    def forbid(self, region: str, code: str) -> None:
        """Let a region that the account has enabled refuse to list machines from now on, as an organization's policy can."""
        self._forbidden[region] = code

    # --- a request

    def answer(self, authorization: str, body: str) -> Answer | None:
        """Status and XML; None: break off the connection."""
        if self.faults.down:
            return None
        if self.faults.answer_after_s:
            time.sleep(self.faults.answer_after_s)
        form = dict(parse_qsl(body, keep_blank_values=True))
        action = form.get("Action", "")
        fault = self.faults.take(action, _WORDS.get(action, action))
        try:
            with self._lock:
                answer = self._guarded(fault, authorization, form)
                if fault is Fault.DUPLICATED:
                    answer = self._guarded(None, authorization, form)
        except Refused as refused:
            answer = refused.status, error(refused)
        return None if fault is Fault.LOST_RESPONSE else answer

    def _guarded(self, fault: Fault | None, authorization: str, form: dict[str, str]) -> Answer:
        region = self._signed_for(fault, authorization)
        if fault is Fault.THROTTLED:
            raise Refused("RequestLimitExceeded", "Request limit exceeded.", 503)
        if fault is Fault.SERVER_ERROR:
            raise Refused("InternalError", "An internal error has occurred", 500)
        if region in self._forbidden and form["Action"] == "DescribeInstances":
            raise Refused(self._forbidden[region], "Not here", 403)
        read = parameters(self._model, form)
        for index, (action, refusal) in enumerate(self._canned):
            if action == form["Action"]:
                del self._canned[index]
                raise refusal
        self._advance()
        self.requests.append((region, form["Action"], read))
        return self._acted(region, form, read)

    def _signed_for(self, fault: Fault | None, authorization: str) -> str:
        """The region of a signature (`… Credential=<key>/<date>/<region>/ec2/aws4_request, …`)."""
        key, _date, region = [*authorization.partition("Credential=")[2].split("/"), "", "", ""][:3]
        if fault is Fault.UNAUTHORIZED or key != self._key or region in self.disabled_regions:
            raise Refused("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        return region

    def _acted(self, region: str, form: dict[str, str], read: dict[str, Any]) -> Answer:
        answers = {
            "RunInstances": self._run,
            "DescribeInstances": self._describe,
            "TerminateInstances": self._terminate,
            "GetConsoleOutput": self._console,
            "DescribeSpotPriceHistory": self._prices,
            "DescribeRegions": self._regions,
            "DeleteSecurityGroup": self._delete_group,
        }
        if answer := answers.get(form["Action"]):
            return answer(region, form, read)
        return self._by_moto(region, form)

    def _by_moto(self, region: str, form: Mapping[str, str]) -> Answer:
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential=box/20260101/{region}/ec2/aws4_request",
            "X-Moto-Account-Id": self._account,
        }
        answer = self._moto.post("/", headers=headers, data=dict(form))
        return answer.status_code, answer.data

    # --- launching

    def _run(self, region: str, form: dict[str, str], read: dict[str, Any]) -> Answer:
        token = (region, read.get("ClientToken", secrets.token_hex(8)))
        if token in self._tokens:
            before, machine_id = self._tokens[token]
            if before != read:
                raise Refused("IdempotentParameterMismatch", "The client token is known, with different parameters")
            return self._launched(region, machine_id)
        zone, zone_id = self._placed(region, read)
        image = self._image(region, read)
        _check_image(read, image)
        user_data = _user_data(read)
        _check_tags(read)
        spot = read.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        self._check_room(region, zone_id, spot=spot)

        form = {**form, "ImageId": image.id, "Placement.AvailabilityZone": zone}
        form.setdefault("BlockDeviceMapping.1.Ebs.VolumeSize", str(image.size_gib))
        form.pop("Placement.AvailabilityZoneId", None)
        form.pop("BlockDeviceMapping.1.Ebs.VolumeType", None)  # moto loses the Iops that it then asks for
        # Or moto draws an RSA key of 2,048 bits, 0.2 s of work, for the first disk of every region.
        ec2_backends[self._account][region].default_kms_key_id = "alias/aws/ebs"
        status, body = self._by_moto(region, form)
        if status != 200:
            return status, body
        machine_id = text_of(ET.fromstring(body), ".//{*}instanceId")  # noqa: S314 moto's
        tags = _tags_of(read, "instance")
        machine = Machine(
            id=machine_id,
            region=region,
            zone=zone,
            zone_id=zone_id,
            spot=spot,
            replica_id=tags.get("sailplane-replica", ""),
            user_data=user_data,
            launched_at=self._clock.now(),
            record=ec2_backends[self._account][region].get_instance(machine_id),
        )
        self._furnish(machine, _tags_of(read, "network-interface"))
        self._machines[machine_id] = machine
        self._tokens[token] = (read, machine_id)
        machine.address = self._hypervisor.boot(machine_id, user_data, machine.metadata)
        machine.booted.set()
        return self._launched(region, machine_id)

    def _launched(self, region: str, machine_id: str) -> Answer:
        """RunInstances' answer: the one reservation that DescribeInstances has of it."""
        _, body = self._by_moto(region, {"Action": "DescribeInstances", "InstanceId.1": machine_id})
        reservation = ET.fromstring(body).find("{*}reservationSet/{*}item")  # noqa: S314 moto's
        assert reservation is not None
        reservation.tag = "RunInstancesResponse"
        return 200, ET.tostring(reservation)

    def _placed(self, region: str, read: dict[str, Any]) -> tuple[str, str]:
        """Name and id of the zone; the first one that has the type when none is asked for."""
        placement, kind = read.get("Placement", {}), read.get("InstanceType", "m1.small")
        zones = ec2_backends[self._account][region].describe_availability_zones()
        named = [
            zone
            for zone in zones
            if zone.zone_id == placement.get("AvailabilityZoneId", zone.zone_id)
            and zone.name == placement.get("AvailabilityZone", zone.name)
        ]
        if not named:
            raise Refused("InvalidParameterValue", f"Invalid availability zone: [{next(iter(placement.values()))}]")
        for zone in named:
            if market.is_offered(kind, region, zone.zone_id):
                return zone.name, zone.zone_id
        raise Refused(
            "Unsupported",
            f"Your requested instance type ({kind}) is not supported in your requested Availability Zone.",
        )

    def _image(self, region: str, read: dict[str, Any]) -> market.Image:
        name = str(read.get("ImageId", ""))
        if not name.startswith("resolve:ssm:"):
            found = ec2_backends[self._account][region].describe_images(filters={"image-id": name})
            if not found:
                raise Refused("InvalidAMIID.NotFound", f"The image id '[{name}]' does not exist")
            return market.Image(name, found[0].architecture or "x86_64", size_gib=8)
        image = market.public_image(region, name.removeprefix("resolve:ssm:"))
        if image is None:
            raise Refused("InvalidParameterValue", f"The Systems Manager parameter {name} does not exist")
        return image

    def _check_room(self, region: str, zone_id: str, *, spot: bool) -> None:
        alive = [each for each in self._machines.values() if each.record.state not in _DEAD]
        for zone in ("", zone_id):
            room = self.faults.capacity.get(zone)
            if room is not None and sum(zone in ("", each.zone_id) for each in alive) >= room:
                raise Refused(
                    "InsufficientInstanceCapacity", f"We currently do not have sufficient capacity in {zone_id}.", 500
                )
        for place in ("", region):
            quota = self.faults.quota.get(place)
            if quota is not None and sum(place in ("", each.region) for each in alive) >= quota:
                code = "MaxSpotInstanceCountExceeded" if spot else "VcpuLimitExceeded"
                raise Refused(code, f"You have requested more than your current limit of {quota} allows.")

    def _furnish(self, machine: Machine, nic_tags: dict[str, str]) -> None:
        """What moto leaves out of a new machine: its beginning, its interface's tags and end."""
        record = machine.record
        record.launch_time = datetime.fromtimestamp(machine.launched_at, UTC).replace(tzinfo=None)  # moto's are naive
        for nic in record.nics.values():
            nic.delete_on_termination = True
            nic.public_ip = None  # until it runs
            nic.add_tags(nic_tags)
        self._become(machine, "pending")

    # --- reading

    def _describe(self, region: str, form: dict[str, str], read: dict[str, Any]) -> Answer:
        for machine_id in read.get("InstanceIds", ()):
            self._visible(machine_id)
        if "InstanceIds" not in read:
            form = {**form, "MaxResults": str(min(read.get("MaxResults", self.page_size), self.page_size))}
        status, body = self._by_moto(region, form)

        def hidden(reservation: ET.Element) -> bool:
            return self._is_hidden(self._machines[text_of(reservation, ".//{*}instanceId")])

        return status, without(body, "reservationSet", hidden)

    def _is_hidden(self, machine: Machine) -> bool:
        now = self._clock.now()
        return now < machine.launched_at + self.faults.list_lag_s or (
            machine.ended_at is not None and now > machine.ended_at + _SHOWN_S
        )

    def _visible(self, machine_id: str) -> Machine:
        machine = self._machines.get(machine_id)
        if machine is None or self._is_hidden(machine):
            raise Refused("InvalidInstanceID.NotFound", f"The instance ID '{machine_id}' does not exist")
        return machine

    def _regions(self, region: str, form: dict[str, str], _read: dict[str, Any]) -> Answer:
        # Asked for before each list: moto takes 15 ms to write down what never changes.
        self._all_regions = self._all_regions or self._by_moto(region, form)
        status, body = self._all_regions
        return status, without(body, "regionInfo", lambda each: text_of(each, "regionName") in self.disabled_regions)

    def _console(self, _region: str, _form: dict[str, str], read: dict[str, Any]) -> Answer:
        machine = self._visible(read["InstanceId"])
        output = base64.b64encode(self._hypervisor.console(machine.id).encode()[-65536:]).decode()
        fields = {"instanceId": machine.id, "timestamp": stamp(self._clock.now()), "output": output}
        return 200, xml("GetConsoleOutputResponse", fields)

    def _prices(self, region: str, _form: dict[str, str], read: dict[str, Any]) -> Answer:
        now = self._clock.now()
        start, end = _instant(read.get("StartTime"), now - _HISTORY_S), _instant(read.get("EndTime"), now)
        zones = {each.zone_id: each.name for each in ec2_backends[self._account][region].describe_availability_zones()}
        history = (
            price
            for price in market.spot_history(region, start, min(end, now))
            if price.instance_type in read.get("InstanceTypes", (price.instance_type,)) and price.zone_id in zones
        )
        skip, size = int(read.get("NextToken") or 0), min(read.get("MaxResults", 1000), self.page_size)
        page = list(islice(history, skip, skip + size))
        items = [
            {
                "availabilityZone": zones[price.zone_id],
                "availabilityZoneId": price.zone_id,
                "instanceType": price.instance_type,
                "productDescription": "Linux/UNIX",
                "spotPrice": f"{price.usd_per_hour:.6f}",
                "timestamp": stamp(price.since),
            }
            for price in page
        ]
        token = str(skip + size) if len(page) == size else ""
        return 200, xml("DescribeSpotPriceHistoryResponse", {"spotPriceHistorySet": items, "nextToken": token})

    # --- ending

    def _terminate(self, _region: str, _form: dict[str, str], read: dict[str, Any]) -> Answer:
        changes = []
        for machine in [self._visible(machine_id) for machine_id in read["InstanceIds"]]:
            before = machine.record.state
            self._end(machine, _CALL)
            after = machine.record.state
            changes.append(
                {
                    "instanceId": machine.id,
                    "currentState": {"code": str(_STATES[after]), "name": after},
                    "previousState": {"code": str(_STATES[before]), "name": before},
                }
            )
        return 200, xml("TerminateInstancesResponse", {"instancesSet": changes})

    def _end(self, machine: Machine, code: str) -> None:
        if machine.record.state in _DEAD:
            return
        self._hypervisor.destroy(machine.id)
        machine.record.terminate()
        machine.record._reason = f"{code} ({stamp(self._clock.now())})"
        machine.record.state_reason = StateReason(f"{code}: the machine is over", code)
        machine.ended_at = self._clock.now()
        self._become(machine, "shutting-down")

    def _delete_group(self, region: str, form: dict[str, str], read: dict[str, Any]) -> Answer:
        group_id = read.get("GroupId", "")
        for machine in self._machines.values():
            groups = [group.id for group in machine.record.security_groups]
            if machine.region == region and machine.record.state not in _DEAD and group_id in groups:
                raise Refused("DependencyViolation", f"resource {group_id} has a dependent object")
        return self._by_moto(region, form)

    # --- time and events

    def _advance(self) -> None:
        now = self._clock.now()
        for machine in self._machines.values():
            record = machine.record
            if record.state == "pending" and now >= machine.launched_at + self.faults.operation_s:
                for nic in record.nics.values():
                    nic.private_ip_address = nic.public_ip = machine.address
                self._become(machine, "running")
            if record.state in ("pending", "running"):
                if machine.interruption_at is not None and now >= machine.interruption_at:
                    self._end(machine, _SPOT)
                elif not self._hypervisor.is_running(machine.id):
                    self._end(machine, _POWER_OFF)
            ended_at = machine.ended_at
            if record.state == "shutting-down" and ended_at is not None and now >= ended_at + self.faults.operation_s:
                self._become(machine, "terminated")

    def _become(self, machine: Machine, state: str) -> None:
        machine.record._state = InstanceState(state, _STATES[state])
        self._events.append(events.state_change(self._account, machine, state, self._clock.now()))

    def _deliver(self) -> None:
        """Hand out the events, without the lock: whoever receives them will ask the box something."""
        while self.on_event is not None:
            with self._lock:
                if not self._events:
                    return
                event = self._events.pop(0)
            self.on_event(event)


@cache
def _moto() -> Flask:
    # Without the 1,301 images that every region of every account would begin with: 0.2 s each time.
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    return create_backend_app("ec2")  # takes a second


def _check_image(read: dict[str, Any], image: market.Image) -> None:
    if image.architecture not in (market.architectures(read["InstanceType"]) or (image.architecture,)):
        raise Refused(
            "InvalidParameterValue",
            f"The architecture '{image.architecture}' of the specified AMI does not match the instance type's",
        )
    for mapping in read.get("BlockDeviceMappings", ()):
        _check_disk(mapping["Ebs"], image)


def _check_disk(disk: dict[str, Any], image: market.Image) -> None:
    """https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html."""
    size_gib, iops = disk.get("VolumeSize", image.size_gib), disk.get("Iops")
    if size_gib < image.size_gib:
        raise Refused(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size_gib}GB is smaller than snapshot, expect size >= {image.size_gib}GB",
        )
    kind = disk.get("VolumeType", "gp2")
    per_gib = _IOPS_PER_GIB.get(kind)
    if per_gib is None and iops is not None:
        raise Refused("InvalidParameterCombination", f"The parameter iops is not supported for {kind} volumes.")
    if kind in ("io1", "io2") and iops is None:
        raise Refused("MissingParameter", "The parameter iops must be specified for io1 and io2 volumes")
    if per_gib is not None and iops is not None and iops > per_gib * size_gib:
        raise Refused("InvalidParameterCombination", "Iops to volume size ratio is too high")
    if disk.get("Throughput", 0) > 0.25 * (iops or 3000):
        raise Refused("InvalidParameterCombination", "Throughput (MiB/s) to iops ratio is too high")


def _user_data(read: dict[str, Any]) -> str:
    data = base64.b64decode(read.get("UserData", ""), validate=True)
    if len(data) > _USER_DATA_BYTES:
        raise Refused("InvalidParameterValue", "User data is limited to 16384 bytes")
    return data.decode()


def _check_tags(read: dict[str, Any]) -> None:
    for specification in read.get("TagSpecifications", ()):
        tags = specification.get("Tags", ())
        if len(tags) > 50:
            raise Refused("TagLimitExceeded", "The maximum number of tags for a resource is 50")
        for tag in tags:
            if tag["Key"].lower().startswith("aws:"):
                raise Refused("InvalidParameterValue", f"Tag keys starting with 'aws:' are reserved: {tag['Key']}")
            if not 1 <= len(tag["Key"]) <= 128 or len(tag.get("Value", "")) > 256:
                raise Refused("InvalidParameterValue", f"Tag {tag['Key'][:128]} is too long")


def _tags_of(read: dict[str, Any], kind: str) -> dict[str, str]:
    return {
        tag["Key"]: tag.get("Value", "")
        for specification in read.get("TagSpecifications", ())
        if specification["ResourceType"] == kind
        for tag in specification["Tags"]
    }


def _instant(text: str | None, otherwise: float) -> float:
    return datetime.fromisoformat(text).timestamp() if text else otherwise
