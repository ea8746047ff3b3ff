"""Google Compute Engine in a box: the part of its REST API that Sailplane uses, over real HTTP, with machines that may boot.

Every request is held against Google's own contract (`contract`), and so is every answer. Machine types and their zones are the
packaged catalog's. Time is the box's clock: what takes time is done when a request, or `advance`, finds that it is due.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from itertools import count
from threading import RLock
from typing import Any

from chalicelib import catalog
from chalicelib.ports import Clock
from tests.clouds.box import Booked, Faults, Hypervisor
from tests.clouds.gcp import contract
from tests.clouds.gcp.metadata import MetadataServer
from tests.clouds.gcp.refusals import Refusal, invalid, not_found
from tests.clouds.gcp.server import Recorded, Server

PROJECT = "boxed"
TOKEN = "ya29.of-the-box"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY, _LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
_METADATA_LIMIT_BYTES = 256 * 1024
_CONDITION = re.compile(r"labels\.([a-z0-9_-]+) = \"([^\"]*)\"")
_IMAGES = frozenset(
    {
        "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580",
        "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts",
    }
)
_ACCELERATORS = {"nvidia-tesla-t4", "nvidia-tesla-p4", "nvidia-tesla-p100", "nvidia-tesla-v100"}
_DISK_TYPES = {"pd-standard", "pd-balanced", "pd-ssd", "pd-extreme", "hyperdisk-balanced"}
_REQUIRED = {"name", "machineType", "disks", "networkInterfaces"}
_ON = ("STAGING", "RUNNING", "STOPPING")  # statuses of a machine that holds resources


@dataclass
class _Machine:
    """A machine from its request until long after it is gone."""

    number: int
    zone: str
    name: str
    body: dict[str, Any]
    created_at: float
    metadata: MetadataServer
    status: str = "PROVISIONING"
    address: str = ""
    was_on: bool = False
    stopping_at: float | None = None
    taken_at: float | None = None
    gone: bool = False

    @property
    def is_spot(self) -> bool:
        return bool(self.body.get("scheduling", {}).get("provisioningModel") == "SPOT")

    @property
    def attributes(self) -> dict[str, str]:
        """What Google calls the machine's custom metadata."""
        return {item["key"]: item["value"] for item in self.body.get("metadata", {}).get("items", [])}


@dataclass
class _Operation:
    """Something that Google does in its own time: `steps` are what is still to do, each at its instant."""

    number: int
    name: str
    kind: str
    scope: str  # zones/us-central1-a or global
    target: str
    inserted_at: float
    steps: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    refusal: dict[str, Any] | None = None


