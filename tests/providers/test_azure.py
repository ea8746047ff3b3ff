"""The azure provider: the shipped code and Microsoft's SDK, over HTTP, against Azure in a box."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.mgmt.compute.models import VirtualMachine

from chalicelib import bootstrap, catalog
from chalicelib.config import from_env
from chalicelib.errors import LaunchError, LaunchRefused, NoCapacity, QuotaExceeded, Unauthorized, Unreachable
from chalicelib.model import (
    CapacityType,
    Instance,
    InstanceStatus,
    InterruptionNotice,
    LaunchRequest,
    LeftoverKind,
    NoticeKind,
    Offer,
    Requirement,
)
from chalicelib.ports import Janitor
from chalicelib.providers.azure import arm, errors, offers
from chalicelib.providers.azure.compute import AzureProvider
from chalicelib.providers.azure.interruption import notice
from chalicelib.providers.azure.machine import Reading
from chalicelib.providers.boot import AGENT_PORT, user_data
from tests.clouds.azure.box import AzureBox
from tests.clouds.box import Fault, OnPaper
from tests.fakes import FakeClock
from tests.providers.contract import FIRST, LAST, ProviderContract, launch_request
from tests.test_config import CLOUD, ENV
from tests.test_credentials import APP, AZURE

CONTROL_URL = "https://control.example"
REGION = "eastus"


def offer_of(
    instance_type: str = "Standard_NC4as_T4_v3", capacity_type: CapacityType = CapacityType.ON_DEMAND
) -> Offer:
    """What the catalog has of a size in the region."""
    return next(
        offer
        for offer in catalog.offers(["azure"])
        if (offer.location.region, offer.instance_type) == (REGION, instance_type)
        and offer.capacity_type is capacity_type
    )


@dataclass
class AzureCloud:
    """`contract.Cloud` over the box, with machines on paper."""

    box: AzureBox
    hypervisor: OnPaper
    clock: FakeClock
    offer: Offer
    provider: AzureProvider = field(init=False)

    def __post_init__(self) -> None:
        self.provider = self.another_process()

    def another_process(self, deployment: str = "test", **settings: Any) -> AzureProvider:
        """A provider without memory of this one."""
        return AzureProvider(
            deployment=deployment,
            clock=self.clock,
            **{
                "control_url": CONTROL_URL,
                "subscription": self.box.subscription,
                "resource_group": self.box.group,
                "endpoint_url": self.box.endpoint_url,
                "pause": self.clock.advance,
                **settings,
            },
        )

    def another_deployment(self) -> AzureProvider:
        return self.another_process("another")

    def run_out(self) -> None:
        self.box.faults.capacity[""] = len(self.box.machines())

    def until_logged(self, instance: Instance) -> None:
        self.hypervisor.write(instance.id, f"{FIRST}\n{LAST}\n")

    def sent(self, operation: str) -> list[Any]:
        """The bodies that were sent to an operation."""
        return [request.body for request in self.box.requests if request.operation == operation]

    def started(self) -> list[str]:
        """The replicas of all machines ever started, sorted."""
        return sorted(machine.replica_id for machine in self.box.machines())


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    clock, hypervisor = FakeClock(), OnPaper()
    box = AzureBox(hypervisor, clock)
    yield AzureCloud(box, hypervisor, clock, offer_of())
    box.close()


class TestAzure(ProviderContract):
    """The contract, but for what Azure cannot promise."""

    def test_a_terminated_machine_does_not_come_back(self, cloud: AzureCloud) -> None:  # type: ignore[override]  # of Azure only
        """While Azure removes it, which takes a while. Then its name is free, and Azure has no other memory of it.

        What a launch repeated after that starts is removed as an orphan, and its boot token was used before.
        """
        request = launch_request(cloud.offer)
        launched = cloud.provider.launch(request)
        cloud.box.faults.operation_s = 30.0
        cloud.provider.terminate(launched.replica_id, launched.id)
        again = cloud.provider.launch(request)
        assert (again.id, again.status) == (launched.id, InstanceStatus.STOPPING)
        assert [each.status for each in cloud.provider.list_instances()] == [InstanceStatus.STOPPING]
        cloud.clock.advance(30.0)
        assert cloud.provider.list_instances() == ()
        assert cloud.started() == [request.replica.id]

    def test_the_log_can_be_read_as_long_as_the_machine_exists(self, cloud: AzureCloud) -> None:
        """Azure keeps the console with the machine, and takes it away with it."""
        launched = cloud.provider.launch(launch_request(cloud.offer))
        assert cloud.provider.read_log(launched.replica_id, launched.id, 10) is None
        cloud.until_logged(launched)
        assert cloud.provider.read_log(launched.replica_id, launched.id, 1) == f"{LAST}\n"
        assert cloud.provider.read_log(launched.replica_id, launched.id, 0) == ""
        cloud.provider.terminate(launched.replica_id, launched.id)
        assert cloud.provider.read_log(launched.replica_id, launched.id, 10) is None


# --- what is asked for ------------------------------------------------------------------------------------------------


def requiring(cloud: AzureCloud, offer: Offer | None = None, **requirement: Any) -> LaunchRequest:
    request = launch_request(offer or cloud.offer)
    return replace(request, replica=replace(request.replica, requirement=Requirement(**requirement)))


def order_of(cloud: AzureCloud, request: LaunchRequest) -> Any:
    """The body of the order that a launch sends."""
    cloud.provider.launch(request)
    return cloud.sent("virtualMachines.createOrUpdate")[-1]


def test_a_machine_gets_its_user_data_verbatim(cloud: AzureCloud) -> None:
    """What cloud-init runs is, byte for byte, the script that says how a machine becomes a replica."""
    request = launch_request(cloud.offer)
    launched = cloud.provider.launch(request)
    assert cloud.hypervisor.user_data[launched.id] == user_data("azure", CONTROL_URL, request)


def test_a_spot_machine_is_removed_when_it_is_evicted_and_never_for_its_price(cloud: AzureCloud) -> None:
    """One that is only stopped goes on costing its disk; an on-demand machine has none of these fields."""
    spot = order_of(cloud, launch_request(offer_of(capacity_type=CapacityType.SPOT)))["properties"]
    assert (spot["priority"], spot["evictionPolicy"], spot["billingProfile"]) == ("Spot", "Delete", {"maxPrice": -1.0})
    on_demand = order_of(cloud, launch_request(cloud.offer))["properties"]
    assert on_demand.keys() == spot.keys() - {"priority", "evictionPolicy", "billingProfile"}


@pytest.mark.parametrize(
    ("tier", "kind"),
    [("", "StandardSSD_LRS"), ("low", "Standard_LRS"), ("medium", "StandardSSD_LRS"), ("best", "Premium_LRS")],
)
def test_the_disk_is_as_large_and_fast_as_is_asked(cloud: AzureCloud, tier: str, kind: str) -> None:
    """Without a wish it holds a model; it goes with its machine in any case."""
    disk = order_of(cloud, requiring(cloud, disk_size_gib=500, disk_tier=tier))["properties"]["storageProfile"][
        "osDisk"
    ]
    assert (disk["diskSizeGB"], disk["managedDisk"], disk["deleteOption"]) == (
        500,
        {"storageAccountType": kind},
        "Delete",
    )
    disk = order_of(cloud, launch_request(cloud.offer))["properties"]["storageProfile"]["osDisk"]
    assert disk["diskSizeGB"] == 256


@pytest.mark.parametrize(
    ("image_id", "reference"),
    [
        ("", "microsoft-dsvm ubuntu-hpc 2204 latest"),
        ("docker:vllm/vllm-openai:latest", "microsoft-dsvm ubuntu-hpc 2204 latest"),
        ("Canonical:ubuntu-24_04-lts:server:24.04.202601010", "Canonical ubuntu-24_04-lts server 24.04.202601010"),
    ],
)
def test_the_image_is_the_clouds_own_or_the_one_that_is_named(cloud: AzureCloud, image_id: str, reference: str) -> None:
    """A container image is run by the agent, on the default one."""
    image = order_of(cloud, requiring(cloud, image_id=image_id))["properties"]["storageProfile"]["imageReference"]
    assert image == dict(zip(("publisher", "offer", "sku", "version"), reference.split(), strict=True))


def test_an_image_of_ones_own_is_named_by_its_id(cloud: AzureCloud) -> None:
    """As Azure names resources."""
    own = f"/subscriptions/{cloud.box.subscription}/resourceGroups/images/providers/Microsoft.Compute/images/mine"
    order = order_of(cloud, requiring(cloud, image_id=own))
    assert order["properties"]["storageProfile"]["imageReference"] == {"id": own}


@pytest.mark.parametrize("image_id", ["ami-0123", "publisher:offer:sku", "Canonical:ubuntu-24_04-lts:sever:latest"])
def test_an_image_that_is_none_of_azures_is_refused(cloud: AzureCloud, image_id: str) -> None:
    """With the form that is expected; nothing is started."""
    with pytest.raises(LaunchRefused, match=r"publisher:offer:sku:version"):
        cloud.provider.launch(requiring(cloud, image_id=image_id))
    assert cloud.box.machines() == []


def test_what_is_too_long_for_azure_is_refused(cloud: AzureCloud) -> None:
    """Before Azure is asked for anything."""
    request = launch_request(cloud.offer)
    provider = cloud.another_process(control_url="https://" + "x" * 65_536)
    with pytest.raises(LaunchRefused, match="Azure takes 65535"):
        provider.launch(request)
    assert cloud.sent("virtualMachines.createOrUpdate") == []


def test_default_images_fit_their_machines() -> None:
    """Drivers for NVIDIA's and AMD's accelerators, none for machines without, and ARM's own."""
    nvidia = offer_of()
    assert offers.default_image(replace(nvidia, accelerator="MI300X")) == "microsoft-dsvm:ubuntu-hpc:2404-rocm:latest"
    cpu = replace(nvidia, accelerator="", instance_type="Standard_D4s_v5")
    assert offers.default_image(cpu) == "Canonical:ubuntu-24_04-lts:server:latest"
    arm = replace(cpu, instance_type="Standard_D4ps_v5")
    assert offers.default_image(arm) == "Canonical:ubuntu-24_04-lts:server-arm64:latest"


