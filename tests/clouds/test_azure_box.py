"""Azure in a box refuses what Azure refuses, and tells what Azure tells."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from chalicelib import catalog
from chalicelib.model import CapacityType, Offer, Requirement
from chalicelib.providers.azure.compute import AzureProvider
from chalicelib.providers.azure.interruption import notice
from tests.clouds.azure import contract
from tests.clouds.azure.box import AzureBox
from tests.clouds.azure.wire import Json, Request
from tests.clouds.box import Box, Metadata, OnPaper
from tests.fakes import FakeClock
from tests.providers.contract import launch_request

COMPUTE = "2026-04-01"
EXPANDED = {"$expand": "instanceView"}


@dataclass
class Paper(OnPaper):
    """Machines on paper whose metadata service can be asked."""

    services: dict[str, Metadata] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def boot(self, machine_id: str, user_data: str, metadata: Metadata) -> str:
        self.services[machine_id] = metadata
        return super().boot(machine_id, user_data, metadata)


@dataclass
class Azure:
    """A box, spoken to by the shipped provider and by hand."""

    box: AzureBox
    clock: FakeClock
    hypervisor: Paper
    http: httpx.Client

    def launch(self, offer: Offer | None = None, **requirement: Any) -> Request:
        """Let the provider launch a machine; the order it sent."""
        provider = AzureProvider(
            deployment="test",
            control_url="https://control.example",
            clock=self.clock,
            subscription=self.box.subscription,
            resource_group=self.box.group,
            endpoint_url=self.box.endpoint_url,
            pause=self.clock.advance,
        )
        request = launch_request(offer or spot_offer())
        provider.launch(replace(request, replica=replace(request.replica, requirement=Requirement(**requirement))))
        return next(each for each in reversed(self.box.requests) if each.operation == "virtualMachines.createOrUpdate")

    def call(
        self, method: str, path: str, body: Json | None = None, query: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """A request by hand, with the box's token. Paths may begin at the resource group."""
        url = urlsplit(self.box.endpoint_url)
        if not path.startswith("/subscriptions"):
            path = f"/subscriptions/{self.box.subscription}/resourceGroups/{self.box.group}/{path}"
        return self.http.request(
            method,
            f"http://{url.hostname}:{url.port}{path}",
            params={"api-version": COMPUTE, **(query or {})},
            json=body,
            headers={"Authorization": f"Bearer {url.username}"},
        )

    def order(self, body: Json, name: str = "another") -> httpx.Response:
        return self.call("PUT", f"providers/Microsoft.Compute/virtualMachines/{name}", body)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
        """The metadata service of the newest machine."""
        service = self.hypervisor.services[self.box.machines()[-1].id]
        status, _, content = service(method, path, headers)
        return status, json.loads(content) if content[:1] in b'{["' else content.decode()


def spot_offer() -> Offer:
    return next(
        offer
        for offer in catalog.offers(["azure"])
        if (offer.location.region, offer.instance_type) == ("eastus", "Standard_NC4as_T4_v3")
        and offer.capacity_type is CapacityType.SPOT
    )


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """One for all tests: making a client takes longer than most of them."""
    with httpx.Client() as client:
        yield client


@pytest.fixture
def azure(http: httpx.Client) -> Iterator[Azure]:
    clock, hypervisor = FakeClock(), Paper()
    box: Box = AzureBox(hypervisor, clock)
    assert isinstance(box, AzureBox)
    yield Azure(box, clock, hypervisor, http)
    box.close()


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def changed(body: Json, path: str, value: object) -> Json:
    """The body with one field, named like `a.b.0.c`, set; removed when the value is None."""
    copy = deepcopy(body)
    *parents, last = path.split(".")
    target: Any = copy
    for parent in parents:
        target = target[int(parent)] if isinstance(target, list) else target.setdefault(parent, {})
    if value is None:
        del target[last]
    else:
        target[last] = value
    return copy


