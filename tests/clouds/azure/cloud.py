"""Azure's own book: the resources of one resource group, and what happens to them as time passes.

Whoever calls holds `Cloud.lock`.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from functools import cache
from threading import RLock

from chalicelib import catalog
from chalicelib.ports import Clock
from tests.clouds.azure import metadata
from tests.clouds.azure.wire import Json, Refused
from tests.clouds.box import Booked, Faults, Hypervisor

_IMAGES = {
    "canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2",
    "canonical:ubuntu-24_04-lts:server",
    "canonical:ubuntu-24_04-lts:server-arm64",
    "microsoft-dsvm:ubuntu-hpc:2204",
    "microsoft-dsvm:ubuntu-hpc:2404",
    "microsoft-dsvm:ubuntu-hpc:2404-rocm",
}
_OWN_IMAGE = re.compile(r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/(images|galleries)/.+")


@dataclass
class Resource:
    """Something with an id. `owner` is the machine it came with or is used by; `kept` outlives that machine."""

    id: str
    type: str
    name: str
    location: str
    tags: Mapping[str, str]
    properties: Json
    owner: str = ""
    kept: bool = False

    def view(self) -> Json:
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "location": self.location,
            "tags": dict(self.tags),
            "properties": {**self.properties, "provisioningState": "Succeeded"},
        }


@dataclass
class Machine:
    """A virtual machine. `due` is when its pending operation ends, on the box's clock."""

    id: str
    name: str
    vm_id: str
    body: Json
    user_data: str
    created_at: float
    state: str = "Creating"  # Succeeded, Failed, Deleting, Gone
    power: str = ""  # running, stopped; empty without a host
    address: str = ""
    due: float | None = None
    failure: str = ""
    taken_at: float | None = None  # the instant of its eviction
    acknowledged: bool = False

    @property
    def location(self) -> str:
        return str(self.body["location"])

    @property
    def tags(self) -> Mapping[str, str]:
        tags: Mapping[str, str] = self.body.get("tags", {})
        return tags

    @property
    def is_spot(self) -> bool:
        return bool(self.body["properties"].get("priority") == "Spot")

    @property
    def event_id(self) -> str:
        return str(uuid.uuid5(uuid.UUID(self.vm_id), "Preempt")).upper()

    def events(self) -> list[Json]:
        """Its scheduled events."""
        if self.taken_at is None:
            return []
        return [
            {
                "EventId": self.event_id,
                "EventType": "Preempt",
                "ResourceType": "VirtualMachine",
                "Resources": [self.name],
                "EventStatus": "Started" if self.acknowledged else "Scheduled",
                "NotBefore": "" if self.acknowledged else formatdate(self.taken_at, usegmt=True),
                "Description": "",
                "EventSource": "Platform",
                "DurationInSeconds": -1,
            }
        ]

    def view(self, interfaces: list[str], *, with_instance: bool = False) -> Json:
        """As Azure shows it: never with its custom data."""
        properties = {
            **self.body["properties"],
            "osProfile": {k: v for k, v in self.body["properties"]["osProfile"].items() if k != "customData"},
            "networkProfile": {"networkInterfaces": [{"id": each} for each in interfaces]},
            "vmId": self.vm_id,
            "provisioningState": self.state,
            "timeCreated": datetime.fromtimestamp(self.created_at, UTC).isoformat(),
        }
        if with_instance:
            properties["instanceView"] = {"statuses": self._statuses()}
        head = {"id": self.id, "name": self.name, "type": "Microsoft.Compute/virtualMachines"}
        return {**head, "location": self.location, "tags": dict(self.tags), "properties": properties}

    def _statuses(self) -> list[Json]:
        code = f"ProvisioningState/{self.state.lower()}" + (f"/{self.failure}" if self.failure else "")
        statuses: list[Json] = [{"code": code, "level": "Error" if self.failure else "Info"}]
        if self.failure:
            statuses[0]["message"] = "Allocation failed. We do not have sufficient capacity for the requested VM size."
        if self.power:
            statuses.append({"code": f"PowerState/{self.power}", "level": "Info"})
        return statuses