@pytest.mark.parametrize(
    ("instance_type", "premium"),
    [("Standard_D4s_v5", True), ("Standard_E16-4ds_v5", True), ("Standard_D4_v5", False), ("Standard_NC6", False)],
)
def test_premium_disks_are_asked_for_where_they_can_be_attached(instance_type: str, *, premium: bool) -> None:
    """The size's name says so."""
    assert offers.has_premium_disks(instance_type) is premium


def test_every_size_for_sale_is_usable_or_says_why_not(cloud: AzureCloud) -> None:
    """The catalog has two kinds that no replica can run on: Azure is not even asked for them."""
    sizes = {offer.instance_type for offer in catalog.offers(["azure"])}
    assert {size for size in sizes if offers.why_unusable(size)} == {"Standard_NCC40ads_H100_v5", "Standard_NV32as_v4"}
    with pytest.raises(NoCapacity, match="confidential"):
        cloud.provider.launch(launch_request(replace(cloud.offer, instance_type="Standard_NCC40ads_H100_v5")))
    assert cloud.box.requests == []


def test_the_network_tier_decides_about_accelerated_networking(cloud: AzureCloud) -> None:
    """Not every size has it, so it is asked for only when it is wanted."""

    def interface(order: Any) -> Any:
        return order["properties"]["networkProfile"]["networkInterfaceConfigurations"][0]["properties"]

    assert interface(order_of(cloud, requiring(cloud, network_tier="best")))["enableAcceleratedNetworking"] is True
    assert "enableAcceleratedNetworking" not in interface(order_of(cloud, requiring(cloud)))


