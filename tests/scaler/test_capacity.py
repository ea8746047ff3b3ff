"""Targets that differ by accelerator."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import lifecycle
from chalicelib.actions import Drain, Terminate
from chalicelib.model import LoadSample, Observed, Replica, ReplicaStatus, ScalingSpec, Service, State
from chalicelib.scaler import best_first, decide
from chalicelib.scaler.capacity import capacity, replicas_for
from tests.fakes import START
from tests.scaler.worlds import LIMITS, follow, replica, seen, service, targets

TARGETS = (("A100-80GB", 4.0), ("L4:8", 7.0), ("L4", 1.0))
BY_ACCELERATOR: dict[str, Any] = {"target_qps_by_accelerator": TARGETS, "target_qps_per_replica": 1.0}
SPEC = ScalingSpec(**BY_ACCELERATOR)


@pytest.mark.parametrize(
    ("accelerators", "qps"),
    [("L4:8", 7.0), ("L4:1", 1.0), ("L4:4", 1.0), ("A100-80GB:1", 4.0), ("A100:1", 1.0), ("", 1.0)],
)
def test_the_target_of_a_machine(accelerators: str, qps: float) -> None:
    """`NAME:COUNT` first, then `NAME` whatever the count, else the lowest: `A100` is not `A100-80GB`."""
    assert capacity(SPEC, replica(1, accelerators).offer) == qps


@pytest.mark.parametrize(
    ("qps", "capacities", "needed"),
    [
        (0.0, (4.0, 1.0), 0),
        (4.0, (4.0, 1.0, 1.0), 1),
        (4.1, (4.0, 1.0, 1.0), 2),
        (6.5, (4.0, 1.0), 2 + 2),
        (0.1, (), 1),
        (3.0, (), 3),
    ],
)
def test_existing_replicas_count_for_what_they_are(qps: float, capacities: tuple[float, ...], needed: int) -> None:
    """The best of those that exist, and new ones at the lowest target for the rest; from nothing too."""
    assert replicas_for(qps, SPEC, capacities) == needed


@pytest.mark.parametrize("by_accelerator", [(), (("L4", 1e-308),)])
def test_a_load_beyond_all_bounds_is_a_number_of_replicas(by_accelerator: tuple[tuple[str, float], ...]) -> None:
    """A quotient that no float can hold wants as many as a service may have, and is no exception in every pass to come."""
    subject = service(1, target_qps_per_replica=1e-308, target_qps_by_accelerator=by_accelerator, upscale_delay_s=0.0)
    (scaled,) = follow(subject, [LoadSample(1e6, valid=True)])
    assert scaled.scaler.target == 10


def test_a_mixed_service_is_scaled_by_what_its_machines_can_do() -> None:
    """SkyServe's defects: it counts dead rows and cannot wake from zero. Ours wakes, and gives one big machine its due."""
    asleep = service(0, **BY_ACCELERATOR)
    (woken,) = follow(asleep, [LoadSample(0.02, valid=True, asked=True)])
    assert woken.scaler.target == 1
    big = service(1, **BY_ACCELERATOR)
    load = LoadSample(3.9, valid=True, asked=True, ready=1, capacities=(4.0,))
    assert set(targets(follow(big, [load] * 100))) == {1}
    more = LoadSample(5.5, valid=True, asked=True, ready=1, capacities=(4.0,))
    assert targets(follow(big, [more] * 20))[-1] == 3


def test_who_stays_is_who_the_scaler_counted_on() -> None:
    """The dearest machine is the most able one, and stays: giving it up would make the scaler ask for it again."""
    subject = service(1, **BY_ACCELERATOR)
    replicas = [replica(1, "L4", usd=0.7), replica(2, "A100-80GB", usd=4.0), replica(3, "L4", usd=0.6)]
    decision = lifecycle.decide_reconcile(State(subject, tuple(replicas)), {1: subject.spec}, Observed(), LIMITS, START)
    assert {one.replica.id for one in decision.actions if isinstance(one, Drain)} == {replicas[0].id, replicas[2].id}


