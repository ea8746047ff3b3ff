"""The scaler as it is by default: SkyServe's request rate, with buckets in place of counters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import LoadSample, ScalerState, Service
from chalicelib.scaler import decide
from chalicelib.scaler.pressure import pressure
from tests.fakes import START
from tests.scaler.worlds import service


def follow(subject: Service, loads: list[tuple[float, float]], every_s: float = 20.0) -> list[int]:
    """The targets, tick by tick, under (seconds, qps) stretches of load."""
    targets, now = [], START
    for seconds, qps in loads:
        for _ in range(round(seconds / every_s)):
            now += every_s
            subject = replace(subject, scaler=decide(subject, LoadSample(qps, valid=True), now).state)
            targets.append(subject.scaler.target)
    return targets


def test_a_rise_is_followed_after_the_upscale_delay_and_not_before() -> None:
    """Load above the target moves it only when it has lasted `upscale_delay_s` since it was first seen."""
    targets = follow(service(), [(400, 3.0)])
    assert targets[:15] == [1] * 15
    assert targets[15] == 3


def test_a_fall_is_followed_after_the_downscale_delay_and_not_before() -> None:
    """Load below the target moves it only when it has lasted `downscale_delay_s` since it was first seen."""
    targets = follow(service(5), [(1300, 2.0)])
    assert targets[:60] == [5] * 60
    assert targets[60] == 2


def test_load_that_pauses_still_scales_up() -> None:
    """SkyServe's hysteresis defect: 160 s on and 40 s off at twice the capacity never scales up in an hour. Ours does."""
    targets = follow(service(), [(160, 2.0), (40, 1.0)] * 18)
    assert targets.index(2) * 20 <= 600


def test_an_interruption_costs_what_it_lasted() -> None:
    """One tick at equality after 280 s above delays the rise by that tick and its draining, not by another 300 s."""
    targets = follow(service(), [(280, 2.0), (20, 1.0), (100, 2.0)])
    assert 2 in targets


def test_from_zero_the_first_request_is_followed_at_once() -> None:
    """At zero any load wakes the service in the same pass."""
    assert decide(service(0), LoadSample(0.02, valid=True), START + 1).state.target == 1


def test_unknown_load_changes_nothing() -> None:
    """No data is not no load: an invalid sample keeps the target, and nothing is written while it lasts."""
    subject = service(4)
    assert decide(subject, LoadSample(0.0, valid=False), START + 1e6).state == subject.scaler


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (9.0, 9.0)])
def test_time_that_nobody_knows_about_does_not_count(before: float, after: float) -> None:
    """A pull on the target that was seen just before the routers fell silent for an hour has to last all over again."""
    subject = service(4)
    for at, sample_then in ((10, LoadSample(before, valid=True)), (20, LoadSample(0.0, valid=False))):
        subject = replace(subject, scaler=decide(subject, sample_then, START + at).state)
    subject = replace(subject, scaler=decide(subject, LoadSample(after, valid=True), START + 3620).state)
    assert subject.scaler.target == 4


def test_a_cold_start_does_not_count_as_pressure() -> None:
    """A burst at the start and silence since then: the next burst has to last as long as any other."""
    subject = service(2, was_ready=False)
    targets = follow(subject, [(20, 3.0), (2000, 0.0), (20, 3.0)])
    assert targets[-1] == 2


def test_a_service_that_was_never_ready_is_not_taken_down() -> None:
    """A cold start longer than the downscale delay does not end in zero replicas before the first answer."""
    assert follow(service(1, was_ready=False), [(4000, 0.0)])[-1] == 1


def test_a_service_that_keeps_failing_may_go_to_zero() -> None:
    """The protection above ends with the first failure, so that a broken idle service stops costing money."""
    subject = service(1, was_ready=False)
    subject = replace(subject, backoff=replace(subject.backoff, failures=1))
    assert follow(subject, [(1300, 0.0)])[-1] == 0


@pytest.mark.parametrize("qps", [0.0, 0.4, 1.0])
def test_at_rest_nothing_is_remembered(qps: float) -> None:
    """A load that asks for what is there returns the very state it was given, so that nothing is written."""
    subject = service(1, min_replicas=1)
    assert decide(subject, LoadSample(qps, valid=True), START + 500).state is subject.scaler


def test_bounds_changed_by_an_update_move_the_target_at_once() -> None:
    """A target outside min..max is clamped in the next pass, whatever the load."""
    assert decide(service(9, max_replicas=3), LoadSample(0.0, valid=False), START).state.target == 3
    assert decide(service(0, min_replicas=2), LoadSample(0.0, valid=False), START).state.target == 2


LOADS = st.lists(st.tuples(st.sampled_from([20.0, 60.0, 400.0, 1500.0]), st.floats(0, 30)), max_size=12)


@pytest.mark.parametrize(
    ("per_minute", "end"),
    [(6_000, "want 10, above the maximum of 1..3: as it is"), (60, "want 1, below the minimum of 3..9: as it is")],
)
def test_who_is_held_by_a_bound_is_told_which(per_minute: int, end: str) -> None:
    """The figures alone would leave their reader to wonder why nothing follows."""
    low, high = (1, 3) if "maximum" in end else (3, 9)
    subject = service(3, min_replicas=low, max_replicas=high, target_qps_per_replica=10.0)
    decision = decide(subject, LoadSample(per_minute / 60, valid=True), START + 1)
    assert decision.why.endswith(end)


@given(LOADS, st.integers(0, 4), st.integers(0, 6))
def test_the_target_stays_within_its_bounds(loads: list[tuple[float, float]], low: int, extra: int) -> None:
    """Whatever the load does, min <= target <= max."""
    high = max(1, low + extra)
    targets = follow(service(low, min_replicas=low, max_replicas=high), loads)
    assert all(low <= target <= high for target in targets)


@given(LOADS)
def test_a_fixed_service_never_moves(loads: list[tuple[float, float]]) -> None:
    """`replicas: N` ignores the load."""
    subject = service(3, min_replicas=3, max_replicas=3)
    fixed = replace(subject.spec.scaling, target_qps_per_replica=None)
    subject = replace(subject, spec=replace(subject.spec, scaling=fixed))
    assert set(follow(subject, loads)) <= {3}


@given(st.lists(st.tuples(st.floats(0, 400), st.sampled_from([-1, 0, 1])), max_size=20))
def test_pressure_is_never_negative_nor_longer_than_time(stretches: list[tuple[float, int]]) -> None:
    """A bucket holds at most the time that has passed and never less than nothing."""
    state, now = ScalerState(1, since=START), START
    for seconds, direction in stretches:
        up_s, down_s = pressure(state, now)
        state = ScalerState(1, direction, now, up_s, down_s)
        now += seconds
    assert all(-1e-6 <= bucket <= now - START + 1e-6 for bucket in pressure(state, now))