def test_everything_carries_the_users_labels_and_our_tags(cloud: AzureCloud) -> None:
    """The machine, its disk, its interface and its address; ours cannot be overridden."""
    request = requiring(cloud, labels=(("team", "search"), ("sailplane-replica", "theirs")))
    cloud.provider.launch(request)
    wanted = {
        "team": "search",
        "sailplane-deployment": "test",
        "sailplane-service": "hello",
        "sailplane-replica": request.replica.id,
    }
    tagged = {each["type"].rpartition("/")[2]: each["tags"] for each in cloud.box.cloud.all_views()}
    assert {kind for kind, tags in tagged.items() if tags == wanted} == {
        "virtualMachines",
        "disks",
        "networkInterfaces",
        "publicIPAddresses",
    }


def test_the_firewall_lets_in_the_agents_port_only(cloud: AzureCloud) -> None:
    """And every machine is behind it."""
    order = order_of(cloud, launch_request(cloud.offer))
    (firewall,) = cloud.sent("networkSecurityGroups.createOrUpdate")
    (rule,) = [rule["properties"] for rule in firewall["properties"]["securityRules"]]
    assert (rule["direction"], rule["access"], rule["protocol"]) == ("Inbound", "Allow", "Tcp")
    assert rule["destinationPortRange"] == str(AGENT_PORT)
    (interface,) = order["properties"]["networkProfile"]["networkInterfaceConfigurations"]
    group = interface["properties"]["networkSecurityGroup"]["id"]
    assert group.endswith(f"/networkSecurityGroups/sailplane-test-{REGION}")
    assert order["properties"]["osProfile"]["linuxConfiguration"]["disablePasswordAuthentication"] is True


def test_a_regions_network_is_made_once(cloud: AzureCloud) -> None:
    """By the first launch there, whoever makes the next one."""
    cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.launch(launch_request(cloud.offer))
    cloud.another_process().launch(launch_request(cloud.offer))
    assert len(cloud.sent("virtualNetworks.createOrUpdate")) == 1
    assert len(cloud.sent("networkSecurityGroups.createOrUpdate")) == 1


