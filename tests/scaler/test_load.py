"""What is known of the load, and what is not."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import (
    CapacityType,
    Metric,
    Replica,
    ReplicaLoad,
    ReplicaStatus,
    Requirement,
    ResourceRequest,
    RouterLoad,
    Service,
    SpotSpec,
)
from chalicelib.scaler import decide
from tests.fakes import START
from tests.scaler.worlds import replica, router, seen, service, steady

NOW = START + 0.5
SECOND = int(START)
CONCURRENCY: dict[str, Any] = {"metric": Metric.CONCURRENCY, "target_per_replica": 4.0, "target_qps_per_replica": None}


def test_the_window_counts_the_whole_seconds_of_all_routers() -> None:
    """Requests of the last 60 whole seconds are added up over routers; older ones and the second under way are left out."""
    counts = ((SECOND - 61, 100), (SECOND - 60, 30), (SECOND - 1, 30), (SECOND, 100))
    load = seen(service(), NOW, routers=[router(counts, NOW), router([(SECOND - 1, 60)], NOW, "b")])
    assert (load.stable, load.valid, load.asked) == (2.0, True, True)


def test_a_steady_load_reads_the_same_at_any_moment() -> None:
    """A window that does not flap: wherever in its second a router reports, 2 requests a second are 2.0 and not 1.97."""
    moments = [START + tenth / 10 for tenth in range(10)]
    assert {seen(service(), at, routers=[router(steady(2, at), at)]).stable for at in moments} == {2.0}


def test_a_late_report_is_not_a_falling_load() -> None:
    """A window that does not forget: a router that was last heard of 50 s ago stands for the load that it had then."""
    load = seen(service(), NOW, routers=[router(steady(2, NOW - 50), NOW - 50)])
    assert (load.stable, load.valid) == (2.0, True)


def test_silent_routers_make_the_load_unknown() -> None:
    """When no router has reported for `load_stale_after_s`, or there is none, the load is not known."""
    assert not seen(service(), NOW, routers=[router((), NOW - 61)]).valid
    assert not seen(service(), NOW).valid


def test_a_busy_router_that_fell_silent_leaves_the_load_partly_known() -> None:
    """What the others count may scale up; that the silent one's requests are missing may not scale down. An idle one's are not."""
    busy, idle = router(steady(9, NOW - 61), NOW - 61, "b"), router((), NOW - 61, "b")
    load = seen(service(), NOW, routers=[router(steady(2, NOW), NOW), busy])
    assert (load.stable, load.valid) == (2.0, False)
    assert seen(service(), NOW, routers=[router(steady(2, NOW), NOW), idle]).valid


def test_a_function_that_is_silent_has_no_load() -> None:
    """Instances end unheard, busy ones too: what they counted counts while it is in the window, and never makes load unknown."""
    heard = router((), NOW - 5, "edge-a", on_demand=True)
    gone = router(steady(6, NOW - 40), NOW - 40, "edge-b", on_demand=True)
    load = seen(service(), NOW, routers=[heard, gone])
    assert (load.stable, load.valid) == (
        pytest.approx(6 * 32 / 60),
        True,
    )  # the window ends 12 s ago, before it may lack some
    longer_gone = router(steady(6, NOW - 62), NOW - 62, "edge-b", on_demand=True)
    load = seen(service(), NOW, routers=[heard, longer_gone])
    assert (load.stable, load.valid) == (pytest.approx(6 * 10 / 60), True)
    load = seen(service(), NOW + 300, routers=[replace(heard, reported_at=NOW + 300), gone])
    assert (load.stable, load.valid) == (0.0, True)


def test_a_function_that_reports_stands_for_its_load() -> None:
    """Its window ends at its report, however few seconds ago that was: the next seconds are not handed over yet."""
    load = seen(service(), NOW, routers=[router(steady(2, NOW - 3), NOW - 3, on_demand=True)])
    assert (load.stable, load.valid) == (2.0, True)


def test_functions_are_believed_only_while_one_of_them_is_heard() -> None:
    """All silent, they may be unable to report."""
    assert not seen(service(), NOW, routers=[router(steady(2, NOW - 61), NOW - 61, on_demand=True)]).valid


def test_the_panic_window_is_as_short_as_it_says() -> None:
    """The same counts over the last 6 whole seconds; 0 without a panic window."""
    counts = [*steady(1, NOW), (SECOND - 3, 59)]
    subject = service(panic_window_s=6.0)
    assert seen(subject, NOW, routers=[router(counts, NOW)]).panic == pytest.approx(65 / 6)
    assert seen(service(), NOW, routers=[router(counts, NOW)]).panic == 0.0


def test_what_ready_replicas_report_is_added_up() -> None:
    """Concurrency is the sum over READY replicas; what others say does not count."""
    loads = [
        (replica(1), ReplicaLoad(3.0, 5.0)),
        (replica(2), ReplicaLoad(4.5, 6.0)),
        (replica(3, status=ReplicaStatus.DRAINING), ReplicaLoad(9.0, 9.0)),
        (replica(4, status=ReplicaStatus.NOT_READY), None),
    ]
    load = seen(service(**CONCURRENCY), NOW, routers=[router((), NOW)], loads=loads)
    assert (load.stable, load.panic, load.valid, load.asked, load.ready) == (7.5, 11.0, True, False, 2)


def test_a_ready_replica_without_a_sample_leaves_the_load_partly_known() -> None:
    """One of two that says nothing, none that is ready, or routers that are silent: known in part, if at all."""
    heard, subject = [router((), NOW)], service(**CONCURRENCY)
    full = (replica(1), ReplicaLoad(3.0, 3.0))
    partly = seen(subject, NOW, routers=heard, loads=[full, (replica(2), None)])
    assert (partly.stable, partly.valid) == (3.0, False)
    assert not seen(subject, NOW, routers=heard).valid
    assert not seen(subject, NOW, loads=[full]).valid
    assert seen(subject, NOW, routers=heard, loads=[full]).valid


MIXED: dict[str, Any] = {"target_qps_by_accelerator": (("A100-80GB", 4.0), ("L4", 1.0)), "upscale_delay_s": 0.0}


def asking_for(subject: Service, *names: str, use_spot: bool = False, **spot: Any) -> Service:
    """The service with one each of these accelerators acceptable."""
    wanted = Requirement(accelerators=tuple((name, 1) for name in names), use_spot=use_spot)
    spec = replace(subject.spec, resources=ResourceRequest(((wanted,),)), spot=SpotSpec(**spot))
    return replace(subject, spec=spec)


def on_spot(one: Replica) -> Replica:
    return replace(one, offer=replace(one.offer, capacity_type=CapacityType.SPOT))


def test_only_live_replicas_whose_machines_stay_carry() -> None:
    """What is leaving, and an old version's machine that the new one refuses, has no capacity; what is on its way has its own."""
    subject = asking_for(service(**MIXED), "L4")
    loads = [
        (replica(1, "L4", ReplicaStatus.PENDING), None),
        (replica(2, "A100-80GB"), None),
        (replica(3, "A100-80GB", ReplicaStatus.DRAINING), None),
        (replica(4, "A100-80GB", ReplicaStatus.TERMINATING), None),
        (replica(5, "A100-80GB", fingerprint="old"), None),
    ]
    assert seen(subject, NOW, loads=loads).capacities == (4.0, 1.0)
    assert seen(service(), NOW, loads=loads).capacities == ()


