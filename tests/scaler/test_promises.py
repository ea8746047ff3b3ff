"""What holds whatever the load does and whichever switches are on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import LoadSample, Metric, ScalerState, ScheduledBounds, Service
from chalicelib.scaler import bounds, decide
from chalicelib.scaler.pressure import pressure
from tests.fakes import START
from tests.scaler.worlds import follow, router, seen, service, targets

PANIC = {"panic_window_s": 6.0}
REPORTED = {"metric": Metric.QUEUE_DEPTH, "target_per_replica": 1.0, "target_qps_per_replica": None}
BY_ACCELERATOR = {"target_qps_by_accelerator": (("L4", 1.0), ("H100", 3.0))}
SCHEDULE = {
    "schedule": (ScheduledBounds("*/30 * * * *", min_replicas=3), ScheduledBounds("15 * * * *", max_replicas=2))
}
SWITCHES: list[dict[str, Any]] = [{}, PANIC, REPORTED, REPORTED | PANIC, BY_ACCELERATOR, SCHEDULE, SCHEDULE | PANIC]

LOADS = st.builds(
    LoadSample,
    stable=st.floats(0, 30),
    valid=st.booleans(),
    panic=st.floats(0, 60),
    expected=st.none() | st.floats(0, 30),
    asked=st.booleans(),
    ready=st.integers(0, 9),
    capacities=st.lists(st.sampled_from([1.0, 3.0]), max_size=5).map(tuple),
)
SERVICES = st.builds(
    lambda target, switches, was_ready, state: replace(
        service(target, was_ready=was_ready, **switches), scaler=replace(state, target=target)
    ),
    st.integers(0, 10),
    st.sampled_from(SWITCHES),
    st.booleans(),
    st.builds(
        ScalerState,
        target=st.just(0),
        direction=st.sampled_from([-1, 0, 1]),
        since=st.floats(START - 2000, START),
        up_s=st.floats(0, 300),
        down_s=st.floats(0, 1200),
        panicking=st.booleans(),
        calm_since=st.none() | st.floats(START - 200, START),
    ),
)


@given(SERVICES, LOADS)
def test_the_target_is_within_the_bounds_in_force(subject: Service, load: LoadSample) -> None:
    """Whatever was remembered and whatever the load."""
    low, high, _ = bounds(subject.spec.scaling, START)
    assert low <= decide(subject, load, START).state.target <= high


@given(SERVICES, LOADS, LOADS)
def test_more_load_never_decides_for_fewer(subject: Service, load: LoadSample, more: LoadSample) -> None:
    """Two loads that one and the same service may meet: the higher one does not get the lower target."""
    raised = replace(
        load,
        stable=max(load.stable, more.stable),
        panic=max(load.panic, more.panic),
        asked=load.asked or more.asked,
        expected=max(load.expected or 0.0, more.expected or 0.0),
    )
    assert decide(subject, raised, START).state.target >= decide(subject, load, START).state.target


@pytest.mark.parametrize(
    ("switches", "load", "why"),
    [
        ({}, LoadSample(1 / 600, valid=True, asked=True), "0.002 requests/s at 1 per replica want 1: waking from zero"),
        (
            REPORTED,
            LoadSample(0.0, valid=False, asked=True),
            "0.00 requests waiting that are known, yet requests come in, at 1 per replica want 1: waking from zero",
        ),
    ],
)
def test_the_reason_names_what_woke_the_service(switches: dict[str, Any], load: LoadSample, why: str) -> None:
    """No load that reads as none, and the request that counted where the metric has nothing to say."""
    assert decide(service(0, **switches), load, START).why == why


@given(SERVICES.filter(lambda one: not one.spec.scaling.schedule), st.lists(LOADS, max_size=30))
def test_what_is_not_known_never_lowers(subject: Service, loads: list[LoadSample]) -> None:
    """A stretch of invalid samples ends with as many replicas at least; the known part may scale up."""
    unknown = [replace(load, valid=False) for load in loads]
    assert all(
        earlier <= later for earlier, later in pairwise([subject.scaler.target, *targets(follow(subject, unknown))])
    )


@given(SERVICES, st.lists(LOADS, max_size=30))
def test_a_replay_decides_the_same(subject: Service, loads: list[LoadSample]) -> None:
    """The same load at the same instants gives the same states, to the last bit: nothing else plays a part."""
    assert follow(subject, loads) == follow(subject, list(loads))


@pytest.mark.parametrize("switches", SWITCHES)
@given(age_s=st.floats(0, 58), silent_s=st.floats(0, 500))
def test_from_zero_any_request_wakes(switches: dict[str, Any], age_s: float, silent_s: float) -> None:
    """One request in the window, of a router heard just now or long ago, whatever the metric and the targets."""
    now = START + 0.5
    asked = router([(int(now - age_s), 1)], now - min(silent_s, age_s))
    idle = [router((), now - silent_s, "b")]
    asleep = service(0, **switches)
    assert decide(asleep, seen(asleep, now, routers=[asked, *idle]), now).state.target >= 1
    if not switches.get("schedule"):
        assert decide(asleep, seen(asleep, now, routers=idle), now).state.target == 0


@pytest.mark.parametrize("switches", SWITCHES)
def test_a_service_that_is_asked_for_does_not_sleep(switches: dict[str, Any]) -> None:
    """An empty queue is no reason to go to zero while requests come, nor is a metric that a replica does not tell."""
    subject = service(1, **switches)
    quiet = LoadSample(0.0, valid=True, asked=True, ready=1, capacities=(1.0,))
    assert 0 not in targets(follow(subject, [quiet] * 200))
    assert 0 not in targets(follow(subject, [replace(quiet, asked=False, valid=False)] * 200))
    assert switches.get("schedule") or 0 in targets(follow(subject, [replace(quiet, asked=False)] * 200))


@pytest.mark.parametrize("switches", [{}, PANIC, REPORTED | PANIC])
@given(level=st.floats(0.2, 9.5), jitter=st.lists(st.floats(-0.05, 0.05), min_size=40, max_size=40))
def test_a_load_that_stays_settles(switches: dict[str, Any], level: float, jitter: list[float]) -> None:
    """Four hours of a load that jitters by 5 %: a whole downscale delay lies between a move up and the next one down.

    Where the jitter stays between two numbers of replicas there is one move at the most.
    """
    subject, moves, now = service(1, **switches), [(START, 1)], START
    for tick in range(720):
        now += 20
        qps = level * (1 + jitter[tick % len(jitter)])
        load = LoadSample(qps, valid=True, panic=qps, asked=True, ready=subject.scaler.target)
        subject = replace(subject, scaler=decide(subject, load, now).state)
        if subject.scaler.target != moves[-1][1]:
            moves.append((now, subject.scaler.target))
    for (earlier, before), (later, after) in pairwise(moves[1:]):
        assert after > before or later - earlier >= 1200
    if int(level * 0.95) == int(level * 1.05):
        assert len(moves) <= 2


@pytest.mark.parametrize("switches", SWITCHES[:-2])
@given(level=st.floats(0, 12), panic=st.floats(0, 30))
def test_a_steady_load_writes_a_few_times_and_then_nothing(
    switches: dict[str, Any], level: float, panic: float
) -> None:
    """Two hours of one load: the state changes when a pull begins and when the target moves, not with every pass."""
    load = LoadSample(level, valid=True, panic=panic, asked=level > 0, ready=1, capacities=(1.0,))
    states = [one.scaler for one in follow(service(3, **switches), [load] * 400)]
    assert sum(before != after for before, after in pairwise([service(3).scaler, *states])) <= 4


@given(st.lists(st.tuples(st.floats(1, 600), st.booleans(), st.floats(0, 8)), max_size=30))
def test_time_that_nobody_knows_about_only_costs_what_it_lasted(stretches: list[tuple[float, bool, float]]) -> None:
    """A silence drains the pull that had built up by its own length: it neither counts nor makes all forgotten."""
    subject, now = service(4, upscale_delay_s=1e9, downscale_delay_s=1e9), START
    for seconds, valid, qps in stretches:
        before = pressure(subject.scaler, now)
        load = LoadSample(qps if valid else 0.0, valid=valid)
        subject = replace(subject, scaler=decide(subject, load, now).state)
        assert pressure(subject.scaler, now) == pytest.approx(before)
        now += seconds
        if not valid:
            drained = tuple(max(0.0, bucket - seconds) for bucket in before)
            assert pressure(subject.scaler, now) == pytest.approx(drained, abs=1e-6)
