"""Every call to every cloud goes wrong in every way while a service is created, shrunk, preempted, changed or deleted.

The judge is the cloud's own book: no replica ever has two machines, and after the trouble two clean passes leave no machine
that nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.clouds.box import Fault
from tests.clouds.plane import CloudPlane, open_plane

# The provider's calls, and what the boxes call them.
CALLS = {"launch": "launch", "list_instances": "list", "terminate": "terminate"}
# Long enough for the slowest of what is under way: a drain, a replacement, an operation of the cloud's.
SETTLE_TICKS, QUIET_TICKS, TICK_S = 15, 2, 3.0


class Crash(BaseException):
    """The process is gone."""


@pytest.fixture(params=["aws", "gcp", "azure"])
def plane(request: pytest.FixtureRequest) -> Iterator[CloudPlane]:
    opened = open_plane(request.param)
    yield opened
    opened.box.close()


def create(plane: CloudPlane) -> None:
    plane.create(wanted=plane.spec())


def scale_down(plane: CloudPlane) -> None:
    plane.update(plane.spec(min_replicas=1, max_replicas=1))


def preempt(plane: CloudPlane) -> None:
    plane.box.preempt(plane.running()[0].id, notice_s=2)


def update(plane: CloudPlane) -> None:
    plane.update(plane.spec(fingerprint="v2"))


def delete(plane: CloudPlane) -> None:
    plane.delete()


# What happens, and how many machines are left when it is over.
SCENARIOS: dict[str, tuple[Callable[[CloudPlane], None], int]] = {
    "create": (create, 2),
    "scale_down": (scale_down, 1),
    "preempt": (preempt, 2),
    "update": (update, 2),
    "delete": (delete, 0),
}


def crash(plane: CloudPlane, *moments: str) -> None:
    """Let the process die at each of these moments, once."""
    left = set(moments)

    def happens(moment: str) -> None:
        if moment in left:
            left.remove(moment)
            raise Crash(moment)

    plane.happens = happens


def fail(fault: Fault, plane: CloudPlane) -> None:
    for call in CALLS.values():
        plane.box.faults.once(call, fault)


TROUBLE: dict[str, Callable[[CloudPlane], None]] = {
    "crash before": lambda plane: crash(plane, *(f"before {call}" for call in CALLS)),
    "crash after": lambda plane: crash(plane, *(f"after {call}" for call in CALLS)),
    "throttled": partial(fail, Fault.THROTTLED),
    "server error": partial(fail, Fault.SERVER_ERROR),
    "lost response": partial(fail, Fault.LOST_RESPONSE),
    "duplicated": partial(fail, Fault.DUPLICATED),
}


def live_through(plane: CloudPlane, wanted: int) -> None:
    """Ticks, some of which may die, until as many machines as wanted run and nothing was done for a while.

    The process after a dead one finds its lease taken until that expires. After two clean ticks in a row no machine is
    unknown, whatever went wrong before; from there on it only takes the time that drains and boots take.
    """
    clean = quiet = ticks = 0
    while (quiet < QUIET_TICKS or len(plane.running()) != wanted) and ticks < SETTLE_TICKS:
        ticks += 1
        try:
            reports = plane.tick(every_s=TICK_S)
        except Crash:
            plane.clock.advance(plane.runtime.settings.lease_ttl_s)
            clean = quiet = 0
        else:
            quiet = 0 if any(report.acted or report.failures for report in reports) else quiet + 1
            clean = 0 if any(report.failures for report in reports) else clean + 1
        if clean >= 2:
            assert plane.doubles() == []
            assert {machine.replica_id for machine in plane.running()} <= plane.recorded()


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whatever_call_goes_wrong_nothing_is_lost_or_doubled(plane: CloudPlane, scenario: str, trouble: str) -> None:
    """The first call of each kind that the scenario makes meets the trouble; it ends as if nothing had happened."""
    happen, wanted = SCENARIOS[scenario]
    if scenario != "create":
        create(plane)
        plane.tick(3, every_s=TICK_S)  # asked for, given an address, routed
        assert len(plane.running()) == len(plane.routed()) == 2
    TROUBLE[trouble](plane)
    happen(plane)
    live_through(plane, wanted)
    assert plane.doubles() == []
    assert {machine.replica_id for machine in plane.running()} == plane.recorded()
    assert len(plane.running()) == wanted
    assert plane.routed() == sorted(plane.recorded())


def test_two_clean_passes_after_a_crash_are_enough(plane: CloudPlane) -> None:
    """A launch whose process died, before or after the cloud was asked, is made good by the second pass that follows."""
    crash(plane, "after launch")
    create(plane)
    with pytest.raises(Crash):
        plane.tick()
    plane.clock.advance(plane.runtime.settings.lease_ttl_s)
    assert len(plane.running()) == 1
    plane.tick(2)
    assert len(plane.running()) == 2
    assert plane.doubles() == []


def test_the_drill_meets_every_call() -> None:
    """Each call is made in some scenario: a drill that meets none of them proves nothing."""
    met: set[str] = set()
    plane = open_plane("gcp")
    plane.happens = met.add
    create(plane)
    live_through(plane, 2)
    delete(plane)
    live_through(plane, 0)
    plane.box.close()
    assert {f"{when} {call}" for call in CALLS for when in ("before", "after")} <= met
