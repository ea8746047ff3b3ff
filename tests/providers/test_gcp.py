"""Google Compute Engine through its own SDK, against the cloud in a box: one machine for a replica, whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.api_core.exceptions import GoogleAPICallError, from_http_status
from google.auth import aws
from google.auth.exceptions import DefaultCredentialsError, TransportError
from google.cloud.compute_v1 import Error, Errors, Operation
from google.oauth2 import service_account
from requests.exceptions import ReadTimeout

from chalicelib import bootstrap, catalog
from chalicelib.config import from_env
from chalicelib.credentials import gcp as gcp_credentials
from chalicelib.errors import (
    LaunchError,
    LaunchRefused,
    NoCapacity,
    QuotaExceeded,
    SailplaneError,
    Unauthorized,
    Unreachable,
)
from chalicelib.lifecycle import is_orphan
from chalicelib.model import (
    CapacityType,
    Instance,
    InstanceStatus,
    InterruptionNotice,
    LaunchRequest,
    LeftoverKind,
    Limits,
    Location,
    NoticeKind,
    Offer,
    Requirement,
)
from chalicelib.ports import Janitor
from chalicelib.providers.boot import AGENT_PORT, user_data
from chalicelib.providers.gcp import credentials, errors, interruption, offers
from chalicelib.providers.gcp.compute import GcpProvider
from tests.clouds.box import Fault, OnPaper
from tests.clouds.gcp.box import PROJECT, GcpBox
from tests.clouds.gcp.contract import Contract
from tests.fakes import FakeClock
from tests.providers.contract import FIRST, LAST, ProviderContract, launch_request
from tests.test_config import CLOUD, ENV
from tests.test_credentials import FEDERATED, KEY

CONTROL_URL = "https://control.example"


def sold(instance_type: str, zone: str, capacity_type: CapacityType = CapacityType.ON_DEMAND) -> Offer:
    """The catalog's offer."""
    wanted = (instance_type, zone, capacity_type)
    return next(
        each
        for each in catalog.offers(["gcp"])
        if (each.instance_type, each.location.zone, each.capacity_type) == wanted
    )


SPOT_L4 = sold("g2-standard-8", "us-central1-a", CapacityType.SPOT)
CPU = sold("e2-standard-4", "europe-west4-a")


@dataclass
class GcpCloud:
    """`contract.Cloud` in a box."""

    clock: FakeClock = field(default_factory=FakeClock)
    hypervisor: OnPaper = field(default_factory=OnPaper)
    offer: Offer = SPOT_L4

    def __post_init__(self) -> None:
        self.box = GcpBox(self.hypervisor, self.clock)
        self.provider = self.provider_of("test")

    def provider_of(
        self, deployment: str, endpoint_url: str = "", timeouts_s: tuple[float, float] = (4.0, 10.0)
    ) -> GcpProvider:
        """A provider without memory of any other one. Its pauses move the clock."""
        return GcpProvider(
            deployment=deployment,
            control_url=CONTROL_URL,
            clock=self.clock,
            project=PROJECT,
            endpoint_url=endpoint_url or self.box.endpoint_url,
            pause=self.clock.advance,
            timeouts_s=timeouts_s,
        )

    def another_deployment(self) -> GcpProvider:
        return self.provider_of("another")

    def run_out(self) -> None:
        self.box.faults.capacity[""] = 0

    def until_logged(self, instance: Instance) -> None:
        self.hypervisor.write(instance.replica_id, f"{FIRST}\n{LAST}\n")

    def launched(self, offer: Offer | None = None) -> tuple[LaunchRequest, Instance]:
        request = launch_request(offer or self.offer)
        return request, self.provider.launch(request)

    def running(self) -> list[str]:
        return [booked.replica_id for booked in self.box.machines() if booked.running]

    def inserted(self) -> dict[str, Any]:
        """The body of the last request for a machine."""
        bodies = [each.body for each in self.box.requests if each.path.endswith("/instances") and each.body]
        return dict(bodies[-1])


@pytest.fixture
def cloud() -> Iterator[GcpCloud]:
    cloud = GcpCloud()
    yield cloud
    cloud.box.close()


