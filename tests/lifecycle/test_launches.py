"""How many replicas may be launched, and what a service is said to be worth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.lifecycle import decide_launches, service_status
from chalicelib.model import Backoff, Reason, ReplicaStatus, ScheduledBounds, ServiceStatus
from tests.lifecycle.test_reconcile import NOW, replica, service

READY, STARTING = ReplicaStatus.READY, ReplicaStatus.STARTING


def test_what_is_missing_is_launched_into_free_slots() -> None:
    """Target 3 with slots 1 and 2 taken: two launches, into the lowest free slots."""
    launches = decide_launches(service(3), [replica(READY, 1)], NOW)
    assert launches.slots == (0, 2)


def test_a_roll_out_surges_by_max_surge_only() -> None:
    """With all old replicas in place one more may exist, and no second one before an old one has gone."""
    old = [replica(READY, n, fingerprint="old") for n in (0, 1)]
    assert len(decide_launches(service(2), old, NOW).slots) == 1
    assert decide_launches(service(2), [*old, replica(STARTING, 2)], NOW).slots == ()


def test_back_off_holds_launches() -> None:
    """Before retry_at nothing is launched; afterwards one replica at a time is tried."""
    failing = service(3, backoff=Backoff(failures=2, retry_at=NOW + 5))
    assert decide_launches(failing, [], NOW).slots == ()
    assert len(decide_launches(failing, [], NOW + 5).slots) == 1
    assert decide_launches(failing, [replica(STARTING, 0)], NOW + 5).slots == ()


def test_a_preempted_machine_is_replaced_before_it_is_seen_gone() -> None:
    """A machine that the cloud takes does not hold its replacement up."""
    taken = replica(ReplicaStatus.DRAINING, 0, reason=Reason.INTERRUPTED)
    assert decide_launches(service(1), [taken], NOW).slots == (1,)


def test_a_launch_that_was_never_answered_may_have_left_a_machine() -> None:
    """Until it is seen that there is none, it counts as one that we pay for."""
    leaving = [replica(ReplicaStatus.TERMINATING, n, reason=Reason.LOST) for n in range(5)]
    assert decide_launches(service(5), leaving, NOW).slots == (5, 6, 7, 8, 9)
    unanswered = [replace(one, instance_id="") for one in leaving]
    assert len(decide_launches(service(5), unanswered, NOW).slots) == 1


STATES = st.tuples(
    st.sampled_from([status for status in ReplicaStatus if status is not ReplicaStatus.TERMINATED]),
    st.booleans(),
    st.sampled_from([None, Reason.SCALED_DOWN, Reason.REPLACED, Reason.USER, Reason.UNHEALTHY]),
)


@given(st.lists(STATES, max_size=9), st.integers(0, 5))
def test_never_above_max_plus_surge(population: list[tuple[ReplicaStatus, bool, Reason | None]], target: int) -> None:
    """Whatever exists, launches never take the machines we pay for above max_replicas + max_surge, nor use a slot twice."""
    replicas = [
        replica(status, n, fingerprint="v1" if current else "old", reason=reason)
        for n, (status, current, reason) in enumerate(population)
    ]
    launches = decide_launches(service(target), replicas, NOW).slots
    assert not launches or len(replicas) + len(launches) <= 5 + 1
    slots = [r.slot for r in replicas] + list(launches)
    assert len(slots) == len(set(slots))


@pytest.mark.parametrize(
    ("target", "statuses", "changes", "expected"),
    [
        (2, [], {}, ServiceStatus.STARTING),
        (2, [READY], {}, ServiceStatus.READY),  # the minimum is met, a scale-out is no trouble
        (0, [], {}, ServiceStatus.IDLE),
        (1, [ReplicaStatus.NOT_READY], {"was_ready": True}, ServiceStatus.DEGRADED),
        (1, [STARTING], {"backoff": Backoff(1, NOW, "no such model")}, ServiceStatus.FAILED),
        (1, [READY], {"deleting": True}, ServiceStatus.SHUTTING_DOWN),
    ],
)
def test_status(
    target: int, statuses: list[ReplicaStatus], changes: dict[str, object], expected: ServiceStatus
) -> None:
    """Starting, ready, degraded, idle, failed and shutting down are told apart."""
    replicas = [replica(status, n) for n, status in enumerate(statuses)]
    assert service_status(service(target, **changes), replicas, NOW)[0] is expected


def test_fewer_than_the_minimum_is_degraded_and_failures_are_told() -> None:
    """One of two required replicas ready: DEGRADED; a failure's last words are part of the message."""
    wanted = service(2, backoff=Backoff(1, NOW, "no such model"))
    scaling = replace(wanted.spec.scaling, min_replicas=2)
    wanted = replace(wanted, spec=replace(wanted.spec, scaling=scaling))
    status, message = service_status(wanted, [replica(READY, 0)], NOW)
    assert status is ServiceStatus.DEGRADED
    assert "1 of 2 ready" in message
    assert "no such model" in message
    by_clock = replace(wanted.spec.scaling, min_replicas=1, schedule=(ScheduledBounds("* * * * *", min_replicas=2),))
    wanted = replace(wanted, spec=replace(wanted.spec, scaling=by_clock))
    assert service_status(wanted, [replica(READY, 0)], NOW)[0] is ServiceStatus.DEGRADED
