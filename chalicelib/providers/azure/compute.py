"""The `azure` provider: every replica is a virtual machine named as the replica, through azure-mgmt-compute.

Azure has no idempotency tokens. A machine's name takes their place: it is made only where there is none of that name
(`If-None-Match: *`), and asking again finds it. Once Azure has removed a machine, its name is free again; what a launch
then makes is an orphan to garbage collection, and gets nothing for a boot token that was claimed before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.compute.models import VirtualMachine

from chalicelib.errors import LaunchRefused, NoCapacity, Unreachable
from chalicelib.model import Instance, LaunchRequest, Leftover, LeftoverKind
from chalicelib.ports import Clock
from chalicelib.providers.azure import arm, errors, machine, offers
from chalicelib.providers.azure.machine import DEPLOYMENT, REPLICA, Reading
from chalicelib.providers.azure.network import API_VERSION, Network
from chalicelib.providers.boot import user_data

# Azure takes an order at once and finds out within seconds whether it has a host. A pass looks this often for the answer
# and leaves it to the next one otherwise.
_LOOK_AFTER_S = (0.0, 1.0, 2.0, 3.0)
_PATIENCE_S = 10.0  # for all looks together: where each answer takes 9 s, four would outlast the lease
_RESOURCES_API_VERSION = "2021-04-01"
_MACHINES_API_VERSION = "2026-04-01"  # the one that azure-mgmt-compute asks for
# What a replica or a deployment can leave behind: its kind, and the version of the API that removes it.
_LEFT = {
    "microsoft.compute/virtualmachines": (LeftoverKind.MACHINE, _MACHINES_API_VERSION),
    "microsoft.compute/disks": (LeftoverKind.DISK, "2026-03-02"),
    "microsoft.network/publicipaddresses": (LeftoverKind.ADDRESS, API_VERSION),
    "microsoft.network/networkinterfaces": (LeftoverKind.NETWORK, API_VERSION),
    "microsoft.network/virtualnetworks": (LeftoverKind.NETWORK, API_VERSION),
    "microsoft.network/networksecuritygroups": (LeftoverKind.FIREWALL, API_VERSION),
}


class AzureProvider:
    """`ports.Provider` and `ports.Janitor` for one resource group.

    The control plane's identity needs the role Contributor on it. With `endpoint_url` (`http://<token>@host:port`) a
    stand-in is asked instead of Azure. `credentials` are as `chalicelib.credentials.azure` gives them; without any, Azure's SDK
    looks for some. `pause` sleeps for so many seconds.
    """

    name = "azure"
    # Lists come from a replica of Resource Manager's state, which follows within seconds; Microsoft gives no bound.
    listing_lag_s = 15.0

    def __init__(
        self,
        *,
        deployment: str,
        control_url: str,
        clock: Clock,
        subscription: str,
        resource_group: str,
        endpoint_url: str | None = None,
        credentials: Mapping[str, str] = MappingProxyType({}),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._deployment = deployment
        self._control_url = control_url
        self._clock = clock
        self._subscription = subscription
        self._group = resource_group
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        self._pause = pause

    def list_instances(self) -> tuple[Instance, ...]:
        with errors.reaching():
            # Not by the SDK's own operation, to which an answer without machines in it is an empty list.
            path = f"{self._group_id}/providers/Microsoft.Compute/virtualMachines"
            listed = arm.pages(self._client, path, **{"api-version": _MACHINES_API_VERSION})
            machines = [Reading(VirtualMachine(each)) for each in listed]
            ours = [each for each in machines if each.deployment == self._deployment]
            addresses = self._addresses() if ours else {}
            now = self._clock.now()
            return tuple(each.instance(now, addresses.get(each.replica_id, "")) for each in ours)

    def launch(self, request: LaunchRequest) -> Instance:
        unusable = offers.why_unusable(request.replica.offer.instance_type)
        if unusable:
            raise NoCapacity(unusable)
        name = request.replica.id
        with errors.launching():
            found = self._find(name) or self._create(request)
            give_up_at = self._clock.now() + _PATIENCE_S
            for pause_s in _LOOK_AFTER_S:
                if not found.is_allocating or self._clock.now() >= give_up_at:
                    break
                self._pause(pause_s)
                found = self._require(name)
            return self._launched(found, name)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        del instance_id  # the name is the replica's
        with errors.reaching():
            found = self._find(replica_id)
            if found and found.deployment == self._deployment and not found.is_leaving:
                self._delete(replica_id)

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        del instance_id
        with errors.reaching():
            try:
                data = self._client.virtual_machines.retrieve_boot_diagnostics_data(self._group, replica_id)
            except ResourceNotFoundError:
                return None
            uri = data.serial_console_log_blob_uri
            log = arm.text(uri) if uri else None
        return None if log is None else "".join(log.splitlines(keepends=True)[-tail:] if tail > 0 else [])

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        """See `ports.Janitor`. What still belongs to a machine is not listed beside it: it goes when the machine goes."""
        with errors.reaching():
            listed = arm.pages(
                self._client,
                f"{self._group_id}/resources",
                **{"api-version": _RESOURCES_API_VERSION, "$expand": "provisioningState"},
            )
            ours = [each for each in listed if _is_ours(each, self._deployment)]
            found = [(_leftover(each), each.get("provisioningState") == "Deleting") for each in ours]
        alive = live | {each.replica_id for each, _ in found if each.kind is LeftoverKind.MACHINE}
        return tuple(each for each, is_leaving in found if not is_leaving and _is_left(each, live, alive))

    def remove(self, leftover: Leftover) -> None:
        kind = "/".join(leftover.id.lower().split("/")[-3:-1])
        with errors.reaching():
            arm.delete(self._client, leftover.id, _LEFT[kind][1])

    @cached_property
    def _client(self) -> ComputeManagementClient:
        return arm.client(self._subscription, self._endpoint_url, self._credentials)

    @property
    def _group_id(self) -> str:
        return f"/subscriptions/{self._subscription}/resourceGroups/{self._group}"

    def _find(self, name: str) -> Reading | None:
        try:
            vm = self._client.virtual_machines.get(self._group, name, expand="instanceView")
        except ResourceNotFoundError:
            return None
        return _of(name, vm)

    def _require(self, name: str) -> Reading:
        found = self._find(name)
        if found is None:
            raise Unreachable(f"{name}: Azure took the order and has no machine of that name a moment later")
        return found

    def _create(self, request: LaunchRequest) -> Reading:
        """Order the machine where there is none of its name; the one that is there when somebody else was faster."""
        replica = request.replica
        tagged = machine.tags(self._deployment, request)
        place = Network(self._group_id, self._deployment, replica.offer.location.region)
        wanted = machine.order(request, user_data(self.name, self._control_url, request), tagged, place)
        place.ensure(self._client, {DEPLOYMENT: self._deployment})
        try:
            poller = self._client.virtual_machines.begin_create_or_update(
                self._group,
                replica.id,
                wanted,
                etag="*",
                match_condition=MatchConditions.IfMissing,
                polling=False,
            )
        except ResourceExistsError as error:
            if error.status_code != 412:  # the SDK says "exists" to every 409 too
                raise
            return self._require(replica.id)
        return _of(replica.id, poller.result())

    def _launched(self, found: Reading, name: str) -> Instance:
        """What came of an order. One that found no host is withdrawn: it would stay, and keep what it already has."""
        if found.deployment != self._deployment:
            raise LaunchRefused(
                f"{name}: resource group {self._group} has a machine of that name which is not this deployment's."
                " Give each deployment a resource group of its own."
            )
        if found.failure:
            self._delete(name)
            raise errors.late_refusal(*found.failure)
        if found.is_allocating:
            raise Unreachable(f"{name}: Azure took the order and is still looking for a host")
        return found.instance(self._clock.now())

    def _delete(self, name: str) -> None:
        try:
            self._client.virtual_machines.begin_delete(self._group, name, force_deletion=True, polling=False)
        except ResourceNotFoundError:
            return  # somebody else was faster

    def _addresses(self) -> Mapping[str, str]:
        """Public addresses by replica."""
        path = f"{self._group_id}/providers/Microsoft.Network/publicIPAddresses"
        listed = list(arm.pages(self._client, path, **{"api-version": API_VERSION}))
        ours = [each for each in listed if (each.get("tags") or {}).get(DEPLOYMENT) == self._deployment]
        return {each["tags"].get(REPLICA, ""): each["properties"].get("ipAddress", "") for each in ours}


def _of(name: str, vm: VirtualMachine) -> Reading:
    """Raises `Unreachable` for an answer that is no machine of this name: nothing follows from it."""
    if (vm.name or "").lower() != name.lower():
        raise Unreachable(f"{name}: Azure answers with another machine, or with none")
    return Reading(vm)


def _is_ours(resource: Mapping[str, Any], deployment: str) -> bool:
    return resource["type"].lower() in _LEFT and (resource.get("tags") or {}).get(DEPLOYMENT) == deployment


def _leftover(resource: Mapping[str, Any]) -> Leftover:
    replica_id = resource["tags"].get(REPLICA, "")
    return Leftover(
        provider=AzureProvider.name,
        kind=_LEFT[resource["type"].lower()][0],
        id=resource["id"],
        region=resource["location"],
        why=f"replica {replica_id} is not wanted any more" if replica_id else "no replica is left that would use it",
        replica_id=replica_id,
    )


def _is_left(leftover: Leftover, live: frozenset[str], alive: frozenset[str]) -> bool:
    """`alive` are replicas that are wanted or still have a machine, with which everything else of theirs goes."""
    if not leftover.replica_id:
        return not live
    return leftover.replica_id not in (live if leftover.kind is LeftoverKind.MACHINE else alive)