class TestGcp(ProviderContract):
    """The contract, with Google's SDK over HTTP."""

    def test_the_log_is_there_as_long_as_the_machine(self, cloud: GcpCloud) -> None:
        """Google's serial console; it goes with the machine."""
        _, launched = cloud.launched()
        cloud.until_logged(launched)
        assert cloud.provider.read_log(launched.replica_id, launched.id, 1) == f"{LAST}\n"
        assert cloud.provider.read_log(launched.replica_id, "", 10) == f"{FIRST}\n{LAST}\n"
        cloud.provider.terminate(launched.replica_id, launched.id)
        assert cloud.provider.read_log(launched.replica_id, launched.id, 10) is None


class TestWhatIsAskedFor:
    """The request for a machine, as the box received it."""

    def test_a_spot_machine_is_deleted_when_it_is_preempted(self, cloud: GcpCloud) -> None:
        """And never restarted: its boot token is used up."""
        cloud.launched()
        assert cloud.inserted()["scheduling"] == {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        }

    @pytest.mark.parametrize(
        ("offer", "maintenance"), [(CPU, "MIGRATE"), (sold("a2-highgpu-1g", "us-central1-a"), "TERMINATE")]
    )
    def test_an_on_demand_machine_moves_if_it_can(self, cloud: GcpCloud, offer: Offer, maintenance: str) -> None:
        """With accelerators it cannot."""
        cloud.launched(offer)
        assert cloud.inserted()["scheduling"] == {
            "provisioningModel": "STANDARD",
            "onHostMaintenance": maintenance,
            "automaticRestart": False,
        }

    def test_accelerators_are_attached_to_n1_alone(self, cloud: GcpCloud) -> None:
        """Other types come with theirs, and Google takes it amiss to be told."""
        cloud.launched(sold("n1-standard-16", "us-central1-a"))
        (accelerator,) = cloud.inserted()["guestAccelerators"]
        assert accelerator["acceleratorType"].startswith("zones/us-central1-a/acceleratorTypes/nvidia-tesla-")
        cloud.launched(SPOT_L4)
        assert "guestAccelerators" not in cloud.inserted()

    def test_what_the_service_requires_is_in_it(self, cloud: GcpCloud) -> None:
        """Disk, network, image, labels, and ours above the user's."""
        image = f"projects/{PROJECT}/global/images/mine"
        cloud.box.images.add(image)
        requirement = Requirement(
            disk_size_gib=500,
            disk_tier="high",
            network_tier="best",
            image_id=image,
            labels=(("team", "red"), ("sailplane-deployment", "stolen")),
        )
        request = launch_request(SPOT_L4)
        request = replace(request, replica=replace(request.replica, requirement=requirement))
        cloud.provider.launch(request)
        body = json.loads(json.dumps(cloud.inserted()))
        labels = {
            "team": "red",
            "sailplane-deployment": "test",
            "sailplane-service": "hello",
            "sailplane-replica": request.replica.id,
        }
        assert body["labels"] == labels
        assert body["disks"][0]["initializeParams"] == {
            "sourceImage": image,
            "diskSizeGb": "500",
            "diskType": "zones/us-central1-a/diskTypes/pd-ssd",
            "labels": labels,
        }
        assert body["networkInterfaces"][0]["nicType"] == "GVNIC"
        assert "serviceAccounts" not in body

    def test_every_kind_of_machine_of_the_catalog_is_acceptable(self, cloud: GcpCloud) -> None:
        """One of each type, accelerator and way of buying; the box refuses what Google would."""
        kinds = {(each.instance_type, each.accelerators, each.capacity_type): each for each in catalog.offers(["gcp"])}
        for offer in kinds.values():
            cloud.launched(offer)
        assert len(cloud.running()) == len(kinds) > 50

    def test_the_user_data_arrives_as_it_is(self, cloud: GcpCloud) -> None:
        """As the machine's startup-script."""
        request, _ = cloud.launched()
        assert cloud.hypervisor.user_data[request.replica.id] == user_data("gcp", CONTROL_URL, request)

    def test_one_port_is_open_and_only_to_our_machines(self, cloud: GcpCloud) -> None:
        """The firewall rule is made with the first machine and found by the others."""
        cloud.launched()
        cloud.launched()
        (rule,) = [each.body for each in cloud.box.requests if each.path.endswith("/firewalls")]
        assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": [str(AGENT_PORT)]}]
        assert rule["targetTags"] == ["sailplane-test"]
        assert cloud.inserted()["tags"] == {"items": ["sailplane-test"]}


