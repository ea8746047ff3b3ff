"""Google Compute Engine in a box: as strict as its contract, as slow as it is told to be, honest inside its machines."""

from __future__ import annotations

import copy
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clouds.box import Fault, Metadata, OnPaper
from tests.clouds.gcp import contract
from tests.clouds.gcp.box import PROJECT, TOKEN, GcpBox
from tests.fakes import FakeClock

ZONE = "us-central1-a"
INSTANCES = f"zones/{ZONE}/instances"
MACHINE: dict[str, Any] = {
    "name": "m-1",
    "machineType": f"zones/{ZONE}/machineTypes/g2-standard-8",
    "labels": {"sailplane-deployment": "test", "sailplane-replica": "m-1"},
    "metadata": {"items": [{"key": "startup-script", "value": "#!/bin/sh\n"}]},
    "scheduling": {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "onHostMaintenance": "TERMINATE",
        "automaticRestart": False,
    },
    "disks": [
        {
            "boot": True,
            "initializeParams": {
                "sourceImage": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts",
                "diskType": f"zones/{ZONE}/diskTypes/pd-ssd",
            },
        }
    ],
    "networkInterfaces": [{"network": "global/networks/default"}],
}


class Client:
    """Speaks to the box without Google's SDK, which would not send nonsense."""

    def __init__(self, box: GcpBox, token: str = TOKEN) -> None:
        self.box, self._token = box, token

    def __call__(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and document of a call; `path` is within the project."""
        connection = http.client.HTTPConnection(self.box.endpoint_url.rpartition("@")[2], timeout=10)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Authorization": f"Bearer {self._token}"}
            connection.request(method, f"/compute/v1/projects/{PROJECT}/{path}", payload, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def insert(self, change: Callable[[dict[str, Any]], object] = lambda _: None) -> tuple[int, dict[str, Any]]:
        """Ask for `MACHINE` with a change."""
        machine = copy.deepcopy(MACHINE)
        change(machine)
        return self("POST", INSTANCES, machine)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Listening(OnPaper):
    """Machines on paper whose metadata can be asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: dict[str, Metadata] = {}

    def boot(self, machine_id: str, user_data: str, metadata: Metadata) -> str:
        self.metadata[machine_id] = metadata
        return super().boot(machine_id, user_data, metadata)

    def ask(self, machine_id: str, path: str) -> str:
        """What the machine's metadata server answers below `instance/`."""
        target = f"/computeMetadata/v1/instance/{path}"
        status, headers, body = self.metadata[machine_id]("GET", target, {"metadata-flavor": "Google"})
        assert (status, headers["Metadata-Flavor"]) == (200, "Google")
        return body.decode()


@pytest.fixture
def hypervisor() -> Listening:
    return Listening()


@pytest.fixture
def client(hypervisor: Listening, clock: FakeClock) -> Iterator[Client]:
    box = GcpBox(hypervisor, clock)
    yield Client(box)
    box.close()


def _rename(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda machine: machine.update(name=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda machine: machine.update(instanceType="big"), 'Unknown name "instanceType"'),
        (lambda machine: machine["scheduling"].update(spot=True), 'Unknown name "spot"'),
        (lambda machine: machine["disks"][0].update(autoDelete="yes"), "resource.disks[0].autoDelete"),
        (lambda machine: machine["disks"][0]["initializeParams"].update(diskSizeGb="100 GB"), "diskSizeGb"),
        (lambda machine: machine["scheduling"].update(provisioningModel="CHEAP"), "provisioningModel' (enum)"),
        (lambda machine: machine.update(labels=["a"]), "resource.labels"),
        (lambda machine: machine["labels"].update(number=1), "resource.labels.number"),
        (lambda machine: machine.update(tags={"items": "web"}), "resource.tags.items"),
        (lambda machine: machine.update(canIpForward=1), "resource.canIpForward"),
    ],
)
def test_what_the_contract_does_not_know_is_refused(
    client: Client, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """An unknown or mistyped field is a 400 that names it, and nothing is done."""
    status, document = client.insert(change)
    assert status == document["error"]["code"] == 400
    assert message in document["error"]["message"]
    assert client.box.machines() == []
    assert client.insert()[0] == 200


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (lambda machine: machine.pop("name"), 400, "resource.name': ''. It is required"),
        (lambda machine: machine.pop("disks"), 400, "resource.disks': ''. It is required"),
        (_rename("Upper"), 400, "resource.name"),
        (_rename("x" * 64), 400, "resource.name"),
        (lambda machine: machine["labels"].update(team="Red Team"), 400, "resource.labels"),
        (lambda machine: machine["scheduling"].update(automaticRestart=True), 400, "automaticRestart"),
        (lambda machine: machine["scheduling"].update(onHostMaintenance="MIGRATE"), 400, "live migration"),
        (lambda machine: machine["scheduling"].update(provisioningModel="STANDARD"), 400, "TerminationAction"),
        (lambda machine: machine.update(machineType=f"zones/{ZONE}/machineTypes/z9-big"), 404, "machineTypes/z9-big'"),
        (lambda machine: machine["disks"][0]["initializeParams"].update(sourceImage="x"), 404, "was not found"),
        (lambda machine: machine["disks"][0]["initializeParams"].update(diskType="tape"), 404, "diskTypes/tape'"),
    ],
)
def test_what_google_does_not_have_is_refused(
    client: Client, change: Callable[[dict[str, Any]], object], status: int, message: str
) -> None:
    """Well-formed and still wrong: names, labels, scheduling, types and images."""
    answered, document = client.insert(change)
    assert answered == status
    assert message in document["error"]["message"]
    assert client.box.machines() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "aggregated/instances?sort=name", 400),
        ("GET", "aggregated/instances?maxResults=many", 400),
        ("GET", "aggregated/instances?filter=status%3DRUNNING", 400),
        ("GET", "aggregated/machines", 404),
        ("GET", f"{INSTANCES}/nobody", 404),
        ("DELETE", f"{INSTANCES}/nobody", 404),
        ("GET", f"zones/{ZONE}/operations/none", 404),
        ("GET", "zones", 501),
    ],
)
def test_other_requests_are_held_against_the_contract_too(client: Client, method: str, path: str, status: int) -> None:
    """Paths, parameters, and what this box leaves out."""
    assert client(method, path)[0] == status