@pytest.mark.parametrize("kind", ["networkSecurityGroups", "virtualNetworks"])
def test_a_network_that_was_removed_is_made_again(cloud: AzureCloud, kind: str) -> None:
    """Whichever half of it is missing, also to a provider that has seen it there."""
    first = cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.terminate(first.replica_id, first.id)
    (missing,) = [each for each in cloud.provider.leftovers(frozenset()) if kind in each.id]
    cloud.provider.remove(missing)
    assert cloud.provider.launch(launch_request(cloud.offer)).status is InstanceStatus.RUNNING


def test_a_network_half_made_is_completed(cloud: AzureCloud) -> None:
    """A crash between firewall and network leaves nothing that stops the next launch."""
    cloud.box.faults.once("virtualNetworks.createOrUpdate", Fault.SERVER_ERROR)
    request = launch_request(cloud.offer)
    with pytest.raises(Unreachable):
        cloud.provider.launch(request)
    assert cloud.provider.launch(request).replica_id == request.replica.id


# --- once, and not twice ----------------------------------------------------------------------------------------------


def test_a_removal_does_not_wait_for_the_system_to_shut_down(cloud: AzureCloud) -> None:
    """It has been drained before; while it shuts down it is billed."""
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.terminate(launched.replica_id, launched.id)
    (removal,) = [request for request in cloud.box.requests if request.operation == "virtualMachines.delete"]
    assert removal.query["forceDeletion"] == "true"


def test_ten_launches_at_once_start_one_machine(cloud: AzureCloud) -> None:
    """Whoever asks, however often: Azure makes it where there is none of its name."""
    request = launch_request(cloud.offer)
    providers = [cloud.another_process() for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        instances = list(pool.map(lambda provider: provider.launch(request), providers))
    assert len({instance.id for instance in instances}) == 1
    assert cloud.started() == [request.replica.id]


@pytest.mark.parametrize("fault", [Fault.LOST_RESPONSE, Fault.THROTTLED, Fault.SERVER_ERROR])
@pytest.mark.parametrize("operation", ["launch", "virtualMachines.get", "networkSecurityGroups.createOrUpdate"])
def test_a_launch_that_went_wrong_is_made_good_by_the_next(cloud: AzureCloud, operation: str, fault: Fault) -> None:
    """Whatever call of it met whatever trouble: `Unreachable`, and then one machine."""
    request = launch_request(cloud.offer)
    cloud.box.faults.once(operation, fault)
    with pytest.raises(Unreachable):
        cloud.provider.launch(request)
    cloud.another_process().launch(request)
    assert cloud.started() == [request.replica.id]


def test_a_launch_that_is_delivered_twice_starts_one_machine(cloud: AzureCloud) -> None:
    """The second delivery is told that there is one, and the launch finds it."""
    request = launch_request(cloud.offer)
    cloud.box.faults.once("launch", Fault.DUPLICATED)
    assert cloud.provider.launch(request).id == cloud.box.machines()[0].id
    assert cloud.started() == [request.replica.id]
    assert len(cloud.sent("virtualMachines.createOrUpdate")) == 2


@pytest.mark.parametrize("fault", list(Fault))
def test_a_removal_that_went_wrong_can_be_asked_for_again(cloud: AzureCloud, fault: Fault) -> None:
    """`Unreachable` if the answer was bad, and gone after the second time at the latest."""
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.box.faults.once("terminate", fault)
    raised = 0
    try:
        cloud.provider.terminate(launched.replica_id, launched.id)
    except Unreachable:
        raised = 1
    assert raised == (fault is not Fault.DUPLICATED)
    cloud.provider.terminate(launched.replica_id, launched.id)
    assert cloud.provider.list_instances() == ()
    assert [machine.running for machine in cloud.box.machines()] == [False]


@pytest.mark.parametrize("operation", ["list", "publicIPAddresses.list"])
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.DUPLICATED])
def test_a_list_is_whole_or_none(cloud: AzureCloud, operation: str, fault: Fault) -> None:
    """A page that fails is `Unreachable`: what it would have held must not look gone."""
    for _ in range(3):
        cloud.provider.launch(launch_request(cloud.offer))
    cloud.box.faults.once(operation, Fault.DUPLICATED)  # the first page is fine
    cloud.box.faults.once(operation, fault)
    with pytest.raises(Unreachable):
        cloud.provider.list_instances()
    assert len(cloud.provider.list_instances()) == 3


def test_a_list_goes_over_all_its_pages(cloud: AzureCloud) -> None:
    """Every machine with its own address, among another deployment's."""
    launched = {cloud.provider.launch(launch_request(cloud.offer)).id for _ in range(5)}
    cloud.another_deployment().launch(launch_request(cloud.offer))
    listed = cloud.provider.list_instances()
    assert {each.id for each in listed} == launched
    assert {each.url for each in listed} == {
        f"http://{cloud.hypervisor.running[machine]}:{AGENT_PORT}" for machine in launched
    }
    assert len([request for request in cloud.box.requests if request.operation == "virtualMachines.list"]) == 3