class TestOneMachine:
    """However often, however badly: one machine for a replica."""

    def test_ten_launches_at_once_start_one_machine(self, cloud: GcpCloud) -> None:
        """By one control plane and by several; and one firewall rule."""
        request = launch_request(cloud.offer)
        providers = [cloud.provider] * 5 + [cloud.provider_of("test") for _ in range(5)]
        with ThreadPoolExecutor(10) as pool:
            instances = list(pool.map(lambda provider: provider.launch(request), providers))
        assert len({each.id for each in instances}) == 1
        assert cloud.running() == [request.replica.id]

    @pytest.mark.parametrize(
        "call",
        ["launch", "instances.get", "zoneOperations.get", "firewalls.get", "firewalls.insert"],
    )
    @pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.SERVER_ERROR, Fault.LOST_RESPONSE])
    def test_a_launch_that_broke_off_is_completed_by_the_next(self, cloud: GcpCloud, call: str, fault: Fault) -> None:
        """At any of its calls, before or after the work: `Unreachable`, and asking again ends with one machine."""
        request = launch_request(cloud.offer)
        cloud.box.faults.once(call, fault)
        with pytest.raises(Unreachable):
            cloud.provider.launch(request)
        assert cloud.provider_of("test").launch(request).status is InstanceStatus.RUNNING
        assert cloud.running() == [request.replica.id]

    @pytest.mark.parametrize("call", ["instances.get", "zoneOperations.get"])
    def test_what_may_have_started_is_not_refused(self, cloud: GcpCloud, call: str) -> None:
        """Credentials that end between the request and its outcome: "nothing was started" would be a lie."""
        request = launch_request(cloud.offer)
        cloud.box.faults.once(call, Fault.UNAUTHORIZED)
        with pytest.raises(Unreachable, match="credentials"):
            cloud.provider.launch(request)
        cloud.provider.launch(request)
        assert cloud.running() == [request.replica.id]

    @pytest.mark.parametrize("call", ["launch", "firewalls.insert"])
    def test_a_launch_delivered_twice_starts_one_machine(self, cloud: GcpCloud, call: str) -> None:
        """The request's id makes them one, and a rule that is there is as good as one made."""
        request = launch_request(cloud.offer)
        cloud.box.faults.once(call, Fault.DUPLICATED)
        cloud.provider.launch(request)
        assert cloud.running() == [request.replica.id]

    @pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.SERVER_ERROR, Fault.LOST_RESPONSE, Fault.UNAUTHORIZED])
    def test_a_removal_that_broke_off_is_completed_by_the_next(self, cloud: GcpCloud, fault: Fault) -> None:
        """`Unreachable`, which is what the core repeats a removal for."""
        _, launched = cloud.launched()
        cloud.box.faults.once("terminate", fault)
        with pytest.raises(Unreachable):
            cloud.provider.terminate(launched.replica_id, launched.id)
        cloud.provider.terminate(launched.replica_id, launched.id)
        assert cloud.running() == []

    def test_a_name_found_taken_by_ourselves_is_our_machine(self, cloud: GcpCloud) -> None:
        """Google forgets request ids after an hour; the name still holds."""
        request, first = cloud.launched()
        cloud.box.forget_request_ids()
        assert cloud.provider.launch(request) == first
        assert cloud.running() == [request.replica.id]

    def test_a_name_taken_by_another_is_refused(self, cloud: GcpCloud) -> None:
        """It is not touched, and the message says what is in the way."""
        request = launch_request(cloud.offer)
        cloud.another_deployment().launch(request)
        with pytest.raises(LaunchRefused, match=f"another machine named {request.replica.id} in us-central1-a"):
            cloud.provider.launch(request)
        cloud.provider.terminate(request.replica.id, "")
        assert cloud.running() == [request.replica.id]


