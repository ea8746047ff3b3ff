"""Google Compute Engine as a provider of replicas, through google-cloud-compute's REST clients.

Importing this module costs two seconds of CPU, nearly all of it Google's message types, and there is no smaller part of them to
import: `bootstrap` does so only where `gcp` is used.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import Conflict, NotFound
from google.api_core.timeout import ConstantTimeout
from google.auth.credentials import Credentials
from google.cloud import compute_v1

from chalicelib.errors import LaunchRefused, Unreachable
from chalicelib.model import (
    CapacityType,
    Instance,
    InstanceStatus,
    LaunchRequest,
    Leftover,
    LeftoverKind,
    Replica,
)
from chalicelib.ports import Clock
from chalicelib.providers.boot import AGENT_PORT, DEFAULT_DISK_GIB, agent_url, user_data
from chalicelib.providers.gcp import credentials as google_credentials
from chalicelib.providers.gcp import errors, offers

_T = TypeVar("_T")

_NETWORK = "global/networks/default"
_DEPLOYMENT, _SERVICE, _REPLICA = "sailplane-deployment", "sailplane-service", "sailplane-replica"

# To connect, and to answer. A pass has 50 s for everything and asks again in the next one, so nothing is retried in here.
_TIMEOUTS_S = (4.0, 10.0)
# Pauses between looks at a launch under way. Google gives a machine its place within a second or two, or mostly refuses it
# as quickly; what takes longer is the next pass's.
_PAUSES_S = (0.0, 0.5, 1.0, 1.5, 2.0)
_PATIENCE_S = 10.0  # for all looks together: with answers of 9 s five would take longer than a lease lasts

_STOPPED = ("STOPPED", "SUSPENDED", "TERMINATED")
_STOPPING = ("DEPROVISIONING", "PENDING_STOP", "STOPPING", "SUSPENDING")
# https://cloud.google.com/compute/docs/instances/instance-lifecycle. A machine that has stopped is still there, its disk is
# billed until it is deleted, and nobody is deleting it: it counts as RUNNING, so that it is removed when nobody wants it.
_STATUS = {
    "PENDING": InstanceStatus.PENDING,
    "PROVISIONING": InstanceStatus.PENDING,
    "STAGING": InstanceStatus.PENDING,
    "RUNNING": InstanceStatus.RUNNING,
    "REPAIRING": InstanceStatus.RUNNING,
    **dict.fromkeys(_STOPPED, InstanceStatus.RUNNING),
    **dict.fromkeys(_STOPPING, InstanceStatus.STOPPING),
}
_WITHOUT_PLACE = ("PENDING", "PROVISIONING")  # resources are not allocated yet and may still be refused


class GcpProvider:
    """`ports.Provider` and `ports.Janitor`.

    A machine's name is its replica's id, its id here is `zone/name`. `endpoint_url` (`http://token@host:port`) is a stand-in's:
    the token is shown to it and Google's own credentials are not looked for. `credentials` are as `chalicelib.credentials.gcp`
    gives them; without any, Google's SDK looks for some.
    """

    name = "gcp"
    # A launch returns when the machine itself was seen, so lists lag by a second or so. Google promises no bound; half a minute
    # costs only that much in noticing a machine that vanished at once.
    listing_lag_s = 30.0

    def __init__(
        self,
        *,
        deployment: str,
        control_url: str,
        clock: Clock,
        project: str,
        endpoint_url: str | None = None,
        credentials: Mapping[str, Any] = MappingProxyType({}),
        pause: Callable[[float], None] = time.sleep,
        timeouts_s: tuple[float, float] = _TIMEOUTS_S,
    ) -> None:
        self._deployment = deployment
        self._control_url = control_url
        self._clock = clock
        self._project = project
        self._endpoint_url = endpoint_url
        self._given_credentials = credentials
        self._pause = pause
        # A number would be the time to connect and, again, the time to answer.
        timeout = ConstantTimeout(timeouts_s)  # type: ignore[no-untyped-call]  # Google's
        self._call: dict[str, Any] = {"timeout": timeout, "retry": None}
        self._firewall_name = f"sailplane-{deployment}"  # also the network tag of the machines it is for

    def list_instances(self) -> tuple[Instance, ...]:
        with errors.reaching():
            return tuple(self._observed(machine) for machine in self._labelled(self._instances, "instances"))

    def launch(self, request: LaunchRequest) -> Instance:
        """Start the machine, and return when Google has allocated its resources.

        Until then it may be refused for lack of capacity, and only the operation tells; while that is open after some seconds,
        `Unreachable` says so, and the same request finds the same operation again.
        """
        replica = request.replica
        script = user_data(self.name, self._control_url, request)
        with errors.launching(secrets=(script, request.boot_token)):
            self._open_port()
            insert = compute_v1.InsertInstanceRequest(
                project=self._project,
                zone=replica.offer.location.zone,
                instance_resource=self._machine(replica, script),
                request_id=self._request_id(replica),
            )
            try:
                operation = self._instances.insert_unary(insert, **self._call)
            except Conflict:
                operation = None
        # From here on the machine may exist: what goes wrong with asking for it refuses nothing.
        with errors.reaching():
            return self._made(replica) if operation is None else self._answered(replica, operation)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        with errors.reaching():
            for zone, name in self._places(replica_id, instance_id):
                with suppress(NotFound):
                    self._instances.delete_unary(project=self._project, zone=zone, instance=name, **self._call)

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        """From the serial console, which Google keeps as long as the machine exists; the last megabyte of it."""
        with errors.reaching():
            for zone, name in self._places(replica_id, instance_id):
                with suppress(NotFound):
                    console = self._instances.get_serial_port_output(
                        project=self._project, zone=zone, instance=name, **self._call
                    )
                    return "".join(console.contents.splitlines(keepends=True)[-tail:])
        return None

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        """Machines, disks that no machine uses, the firewall rule. Addresses are ephemeral and go with their machine."""
        with errors.reaching():
            return (*self._idle_machines(live), *self._idle_disks(live), *([] if live else self._idle_firewall()))

    def remove(self, leftover: Leftover) -> None:
        with errors.reaching(), suppress(NotFound):
            if leftover.kind is LeftoverKind.FIREWALL:
                self._firewalls.delete_unary(project=self._project, firewall=leftover.id, **self._call)
                return
            zone, name = leftover.id.split("/")
            if leftover.kind is LeftoverKind.DISK:
                self._disks.delete_unary(project=self._project, zone=zone, disk=name, **self._call)
            else:
                self._instances.delete_unary(project=self._project, zone=zone, instance=name, **self._call)

    # --- a launch ---------------------------------------------------------------------------------------------------

    def _machine(self, replica: Replica, script: str) -> compute_v1.Instance:
        offer, zone = replica.offer, replica.offer.location.zone
        machine = compute_v1.Instance(
            name=replica.id,
            machine_type=f"zones/{zone}/machineTypes/{offer.instance_type}",
            labels=self._labels(replica),
            tags=compute_v1.Tags(items=[self._firewall_name]),
            metadata=compute_v1.Metadata(items=[compute_v1.Items(key="startup-script", value=script)]),
            scheduling=_scheduling(replica),
            disks=[self._boot_disk(replica)],
            network_interfaces=[_network_interface(replica)],
        )
        if accelerator := offers.attached_accelerator(offer):
            machine.guest_accelerators = [
                compute_v1.AcceleratorConfig(
                    accelerator_type=f"zones/{zone}/acceleratorTypes/{accelerator}",
                    accelerator_count=offer.accelerator_count,
                )
            ]
        return machine

    def _boot_disk(self, replica: Replica) -> compute_v1.AttachedDisk:
        offer, wanted = replica.offer, replica.requirement
        kind = offers.disk_type(offer.instance_type, wanted.disk_tier)
        return compute_v1.AttachedDisk(
            boot=True,
            auto_delete=True,
            initialize_params=compute_v1.AttachedDiskInitializeParams(
                source_image=offers.image(offer, wanted),
                disk_size_gb=wanted.disk_size_gib or DEFAULT_DISK_GIB,
                disk_type=f"zones/{offer.location.zone}/diskTypes/{kind}",
                labels=self._labels(replica),
            ),
        )

    def _labels(self, replica: Replica) -> dict[str, str]:
        ours = {_DEPLOYMENT: self._deployment, _SERVICE: replica.service, _REPLICA: replica.id}
        return {**dict(replica.requirement.labels), **ours}

    def _request_id(self, replica: Replica) -> str:
        """Google answers a request whose id it has seen within the hour with the operation of the first one."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._deployment}/{replica.id}/{replica.boot_nonce}"))

    def _answered(self, replica: Replica, operation: compute_v1.Operation) -> Instance:
        zone, give_up_at = replica.offer.location.zone, self._clock.now() + _PATIENCE_S
        for pause_s in _PAUSES_S:
            if self._clock.now() >= give_up_at:
                break
            self._pause(pause_s)
            operation = self._operations.get(project=self._project, zone=zone, operation=operation.name, **self._call)
            if operation.error.errors:
                raise errors.failure(operation)
            if operation.status == compute_v1.Operation.Status.DONE:
                return self._made(replica)
            machine = self._find(zone, replica.id)
            if machine and machine.status not in _WITHOUT_PLACE:
                return self._observed(machine)
        raise Unreachable(f"Google is still looking for capacity in {zone}: the next pass asks for the outcome")

    def _made(self, replica: Replica) -> Instance:
        """The machine that exists, or existed, under the replica's name."""
        zone = replica.offer.location.zone
        machine = self._find(zone, replica.id)
        if machine is None:
            identity = (self.name, f"{zone}/{replica.id}", replica.id, replica.service)
            return Instance(*identity, InstanceStatus.GONE, created_at=replica.created_at)
        if (machine.labels.get(_DEPLOYMENT), machine.labels.get(_REPLICA)) != (self._deployment, replica.id):
            raise LaunchRefused(
                f"project {self._project} has another machine named {replica.id} in {zone}, without this deployment's "
                f"labels: delete or rename it"
            )
        return self._observed(machine)

    def _open_port(self) -> None:
        """Make the firewall rule unless it is there, or another launch makes it at the same time."""
        with suppress(Conflict):
            try:
                self._firewalls.get(project=self._project, firewall=self._firewall_name, **self._call)
            except NotFound:
                rule = compute_v1.Firewall(
                    name=self._firewall_name,
                    description=f"The agents of Sailplane's replicas, deployment {self._deployment}",
                    network=_NETWORK,
                    direction="INGRESS",
                    source_ranges=["0.0.0.0/0"],
                    target_tags=[self._firewall_name],
                    allowed=[compute_v1.Allowed(I_p_protocol="tcp", ports=[str(AGENT_PORT)])],
                )
                self._firewalls.insert_unary(project=self._project, firewall_resource=rule, **self._call)

    # --- what there is ----------------------------------------------------------------------------------------------

    def _observed(self, machine: compute_v1.Instance) -> Instance:
        is_ending = machine.status in (*_STOPPING, *_STOPPED)
        return Instance(
            provider=self.name,
            id=f"{_last(machine.zone)}/{machine.name}",
            replica_id=machine.labels.get(_REPLICA, ""),
            service=machine.labels.get(_SERVICE, ""),
            status=_STATUS[machine.status],
            created_at=datetime.fromisoformat(machine.creation_timestamp).timestamp(),
            url=agent_url(_address(machine)),
            # Unless we asked for it, it is being taken: now, whether or not the agent got to say so. A stopped machine must be
            # drained and deleted, so it does not count as gone.
            interruption_at=self._clock.now() if is_ending else None,
        )

    def _find(self, zone: str, name: str) -> compute_v1.Instance | None:
        with suppress(NotFound):
            machine = self._instances.get(project=self._project, zone=zone, instance=name, **self._call)
            if machine.name != name:
                raise Unreachable(f"Google answers with another machine than {name}, or with none")
            return machine
        return None

    def _places(self, replica_id: str, instance_id: str) -> list[tuple[str, str]]:
        """Zone and name of the replica's machine; of none when it has to be looked for and is not found."""
        if instance_id:
            zone, name = instance_id.split("/")
            return [(zone, name)]
        found = self._labelled(self._instances, "instances", f'(labels.{_REPLICA} = "{replica_id}")')
        return [(_last(machine.zone), machine.name) for machine in found]

    def _labelled(self, client: Any, kind: str, *conditions: str) -> Iterator[Any]:
        """Everything of a kind with our deployment's label, of all zones and all pages.

        Raises `Unreachable` when Google left a part out: what is missing from a list would be taken for gone.
        """
        wanted = " AND ".join((f'(labels.{_DEPLOYMENT} = "{self._deployment}")', *conditions))
        for page in client.aggregated_list(request={"project": self._project, "filter": wanted}, **self._call).pages:
            if not page.kind.endswith("AggregatedList"):
                raise Unreachable(f"Google answers with something else than a list of {kind}")
            warnings = [page.warning, *(scope.warning for scope in page.items.values())]
            partial = [each.message for each in warnings if each.code not in ("", "NO_RESULTS_ON_PAGE")]
            if partial or page.unreachables:
                raise Unreachable(f"Google's list of {kind} is incomplete: {[*page.unreachables, *partial]}")
            for scope in page.items.values():
                yield from getattr(scope, kind)

    # --- what is left over ------------------------------------------------------------------------------------------

    def _idle_machines(self, live: frozenset[str]) -> Iterator[Leftover]:
        for machine in self._labelled(self._instances, "instances"):
            if machine.labels.get(_REPLICA) not in live:
                kind, since = _last(machine.machine_type), machine.creation_timestamp
                yield self._leftover(
                    LeftoverKind.MACHINE, machine, f"{kind}, {machine.status.lower()}, started {since}"
                )

    def _idle_disks(self, live: frozenset[str]) -> Iterator[Leftover]:
        for disk in self._labelled(self._disks, "disks"):
            if disk.labels.get(_REPLICA) not in live and not disk.users:
                yield self._leftover(LeftoverKind.DISK, disk, "no machine uses this disk")

    def _idle_firewall(self) -> Iterator[Leftover]:
        with suppress(NotFound):
            self._firewalls.get(project=self._project, firewall=self._firewall_name, **self._call)
            why = f"lets tcp:{AGENT_PORT} in, and there is no replica"
            yield Leftover(self.name, LeftoverKind.FIREWALL, self._firewall_name, region="", why=why, usd_per_month=0.0)

    def _leftover(self, kind: LeftoverKind, thing: Any, why: str) -> Leftover:
        zone = _last(thing.zone)
        return Leftover(
            self.name, kind, f"{zone}/{thing.name}", zone.rpartition("-")[0], why, thing.labels.get(_REPLICA, "")
        )

    # --- clients ----------------------------------------------------------------------------------------------------

    @cached_property
    def _instances(self) -> compute_v1.InstancesClient:
        return self._client(compute_v1.InstancesClient)

    @cached_property
    def _operations(self) -> compute_v1.ZoneOperationsClient:
        return self._client(compute_v1.ZoneOperationsClient)

    @cached_property
    def _firewalls(self) -> compute_v1.FirewallsClient:
        return self._client(compute_v1.FirewallsClient)

    @cached_property
    def _disks(self) -> compute_v1.DisksClient:
        return self._client(compute_v1.DisksClient)

    def _client(self, kind: Callable[..., _T]) -> _T:
        return kind(credentials=self._credentials, client_options=ClientOptions(api_endpoint=self._api_endpoint))

    @cached_property
    def _credentials(self) -> Credentials:
        if self._endpoint_url:
            return google_credentials.token(urlsplit(self._endpoint_url).username)
        return google_credentials.find(self._given_credentials)

    @property
    def _api_endpoint(self) -> str | None:
        if not self._endpoint_url:
            return None
        url = urlsplit(self._endpoint_url)
        return f"{url.scheme}://{url.hostname}:{url.port}"


def _scheduling(replica: Replica) -> compute_v1.Scheduling:
    """No machine starts a second time: its boot token is used up, and the core has replaced it."""
    spot = replica.offer.capacity_type is CapacityType.SPOT
    moves = not spot and not replica.offer.accelerator  # neither spot machines nor accelerators can be live-migrated
    scheduling = compute_v1.Scheduling(
        provisioning_model="SPOT" if spot else "STANDARD",
        automatic_restart=False,
        on_host_maintenance="MIGRATE" if moves else "TERMINATE",
    )
    if spot:
        scheduling.instance_termination_action = "DELETE"
    return scheduling


def _network_interface(replica: Replica) -> compute_v1.NetworkInterface:
    interface = compute_v1.NetworkInterface(
        network=_NETWORK, access_configs=[compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
    )
    if replica.requirement.network_tier == "best":
        interface.nic_type = "GVNIC"
    return interface


def _address(machine: compute_v1.Instance) -> str:
    found = (access.nat_i_p for interface in machine.network_interfaces for access in interface.access_configs)
    return next(found, "")


def _last(url: str) -> str:
    return url.rpartition("/")[2]