def test_a_young_machine_may_be_missing_from_a_list(cloud: AzureCloud) -> None:
    """Not for longer than the provider says; reading by name knows it at once."""
    cloud.box.faults.list_lag_s = cloud.provider.listing_lag_s
    request = launch_request(cloud.offer)
    launched = cloud.provider.launch(request)
    assert cloud.provider.list_instances() == ()
    assert cloud.provider.launch(request).id == launched.id
    cloud.clock.advance(cloud.provider.listing_lag_s)
    assert [each.id for each in cloud.provider.list_instances()] == [launched.id]


def test_another_deployments_machine_is_never_taken_nor_removed(cloud: AzureCloud) -> None:
    """Even when it has the replica's name, in a resource group that two deployments share."""
    request = launch_request(cloud.offer)
    theirs = cloud.another_deployment().launch(request)
    with pytest.raises(LaunchRefused, match="resource group"):
        cloud.provider.launch(request)
    cloud.provider.terminate(request.replica.id, theirs.id)
    assert [machine.running for machine in cloud.box.machines()] == [True]


# --- no machine -------------------------------------------------------------------------------------------------------


def test_a_lack_of_capacity_that_shows_late_is_told_and_leaves_nothing(cloud: AzureCloud) -> None:
    """Azure takes the order, finds no host and keeps the order with its interface and address: it is withdrawn."""
    cloud.box.fail_late()
    cloud.box.faults.capacity[REGION] = 0
    cloud.box.faults.operation_s = 2.0
    with pytest.raises(NoCapacity, match="AllocationFailed"):
        cloud.provider.launch(launch_request(cloud.offer))
    cloud.clock.advance(2.0)
    assert cloud.provider.list_instances() == ()
    assert {leftover.replica_id for leftover in cloud.provider.leftovers(frozenset())} == {""}


def test_a_launch_does_not_wait_for_long(cloud: AzureCloud) -> None:
    """While Azure looks for a host it is `Unreachable`, and found by the next pass; the failure is found as well."""
    cloud.box.faults.operation_s = 60.0
    request = launch_request(cloud.offer)
    began = cloud.clock.now()
    with pytest.raises(Unreachable, match="looking for a host"):
        cloud.provider.launch(request)
    assert cloud.clock.now() - began < 10.0
    assert [(each.status, each.url) for each in cloud.provider.list_instances()] == [(InstanceStatus.PENDING, "")]
    cloud.clock.advance(60.0)
    assert cloud.provider.launch(request).status is InstanceStatus.RUNNING
    assert cloud.started() == [request.replica.id]


def test_an_order_that_failed_unseen_is_withdrawn_by_the_next_launch(cloud: AzureCloud) -> None:
    """Also when it failed between two passes, and when its withdrawal had to be asked for twice."""
    cloud.box.fail_late()
    cloud.run_out()
    cloud.box.faults.operation_s = 60.0
    request = launch_request(cloud.offer)
    with pytest.raises(Unreachable):
        cloud.provider.launch(request)
    cloud.clock.advance(60.0)
    cloud.box.faults.once("terminate", Fault.SERVER_ERROR)
    with pytest.raises(Unreachable):
        cloud.provider.launch(request)
    with pytest.raises(NoCapacity):
        cloud.provider.launch(request)
    cloud.clock.advance(60.0)
    assert cloud.provider.list_instances() == ()


@pytest.mark.parametrize(
    ("state", "codes", "allocating", "failure"),
    [
        ("Creating", ["ProvisioningState/creating"], True, None),
        ("Creating", ["ProvisioningState/creating", "PowerState/creating"], True, None),
        ("Creating", ["ProvisioningState/creating", "PowerState/running"], False, None),
        ("Failed", ["ProvisioningState/failed/AllocationFailed"], False, ("AllocationFailed", "why")),
        ("Failed", ["ProvisioningState/failed"], False, ("ProvisioningFailed", "why")),
        ("Failed", [], False, ("ProvisioningFailed", "")),
        ("Failed", ["ProvisioningState/failed/OSProvisioningTimedOut", "PowerState/running"], False, None),
        ("Succeeded", ["ProvisioningState/succeeded", "PowerState/running"], False, None),
    ],
)
def test_a_machine_is_read_by_its_host(
    state: str, codes: list[str], allocating: bool, failure: tuple[str, str] | None
) -> None:
    """Azure says Creating until the system has reported back, and Failed when that takes long; with a host it may well work."""
    statuses = [{"code": code, "message": "why"} for code in codes]
    properties = {"provisioningState": state, "instanceView": {"statuses": statuses}}
    reading = Reading(VirtualMachine({"location": REGION, "properties": properties}))
    assert (reading.is_allocating, reading.failure) == (allocating, failure)