class TestTakesItsTime:
    """Google's operations are long; a pass is not."""

    def test_a_launch_returns_when_the_machine_has_its_place(self, cloud: GcpCloud) -> None:
        """Not when it runs: 4 s for its resources, and it is listed as PENDING until it has booted."""
        cloud.box.faults.operation_s = 4.0
        start = cloud.clock.now()
        _, launched = cloud.launched()
        assert launched.status is InstanceStatus.PENDING
        assert cloud.clock.now() - start < 4.0
        cloud.clock.advance(4.0)
        assert [each.status for each in cloud.provider.list_instances()] == [InstanceStatus.RUNNING]

    def test_a_slow_google_does_not_outlast_the_lease(self, cloud: GcpCloud) -> None:
        """However long each answer takes, no more than some 10 s of looking are begun; the next pass looks again."""
        cloud.box.faults.operation_s = 600.0
        slow = GcpProvider(
            deployment="test",
            control_url=CONTROL_URL,
            clock=cloud.clock,
            project=PROJECT,
            endpoint_url=cloud.box.endpoint_url,
            pause=lambda pause_s: cloud.clock.advance(pause_s + 9.0),
        )
        start = cloud.clock.now()
        with pytest.raises(Unreachable, match="still looking for capacity"):
            slow.launch(launch_request(cloud.offer))
        assert cloud.clock.now() - start <= 20.0

    def test_a_launch_without_a_place_yet_is_asked_for_again(self, cloud: GcpCloud) -> None:
        """`Unreachable` within a few seconds, then the outcome of the same operation."""
        cloud.box.faults.operation_s = 60.0
        request, start = launch_request(cloud.offer), cloud.clock.now()
        with pytest.raises(Unreachable, match="still looking for capacity in us-central1-a"):
            cloud.provider.launch(request)
        assert cloud.clock.now() - start <= 5.0
        cloud.clock.advance(60.0)
        assert cloud.provider.launch(request).status is InstanceStatus.RUNNING
        assert cloud.running() == [request.replica.id]

    def test_a_refusal_that_comes_late_reaches_the_core(self, cloud: GcpCloud) -> None:
        """Stock-out is told by the operation alone, half a minute after the request was accepted."""
        cloud.box.faults.operation_s = 60.0
        cloud.run_out()
        request = launch_request(cloud.offer)
        with pytest.raises(Unreachable):
            cloud.provider.launch(request)
        cloud.clock.advance(60.0)
        for _ in range(2):
            with pytest.raises(NoCapacity, match="ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"):
                cloud.provider.launch(request)
        assert cloud.provider.list_instances() == ()

    def test_a_machine_that_was_asked_to_go_is_on_its_way(self, cloud: GcpCloud) -> None:
        """STOPPING until the deletion is done; another request to go changes nothing."""
        _, launched = cloud.launched()
        cloud.box.faults.operation_s = 30.0
        cloud.provider.terminate(launched.replica_id, launched.id)
        cloud.provider.terminate(launched.replica_id, launched.id)
        assert [each.status for each in cloud.provider.list_instances()] == [InstanceStatus.STOPPING]
        cloud.clock.advance(30.0)
        assert cloud.provider.list_instances() == ()

    def test_a_cloud_that_hangs_is_given_up(self, cloud: GcpCloud) -> None:
        """Each call has its deadline, and no retries underneath; what the cloud did meanwhile is found by the next."""
        request = launch_request(cloud.offer)
        cloud.box.faults.answer_after_s = 1.0
        hasty = cloud.provider_of("test", timeouts_s=(1.0, 0.1))
        for call in (hasty.list_instances, lambda: hasty.launch(request)):
            start = time.monotonic()
            with pytest.raises(Unreachable, match="timed out"):
                call()
            assert time.monotonic() - start < 0.9
        cloud.box.faults.answer_after_s = 0.0
        assert hasty.launch(request).status is InstanceStatus.RUNNING