def test_a_roll_out_buys_no_more_machines_than_it_replaces() -> None:
    """Two A100s carry 8 requests a second before, during and after an update of what runs on them, panic or not."""
    subject = asking_for(service(2, panic_window_s=6.0, **MIXED), "L4", "A100-80GB")
    old = [replica(number, "A100-80GB", fingerprint="old") for number in (1, 2)]
    new = [replica(3, "A100-80GB", ReplicaStatus.STARTING), replica(4, "A100-80GB")]
    for replicas in (old, [*old, new[0]], [old[0], new[1]], [old[0], *new], new):
        load = seen(subject, NOW, routers=[router(steady(8, NOW), NOW)], loads=[(one, None) for one in replicas])
        assert decide(subject, load, NOW).state.target == 2
    always = asking_for(subject, "L4", "A100-80GB", use_spot=True, base_ondemand_fallback_replicas=2)
    assert seen(always, NOW, loads=[(one, None) for one in old]).capacities == (4.0, 4.0)


def test_who_goes_when_another_is_ready_is_counted_last() -> None:
    """Four L4s on spot are what stays of them and the two A100s that stand in: the load is not shown to these alone."""
    spot = [on_spot(replica(number, "L4")) for number in range(4)]
    stand_ins = [replica(number, "A100-80GB") for number in (4, 5)]
    subject = asking_for(service(**MIXED), "L4", "A100-80GB", use_spot=True, dynamic_ondemand_fallback=True)
    loads = [(one, None) for one in (*stand_ins, *spot)]
    assert seen(subject, NOW, loads=loads).capacities == (1.0, 1.0, 1.0, 1.0, 4.0, 4.0)
    based = asking_for(subject, "L4", "A100-80GB", use_spot=True, base_ondemand_fallback_replicas=1)
    assert seen(based, NOW, loads=loads).capacities == (4.0, 1.0, 1.0, 1.0, 1.0, 4.0)
    at_risk = replace(on_spot(replica(9, "A100-80GB")), is_at_risk=True)
    assert seen(subject, NOW, loads=[(at_risk, None), (spot[0], None)]).capacities == (1.0, 4.0)