STATUSES = [status for status in ReplicaStatus if status.is_active]
REPLICAS = st.lists(
    st.tuples(
        st.sampled_from(["L4:1", "L4:8", "A100-80GB:1", "T4:1", ""]), st.sampled_from(STATUSES), st.floats(0.1, 9)
    ),
    max_size=8,
).map(lambda rows: [replica(number, *row) for number, row in enumerate(rows)])


@given(REPLICAS, st.integers(0, 8))
def test_giving_up_keeps_to_the_order(replicas: list[Replica], target: int) -> None:
    """However many are wanted, those that stay are the first of the order that the scaler counts with."""
    subject = service(target, **BY_ACCELERATOR)
    decision = lifecycle.decide_reconcile(State(subject, tuple(replicas)), {1: subject.spec}, Observed(), LIMITS, START)
    gone = {one.replica.id for one in decision.actions if isinstance(one, Drain | Terminate)}
    staying = best_first(subject.spec.scaling, [one for one in replicas if one.id not in gone])
    assert staying == best_first(subject.spec.scaling, replicas)[: len(staying)]


@given(REPLICAS, st.floats(0, 100), st.floats(0, 100))
def test_more_load_never_needs_fewer(replicas: list[Replica], one: float, other: float) -> None:
    """The number needed never falls as the load rises, and what is needed carries the load."""
    able = [capacity(SPEC, each.offer) for each in best_first(SPEC, replicas)]
    low, high = (replicas_for(qps, SPEC, able) for qps in sorted((one, other)))
    assert low <= high
    carried = sum(able[:high]) + 1.0 * max(0, high - len(able))
    assert carried >= max(one, other) * (1 - 1e-6)
    assert high == 0 or sum(able[: high - 1]) + 1.0 * max(0, high - 1 - len(able)) < max(one, other)


@given(st.integers(0, 600), st.sampled_from([0.1, 0.3, 0.5, 1.0, 2.5]), st.integers(0, 12))
def test_equal_targets_are_no_target_by_accelerator(requests: int, target: float, existing: int) -> None:
    """A map whose accelerators can all do the same asks for ceil(qps / target), give or take what floats lose."""
    spec = ScalingSpec(target_qps_by_accelerator=(("L4", target), ("T4", target)), target_qps_per_replica=target)
    exact = math.ceil(requests / 60 / target * (1 - 1e-9))
    assert replicas_for(requests / 60, spec, (target,) * existing) == exact


def place(subject: Service, replicas: list[Replica], kinds: list[str]) -> list[Replica]:
    """The replicas as a cloud would leave them: the missing ones started on the next kinds of machine, the others gone."""
    target = subject.scaler.target
    kept = best_first(subject.spec.scaling, replicas)[:target]
    first = 1 + max((one.generation for one in replicas), default=0)
    return kept + [replica(first + n, kinds[(first + n) % len(kinds)]) for n in range(target - len(kept))]


@given(st.floats(0.05, 40), st.lists(st.sampled_from(["L4:1", "L4:8", "A100-80GB:1", "T4:1"]), min_size=1, max_size=6))
def test_whatever_machines_come_it_settles(qps: float, kinds: list[str]) -> None:
    """A load that stays makes at most one move up and one down, whichever machines the clouds give."""
    subject, replicas = service(1, max_replicas=60, **BY_ACCELERATOR), [replica(0, kinds[0])]
    moves, now = [], START
    for _ in range(400):
        now += 20
        load = replace(seen(subject, now, loads=[(one, None) for one in replicas]), stable=qps, valid=True, asked=True)
        subject = replace(subject, scaler=decide(subject, load, now).state)
        replicas = place(subject, replicas, kinds)
        moves.append(len(replicas))
    changes = [later - earlier for earlier, later in pairwise(moves) if later != earlier]
    assert len(changes) <= 2
    able = seen(subject, now, loads=[(one, None) for one in replicas]).capacities
    assert replicas_for(qps, subject.spec.scaling, able) == moves[-1]