class TestLists:
    """Absence proves something only in a complete list."""

    def test_all_pages_are_read(self, cloud: GcpCloud) -> None:
        """The box turns a page every two machines."""
        wanted = {cloud.launched()[0].replica.id for _ in range(5)}
        assert {each.replica_id for each in cloud.provider.list_instances()} == wanted

    def test_a_list_with_a_zone_missing_is_no_list(self, cloud: GcpCloud) -> None:
        """Google answers 200 with a warning; its machines would be taken for dead."""
        cloud.launched()
        cloud.box.hidden_zones.add("us-central1-a")
        with pytest.raises(Unreachable, match="zones/us-central1-a is unreachable"):
            cloud.provider.list_instances()

    @pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.SERVER_ERROR, Fault.LOST_RESPONSE, Fault.UNAUTHORIZED])
    def test_a_list_that_broke_off_is_no_list(self, cloud: GcpCloud, fault: Fault) -> None:
        """Also when a later page did."""
        for _ in range(3):
            cloud.launched()
        cloud.box.faults.once("list", fault)
        with pytest.raises(Unreachable):
            cloud.provider.list_instances()
        assert len(cloud.provider.list_instances()) == 3

    def test_a_young_machine_may_be_missing(self, cloud: GcpCloud) -> None:
        """For as long as `listing_lag_s` says, and not by its name."""
        cloud.box.faults.list_lag_s = cloud.provider.listing_lag_s
        request, launched = cloud.launched()
        assert cloud.provider.list_instances() == ()
        assert cloud.provider.launch(request) == launched
        cloud.clock.advance(cloud.provider.listing_lag_s)
        assert cloud.provider.list_instances() == (launched,)

    def test_a_cloud_that_is_down_is_unreachable(self, cloud: GcpCloud) -> None:
        """In every method, the janitor's too."""
        request, launched = cloud.launched()
        cloud.box.faults.down = True
        calls: list[Callable[[], object]] = [
            cloud.provider.list_instances,
            lambda: cloud.provider.launch(request),
            lambda: cloud.provider.terminate(launched.replica_id, launched.id),
            lambda: cloud.provider.terminate(launched.replica_id, ""),
            lambda: cloud.provider.read_log(launched.replica_id, launched.id, 1),
            lambda: cloud.provider.leftovers(frozenset()),
        ]
        for call in calls:
            with pytest.raises(Unreachable, match="does not answer"):
                call()

    def test_the_preempted_are_taken_now_and_then_missing(self, cloud: GcpCloud) -> None:
        """Also when the agent got to say nothing: STOPPING unasked is an interruption."""
        _, launched = cloud.launched()
        cloud.box.preempt(launched.id, notice_s=30.0)
        assert [each.status for each in cloud.provider.list_instances()] == [InstanceStatus.RUNNING]
        cloud.clock.advance(20.0)
        (stopping,) = cloud.provider.list_instances()
        assert (stopping.status, stopping.interruption_at) == (InstanceStatus.STOPPING, cloud.clock.now())
        cloud.clock.advance(10.0)
        assert cloud.provider.list_instances() == ()

    def test_a_machine_that_stopped_by_itself_is_not_gone(self, cloud: GcpCloud) -> None:
        """Its disk is billed until it is deleted: it is interrupted, removed as an orphan if it is one, and can be removed."""
        _, launched = cloud.launched(CPU)
        cloud.box.kill(launched.id)
        cloud.clock.advance(61.0)
        (stopped,) = cloud.provider.list_instances()
        assert stopped.interruption_at == cloud.clock.now()
        assert is_orphan(stopped, Limits(), cloud.clock.now())
        cloud.provider.terminate(stopped.replica_id, stopped.id)
        assert cloud.provider.list_instances() == ()