def test_what_is_not_known_of_the_load_is_named() -> None:
    """So that a wrong metric's name, or a router that is gone, can be told from `sailplane why`: it keeps replicas for ever."""
    heard, subject = [router((), NOW)], service(2, **CONCURRENCY)
    told = (replica(1), ReplicaLoad(3.0, 3.0))
    partly = seen(subject, NOW, routers=heard, loads=[told, (replica(2), None)])
    reason = "3.00 requests at once that are known at 4 per replica want 1: keeping 2, because svc-u1d0-2-2 does not tell its "
    assert decide(subject, partly, NOW).why == f"{reason}requests at once"
    assert seen(subject, NOW, routers=heard).missing == "no replica is ready to tell it"
    assert seen(subject, NOW, loads=[told]).missing == "no router has reported for 60 s"
    gone = router(steady(9, NOW - 61), NOW - 61, "edge-b")
    assert seen(subject, NOW, routers=[*heard, gone], loads=[told]).missing.endswith("silent for 60 s (edge-b)")
    assert seen(subject, NOW, routers=heard, loads=[told]).missing == ""


COUNTS = st.lists(st.tuples(st.integers(SECOND - 90, SECOND), st.integers(0, 50)), max_size=20)
ROUTERS = st.lists(
    st.builds(
        RouterLoad,
        router_id=st.text("abc", min_size=1, max_size=3),
        seq=st.just(1),
        reported_at=st.floats(NOW - 90, NOW),
        counts=COUNTS.map(lambda counts: tuple(sorted(counts))),
    ),
    max_size=4,
)
LOADS = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)) | st.none(), max_size=6)


@given(ROUTERS, LOADS, st.sampled_from([{}, CONCURRENCY]), st.randoms(use_true_random=False))
def test_order_is_irrelevant(
    routers: list[RouterLoad], loads: list[tuple[float, float] | None], scaling: dict[str, Any], random: Random
) -> None:
    """In whatever order routers and replicas come, the sample is the same to the last bit."""
    subject = service(panic_window_s=6.0, look_ahead=True, **scaling)
    replicas = [(replica(number), ReplicaLoad(*load) if load else None) for number, load in enumerate(loads)]
    shuffled, shuffled_replicas = list(routers), list(replicas)
    random.shuffle(shuffled)
    random.shuffle(shuffled_replicas)
    given_order = seen(subject, NOW, routers=routers, loads=replicas)
    assert seen(subject, NOW, routers=shuffled, loads=shuffled_replicas) == given_order


@given(ROUTERS)
def test_a_request_within_the_window_is_always_seen(routers: list[RouterLoad]) -> None:
    """`asked` is true exactly when some router, silent or not, has counted a request in the last 60 s."""
    recent = [count for one in routers for second, count in one.counts if second > NOW - 60]
    assert seen(service(0), NOW, routers=routers).asked == any(recent)


@given(st.integers(0, 59))
def test_the_window_forgets_nothing_before_its_time(age_s: int) -> None:
    """One request is read as 1/60 a second for 60 whole seconds, and as none from then on."""
    counts = [(SECOND - 1 - age_s, 1)]
    assert seen(service(), NOW, routers=[router(counts, NOW)]).stable == 1 / 60
    later = START + 60 - age_s
    assert seen(service(), later, routers=[router(counts, later)]).stable == 0.0