INTERFACE = "properties.networkProfile.networkInterfaceConfigurations.0"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("colour", "red", "Could not find member 'colour'"),
        ("properties.osProfile.userName", "me", "Could not find member 'userName'"),
        (f"{INTERFACE}.properties.ipConfigurations.0.publicIp", {}, "Could not find member 'publicIp'"),
        ("properties.vmId", "mine", "Could not find member 'vmId'"),  # Azure's to say
        ("tags.number", 7, "Error converting value '7' to type 'str'"),
        ("properties.storageProfile.osDisk.diskSizeGB", "100", "to type 'int'"),
        ("properties.diagnosticsProfile.bootDiagnostics.enabled", "yes", "to type 'bool'"),
        ("properties.billingProfile.maxPrice", True, "to type 'float'"),
        ("properties.osProfile", [], "to an object"),
        (f"{INTERFACE}.properties.ipConfigurations", {}, "to an array"),
        ("properties.priority", "Cheap", "is none of Regular, Low, Spot"),
        ("properties.storageProfile.osDisk.deleteOption", "delete it", "is none of Delete, Detach"),
        ("properties.storageProfile.osDisk.createOption", None, "Required property 'createOption'"),
        ("location", None, "Required property 'location'"),
        (f"{INTERFACE}.name", None, "Required property 'name'"),
    ],
)
def test_a_field_that_microsofts_models_do_not_have_is_refused(
    azure: Azure, path: str, value: object, told: str
) -> None:
    """Unknown, mistyped, read-only, missing, or none of the known values: 400 and where. The same body without it is taken."""
    sent = azure.launch().body
    answer = azure.order(changed(sent, path, value))
    assert code(answer) == (400, "InvalidRequestContent")
    assert told in answer.json()["error"]["message"]
    assert azure.order(sent).status_code == 201


def test_fields_of_the_network_are_checked_too(azure: Azure) -> None:
    """Against a table of our own: azure-mgmt-network is not among what we install."""
    azure.launch()
    firewall = next(each for each in azure.box.requests if each.operation == "networkSecurityGroups.createOrUpdate")
    rule = "properties.securityRules.0.properties"
    for path, value in (
        (f"{rule}.port", "22"),
        (f"{rule}.direction", "In"),
        (f"{rule}.priority", "1"),
        ("location", None),
    ):
        body = changed(firewall.body, path, value)
        answer = azure.call("PUT", firewall.path, body, {"api-version": contract.NETWORK})
        assert code(answer) == (400, "InvalidRequestContent")


@pytest.mark.parametrize(
    ("path", "value", "refused"),
    [
        ("location", "atlantis", "LocationNotAvailableForResourceType"),
        ("location", "westindia", "SkuNotAvailable"),
        ("properties.hardwareProfile.vmSize", "Standard_GPU_v1", "InvalidParameter"),
        ("properties.storageProfile.imageReference.sku", "2204-lts", "PlatformImageNotFound"),
        ("properties.storageProfile.osDisk.diskSizeGB", 10, "InvalidParameter"),
        ("properties.storageProfile.osDisk.managedDisk.storageAccountType", "UltraSSD_LRS", "InvalidParameter"),
        ("properties.osProfile.linuxConfiguration", None, "InvalidParameter"),
        ("properties.osProfile.linuxConfiguration.ssh.publicKeys.0.keyData", "ssh-rsa AAAA", "InvalidParameter"),
        ("properties.osProfile.computerName", "x" * 65, "InvalidParameter"),
        ("properties.osProfile.customData", "not base64", "InvalidParameter"),
        ("properties.osProfile.customData", base64.b64encode(b"x" * 65_536).decode(), "InvalidParameter"),
        ("properties.priority", "Regular", "InvalidParameter"),  # with an eviction policy
        ("properties.billingProfile.maxPrice", -2, "InvalidParameter"),
        ("properties.networkProfile.networkApiVersion", None, "BadRequest"),
        (f"{INTERFACE}.properties.networkSecurityGroup.id", "/nowhere", "InvalidResourceReference"),
        (
            f"{INTERFACE}.properties.ipConfigurations.0.properties.subnet.id",
            "/no/subnets/s",
            "InvalidResourceReference",
        ),
        (
            f"{INTERFACE}.properties.ipConfigurations.0.properties.publicIPAddressConfiguration.properties",
            {"publicIPAllocationMethod": "Dynamic"},
            "PublicIPAndSkuMismatch",
        ),
    ],
)
def test_what_fits_the_models_may_still_be_refused(azure: Azure, path: str, value: object, refused: str) -> None:
    """Sizes, regions and images that there are not; values that do not go together; nothing is started."""
    sent = azure.launch().body
    answer = azure.order(changed(sent, path, value))
    assert answer.is_client_error
    assert answer.json()["error"]["code"] == refused
    assert len(azure.box.machines()) == 1