class TestRefusals:
    """Who is to try where, and what the user is told."""

    def test_over_quota(self, cloud: GcpCloud) -> None:
        """The region has it, the message says where to ask for more."""
        cloud.box.faults.quota["us-central1"] = 0
        with pytest.raises(QuotaExceeded, match=r"QUOTA_EXCEEDED.*iam-admin/quotas"):
            cloud.launched()
        cloud.launched(CPU)
        assert len(cloud.running()) == 1

    def test_no_capacity_in_one_zone(self, cloud: GcpCloud) -> None:
        """Another zone may have it."""
        cloud.box.faults.capacity["us-central1-a"] = 0
        with pytest.raises(NoCapacity):
            cloud.launched()
        cloud.launched(sold("g2-standard-8", "us-central1-b"))
        assert len(cloud.running()) == 1

    def test_a_type_that_a_zone_does_not_have(self, cloud: GcpCloud) -> None:
        """The catalog may be older than the cloud: that zone is left alone, and no more than that."""
        nowhere = replace(SPOT_L4, instance_type="g9-standard-8")
        with pytest.raises(NoCapacity, match="g9-standard-8' was not found"):
            cloud.launched(nowhere)
        unknown = replace(sold("n1-standard-16", "us-central1-a"), accelerator="K80")
        with pytest.raises(NoCapacity, match="acceleratorTypes/K80'"):
            cloud.launched(unknown)

    def test_an_image_that_is_not_there(self, cloud: GcpCloud) -> None:
        """No zone will do better; the user reads which one, and not the call that asked for it."""
        request = launch_request(cloud.offer)
        wrong = replace(request.replica, requirement=Requirement(image_id="projects/x/global/images/typo"))
        with pytest.raises(
            LaunchRefused, match=r"\(HTTP 404\): The resource 'projects/x/global/images/typo' was not found"
        ):
            cloud.provider.launch(replace(request, replica=wrong))

    def test_refused_credentials(self, cloud: GcpCloud) -> None:
        """The launch says what to do; everything else may be tried again."""
        wrong = cloud.provider_of("test", cloud.box.endpoint_url.replace("//", "//no-such-"))
        with pytest.raises(Unauthorized, match=r"credentials are missing or refused.*grant roles/compute"):
            wrong.launch(launch_request(cloud.offer))
        with pytest.raises(Unreachable, match="credentials are missing or refused"):
            wrong.list_instances()

    def test_no_secret_is_in_any_word(self, cloud: GcpCloud) -> None:
        """Google repeats a rejected field's value; the bearer token and the user data stay out of errors and repr."""
        request = launch_request(cloud.offer)
        request = replace(request, boot_token="s3cret" * 50_000)
        with pytest.raises(LaunchRefused, match=r"metadata.items\[0\].value': '…'") as refused:
            cloud.provider.launch(request)
        wrong = cloud.provider_of("test", cloud.box.endpoint_url.replace("//", "//hush-"))
        with pytest.raises(LaunchRefused) as unknown:
            wrong.launch(request)
        cloud.box.faults.down = True
        with pytest.raises(Unreachable) as down:
            cloud.provider.launch(request)
        told = [repr(each.value) + repr(each.value.__cause__) for each in (refused, unknown, down)]
        told.append(repr(cloud.provider))
        assert [word for word in told if "s3cret" in word or "hush" in word or "ya29" in word] == []

    @pytest.mark.parametrize(
        ("status", "reason", "message", "expected"),
        [
            (403, "quotaExceeded", "Quota 'GPUS_ALL_REGIONS' exceeded.", QuotaExceeded),
            (403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries'", Unreachable),
            (429, "rateLimitExceeded", "slow down", Unreachable),
            (403, "accessNotConfigured", "Compute Engine API has not been used in project 1 before", Unauthorized),
            (403, "forbidden", "Required 'compute.instances.create' permission", Unauthorized),
            (401, "authError", "Invalid Credentials", Unauthorized),
            (400, "invalid", "Invalid value for field 'resource.labels'", LaunchRefused),
            (400, "resourceNotReady", "The resource is not ready", Unreachable),
            (400, "invalid", "Type 'zones/z/machineTypes/a9-mega' does not exist in zone 'z'.", NoCapacity),
            (404, "notFound", "The resource 'projects/p/zones/z/machineTypes/a9' was not found", NoCapacity),
            (404, "notFound", "The resource 'projects/p/global/networks/default' was not found", LaunchRefused),
            (503, "backendError", "Internal error", Unreachable),
            (503, "zoneResourcePoolExhausted", "The zone does not have enough resources", NoCapacity),
        ],
    )
    def test_the_clouds_words_and_ours(
        self, status: int, reason: str, message: str, expected: type[SailplaneError]
    ) -> None:
        """What Google answers at once, by HTTP status and reason."""
        error: GoogleAPICallError = from_http_status(status, message, errors=[{"reason": reason}])  # type: ignore[no-untyped-call]  # Google's
        with pytest.raises(expected, match=message.partition("'")[0]), errors.launching(secrets=()):
            raise error
        with pytest.raises(Unreachable), errors.reaching():
            raise error

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ReadTimeout("read timed out"), Unreachable),
            (TransportError("metadata server"), Unreachable),  # type: ignore[no-untyped-call]  # Google's
            (DefaultCredentialsError("no credentials"), Unauthorized),  # type: ignore[no-untyped-call]  # Google's
        ],
    )
    def test_silence_and_missing_credentials(self, error: Exception, expected: type[SailplaneError]) -> None:
        """Silence may pass; credentials that are not there need the user."""
        with pytest.raises(expected), errors.launching(secrets=()):
            raise error

    def test_a_given_key_is_what_is_shown(self) -> None:
        """A function finds no credentials by itself. What is no key is told so, without a part of it, for the user to mend."""
        private = rsa.generate_private_key(65537, 2048)
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        given = gcp_credentials(json.dumps({**KEY, "private_key": pem}))
        shown = credentials.find(given)
        assert isinstance(shown, service_account.Credentials)
        assert (shown.service_account_email, shown.scopes) == (KEY["client_email"], credentials.ALL)
        assert pem[40:60] not in repr(shown)
        with pytest.raises(Unauthorized, match="its private_key is none") as refused, errors.launching(secrets=()):
            credentials.find(KEY)
        assert "MIIEvQ" not in "".join(traceback.format_exception(refused.value))

    def test_the_configurations_are_what_the_provider_is_given(self) -> None:
        """Made by bootstrap, it shows those and looks for no others."""
        told = {"SAILPLANE_GCP_CREDENTIALS": json.dumps(FEDERATED), "SAILPLANE_GCP_PROJECT": PROJECT}
        runtime = bootstrap.build(from_env({**ENV, **CLOUD, **told, "SAILPLANE_PROVIDERS": "gcp"}))
        provider = runtime.providers["gcp"]
        assert isinstance(provider, GcpProvider)
        assert isinstance(provider._credentials, aws.Credentials)

    def test_a_given_federation_takes_the_functions_own_identity(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It signs with what Lambda puts into the environment; no metadata server is asked, and there is none."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.setenv(name, f"of-{name}")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        shown = credentials.find(gcp_credentials(json.dumps(FEDERATED)))
        assert isinstance(shown, aws.Credentials)
        assert (shown.service_account_email, shown.scopes) == (KEY["client_email"], credentials.ALL)
        signed: Any = shown.retrieve_subject_token
        token = unquote(signed(request=lambda *_a, **_k: pytest.fail("asks for something")))
        assert "https://sts.eu-west-1.amazonaws.com?Action=GetCallerIdentity" in token
        assert "Credential=of-AWS_ACCESS_KEY_ID/" in token
        assert "of-AWS_SECRET_ACCESS_KEY" not in token

    @pytest.mark.parametrize(
        ("status", "code", "expected"),
        [
            (503, "ZONE_RESOURCE_POOL_EXHAUSTED", NoCapacity),
            (403, "QUOTA_EXCEEDED", QuotaExceeded),
            (500, "INTERNAL_ERROR", NoCapacity),
            (400, "UNSUPPORTED_OPERATION", LaunchRefused),
        ],
    )
    def test_an_operation_that_failed_is_final(self, status: int, code: str, expected: type[LaunchError]) -> None:
        """Its request's id would lead back to it for an hour, so it is never `Unreachable`."""
        operation = Operation(http_error_status_code=status, error=Error(errors=[Errors(code=code, message="why")]))
        assert type(errors.failure(operation)) is expected


class TestLeftovers:
    """What would stay behind, and nothing else."""

    def test_nothing_is_left_over_of_live_replicas(self, cloud: GcpCloud) -> None:
        """Their machines, disks, and the rule that all share."""
        request, _ = cloud.launched()
        assert isinstance(cloud.provider, Janitor)
        assert cloud.provider.leftovers(frozenset({request.replica.id})) == ()

    def test_everything_of_ours_is_found_and_removed(self, cloud: GcpCloud) -> None:
        """A machine without a replica, a disk without a machine, the rule; the other deployment's stay."""
        request, launched = cloud.launched()
        cloud.another_deployment().launch(launch_request(CPU))
        labels = {"sailplane-deployment": "test", "sailplane-replica": "hello-old-0-1"}
        cloud.box.leave_disk("us-east4-a", "left", labels)
        cloud.box.leave_disk("us-east4-a", "theirs", {"sailplane-deployment": "another"})
        found = cloud.provider.leftovers(frozenset())
        assert [(each.kind, each.id, each.region, each.replica_id) for each in found] == [
            (LeftoverKind.MACHINE, launched.id, "us-central1", request.replica.id),
            (LeftoverKind.DISK, "us-east4-a/left", "us-east4", "hello-old-0-1"),
            (LeftoverKind.FIREWALL, "sailplane-test", "", ""),
        ]
        for leftover in (*found, *found):
            cloud.provider.remove(leftover)
        assert cloud.provider.leftovers(frozenset()) == ()
        assert len(cloud.another_deployment().leftovers(frozenset())) == 3

    def test_what_cannot_be_removed_now_is_unreachable(self, cloud: GcpCloud) -> None:
        """Ask again."""
        cloud.launched()
        (machine, firewall) = cloud.provider.leftovers(frozenset())
        for leftover, call in ((machine, "instances.delete"), (firewall, "firewalls.delete")):
            cloud.box.faults.once(call, Fault.SERVER_ERROR)
            with pytest.raises(Unreachable):
                cloud.provider.remove(leftover)


class TestFacts:
    """What stands in offers.py and interruption.py."""

    @pytest.mark.parametrize(
        ("instance_type", "tier", "disk"),
        [
            ("n1-standard-4", "low", "pd-standard"),
            ("n2-standard-4", "", "pd-balanced"),
            ("a2-ultragpu-1g", "ultra", "pd-ssd"),
            ("g2-standard-4", "low", "pd-balanced"),
            ("a3-highgpu-8g", "best", "pd-ssd"),
            ("a3-ultragpu-8g", "low", "hyperdisk-balanced"),
            ("c4-standard-4", "high", "hyperdisk-balanced"),
        ],
    )
    def test_the_disk_that_a_type_takes(self, instance_type: str, tier: str, disk: str) -> None:
        """The tier's, or the nearest."""
        assert offers.disk_type(instance_type, tier) == disk

    def test_containers_run_on_the_default_image(self) -> None:
        """It has the driver and docker."""
        default = offers.image(SPOT_L4, Requirement())
        assert "deeplearning-platform-release" in default
        assert offers.image(SPOT_L4, Requirement(image_id="docker:vllm/vllm-openai:latest")) == default
        assert "ubuntu-os-cloud" in offers.image(CPU, Requirement())

    def test_the_notice(self) -> None:
        """TRUE in the machine's metadata means half a minute."""
        assert interruption.notice("hello-0000-0-1", "FALSE", 100.0) is None
        assert interruption.notice("hello-0000-0-1", "TRUE\n", 100.0) == InterruptionNotice(
            "gcp", NoticeKind.INTERRUPTION, 130.0, replica_id="hello-0000-0-1"
        )

    def test_facts_and_notices_load_no_sdk(self) -> None:
        """Two seconds of CPU are for those who act on the cloud."""
        program = (
            "import sys; before = set(sys.modules);"
            "import chalicelib.providers.gcp.interruption, chalicelib.providers.gcp.offers;"
            "print([name for name in sys.modules.keys() - before if name.split('.')[0] in ('google', 'requests', 'grpc')])"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "[]"


@pytest.mark.public_contracts
def test_another_copy_of_the_contract_accepts_all_that_is_sent(cloud: GcpCloud) -> None:
    """Google's document as others published it, besides the box's; SAILPLANE_PUBLIC_CONTRACTS names the directory."""
    path = Path(os.environ["SAILPLANE_PUBLIC_CONTRACTS"]) / "gcp" / "compute.v1.min.json"
    public = Contract(json.loads(path.read_text()))
    for offer in (SPOT_L4, CPU, sold("n1-standard-16", "us-central1-a")):
        _, launched = cloud.launched(offer)
        cloud.provider.list_instances()
        cloud.provider.read_log(launched.replica_id, launched.id, 1)
        cloud.provider.terminate(launched.replica_id, launched.id)
    seen = [(method, each) for each in cloud.box.requests if (method := public.find(each.http_method, each.path))]
    assert len(seen) == len(cloud.box.requests)
    assert [fault for method, each in seen for fault in public.faults(method, each.query, each.body)] == []


def test_locations_are_the_catalogs() -> None:
    """A region is its zones' name without the letter; leftovers rely on it."""
    places = {each.location for each in catalog.offers(["gcp"])}
    assert all(place == Location("gcp", place.zone.rpartition("-")[0], place.zone) for place in places)