@dataclass
class Cloud:
    """The resource group `group` (an id) on the given clock."""

    group: str
    hypervisor: Hypervisor
    clock: Clock
    faults: Faults
    late_failures: bool = False  # a lack of capacity comes out only when the order is carried out
    machines: dict[str, Machine] = field(default_factory=dict)  # by name in lower case, as long as they exist
    history: list[Machine] = field(default_factory=list)
    resources: dict[str, Resource] = field(default_factory=dict)  # all others, by id in lower case
    blob_key: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    lock: RLock = field(default_factory=RLock)

    # --- machines -----------------------------------------------------------------------------------------------------

    def order(self, name: str, body: Json) -> Machine:
        """Take the order for a machine. Raises `Refused`."""
        self._check(name, body)
        full = self._full(body["location"])
        if full and not self.late_failures:
            size = body["properties"]["hardwareProfile"]["vmSize"]
            raise Refused(
                409,
                "SkuNotAvailable",
                f"The requested VM size for resource '{size}' is currently not available in location '{body['location']}'.",
            )
        machine = Machine(
            id=f"{self.group}/providers/Microsoft.Compute/virtualMachines/{name}",
            name=name,
            vm_id=str(uuid.uuid4()),
            body=body,
            user_data=base64.b64decode(body["properties"]["osProfile"].get("customData", "")).decode(),
            created_at=self.clock.now(),
            due=self.clock.now() + self.faults.operation_s,
            failure="AllocationFailed" if full else "",
        )
        self.machines[name.lower()] = machine
        self.history.append(machine)
        for interface in body["properties"]["networkProfile"]["networkInterfaceConfigurations"]:
            self._add_interface(machine, interface)
        return machine

    def machine(self, name: str) -> Machine:
        """The machine of that name. Raises `Refused`."""
        if name.lower() not in self.machines:
            raise Refused(
                404, "ResourceNotFound", f"The Resource 'Microsoft.Compute/virtualMachines/{name}' was not found."
            )
        return self.machines[name.lower()]

    def delete(self, machine: Machine) -> None:
        """Begin to delete a machine, whatever it is doing."""
        if machine.state != "Deleting":
            machine.state, machine.failure = "Deleting", ""
            machine.due = self.clock.now() + self.faults.operation_s

    def advance(self) -> None:
        """Do what is due."""
        now = self.clock.now()
        for machine in list(self.machines.values()):
            if machine.taken_at is not None and machine.taken_at <= now and machine.state != "Deleting":
                self._remove(machine)
            elif machine.due is not None and machine.due <= now:
                machine.due = None
                self._finish(machine)
            elif machine.power == "running" and not self.hypervisor.is_running(machine.vm_id):
                machine.power = "stopped"  # it switched itself off: Azure keeps it, and bills it

    def view(self, machine: Machine, *, with_instance: bool = False) -> Json:
        interfaces = [r.id for r in self.resources.values() if r.owner == machine.vm_id and "Interface" in r.type]
        return machine.view(interfaces, with_instance=with_instance)

    def listed(self) -> list[Machine]:
        """The machines a list shows by now."""
        seen = self.clock.now() - self.faults.list_lag_s
        return [machine for machine in self.machines.values() if machine.created_at <= seen]

    def by_vm_id(self, vm_id: str) -> Machine:
        return next(machine for machine in self.history if machine.vm_id == vm_id)

    def booked(self) -> list[Booked]:
        """Every machine that was ordered and not refused later."""
        return [
            Booked(
                id=machine.vm_id,
                replica_id=machine.tags.get("sailplane-replica", ""),
                region=machine.location,
                zone="",
                spot=machine.is_spot,
                running=machine.power == "running",
            )
            for machine in self.history
            if not machine.failure
        ]

    def _finish(self, machine: Machine) -> None:
        if machine.state == "Deleting":
            self._remove(machine)
        elif machine.failure:
            machine.state = "Failed"
        else:
            self._add_disk(machine)
            metadata_service = metadata.service(self, machine)
            machine.address = self.hypervisor.boot(machine.vm_id, machine.user_data, metadata_service)
            machine.state, machine.power = "Succeeded", "running"
            for resource in self.resources.values():
                if resource.owner == machine.vm_id and "publicIP" in resource.type:
                    resource.properties["ipAddress"] = machine.address

    def _remove(self, machine: Machine) -> None:
        self.hypervisor.destroy(machine.vm_id)
        machine.state, machine.power = "Gone", ""
        del self.machines[machine.name.lower()]
        for key, resource in list(self.resources.items()):
            if resource.owner == machine.vm_id and not resource.kept:
                del self.resources[key]
            elif resource.owner == machine.vm_id:
                resource.owner = ""

    def _full(self, region: str) -> bool:
        return any(
            sum(machine.location == region or not place for machine in self.machines.values()) >= room
            for place, room in self.faults.capacity.items()
            if place in ("", region)
        )

    # --- what comes with a machine --------------------------------------------------------------------------------------

    def _add_interface(self, machine: Machine, interface: Json) -> None:
        suffix = machine.vm_id[:8]
        self._add(machine, "Microsoft.Network/networkInterfaces", f"{interface['name']}-{suffix}", interface)
        for configuration in interface["properties"]["ipConfigurations"]:
            address = configuration["properties"].get("publicIPAddressConfiguration")
            if address:
                self._add(machine, "Microsoft.Network/publicIPAddresses", f"{address['name']}-{suffix}", address)

    def _add_disk(self, machine: Machine) -> None:
        disk = machine.body["properties"]["storageProfile"]["osDisk"]
        # A disk made for a machine gets the machine's tags.
        options = {"deleteOption": disk.get("deleteOption", "Detach")}
        self._add(machine, "Microsoft.Compute/disks", disk["name"], {"tags": machine.tags, "properties": options})

    def _add(self, machine: Machine, kind: str, name: str, sent: Json) -> None:
        kept = sent["properties"].get("deleteOption") != "Delete"
        self.add(
            Resource(
                id=f"{self.group}/providers/{kind}/{name}",
                type=kind,
                name=name,
                location=machine.location,
                tags=sent.get("tags", {}),
                properties={},
                owner=machine.vm_id,
                kept=kept,
            )
        )

    def add(self, resource: Resource) -> None:
        self.resources[resource.id.lower()] = resource

    def remove(self, resource: Resource) -> None:
        """Raises `Refused` while a machine uses it."""
        in_use = bool(resource.owner)
        if resource.type.endswith(("virtualNetworks", "networkSecurityGroups")):
            in_use = any(machine.location == resource.location for machine in self.machines.values())
        if in_use:
            raise Refused(400, "InUse", f"{resource.id} is in use.")
        del self.resources[resource.id.lower()]

    def all_views(self) -> Iterator[Json]:
        """Everything in the group, as Resource Manager lists it."""
        for machine in self.machines.values():
            yield {**_summary(machine.view([])), "provisioningState": machine.state}
        for resource in self.resources.values():
            yield {**_summary(resource.view()), "provisioningState": "Succeeded"}

    # --- what Azure would refuse ----------------------------------------------------------------------------------------

    def _check(self, name: str, body: Json) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", name):
            raise Refused(400, "InvalidResourceName", f"Resource name {name} is invalid.")
        properties = body["properties"]
        self._check_size(body["location"], properties["hardwareProfile"]["vmSize"])
        self._check_quota(body["location"])
        _check_image(properties["storageProfile"]["imageReference"])
        _check_disk(properties)
        _check_system(properties["osProfile"])
        _check_price(properties)
        self._check_network(body["location"], properties["networkProfile"])

    @staticmethod
    def _check_size(region: str, size: str) -> None:
        sold = _sold()
        if region not in {place for place, _ in sold}:
            raise Refused(
                400, "LocationNotAvailableForResourceType", f"The provided location '{region}' is not available."
            )
        if size.lower() not in {known for _, known in sold}:
            raise Refused(
                400, "InvalidParameter", f"The value {size} provided for the VM size is not valid in location {region}."
            )
        if (region, size.lower()) not in sold:
            raise Refused(
                409, "SkuNotAvailable", f"The requested VM size {size} is not available in location '{region}'."
            )

    def _check_quota(self, region: str) -> None:
        for place, allowed in self.faults.quota.items():
            used = sum(machine.location == region or not place for machine in self.machines.values())
            if place in ("", region) and used >= allowed:
                raise Refused(
                    409,
                    "OperationNotAllowed",
                    "Operation could not be completed as it results in exceeding approved Total Regional Cores quota. "
                    f"Location: {region}, Current Limit: {allowed}, Current Usage: {used}.",
                )

    def _check_network(self, region: str, profile: Json) -> None:
        if "networkApiVersion" not in profile:
            raise Refused(400, "BadRequest", "networkApiVersion is required with networkInterfaceConfigurations.")
        for interface in profile["networkInterfaceConfigurations"]:
            self._check_reference(region, interface["properties"].get("networkSecurityGroup", {}).get("id", ""))
            for configuration in interface["properties"]["ipConfigurations"]:
                subnet, _, _name = configuration["properties"]["subnet"]["id"].rpartition("/subnets/")
                self._check_reference(region, subnet)
                address = configuration["properties"].get("publicIPAddressConfiguration", {})
                is_standard = address.get("sku", {}).get("name") == "Standard"
                if is_standard and address["properties"].get("publicIPAllocationMethod") != "Static":
                    raise Refused(400, "PublicIPAndSkuMismatch", "Standard sku publicIPs must have static allocation.")

    def _check_reference(self, region: str, resource_id: str) -> None:
        found = self.resources.get(resource_id.lower())
        if found is None or found.location != region:
            raise Refused(400, "InvalidResourceReference", f"Resource {resource_id} was not found in {region}.")