def test_a_quota_is_told_from_a_lack_of_capacity(cloud: AzureCloud) -> None:
    """More cannot be had in this region, until a person asks Microsoft."""
    cloud.box.faults.quota[REGION] = 0
    with pytest.raises(QuotaExceeded, match="quota"):
        cloud.provider.launch(launch_request(cloud.offer))
    assert cloud.provider.list_instances() == ()


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("AllocationFailed", "", NoCapacity),
        ("OverconstrainedAllocationRequest", "", NoCapacity),
        ("OSProvisioningInternalError", "", NoCapacity),
        ("QuotaExceeded", "", QuotaExceeded),
        ("OperationNotAllowed", "exceeding approved standardNCASv3Family Cores quota", QuotaExceeded),
    ],
)
def test_a_late_failure_is_never_the_orders_fault(code: str, message: str, kind: type[LaunchError]) -> None:
    """Azure had taken it, so another place may do: it must not block the whole cloud."""
    assert type(errors.late_refusal(code, message)) is kind


def unanswered() -> ClientAuthenticationError:
    """What azure-identity raises when nobody answers it."""
    error = ClientAuthenticationError("Authentication failed: connection refused")
    error.__cause__ = ServiceRequestError("connection refused")
    return error


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (ClientAuthenticationError("DefaultAzureCredential found nothing"), Unauthorized, "az login"),
        (unanswered(), Unreachable, "Authentication failed: connection refused"),
        (ServiceRequestError("connection refused"), Unreachable, "connection refused"),
        (ServiceResponseError("read timed out"), Unreachable, "timed out"),
    ],
)
def test_what_never_reached_azure_is_told_apart(error: AzureError, kind: type[Exception], told: str) -> None:
    """No credentials to show is for a person to mend; a broken line is not known to have done nothing."""
    with pytest.raises(kind, match=told), errors.launching():
        raise error


def test_a_call_gives_up_after_seconds() -> None:
    """A cloud that hangs must not use up the pass; nothing is retried within a call."""
    client = arm.client("subscription", "http://token@127.0.0.1:1")
    timeouts = client._client._pipeline._transport.connection_config  # type: ignore[attr-defined]  # of requests' transport
    assert (timeouts.timeout, timeouts.read_timeout) == (4, 10)


def test_without_a_stand_in_it_is_azure_that_is_asked() -> None:
    """Over TLS, as whoever `DefaultAzureCredential` finds."""
    client = arm.client("subscription", None)
    assert client._config.base_url == "https://management.azure.com"


def test_given_credentials_are_those_that_are_shown(cloud: AzureCloud) -> None:
    """A function finds none by itself. The secret is in no repr; a stand-in is shown its own token nevertheless."""
    app = {"tenant_id": "t-1", "client_id": "c-1", "client_secret": "s3cret"}
    shown = arm.find_credential(app)
    assert (type(shown).__name__, type(arm.find_credential({})).__name__) == (
        "ClientSecretCredential",
        "DefaultAzureCredential",
    )
    assert (shown._tenant_id, shown._client_id, shown._client_credential) == ("t-1", "c-1", "s3cret")  # type: ignore[attr-defined]  # of azure-identity's
    assert "s3cret" not in repr(shown)
    assert cloud.another_process(credentials=app).list_instances() == ()


def test_the_configurations_are_what_the_provider_is_given() -> None:
    """Made by bootstrap, it shows those and looks for no others."""
    told = {"SAILPLANE_AZURE_SUBSCRIPTION": "s", "SAILPLANE_AZURE_RESOURCE_GROUP": "g", AZURE: json.dumps(APP)}
    runtime = bootstrap.build(from_env({**ENV, **CLOUD, **told, "SAILPLANE_PROVIDERS": "azure"}))
    provider = runtime.providers["azure"]
    assert isinstance(provider, AzureProvider)
    assert type(provider._client._config.credential).__name__ == "ClientSecretCredential"


def test_a_region_that_does_not_sell_the_size_has_no_capacity(cloud: AzureCloud) -> None:
    """An old catalog must not block the whole cloud."""
    elsewhere = replace(cloud.offer, location=replace(cloud.offer.location, region="westindia"))
    with pytest.raises(NoCapacity, match="SkuNotAvailable"):
        cloud.provider.launch(launch_request(elsewhere))


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"subscription": "00000000-0000-0000-0000-00000000dead"}, "Name a subscription"),
        ({"resource_group": "nowhere"}, "az group create"),
        ({"endpoint_url": "wrong"}, "Check the control plane's credentials"),
    ],
)
def test_what_only_a_person_can_mend_is_refused_with_advice(
    cloud: AzureCloud, settings: dict[str, str], advice: str
) -> None:
    """Credentials, subscription, resource group: no other place in Azure will do better."""
    if "endpoint_url" in settings:
        settings = {"endpoint_url": cloud.box.endpoint_url.replace("//", "//not")}
    provider = cloud.another_process(**settings)
    with pytest.raises(Unauthorized, match=advice):
        provider.launch(launch_request(cloud.offer))
    with pytest.raises(Unreachable):
        provider.list_instances()