def test_a_name_that_azure_does_not_take_is_refused(azure: Azure) -> None:
    """Longer than 64 characters, or with an underscore at its end."""
    sent = azure.launch().body
    assert [code(azure.order(sent, name)) for name in ("x" * 65, "x_")] == [(400, "InvalidResourceName")] * 2


@pytest.mark.parametrize(
    ("method", "path", "query", "refused"),
    [
        ("GET", "providers/Microsoft.Compute/virtualMachine", {}, (404, "InvalidResourceType")),
        ("PATCH", "providers/Microsoft.Compute/virtualMachines/x", {}, (501, "")),
        ("GET", "providers/Microsoft.Compute/virtualMachines/x", {}, (404, "ResourceNotFound")),
        (
            "GET",
            "providers/Microsoft.Compute/virtualMachines",
            {"api-version": "2015-06-15"},
            (400, "InvalidApiVersionParameter"),
        ),
        ("GET", "providers/Microsoft.Compute/virtualMachines", {"$top": "5"}, (400, "InvalidQueryParameter")),
        ("GET", "providers/Microsoft.Compute/virtualMachines", {"$expand": "instanceView"}, (400, "BadRequest")),
        ("GET", "/subscriptions/x/resourceGroups/sailplane/resources", {}, (404, "SubscriptionNotFound")),
    ],
)
def test_what_is_no_operation_of_azures_is_refused(
    azure: Azure, method: str, path: str, query: dict[str, str], refused: tuple[int, str]
) -> None:
    """Path, method, version and parameters are those that Microsoft publishes."""
    answer = azure.call(method, path, query=query)
    assert answer.status_code == refused[0]
    assert refused[1] in answer.text


def test_a_stranger_is_refused(azure: Azure) -> None:
    """Whatever is asked, without the token."""
    url = urlsplit(azure.box.endpoint_url)
    answer = azure.http.get(
        f"http://{url.hostname}:{url.port}/subscriptions", headers={"Authorization": "Bearer guess"}
    )
    assert code(answer) == (401, "InvalidAuthenticationToken")


def test_a_second_order_of_the_same_name_makes_no_second_machine(azure: Azure) -> None:
    """It would change the machine; with `If-None-Match: *`, as the provider sends it, it is refused."""
    sent = azure.launch()
    assert azure.order(sent.body, sent.name).status_code == 200
    assert sent.headers["if-none-match"] == "*"
    assert len(azure.box.machines()) == 1