@cache
def _sold() -> frozenset[tuple[str, str]]:
    """Region and size, in lower case, of everything in the catalog."""
    return frozenset((offer.location.region, offer.instance_type.lower()) for offer in catalog.offers(["azure"]))


def _check_image(image: Json) -> None:
    if "id" in image:
        known = bool(_OWN_IMAGE.fullmatch(image["id"]))
    else:
        urn = ":".join(image.get(part, "") for part in ("publisher", "offer", "sku")).lower()
        known = urn in _IMAGES and bool(image.get("version"))
    if not known:
        raise Refused(404, "PlatformImageNotFound", f"The platform image '{image}' is not available.")


def _check_disk(properties: Json) -> None:
    disk = properties["storageProfile"]["osDisk"]
    if not 30 <= disk.get("diskSizeGB", 30) <= 4095:
        raise Refused(400, "InvalidParameter", f"Disk size {disk['diskSizeGB']} GB is out of range.")
    kind = disk.get("managedDisk", {}).get("storageAccountType", "")
    if kind in ("UltraSSD_LRS", "PremiumV2_LRS"):
        raise Refused(400, "InvalidParameter", f"{kind} cannot be used with OS Disk.")


def _check_system(system: Json) -> None:
    linux = system.get("linuxConfiguration", {})
    keys = linux.get("ssh", {}).get("publicKeys", [])
    if not system.get("adminPassword") and not (linux.get("disablePasswordAuthentication") and keys):
        raise Refused(
            400, "InvalidParameter", "Authentication using either SSH or by user name and password is required."
        )
    if any(not _is_public_key(key["keyData"]) for key in keys):
        raise Refused(
            400, "InvalidParameter", "The value of parameter linuxConfiguration.ssh.publicKeys.keyData is invalid."
        )
    if len(system["computerName"]) > 64:
        raise Refused(400, "InvalidParameter", "Linux host name cannot exceed 64 characters in length.")
    try:
        custom_data = base64.b64decode(system.get("customData", ""), validate=True)
    except binascii.Error as error:
        raise Refused(400, "InvalidParameter", "Custom data in OSProfile must be in Base64 encoding.") from error
    if len(custom_data) > 65_535:
        raise Refused(
            400, "InvalidParameter", "Custom data in OSProfile must have a maximum length of 87380 characters."
        )


def _is_public_key(line: str) -> bool:
    """Whether the second word of the line holds the key type that its first word names, and a key of its length."""
    kind, _, rest = line.partition(" ")
    blob = base64.b64decode(rest.split(" ")[0])
    size = int.from_bytes(blob[:4], "big")
    return blob[4 : 4 + size].decode(errors="replace") == kind and (kind != "ssh-ed25519" or len(blob) == 51)


def _check_price(properties: Json) -> None:
    spot = properties.get("priority") == "Spot"
    if not spot and ("evictionPolicy" in properties or "billingProfile" in properties):
        raise Refused(400, "InvalidParameter", "evictionPolicy and billingProfile are for priority Spot only.")
    price = properties.get("billingProfile", {}).get("maxPrice", -1)
    if price != -1 and price <= 0:
        raise Refused(400, "InvalidParameter", "maxPrice must be -1 or greater than 0.")


def _summary(view: Json) -> Json:
    return {key: view[key] for key in ("id", "name", "type", "location", "tags")}