class GcpBox:
    """A `box.Box`. Machine ids are `zone/name`; the hypervisor knows a machine by its name alone.

    Of `operation_s`, the first half goes by before an inserted machine gets its resources, or is refused them.
    """

    name = "gcp"

    def __init__(self, hypervisor: Hypervisor, clock: Clock, port: int = 0) -> None:
        self.faults = Faults()
        self.images = set(_IMAGES)  # a test adds its own
        self.hidden_zones: set[str] = set()  # zones that a list cannot reach
        self.page_size = 2  # however many are asked for
        self._hypervisor = hypervisor
        self._clock = clock
        self._lock = RLock()
        self._numbers = count(4_000_000_000_000_000_001)
        self._machines: list[_Machine] = []
        self._operations: dict[str, _Operation] = {}
        self._by_request_id: dict[str, _Operation] = {}
        self._firewalls: dict[str, dict[str, Any]] = {}
        self._disks: dict[tuple[str, str], dict[str, Any]] = {}
        self._server = Server(self._answer, self.faults, TOKEN, port)
        self.endpoint_url = f"http://{TOKEN}@127.0.0.1:{self._server.port}"

    @property
    def requests(self) -> list[Recorded]:
        """All requests so far that showed the right token and kept the contract, oldest first."""
        return self._server.recorded

    def machines(self) -> list[Booked]:
        with self._settled():
            return [
                Booked(
                    id=f"{machine.zone}/{machine.name}",
                    replica_id=machine.body.get("labels", {}).get("sailplane-replica", ""),
                    region=machine.zone.rpartition("-")[0],
                    zone=machine.zone,
                    spot=machine.is_spot,
                    running=machine.status in _ON and not machine.gone,
                )
                for machine in self._machines
                if machine.was_on
            ]

    def preempt(self, machine_id: str, notice_s: float) -> None:
        """Let its metadata say so; it is STOPPING for the second half of the notice, and then deleted."""
        with self._settled():
            machine = self._by_id(machine_id)
            if not machine.is_spot:
                raise ValueError(f"{machine_id} is not a spot machine, Google does not preempt it")
            machine.metadata.preempted.set()
            machine.stopping_at = self._clock.now() + notice_s / 2
            machine.taken_at = self._clock.now() + notice_s

    def kill(self, machine_id: str) -> None:
        """A host error: without automatic restart the machine ends up TERMINATED, disk and name still there."""
        with self._settled():
            machine = self._by_id(machine_id)
            machine.status = "TERMINATED"
            self._hypervisor.destroy(machine.name)

    def advance(self) -> None:
        with self._settled():
            pass

    def close(self) -> None:
        self._server.close()
        for machine in self._machines:
            self._hypervisor.destroy(machine.name)

    def leave_disk(self, zone: str, name: str, labels: dict[str, str]) -> None:
        """Let there be a disk that no machine uses."""
        with self._lock:
            self._add_disk(zone, name, labels, users=[])

    def forget_request_ids(self) -> None:
        """As Google does after an hour."""
        with self._lock:
            self._by_request_id.clear()

    # --- requests ---------------------------------------------------------------------------------------------------

    def _answer(self, method: contract.Method, query: dict[str, str], body: Any) -> dict[str, Any]:
        handlers: dict[str, Callable[..., dict[str, Any]]] = {
            "compute.instances.insert": self._insert,
            "compute.instances.get": self._get,
            "compute.instances.delete": self._delete,
            "compute.instances.aggregatedList": partial(self._list, "instances", self._listable),
            "compute.instances.getSerialPortOutput": self._serial_port,
            "compute.disks.aggregatedList": partial(self._list, "disks", self._all_disks),
            "compute.disks.delete": self._delete_disk,
            "compute.zoneOperations.get": self._get_operation,
            "compute.firewalls.get": self._get_firewall,
            "compute.firewalls.insert": self._insert_firewall,
            "compute.firewalls.delete": self._delete_firewall,
        }
        if method.id not in handlers:
            raise Refusal(501, "notImplemented", f"{method.id} is not in this box")
        with self._settled():
            return handlers[method.id](method.path, query, body)

    def _insert(self, path: dict[str, str], query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        earlier = self._by_request_id.get(query.get("requestId", ""))
        if earlier is not None:
            return self._shown(earlier)
        zone = path["zone"]
        self._admit(zone, body)
        name = body["name"]
        machine = _Machine(next(self._numbers), zone, name, body, self._clock.now(), MetadataServer(dict))
        machine.metadata = MetadataServer(partial(_metadata, machine))
        self._machines.append(machine)
        operation = self._begin("insert", f"zones/{zone}", f"zones/{zone}/instances/{name}")
        now, whole_s = self._clock.now(), self.faults.operation_s
        operation.steps = [
            (now + whole_s / 2, partial(self._allocate, machine, operation)),
            (now + whole_s, partial(self._turn, machine, "STAGING", "RUNNING")),
        ]
        if query.get("requestId"):
            self._by_request_id[query["requestId"]] = operation
        return self._shown(operation)

    def _get(self, path: dict[str, str], _query: dict[str, str], _body: object) -> dict[str, Any]:
        return _resource(self._existing(path["zone"], path["instance"]))

    def _delete(self, path: dict[str, str], _query: dict[str, str], _body: object) -> dict[str, Any]:
        machine = self._existing(path["zone"], path["instance"])
        machine.status = "STOPPING"
        operation = self._begin("delete", f"zones/{machine.zone}", f"zones/{machine.zone}/instances/{machine.name}")
        operation.steps = [(self._clock.now() + self.faults.operation_s, partial(self._take, machine))]
        return self._shown(operation)

    def _list(
        self,
        kind: str,
        things: Callable[[], list[dict[str, Any]]],
        path: dict[str, str],
        query: dict[str, str],
        _body: object,
    ) -> dict[str, Any]:
        del path
        wanted = _conditions(query.get("filter", ""))
        found = [thing for thing in things() if wanted.items() <= thing.get("labels", {}).items()]
        start = int(query.get("pageToken", "0"))
        page = found[start : start + self.page_size]
        scopes: dict[str, dict[str, Any]] = {}
        for thing in page:
            zone = thing["zone"].rpartition("/")[2]
            if zone not in self.hidden_zones:
                scopes.setdefault(f"zones/{zone}", {}).setdefault(kind, []).append(thing)
        scopes.setdefault("zones/us-east1-b", {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "No results."}})
        for zone in self.hidden_zones:
            scopes[f"zones/{zone}"] = {"warning": {"code": "UNREACHABLE", "message": f"zones/{zone} is unreachable"}}
        answer: dict[str, Any] = {"kind": f"compute#{kind[:-1]}AggregatedList", "items": scopes}
        if start + self.page_size < len(found):
            answer["nextPageToken"] = str(start + self.page_size)
        return answer

    def _serial_port(self, path: dict[str, str], _query: dict[str, str], _body: object) -> dict[str, Any]:
        machine = self._existing(path["zone"], path["instance"])
        contents = self._hypervisor.console(machine.name)
        return {"kind": "compute#serialPortOutput", "contents": contents, "start": "0", "next": str(len(contents))}

    def _get_operation(self, path: dict[str, str], _query: dict[str, str], _body: object) -> dict[str, Any]:
        operation = self._operations.get(path["operation"])
        if operation is None or operation.scope != f"zones/{path['zone']}":
            raise not_found(f"zones/{path['zone']}/operations/{path['operation']}")
        return self._shown(operation)

    def _get_firewall(self, path: dict[str, str], _query: dict[str, str], _body: object) -> dict[str, Any]:
        if path["firewall"] not in self._firewalls:
            raise not_found(f"global/firewalls/{path['firewall']}")
        return {"kind": "compute#firewall", **self._firewalls[path["firewall"]]}

    def _insert_firewall(self, _path: dict[str, str], _query: dict[str, str], body: dict[str, Any]) -> dict[str, Any]:
        name = body["name"]
        if name in self._firewalls:
            raise _already_exists(f"global/firewalls/{name}")
        if not _NAME.fullmatch(name):
            raise invalid("resource.name", name, "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'")
        self._firewalls[name] = body
        return self._shown(self._begin("insert", "global", f"global/firewalls/{name}"))

    def _delete_firewall(self, path: dict[str, str], query: dict[str, str], body: object) -> dict[str, Any]:
        self._get_firewall(path, query, body)
        del self._firewalls[path["firewall"]]
        return self._shown(self._begin("delete", "global", f"global/firewalls/{path['firewall']}"))

    def _delete_disk(self, path: dict[str, str], _query: dict[str, str], _body: object) -> dict[str, Any]:
        zone, name = path["zone"], path["disk"]
        disk = self._disks.get((zone, name))
        if disk is None:
            raise not_found(f"zones/{zone}/disks/{name}")
        if disk["users"]:
            raise Refusal(400, "resourceInUseByAnotherResource", f"The disk '{name}' is used by {disk['users']}")
        del self._disks[zone, name]
        return self._shown(self._begin("delete", f"zones/{zone}", f"zones/{zone}/disks/{name}"))

    # --- what a machine may be --------------------------------------------------------------------------------------

    def _admit(self, zone: str, body: dict[str, Any]) -> None:
        """Refuse at once what Google refuses at once."""
        if zone not in {zone for _, zone in _sold()}:
            raise invalid("zone", zone, "Unknown zone.")
        for field_name in _REQUIRED - body.keys():
            raise Refusal(400, "required", f"Invalid value for field 'resource.{field_name}': ''. It is required.")
        name, machine_type = body["name"], body["machineType"].rpartition("/")[2]
        if not _NAME.fullmatch(name):
            raise invalid("resource.name", name, "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'")
        if self._present(zone, name):
            raise _already_exists(f"zones/{zone}/instances/{name}")
        if (machine_type, zone) not in _sold():
            raise not_found(f"zones/{zone}/machineTypes/{machine_type}")
        for key, value in body.get("labels", {}).items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
                raise invalid("resource.labels", f"{key}: {value}", "Labels are lower-case letters, digits, _ and -.")
        for item in body.get("metadata", {}).get("items", []):
            if len(item["value"].encode()) > _METADATA_LIMIT_BYTES:
                raise invalid("resource.metadata.items[0].value", item["value"], "The value is too large.")
        self._admit_hardware(zone, body)

    def _admit_hardware(self, zone: str, body: dict[str, Any]) -> None:
        attached, scheduling = body.get("guestAccelerators", []), body.get("scheduling", {})
        for each in attached:
            if each["acceleratorType"].rpartition("/")[2] not in _ACCELERATORS:
                field_name = "resource.guestAccelerators[0].acceleratorType"
                raise invalid(field_name, each["acceleratorType"], "The referenced resource does not exist.")
        spot = scheduling.get("provisioningModel") == "SPOT"
        has_gpu = bool(attached) or body["machineType"].rpartition("/")[2].startswith(("a2-", "a3-", "g2-"))
        if (has_gpu or spot) and scheduling.get("onHostMaintenance") != "TERMINATE":
            raise invalid("scheduling.onHostMaintenance", "MIGRATE", "Such instances do not support live migration.")
        if spot and scheduling.get("automaticRestart", True):
            raise invalid("scheduling.automaticRestart", "true", "Spot instances cannot be restarted automatically.")
        if not spot and "instanceTerminationAction" in scheduling:
            raise invalid("scheduling.instanceTerminationAction", "DELETE", "Only for Spot instances.")
        boot = body["disks"][0]["initializeParams"]
        if boot["sourceImage"] not in self.images:
            raise not_found(boot["sourceImage"])
        if (kind := boot["diskType"].rpartition("/")[2]) not in _DISK_TYPES:
            raise not_found(f"zones/{zone}/diskTypes/{kind}")

    # --- time -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Alone with the box, and everything done that is due."""
        with self._lock:
            now = self._clock.now()
            for operation in self._operations.values():
                while operation.steps and operation.steps[0][0] <= now:
                    operation.steps.pop(0)[1]()
            for machine in self._machines:
                if machine.status == "RUNNING" and not self._hypervisor.is_running(machine.name):
                    machine.status = "TERMINATED"  # it switched itself off
                if machine.stopping_at is not None and machine.stopping_at <= now:
                    self._turn(machine, "RUNNING", "STOPPING")
                if machine.taken_at is not None and machine.taken_at <= now:
                    self._take(machine)
            yield

    def _allocate(self, machine: _Machine, operation: _Operation) -> None:
        """Give the machine what it needs, or refuse it for want of capacity or quota."""
        if machine.gone or machine.status != "PROVISIONING":
            return
        region = machine.zone.rpartition("-")[0]
        on = [each for each in self._machines if each.status in _ON and not each.gone]
        if _is_full(self.faults.quota, region, [each.zone.rpartition("-")[0] for each in on]):
            message = f"Quota 'NVIDIA_GPUS' exceeded.  Limit: {len(on)}.0 in region {region}."
            self._refuse(machine, operation, 403, "QUOTA_EXCEEDED", message)
        elif _is_full(self.faults.capacity, machine.zone, [each.zone for each in on]):
            message = f"The zone 'projects/{PROJECT}/zones/{machine.zone}' does not have enough resources available."
            self._refuse(machine, operation, 503, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", message)
        else:
            self._turn(machine, "PROVISIONING", "STAGING")
            machine.was_on = True
            script = machine.attributes.get("startup-script", "")
            machine.address = self._hypervisor.boot(machine.name, script, machine.metadata)
            user = f"projects/{PROJECT}/zones/{machine.zone}/instances/{machine.name}"
            labels = machine.body["disks"][0]["initializeParams"].get("labels", {})
            self._add_disk(machine.zone, machine.name, labels, users=[user])

    def _refuse(self, machine: _Machine, operation: _Operation, status: int, code: str, message: str) -> None:
        machine.gone = True
        operation.steps.clear()
        errors = [{"code": code, "message": message}]
        operation.refusal = {"httpErrorStatusCode": status, "httpErrorMessage": "FAILED", "error": {"errors": errors}}

    def _turn(self, machine: _Machine, before: str, after: str) -> None:
        if machine.status == before:
            machine.status = after

    def _take(self, machine: _Machine) -> None:
        if machine.gone:
            return
        machine.gone = True
        self._disks.pop((machine.zone, machine.name), None)
        self._hypervisor.destroy(machine.name)

    def _begin(self, kind: str, scope: str, target: str) -> _Operation:
        name = f"operation-{uuid.uuid4()}"
        operation = _Operation(next(self._numbers), name, kind, scope, target, self._clock.now())
        self._operations[name] = operation
        return operation

    # --- what there is ----------------------------------------------------------------------------------------------

    def _present(self, zone: str, name: str) -> list[_Machine]:
        return [each for each in self._machines if (each.zone, each.name, each.gone) == (zone, name, False)]

    def _existing(self, zone: str, name: str) -> _Machine:
        for machine in self._present(zone, name):
            return machine
        raise not_found(f"zones/{zone}/instances/{name}")

    def _by_id(self, machine_id: str) -> _Machine:
        zone, _, name = machine_id.partition("/")
        return self._existing(zone, name)

    def _listable(self) -> list[dict[str, Any]]:
        since = self._clock.now() - self.faults.list_lag_s
        return [_resource(each) for each in self._machines if not each.gone and each.created_at <= since]

    def _all_disks(self) -> list[dict[str, Any]]:
        return list(self._disks.values())

    def _add_disk(self, zone: str, name: str, labels: dict[str, str], users: list[str]) -> None:
        url = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{zone}"
        disk = {"kind": "compute#disk", "name": name, "zone": url, "labels": labels, "users": users, "status": "READY"}
        self._disks[zone, name] = disk

    def _shown(self, operation: _Operation) -> dict[str, Any]:
        zone = {"zone": operation.scope} if operation.scope != "global" else {}
        return {
            "kind": "compute#operation",
            "id": str(operation.number),
            "name": operation.name,
            "operationType": operation.kind,
            "targetLink": operation.target,
            "status": "RUNNING" if operation.steps else "DONE",
            "insertTime": _rfc3339(operation.inserted_at),
            **zone,
            **(operation.refusal or {}),
        }


@cache
def _sold() -> frozenset[tuple[str, str]]:
    """Machine types and the zones they are sold in."""
    return frozenset((offer.instance_type, offer.location.zone) for offer in catalog.offers(["gcp"]))


def _resource(machine: _Machine) -> dict[str, Any]:
    """The machine as Google shows it: what was asked for, except input-only fields, and what became of it."""
    given = {key: value for key, value in machine.body.items() if key not in ("disks", "networkInterfaces")}
    url = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/zones/{machine.zone}"
    access = {"type": "ONE_TO_ONE_NAT", "name": "External NAT"} | (
        {"natIP": machine.address} if machine.address else {}
    )
    interface = {"name": "nic0", "network": "global/networks/default", "accessConfigs": [access]}
    return {
        **given,
        "kind": "compute#instance",
        "id": str(machine.number),
        "zone": url,
        "selfLink": f"{url}/instances/{machine.name}",
        "status": machine.status,
        "creationTimestamp": _rfc3339(machine.created_at),
        "networkInterfaces": [interface | ({"networkIP": machine.address} if machine.address else {})],
        "disks": [{"boot": True, "autoDelete": True, "source": f"{url}/disks/{machine.name}"}],
    }


def _metadata(machine: _Machine) -> dict[str, str]:
    return {
        "instance/name": machine.name,
        "instance/id": str(machine.number),
        "instance/zone": f"projects/1234567890/zones/{machine.zone}",
        "instance/machine-type": f"projects/1234567890/machineTypes/{machine.body['machineType'].rpartition('/')[2]}",
        "instance/network-interfaces/0/ip": machine.address,
        "instance/network-interfaces/0/access-configs/0/external-ip": machine.address,
        "instance/scheduling/preemptible": str(machine.is_spot).upper(),
        "project/project-id": PROJECT,
        **{f"instance/attributes/{key}": value for key, value in machine.attributes.items()},
    }


def _is_full(limits: dict[str, int], place: str, taken: list[str]) -> bool:
    """Whether one machine more is too many for the place's own limit, or for the one of all places together."""
    own, everywhere = limits.get(place), limits.get("")
    return (own is not None and taken.count(place) >= own) or (everywhere is not None and len(taken) >= everywhere)


def _conditions(text: str) -> dict[str, str]:
    """Label conditions of a list's filter, joined by AND. Others are not in this box."""
    wanted = {}
    for part in _parts(text):
        match = _CONDITION.fullmatch(part)
        if not match:
            raise invalid("filter", text, "Invalid list filter expression.")
        wanted[match[1]] = match[2]
    return wanted


def _parts(text: str) -> Iterator[str]:
    return (part.removeprefix("(").removesuffix(")") for part in text.split(" AND ") if part)


def _already_exists(what: str) -> Refusal:
    return Refusal(409, "alreadyExists", f"The resource 'projects/{PROJECT}/{what}' already exists")


def _rfc3339(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")