def test_a_wrong_token_is_refused(client: Client) -> None:
    """Before anything else."""
    assert Client(client.box, "stolen").insert()[0] == 401
    assert client.box.requests == []


def test_an_insert_takes_its_time(client: Client, clock: FakeClock, hypervisor: Listening) -> None:
    """PROVISIONING, STAGING with its resources at half time, RUNNING; the operation is DONE with the last."""
    client.box.faults.operation_s = 10.0
    _, operation = client.insert()
    seen = []
    for _ in range(3):
        status = client("GET", f"{INSTANCES}/m-1")[1]["status"]
        done = client("GET", f"zones/{ZONE}/operations/{operation['name']}")[1]["status"]
        seen.append((status, done, hypervisor.is_running("m-1")))
        clock.advance(5.0)
    assert seen == [("PROVISIONING", "RUNNING", False), ("STAGING", "RUNNING", True), ("RUNNING", "DONE", True)]


def test_want_of_capacity_is_told_by_the_operation(client: Client, clock: FakeClock) -> None:
    """The request was accepted; the machine is not there afterwards, nor was it ever on."""
    client.box.faults.operation_s = 10.0
    client.box.faults.capacity[ZONE] = 1
    names = [client.insert(_rename(name))[1]["name"] for name in ("m-1", "m-2")]
    clock.advance(10.0)
    first, second = (client("GET", f"zones/{ZONE}/operations/{name}")[1] for name in names)
    assert (first["status"], "error" in first) == ("DONE", False)
    assert second["error"]["errors"][0]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert [machine.id for machine in client.box.machines()] == [f"{ZONE}/m-1"]
    assert client("GET", f"{INSTANCES}/m-2")[0] == 404


def test_a_request_id_is_answered_with_the_first_ones_operation(client: Client) -> None:
    """Also when the machine is long gone; without an id it is another machine, or a name that is taken."""
    path = f"{INSTANCES}?requestId=8a1ba7e8-0b4e-5c86-8f7b-000000000001"
    _, first = client("POST", path, MACHINE)
    assert client.insert()[0] == 409
    client("DELETE", f"{INSTANCES}/m-1")
    assert client("POST", path, MACHINE)[1]["name"] == first["name"]
    assert client("GET", f"{INSTANCES}/m-1")[0] == 404


def test_a_preempted_machine_says_so_stops_and_is_deleted(
    client: Client, clock: FakeClock, hypervisor: Listening
) -> None:
    """First in its metadata, then for all to see, then gone with its disk."""
    client.insert()
    (machine,) = client.box.machines()
    assert hypervisor.ask("m-1", "preempted") == "FALSE"
    client.box.preempt(machine.id, notice_s=30.0)
    assert hypervisor.ask("m-1", "preempted") == "TRUE"
    assert client("GET", f"{INSTANCES}/m-1")[1]["status"] == "RUNNING"
    clock.advance(15.0)
    assert client("GET", f"{INSTANCES}/m-1")[1]["status"] == "STOPPING"
    clock.advance(15.0)
    client.box.advance()
    assert not hypervisor.is_running("m-1")
    assert client("GET", f"{INSTANCES}/m-1")[0] == 404
    assert "disks" not in json.dumps(client("GET", "aggregated/disks")[1]["items"])


def test_what_is_not_spot_is_not_preempted(client: Client) -> None:
    """A test that asks for it is mistaken."""

    def on_demand(machine: dict[str, Any]) -> None:
        machine["scheduling"] = {"onHostMaintenance": "TERMINATE"}

    client.insert(on_demand)
    with pytest.raises(ValueError, match="not a spot machine"):
        client.box.preempt(f"{ZONE}/m-1", notice_s=30.0)