def test_expired_credentials_in_the_middle_of_a_launch_are_refused(cloud: AzureCloud) -> None:
    """Nothing was started."""
    cloud.box.faults.once("launch", Fault.UNAUTHORIZED)
    with pytest.raises(Unauthorized, match="ExpiredAuthenticationToken"):
        cloud.provider.launch(launch_request(cloud.offer))
    assert cloud.started() == []


CALLS: dict[str, Callable[[AzureCloud], object]] = {
    "launch": lambda cloud: cloud.provider.launch(launch_request(cloud.offer)),
    "list": lambda cloud: cloud.provider.list_instances(),
    "terminate": lambda cloud: cloud.provider.terminate("hello-0000-0-1", ""),
    "log": lambda cloud: cloud.provider.read_log("hello-0000-0-1", "", 1),
    "leftovers": lambda cloud: cloud.provider.leftovers(frozenset()),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_cloud_that_is_down_is_unreachable(cloud: AzureCloud, call: str) -> None:
    """Whatever is asked, and at once."""
    cloud.box.faults.down = True
    with pytest.raises(Unreachable):
        CALLS[call](cloud)


def test_no_error_and_no_repr_tells_a_secret(cloud: AzureCloud) -> None:
    """Not the token shown to Azure, not the boot token, not the signature of the console's address."""
    request = launch_request(cloud.offer)
    launched = cloud.provider.launch(request)
    told = [repr(cloud.provider), repr(launched), repr(cloud.provider.list_instances())]
    for call in CALLS.values():
        for trouble in ("down", "unauthorized"):
            cloud.box.faults.down = trouble == "down"
            cloud.box._key = "changed"
            with pytest.raises((LaunchError, Unreachable)) as raised:
                call(cloud)
            told += [str(raised.value), repr(raised.value), repr(raised.value.__cause__)]
    key = cloud.box.endpoint_url.split("//")[1].split("@")[0]
    assert [
        text for text in told if key in text or request.boot_token in text or cloud.box.cloud.blob_key in text
    ] == []
    boot = json.dumps(cloud.sent("virtualMachines.createOrUpdate"))
    assert request.boot_token not in boot
    custom_data = cloud.sent("virtualMachines.createOrUpdate")[0]["properties"]["osProfile"]["customData"]
    assert request.boot_token in base64.b64decode(custom_data).decode()
    assert request.agent_token not in base64.b64decode(custom_data).decode()


# --- taken, and left over ---------------------------------------------------------------------------------------------


def test_a_machine_that_azure_takes_is_gone_with_all_it_had(cloud: AzureCloud) -> None:
    """After its notice, which only the machine could see."""
    launched = cloud.provider.launch(launch_request(offer_of(capacity_type=CapacityType.SPOT)))
    cloud.box.preempt(launched.id, 30.0)
    assert [each.status for each in cloud.provider.list_instances()] == [InstanceStatus.RUNNING]
    cloud.clock.advance(30.0)
    assert cloud.provider.list_instances() == ()
    assert {leftover.replica_id for leftover in cloud.provider.leftovers(frozenset())} == {""}


def test_a_machine_that_switched_itself_off_is_still_there_to_be_removed(cloud: AzureCloud) -> None:
    """Azure bills it until it is; to call it gone would leak it."""
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.box.kill(launched.id)
    assert [each.status for each in cloud.provider.list_instances()] == [InstanceStatus.RUNNING]
    cloud.provider.terminate(launched.replica_id, launched.id)
    assert cloud.provider.list_instances() == ()


EVENT = {
    "EventId": "602D9444-D2CD-49C7-8624-8643E7171297",
    "EventStatus": "Scheduled",
    "EventType": "Preempt",
    "ResourceType": "VirtualMachine",
    "Resources": ["hello-1a2b-0-1"],
    "NotBefore": "Mon, 19 Sep 2016 18:29:47 GMT",
    "Description": "",
    "EventSource": "Platform",
    "DurationInSeconds": -1,
}


def scheduled(**changes: str) -> dict[str, Any]:
    """The document that the metadata service gives, with one event."""
    return {"DocumentIncarnation": 1, "Events": [{**EVENT, **changes}]}


def test_a_scheduled_preemption_becomes_a_notice() -> None:
    """With the instant that Azure names, and with that of being seen once it has begun."""
    told = notice("hello-1a2b-0-1", scheduled(), 5.0)
    assert told == InterruptionNotice("azure", NoticeKind.INTERRUPTION, 1474309787.0, replica_id="hello-1a2b-0-1")
    begun = notice("hello-1a2b-0-1", scheduled(EventStatus="Started", NotBefore=""), 5.0)
    assert begun == InterruptionNotice("azure", NoticeKind.INTERRUPTION, 5.0, replica_id="hello-1a2b-0-1")


@pytest.mark.parametrize("kind", ["Freeze", "Reboot", "Redeploy", "Terminate"])
def test_other_scheduled_events_are_no_interruption(kind: str) -> None:
    """Nor is one of another machine, nor none."""
    assert notice("hello-1a2b-0-1", scheduled(EventType=kind), 5.0) is None
    assert notice("hello-1a2b-0-2", scheduled(), 5.0) is None
    assert notice("hello-1a2b-0-1", {"DocumentIncarnation": 0, "Events": []}, 5.0) is None


def test_what_all_machines_share_is_left_over_when_no_replica_lives(cloud: AzureCloud) -> None:
    """Firewall and network, in every region; removed and then not found again."""
    assert isinstance(cloud.provider, Janitor)
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.terminate(launched.replica_id, launched.id)
    assert cloud.provider.leftovers(frozenset({"hello-0000-0-1"})) == ()
    found = cloud.provider.leftovers(frozenset())
    assert {(each.kind, each.region) for each in found} == {
        (LeftoverKind.FIREWALL, REGION),
        (LeftoverKind.NETWORK, REGION),
    }
    for leftover in found:
        cloud.provider.remove(leftover)
        cloud.provider.remove(leftover)
    assert cloud.provider.leftovers(frozenset()) == ()
    assert cloud.provider.launch(launch_request(cloud.offer)).status is InstanceStatus.RUNNING


def test_a_machine_that_nobody_wants_is_left_over_with_all_it_has(cloud: AzureCloud) -> None:
    """What goes with it is not listed beside it; a live replica's machine and another deployment's never are."""
    unwanted = cloud.provider.launch(launch_request(cloud.offer))
    wanted = cloud.provider.launch(launch_request(cloud.offer))
    cloud.another_deployment().launch(launch_request(cloud.offer))
    live = frozenset({wanted.replica_id})
    (leftover,) = cloud.provider.leftovers(live)
    assert (leftover.kind, leftover.replica_id, leftover.region) == (
        LeftoverKind.MACHINE,
        unwanted.replica_id,
        REGION,
    )
    cloud.box.faults.operation_s = 30.0
    cloud.provider.remove(leftover)
    assert cloud.provider.leftovers(live) == ()  # it is leaving
    cloud.clock.advance(30.0)
    assert [each.id for each in cloud.provider.list_instances()] == [wanted.id]
    assert cloud.provider.leftovers(live) == ()


def test_what_a_machine_left_behind_is_found_and_removed(cloud: AzureCloud) -> None:
    """Disk, address and interface, when Azure has kept them against our word."""
    launched = cloud.provider.launch(launch_request(cloud.offer))
    for resource in cloud.box.cloud.resources.values():
        resource.kept = True
    live = frozenset({launched.replica_id})
    assert cloud.provider.leftovers(live) == ()
    cloud.provider.terminate(launched.replica_id, launched.id)
    assert cloud.provider.leftovers(live) == ()
    found = [each for each in cloud.provider.leftovers(frozenset()) if each.replica_id]
    assert sorted(each.kind for each in found) == [LeftoverKind.ADDRESS, LeftoverKind.DISK, LeftoverKind.NETWORK]
    for leftover in found:
        cloud.provider.remove(leftover)
    assert [each for each in cloud.provider.leftovers(frozenset()) if each.replica_id] == []


def test_what_is_in_use_cannot_be_removed_now(cloud: AzureCloud) -> None:
    """`Unreachable`: ask again."""
    launched = cloud.provider.launch(launch_request(cloud.offer))
    cloud.provider.terminate(launched.replica_id, launched.id)
    found = cloud.provider.leftovers(frozenset())
    cloud.provider.launch(launch_request(cloud.offer))
    for leftover in found:
        with pytest.raises(Unreachable, match="in use"):
            cloud.provider.remove(leftover)


def test_a_slow_azure_does_not_outlast_the_lease(cloud: AzureCloud) -> None:
    """However long each answer takes, no more than some 10 s of looking are begun; the next pass looks again."""
    cloud.box.faults.operation_s = 600.0
    slow = cloud.another_process(pause=lambda pause_s: cloud.clock.advance(pause_s + 9.0))
    start = cloud.clock.now()
    with pytest.raises(Unreachable, match="still looking for a host"):
        slow.launch(launch_request(cloud.offer))
    assert cloud.clock.now() - start <= 20.0
