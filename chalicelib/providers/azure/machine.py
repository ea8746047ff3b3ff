"""A machine in Azure's words: what is sent to make one, and what is read from one. Pure.

https://learn.microsoft.com/rest/api/compute/virtual-machines/create-or-update
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azure.mgmt.compute.models import VirtualMachine

from chalicelib.errors import LaunchRefused
from chalicelib.model import CapacityType, Instance, InstanceStatus, LaunchRequest, Requirement
from chalicelib.providers.azure import network, offers
from chalicelib.providers.boot import DEFAULT_DISK_GIB, agent_url

_Json = dict[str, Any]
DEPLOYMENT, SERVICE, REPLICA = "sailplane-deployment", "sailplane-service", "sailplane-replica"
_LONGEST_USER_DATA = 65_535  # bytes, before base64
_PREMIUM, _STANDARD = "Premium_LRS", "StandardSSD_LRS"
# Ultra disks cannot hold an operating system, so every other tier is premium.
_DISKS = {"low": "Standard_LRS", "": _STANDARD, "medium": _STANDARD}


def tags(deployment: str, request: LaunchRequest) -> dict[str, str]:
    """On the machine and on everything that comes with it."""
    replica = request.replica
    ours = {DEPLOYMENT: deployment, SERVICE: replica.service, REPLICA: replica.id}
    return {**dict(replica.requirement.labels), **ours}


def order(request: LaunchRequest, user_data: str, tagged: Mapping[str, str], place: network.Network) -> VirtualMachine:
    """The machine with its disk, interface and address, which all go when it goes. Raises `LaunchRefused`."""
    offer, requirement = request.replica.offer, request.replica.requirement
    properties: _Json = {
        "hardwareProfile": {"vmSize": offer.instance_type},
        "storageProfile": {
            "imageReference": _image(requirement.image_id or offers.default_image(offer), offers.default_image(offer)),
            "osDisk": _disk(offer.instance_type, request.replica.id, requirement),
        },
        "osProfile": _system(request.replica.id, user_data),
        "networkProfile": {
            "networkApiVersion": network.API_VERSION,
            "networkInterfaceConfigurations": [_interface(tagged, place, requirement)],
        },
        # Azure keeps the console, for when the agent cannot be asked. No Trusted Launch (`securityProfile`): with Secure
        # Boot the image's GPU drivers are not loaded.
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
    }
    if offer.capacity_type is CapacityType.SPOT:
        # Never evicted for its price, which is at most the on-demand one; gone when evicted, a stopped one costs its disk.
        properties |= {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1.0}}
    return VirtualMachine({"location": offer.location.region, "tags": dict(tagged), "properties": properties})


def _image(image_id: str, default: str) -> _Json:
    if image_id.startswith("/"):
        return {"id": image_id}
    # A `docker:` image is run by the agent, on the default one.
    publisher, *rest = (default if image_id.startswith("docker:") else image_id).split(":")
    if len(rest) != 3:
        raise LaunchRefused(
            f"image_id {image_id!r} is none of Azure's: write publisher:offer:sku:version, a resource id, or docker:<image>"
        )
    return {"publisher": publisher, "offer": rest[0], "sku": rest[1], "version": rest[2]}


def _disk(instance_type: str, name: str, requirement: Requirement) -> _Json:
    best = _PREMIUM if offers.has_premium_disks(instance_type) else _STANDARD
    return {
        "name": name,
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "diskSizeGB": requirement.disk_size_gib or DEFAULT_DISK_GIB,
        "managedDisk": {"storageAccountType": _DISKS.get(requirement.disk_tier, best)},
    }


def _system(name: str, user_data: str) -> _Json:
    custom_data = user_data.encode()
    if len(custom_data) > _LONGEST_USER_DATA:
        raise LaunchRefused(f"{name}: user data of {len(custom_data)} bytes, Azure takes {_LONGEST_USER_DATA}")
    user = "sailplane"
    key = {"path": f"/home/{user}/.ssh/authorized_keys", "keyData": _nobodys_key(name)}
    return {
        "computerName": name,
        "adminUsername": user,
        "customData": base64.b64encode(custom_data).decode(),
        "linuxConfiguration": {
            "disablePasswordAuthentication": True,
            "ssh": {"publicKeys": [key]},
        },
    }


def _nobodys_key(name: str) -> str:
    """Azure makes no Linux machine without a way to log in: an Ed25519 public key whose private half nobody can know.

    It is a hash of the name, so it is the same for the same machine.
    """
    kind = b"ssh-ed25519"
    parts = (kind, hashlib.sha256(name.encode()).digest())
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{kind.decode()} {base64.b64encode(blob).decode()} nobody"


def _interface(tagged: Mapping[str, str], place: network.Network, requirement: Requirement) -> _Json:
    address: _Json = {
        "name": "address",
        "sku": {"name": "Standard"},
        "tags": dict(tagged),
        "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
    }
    configuration: _Json = {
        "name": "machine",
        "properties": {"primary": True, "subnet": {"id": place.subnet}, "publicIPAddressConfiguration": address},
    }
    properties: _Json = {
        "primary": True,
        "deleteOption": "Delete",
        "networkSecurityGroup": {"id": place.firewall},
        "ipConfigurations": [configuration],
    }
    if requirement.network_tier == "best":
        properties["enableAcceleratedNetworking"] = True
    return {"name": "interface", "tags": dict(tagged), "properties": properties}


@dataclass(frozen=True, slots=True)
class Reading:
    """What Azure says about a machine: its model and, when it was read by name, its instance view."""

    vm: VirtualMachine

    @property
    def deployment(self) -> str:
        return (self.vm.tags or {}).get(DEPLOYMENT, "")

    @property
    def replica_id(self) -> str:
        return (self.vm.tags or {}).get(REPLICA, "")

    @property
    def is_leaving(self) -> bool:
        return self._provisioning == "Deleting"

    @property
    def failure(self) -> tuple[str, str] | None:
        """Code and message when Azure took the order and then found no host for it. The order stays, to be removed.

        A machine that is on but did not report back in time reads Failed as well, and may yet do its work.
        """
        if self._provisioning != "Failed" or self._has_host:
            return None
        failed = [(code, message) for code, message in self._statuses if code.startswith("ProvisioningState/failed")]
        code, message = next(iter(failed), ("", ""))
        return code.removeprefix("ProvisioningState/failed").strip("/") or "ProvisioningFailed", message

    @property
    def is_allocating(self) -> bool:
        """Azure took the order and still looks for a host."""
        return self._provisioning == "Creating" and not self._has_host

    def instance(self, now: float, address: str = "") -> Instance:
        """As `ports.Provider` describes it.

        RUNNING says that it exists and is billed: whether it works is its agent's to say, and one that switched itself
        off still costs.
        """
        properties = self.vm.properties
        status = {"Creating": InstanceStatus.PENDING, "Deleting": InstanceStatus.STOPPING}
        created = properties.time_created if properties else None
        return Instance(
            provider="azure",
            id=(properties.vm_id if properties else None) or "",
            replica_id=self.replica_id,
            service=(self.vm.tags or {}).get(SERVICE, ""),
            status=status.get(self._provisioning, InstanceStatus.RUNNING),
            created_at=created.timestamp() if created else now,
            url=agent_url(address),
        )

    @property
    def _provisioning(self) -> str:
        return (self.vm.properties.provisioning_state if self.vm.properties else None) or ""

    @property
    def _has_host(self) -> bool:
        return any(code.startswith("PowerState/") and code != "PowerState/creating" for code, _ in self._statuses)

    @property
    def _statuses(self) -> list[tuple[str, str]]:
        view = self.vm.properties.instance_view if self.vm.properties else None
        return [(status.code or "", status.message or "") for status in (view.statuses if view else None) or ()]
