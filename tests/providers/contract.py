"""What every provider promises to the core. Each adapter runs these tests in its own world.

A subclass named Test… supplies the fixture `cloud`, a `Cloud`.
"""

from __future__ import annotations

import secrets
from typing import Protocol

import pytest

from chalicelib.errors import NoCapacity
from chalicelib.model import (
    CapacityType,
    EngineSpec,
    Instance,
    InstanceStatus,
    LaunchRequest,
    Location,
    Offer,
    Replica,
    ReplicaStatus,
)
from chalicelib.ports import Provider
from tests.waiting import until


class Cloud(Protocol):
    """A provider and the world it works in."""

    provider: Provider
    offer: Offer  # something that can be had there

    def another_deployment(self) -> Provider:
        """The same cloud account, seen by a control plane with another deployment name."""

    def run_out(self) -> None:
        """Let the next launch of a new machine find no capacity."""

    def until_logged(self, instance: Instance) -> None:
        """Return when the machine has written `FIRST` and `LAST` to its log."""


FIRST, LAST = "first line", "last line"


def launch_request(offer: Offer, replica_id: str = "", engine: EngineSpec | None = None) -> LaunchRequest:
    """A request as the executor makes it, by default for a new replica that logs two lines and waits."""
    run = f"echo {FIRST}; echo {LAST}; sleep 600"
    return LaunchRequest(
        replica=Replica(
            service="hello",
            id=replica_id or f"hello-{secrets.token_hex(4)}-0-1",
            slot=0,
            generation=1,
            spec_version=1,
            fingerprint="f",
            offer=offer,
            boot_nonce=secrets.token_hex(8),
            status=ReplicaStatus.PENDING,
            status_since=0.0,
            created_at=0.0,
        ),
        engine=engine or EngineSpec(port=8080, run=run),
        agent_token=secrets.token_hex(16),
        boot_token=secrets.token_hex(16),
        drain_timeout_s=1.0,
    )


def offer_in(location: Location, instance_type: str) -> Offer:
    """An offer of a small on-demand machine."""
    return Offer(location, instance_type, 1.0, 1.0, CapacityType.ON_DEMAND, 0.0)


class ProviderContract:
    """Launch, list, terminate, log."""

    def test_a_launched_machine_is_listed_under_its_replica(self, cloud: Cloud) -> None:
        """The tag carries replica and service, and sooner or later it has an address."""
        request = launch_request(cloud.offer)
        launched = cloud.provider.launch(request)
        assert launched.replica_id == request.replica.id

        seen = until(lambda: [each for each in cloud.provider.list_instances() if each.url])
        assert [(each.provider, each.id, each.replica_id, each.service) for each in seen] == [
            (cloud.provider.name, launched.id, request.replica.id, "hello")
        ]
        assert seen[0].status is InstanceStatus.RUNNING
        assert (seen[0].interruption_at, seen[0].preempted) == (None, False)

    def test_launching_again_returns_the_same_machine(self, cloud: Cloud) -> None:
        """The replica's id is the idempotency token, also for a control plane that has forgotten everything."""
        request = launch_request(cloud.offer)
        first = cloud.provider.launch(request)
        again = cloud.provider.launch(request)
        assert again.id == first.id
        assert len(cloud.provider.list_instances()) == 1

    def test_another_deployments_machines_are_invisible(self, cloud: Cloud) -> None:
        """Two deployments in one account never touch each other's machines."""
        cloud.provider.launch(launch_request(cloud.offer))
        assert cloud.another_deployment().list_instances() == ()

    def test_terminating_is_final_and_may_be_repeated(self, cloud: Cloud) -> None:
        """Asked twice it is the same, and gone means gone."""
        launched = cloud.provider.launch(launch_request(cloud.offer))
        cloud.provider.terminate(launched.replica_id, launched.id)
        cloud.provider.terminate(launched.replica_id, launched.id)
        until(lambda: not _alive(cloud.provider))
        assert all(not each.preempted for each in cloud.provider.list_instances())

    def test_terminating_needs_no_instance_id(self, cloud: Cloud) -> None:
        """After a crash between launch and outcome only the tag is known."""
        launched = cloud.provider.launch(launch_request(cloud.offer))
        cloud.provider.terminate(launched.replica_id, "")
        until(lambda: not _alive(cloud.provider))

    def test_terminating_what_never_was_is_no_error(self, cloud: Cloud) -> None:
        """The wanted state is reached already."""
        cloud.provider.terminate("hello-0000-0-9", "")
        assert cloud.provider.list_instances() == ()

    def test_a_terminated_machine_does_not_come_back(self, cloud: Cloud) -> None:
        """A launch that is repeated after the termination starts nothing."""
        request = launch_request(cloud.offer)
        launched = cloud.provider.launch(request)
        cloud.provider.terminate(launched.replica_id, launched.id)
        assert cloud.provider.launch(request).status in (InstanceStatus.STOPPING, InstanceStatus.GONE)
        until(lambda: not _alive(cloud.provider))

    def test_without_capacity_nothing_is_started(self, cloud: Cloud) -> None:
        """`NoCapacity`, and no trace of the machine."""
        cloud.run_out()
        with pytest.raises(NoCapacity):
            cloud.provider.launch(launch_request(cloud.offer))
        assert cloud.provider.list_instances() == ()

    def test_without_capacity_an_existing_machine_is_still_returned(self, cloud: Cloud) -> None:
        """Repeating a launch asks for nothing new."""
        request = launch_request(cloud.offer)
        first = cloud.provider.launch(request)
        cloud.run_out()
        assert cloud.provider.launch(request).id == first.id

    def test_an_unknown_machine_has_no_log(self, cloud: Cloud) -> None:
        """None, which is not the same as an empty log."""
        assert cloud.provider.read_log("hello-0000-0-9", "", 10) is None


class KeepsLog:
    """Beside the contract, for clouds whose machines' logs can be read when the machines are gone."""

    def test_the_log_outlives_the_machine(self, cloud: Cloud) -> None:
        """Its last lines can be read when the agent cannot be asked any more."""
        launched = cloud.provider.launch(launch_request(cloud.offer))
        cloud.until_logged(launched)
        assert cloud.provider.read_log(launched.replica_id, launched.id, 1) == f"{LAST}\n"
        cloud.provider.terminate(launched.replica_id, launched.id)
        assert cloud.provider.read_log(launched.replica_id, launched.id, 10) == f"{FIRST}\n{LAST}\n"


def _alive(provider: Provider) -> list[Instance]:
    return [each for each in provider.list_instances() if each.status is not InstanceStatus.GONE]