def test_an_operation_stays_pending_on_the_boxs_clock(azure: Azure) -> None:
    """Order and removal can be asked after, where the answer says."""
    sent = azure.launch()
    azure.box.faults.operation_s = 30.0
    ordered = azure.order(sent.body)
    assert (ordered.status_code, ordered.json()["properties"]["provisioningState"]) == (201, "Creating")
    outcome = urlsplit(ordered.headers["Azure-AsyncOperation"]).path
    assert azure.call("GET", outcome).json()["status"] == "InProgress"
    azure.clock.advance(30.0)
    assert azure.call("GET", outcome).json()["status"] == "Succeeded"
    removed = azure.call("DELETE", "providers/Microsoft.Compute/virtualMachines/another")
    assert removed.status_code == 202
    outcome = urlsplit(removed.headers["Azure-AsyncOperation"]).path
    assert azure.call("GET", outcome).json()["status"] == "InProgress"
    assert code(azure.order(sent.body)) == (409, "Conflict")
    azure.clock.advance(30.0)
    assert azure.call("GET", outcome).json()["status"] == "Succeeded"
    assert [machine.running for machine in azure.box.machines()] == [True, False]


def test_an_order_that_finds_no_host_fails_late(azure: Azure) -> None:
    """It stays in the book, failed, and is no machine that was ever started."""
    sent = azure.launch()
    azure.box.fail_late()
    azure.box.faults.capacity["eastus"] = 1
    ordered = azure.order(sent.body)
    outcome = azure.call("GET", urlsplit(ordered.headers["Azure-AsyncOperation"]).path).json()
    assert (outcome["status"], outcome["error"]["code"]) == ("Failed", "AllocationFailed")
    machine = azure.call("GET", "providers/Microsoft.Compute/virtualMachines/another", query=EXPANDED)
    assert [status["code"] for status in machine.json()["properties"]["instanceView"]["statuses"]] == [
        "ProvisioningState/failed/AllocationFailed"
    ]
    assert len(azure.box.machines()) == 1


def test_no_answer_shows_what_a_machine_was_told(azure: Azure) -> None:
    """Custom data goes in and never comes out."""
    sent = azure.launch()
    custom_data = sent.body["properties"]["osProfile"]["customData"]
    texts = [
        azure.call("GET", sent.path, query=EXPANDED).text,
        azure.call("GET", "providers/Microsoft.Compute/virtualMachines").text,
        azure.order(sent.body, sent.name).text,
    ]
    assert [text for text in texts if custom_data in text or "customData" in text] == []


def test_the_console_is_behind_a_signed_address_and_refuses_tokens(azure: Azure) -> None:
    """Who shows the token for Resource Manager to a blob store has given it away."""
    sent = azure.launch()
    azure.hypervisor.write(azure.box.machines()[0].id, "hello\n")
    uri = azure.call("POST", f"{sent.path}/retrieveBootDiagnosticsData").json()["serialConsoleLogBlobUri"]
    assert azure.http.get(uri).text == "hello\n"
    assert azure.http.get(uri.partition("?")[0]).status_code == 403
    assert azure.http.get(uri, headers={"Authorization": "Bearer x"}).status_code == 403


# --- inside the machine -----------------------------------------------------------------------------------------------


def test_a_machine_can_ask_who_and_where_it_is(azure: Azure) -> None:
    """As a document and leaf by leaf; addresses are those it was given."""
    sent = azure.launch()
    version = "api-version=2021-02-01"
    status, document = azure.ask(f"/metadata/instance?{version}", metadata="true")
    assert status == 200
    compute = document["compute"]
    assert (compute["name"], compute["location"], compute["priority"]) == (sent.name, "eastus", "Spot")
    assert compute["vmId"] == azure.box.machines()[0].id
    assert {"name": "sailplane-replica", "value": sent.name} in compute["tagsList"]
    assert compute["customData"] == ""
    address = "/metadata/instance/network/interface/0/ipv4/ipAddress/0"
    expected = azure.hypervisor.running[compute["vmId"]]
    for leaf in ("privateIpAddress", "publicIpAddress"):
        assert azure.ask(f"{address}/{leaf}?{version}&format=text", metadata="true") == (200, expected)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/metadata/instance?api-version=2021-02-01", {}, 400),
        ("/metadata/instance?api-version=2021-02-01", {"metadata": "true", "x-forwarded-for": "1.2.3.4"}, 400),
        ("/metadata/instance", {"metadata": "true"}, 400),
        ("/metadata/instance/compute?api-version=2021-02-01&format=text", {"metadata": "true"}, 400),
        ("/metadata/instance/compute/colour?api-version=2021-02-01", {"metadata": "true"}, 404),
        ("/metadata/identity?api-version=2021-02-01", {"metadata": "true"}, 404),
    ],
)
def test_the_metadata_service_wants_to_be_asked_properly(
    azure: Azure, path: str, headers: dict[str, str], status: int
) -> None:
    """With its header, which no browser or proxy sends by mistake, and a version."""
    azure.launch()
    assert azure.ask(path, **headers)[0] == status


EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"


def test_a_spot_machine_sees_its_eviction_coming(azure: Azure) -> None:
    """From nothing to a Preempt event with its time; then the machine and all that came with it are gone."""
    sent = azure.launch()
    assert azure.ask(EVENTS, metadata="true") == (200, {"DocumentIncarnation": 0, "Events": []})
    azure.clock.time = 1_660_064_822.0
    azure.box.preempt(azure.box.machines()[0].id, 30.0)
    _, document = azure.ask(EVENTS, metadata="true")
    (event,) = document["Events"]
    assert (event["EventType"], event["EventStatus"], event["Resources"]) == ("Preempt", "Scheduled", [sent.name])
    assert event["NotBefore"] == "Tue, 09 Aug 2022 17:07:32 GMT"
    azure.clock.advance(30.0)
    azure.box.advance()
    assert azure.hypervisor.running == {}
    assert code(azure.call("GET", sent.path)) == (404, "ResourceNotFound")


def test_an_acknowledged_event_begins(azure: Azure) -> None:
    """Its time is empty from then on."""
    azure.launch()
    azure.box.preempt(azure.box.machines()[0].id, 30.0)
    azure.ask(EVENTS, "POST", metadata="true")
    _, document = azure.ask(EVENTS, metadata="true")
    assert [(event["EventStatus"], event["NotBefore"]) for event in document["Events"]] == [("Started", "")]


def test_azure_takes_no_machine_back_that_is_paid_in_full(azure: Azure) -> None:
    """A test that says so is wrong."""
    azure.launch(replace(spot_offer(), capacity_type=CapacityType.ON_DEMAND))
    with pytest.raises(AssertionError, match="no spot machine"):
        azure.box.preempt(azure.box.machines()[0].id, 30.0)


def test_a_machine_that_switches_itself_off_is_stopped_and_stays(azure: Azure) -> None:
    """Azure's own word for it is PowerState/stopped."""
    sent = azure.launch()
    azure.box.kill(azure.box.machines()[0].id)
    assert [machine.running for machine in azure.box.machines()] == [False]
    view = azure.call("GET", sent.path, query=EXPANDED).json()["properties"]["instanceView"]
    assert "PowerState/stopped" in [status["code"] for status in view["statuses"]]


def test_closing_the_box_ends_its_machines(azure: Azure) -> None:
    """Nothing runs on after a test."""
    azure.launch()
    azure.box.close()
    assert azure.hypervisor.running == {}


# --- Microsoft's own files --------------------------------------------------------------------------------------------