def test_a_machine_that_switches_itself_off_stays_stopped(client: Client, hypervisor: Listening) -> None:
    """TERMINATED, and its disk with it, until it is deleted."""
    client.insert()
    client.box.advance()
    hypervisor.destroy("m-1")
    assert client("GET", f"{INSTANCES}/m-1")[1]["status"] == "TERMINATED"
    assert [machine.running for machine in client.box.machines()] == [False]
    client("DELETE", f"{INSTANCES}/m-1")
    assert client("GET", f"{INSTANCES}/m-1")[0] == 404


def test_a_machine_knows_itself(client: Client, hypervisor: Listening) -> None:
    """Name, zone, script and address, as Google's metadata server tells them."""
    client.insert()
    (machine,) = client.box.machines()
    address = hypervisor.running["m-1"]
    assert hypervisor.ask("m-1", "name") == machine.replica_id
    assert hypervisor.ask("m-1", "zone") == f"projects/1234567890/zones/{ZONE}"
    assert hypervisor.ask("m-1", "attributes/startup-script") == "#!/bin/sh\n"
    assert hypervisor.ask("m-1", "network-interfaces/0/ip") == address
    assert hypervisor.ask("m-1", "network-interfaces/0/access-configs/0/external-ip") == address
    assert hypervisor.ask("m-1", "scheduling/preemptible") == "TRUE"
    assert hypervisor.ask("m-1", "id").isdigit()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("GET", "/computeMetadata/v1/instance/name", {}), 403),
        (("POST", "/computeMetadata/v1/instance/name", {"metadata-flavor": "Google"}), 405),
        (("GET", "/computeMetadata/v1/instance/shoe-size", {"metadata-flavor": "Google"}), 404),
        (("GET", "/latest/meta-data/", {"metadata-flavor": "Google"}), 404),
    ],
)
def test_the_metadata_server_is_careful(
    client: Client, hypervisor: Listening, request_: tuple[str, str, dict[str, str]], status: int
) -> None:
    """A browser that was tricked into asking does not send the header."""
    client.insert()
    client.box.advance()
    assert hypervisor.metadata["m-1"](*request_)[0] == status


def test_who_waits_for_the_notice_hears_it_at_once(client: Client, hypervisor: Listening) -> None:
    """`wait_for_change` with the last answer's etag returns with the change, or as it is after `timeout_sec`."""
    client.insert()
    (machine,) = client.box.machines()
    ask, headers = hypervisor.metadata["m-1"], {"metadata-flavor": "Google"}
    url = "/computeMetadata/v1/instance/preempted"
    etag = ask("GET", url, headers)[1]["ETag"]
    waiting = f"{url}?wait_for_change=true&last_etag={etag}&timeout_sec="
    assert ask("GET", f"{waiting}0.01", headers)[2] == b"FALSE"

    timer = threading.Timer(0.05, client.box.preempt, (machine.id, 30.0))
    timer.start()
    start = time.monotonic()
    assert ask("GET", f"{waiting}20", headers)[2] == b"TRUE"
    assert time.monotonic() - start < 5.0
    timer.join()
    assert ask("GET", f"{waiting}20", headers)[2] == b"TRUE"
    assert time.monotonic() - start < 5.0


def test_who_waits_without_an_etag_may_come_too_late(client: Client, hypervisor: Listening) -> None:
    """A change before the question is none: a client must tell what it knows. The box is no kinder than Google."""
    client.insert()
    client.box.preempt(client.box.machines()[0].id, 30.0)
    start = time.monotonic()
    target = "/computeMetadata/v1/instance/preempted?wait_for_change=true&timeout_sec=0.2"
    assert hypervisor.metadata["m-1"]("GET", target, {"metadata-flavor": "Google"})[2] == b"TRUE"
    assert time.monotonic() - start >= 0.2


def test_a_fault_is_used_up(client: Client) -> None:
    """By Google's own name or by ours; a lost answer loses a refusal too."""
    client.box.faults.once("launch", Fault.THROTTLED)
    client.box.faults.once("instances.insert", Fault.SERVER_ERROR)
    assert [client.insert()[0] for _ in range(3)] == [403, 503, 200]
    client.box.faults.once("launch", Fault.LOST_RESPONSE)
    with pytest.raises(http.client.RemoteDisconnected):
        client.insert()
    assert client.insert()[0] == 409


def test_every_answer_is_googles(client: Client) -> None:
    """The box holds its own answers against the contract: one that does not fit is a 500, not a surprise in production."""
    published = contract.published()
    method = published.find("GET", f"/compute/v1/projects/{PROJECT}/{INSTANCES}/m-1")
    assert method is not None
    client.insert()
    _, document = client("GET", f"{INSTANCES}/m-1")
    assert published.faults_of_answer(method, document) == []
    assert published.faults_of_answer(method, {**document, "status": "ASLEEP"}) != []


def test_closing_takes_the_machines_and_the_port(clock: FakeClock, hypervisor: Listening) -> None:
    """Nothing runs on, and the port can be taken again."""
    box = GcpBox(hypervisor, clock)
    Client(box).insert()
    box.advance()
    assert hypervisor.is_running("m-1")
    box.close()
    assert not hypervisor.is_running("m-1")
    port = int(box.endpoint_url.rpartition(":")[2])
    again = GcpBox(hypervisor, clock, port)
    assert again.endpoint_url == box.endpoint_url
    again.close()
