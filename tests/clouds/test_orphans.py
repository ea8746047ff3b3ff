"""Machines without a record over each boxed cloud, and machines with one that its lists leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from chalicelib.model import LeftoverKind, ProbeResult, ProbeSpec, Replica, ReplicaStatus, ScalingSpec
from chalicelib.ports import Janitor
from tests.clouds.box import Fault
from tests.clouds.plane import BoxProber, CloudPlane, open_plane, unrecorded
from tests.clouds.providers import provider_of

GRACE_S = 60.0


@pytest.fixture(params=["aws", "gcp", "azure"])
def plane(request: pytest.FixtureRequest) -> Iterator[CloudPlane]:
    opened = open_plane(request.param)
    yield opened
    opened.box.close()


def start(plane: CloudPlane, replica_id: str, deployment: str) -> None:
    provider_of(plane.box, plane.clock, deployment, plane.regions).launch(unrecorded(plane.name, replica_id))


def billed(plane: CloudPlane, deployment: str = "test") -> set[str]:
    """Replicas of a deployment of which the cloud still has a machine, running or not, or a disk."""
    janitor = provider_of(plane.box, plane.clock, deployment, plane.regions)
    assert isinstance(janitor, Janitor)
    kinds = (LeftoverKind.MACHINE, LeftoverKind.DISK)
    return {each.replica_id for each in janitor.leftovers(frozenset()) if each.kind in kinds}


@pytest.mark.parametrize("of", ["svc", "gone"])
@pytest.mark.parametrize("state", ["on", "off"])
def test_what_no_record_wants_goes_after_its_grace(plane: CloudPlane, of: str, state: str) -> None:
    """Of a service that is there or is not, running or switched off: asked for again until it is gone, and nobody else's."""
    plane.create(wanted=plane.spec())
    plane.tick(3)
    plane.store.release_lease(plane.store.acquire_lease("gone", "a pass of its day", 1, plane.clock.now()))
    ours, orphan, others = plane.recorded(), f"{of}-u9-0-1", f"{of}-u9-0-2"
    start(plane, orphan, "test")
    start(plane, others, "other")
    if state == "off":
        plane.box.kill(next(each.id for each in plane.running() if each.replica_id == orphan))
    alive = {each.replica_id for each in plane.running()}
    plane.tick(every_s=GRACE_S)
    assert {each.replica_id for each in plane.running()} == alive
    plane.box.faults.operation_s = 3.0
    plane.box.faults.once("terminate", Fault.THROTTLED)
    plane.tick(8)
    assert billed(plane) == ours == plane.recorded()
    assert billed(plane, "other") == {others}


def test_a_launch_that_comes_late_buys_nothing_that_stays(plane: CloudPlane) -> None:
    """A frozen process repeats a launch when its replica is long gone: no second machine, or (Azure) an orphan that goes."""
    plane.create(wanted=plane.spec())
    plane.tick(3)
    requests = [replace(unrecorded(plane.name, each.id), replica=each) for each in plane.replicas()]
    plane.delete()
    plane.tick(12, every_s=3.0)  # no sooner can a machine this young be missing from a list
    assert billed(plane) == set() == set(plane.store.service_names())
    for request in requests:
        plane.provider.launch(request)
    assert plane.name == "azure" or plane.doubles() == []
    plane.tick(every_s=GRACE_S + 1)
    assert billed(plane) == set()


def test_a_list_that_lags_ends_nobody(plane: CloudPlane) -> None:
    """Machines that were long in coming serve, and miss one probe while no list shows them: they stay, and none is doubled."""
    plane.box.faults.down = True
    plane.create(wanted=plane.spec())
    plane.tick(20, every_s=3.0)
    plane.box.faults.down = False
    plane.tick(3)
    assert len(plane.routed()) == 2
    plane.box.faults.list_lag_s = plane.provider.listing_lag_s  # asked elsewhere, where the news has not come yet
    real, silent = plane.runtime, Silent(plane)
    plane.runtime = replace(real, prober=silent)
    plane.tick()
    plane.runtime = real
    plane.tick(2)
    assert len(plane.routed()) == len(plane.box.machines()) == 2
    assert {replica.status for replica in plane.replicas()} == {ReplicaStatus.READY}


class Silent(BoxProber):
    """Agents that did not answer in time."""

    def __init__(self, plane: CloudPlane) -> None:
        super().__init__(plane.box, plane.clock)

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        answers = super().probe(targets, scaling)
        return {name: replace(answer, identified=False, ready=False) for name, answer in answers.items()}