@pytest.mark.public_contracts
def test_what_is_sent_fits_what_microsoft_publishes(azure: Azure) -> None:
    """The bodies of all kinds of orders against the published schema; every operation of Compute against the index.

    SAILPLANE_PUBLIC_CONTRACTS names a directory with azure/arm-schema.2024-11-01.Microsoft.Compute.json and
    azure/compute_operations_index.json.
    """
    directory = Path(os.environ["SAILPLANE_PUBLIC_CONTRACTS"]) / "azure"
    schema = json.loads((directory / "arm-schema.2024-11-01.Microsoft.Compute.json").read_text())
    index = json.loads((directory / "compute_operations_index.json").read_text())
    azure.launch()
    azure.launch(replace(spot_offer(), capacity_type=CapacityType.ON_DEMAND), labels=(("team", "search"),))
    sent = azure.launch(disk_size_gib=512, disk_tier="best", network_tier="best", image_id="docker:x").body
    azure.call("DELETE", f"providers/Microsoft.Compute/virtualMachines/{azure.box.machines()[0].replica_id}")
    orders = [each.body for each in azure.box.requests if each.operation == "virtualMachines.createOrUpdate"]
    assert len(orders) == 3
    machine = schema["resourceDefinitions"]["virtualMachines"]
    assert [problem for order in orders for problem in mismatches(schema, machine, order, "")] == []
    # The schema does find what is wrong, and the box agrees with it.
    wrong = changed(sent, "properties.osProfile.userName", "me")
    assert list(mismatches(schema, machine, wrong, "")) == ["properties.osProfile.userName: not in the schema"]
    published = {(each["method"], shape(each["url"]), each["api_version"]) for each in index}
    known = {
        (each.method, shape(each.path), each.api_version) for each in contract.OPERATIONS if "Compute" in each.path
    }
    # Where an operation's outcome can be asked for is in no list: the answer names it.
    assert {path for _, path, _ in known - published} == {
        shape("/subscriptions/{}/providers/Microsoft.Compute/locations/{}/operations/{}")
    }


@pytest.mark.public_contracts
def test_a_recorded_event_becomes_a_notice() -> None:
    """The preemption in events/azure_imds_scheduledevent_preempt.json of the same directory."""
    path = Path(os.environ["SAILPLANE_PUBLIC_CONTRACTS"]) / "events" / "azure_imds_scheduledevent_preempt.json"
    recorded = json.loads(path.read_text())
    told = notice(recorded["Events"][0]["Resources"][0], recorded, 0.0)
    assert told is not None
    assert told.at == 1_660_064_852.0


# The one thing that is sent and is newer than that schema: tags of what comes with a machine (azure-mgmt-compute has them).
NEWER = ("networkInterfaceConfigurations[0].tags", "publicIPAddressConfiguration.tags")


def shape(path: str) -> str:
    """A path without the names of its parameters."""
    return "/".join("{}" if part.startswith("{") else part.lower() for part in path.split("/"))


def mismatches(schema: Json, node: Json, value: Any, path: str) -> Iterator[str]:
    """Where a value does not fit a node of an ARM schema. Template expressions, which nobody sends, are left out."""
    node = resolved(schema, node)
    if isinstance(value, dict):
        properties, extra = node.get("properties", {}), node.get("additionalProperties")
        for name, member in value.items():
            where = f"{path}.{name}".lstrip(".")
            if name in properties:
                yield from mismatches(schema, properties[name], member, where)
            elif not extra and not where.endswith(NEWER):
                yield f"{where}: not in the schema"
        # A deployment template also says what the address of a request says.
        missing = set(node.get("required", ())) - value.keys() - {"name", "type", "apiVersion"}
        yield from (f"{path}.{name}: missing" for name in sorted(missing))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from mismatches(schema, node["items"], item, f"{path}[{number}]")
    elif "enum" in node and value not in node["enum"] and not path.endswith("vmSize"):
        yield f"{path}: {value!r} is none of {node['enum']}"
    elif not FITS[node["type"]](value):
        yield f"{path}: {value!r} is no {node['type']}"


FITS: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int),
    "number": lambda value: isinstance(value, int | float),
    "string": lambda value: isinstance(value, str),
}


def resolved(schema: Json, node: Json) -> Json:
    """A node without references and alternatives."""
    while "oneOf" in node or "$ref" in node:
        node = node["oneOf"][0] if "oneOf" in node else schema["definitions"][node["$ref"].rpartition("/")[2]]
    return node
