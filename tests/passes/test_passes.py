"""The passes over a small world: the shipped code end to end, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib import passes
from chalicelib.api import views
from chalicelib.errors import LaunchRefused, NoCapacity, QuotaExceeded, Unauthorized, Unreachable
from chalicelib.lifecycle import moved, service_status
from chalicelib.model import (
    Instance,
    InstanceStatus,
    LaunchRequest,
    Reason,
    ReplicaStatus,
    ServiceStatus,
)
from chalicelib.ports import Commit
from chalicelib.store.memory import MemoryStore
from tests.fakes import FakeClock, FakeCloud, Interposed, World, spec

READY = ReplicaStatus.READY


def world(**cloud: Any) -> World:
    clock = FakeClock()
    return World(cloud=FakeCloud(clock, **cloud))


def test_a_service_comes_up_and_is_routed() -> None:
    """Two replicas wanted: two machines, both READY and in the routing table, one machine an id."""
    w = world()
    w.create()
    w.tick(4)
    assert len(w.replicas(READY)) == 2
    assert w.routed() == sorted(replica.id for replica in w.replicas())
    assert set(w.cloud.started.values()) == {1}


def test_a_steady_tick_writes_nothing() -> None:
    """When nothing changes no lease is taken and no item is written."""
    w = world()
    w.create()
    w.tick(5)
    before = (w.state(), w.store.table("svc"), w.store.events("svc"))
    (report,) = w.tick(5)
    assert not report.acted
    assert (w.state(), w.store.table("svc"), w.store.events("svc")) == before


def test_a_dead_replica_is_unrouted_and_replaced_in_the_same_pass() -> None:
    """A machine killed without notice is out of the table, and its replacement launched, in the next pass."""
    w = world()
    w.create()
    w.tick(4)
    victim = w.replicas()[0].id
    del w.cloud.machines[victim]
    w.tick()
    assert victim not in w.routed()
    assert len(w.cloud.started) == 3
    w.tick(5)
    assert len(w.replicas(READY)) == 2
    assert len(w.cloud.machines) == 2


def test_another_machine_on_a_reused_address_is_not_ready() -> None:
    """An agent that answers with another boot's nonce does not keep a replica READY."""
    w = world()
    w.create()
    w.tick(4)
    victim = w.replicas()[0].id
    w.cloud.machines[victim].boot_nonce = "another"
    w.tick()
    assert victim not in w.routed()


def test_an_interruption_unroutes_then_replaces_then_terminates() -> None:
    """On notice: unrouted and replaced in that pass, the machine still there to finish its requests."""
    w = world()
    w.create()
    w.tick(4)
    victim = w.replicas()[0].id
    w.cloud.machines[victim].in_flight = 3
    w.cloud.interrupt(victim, notice_s=120)
    w.tick()
    assert victim not in w.routed()
    assert len(w.cloud.started) == 3
    assert w.cloud.machines[victim].draining
    w.tick(10)
    assert victim in w.cloud.machines
    w.cloud.machines[victim].in_flight = 0
    w.tick(3)
    assert victim not in w.cloud.machines
    kinds = [event.kind for event in w.store.events("svc") if event.replica == victim or event.kind == "routes"]
    assert kinds.index("replica.draining") < len(kinds) - 1 - kinds[::-1].index("routes")


def test_what_keeps_a_machine_from_being_ended_is_told_where_one_waits_for_it() -> None:
    """In the service's message, at its replica and among its events, once; no longer when the cloud has answered."""
    w = world()
    w.create()
    w.tick(4)
    w.delete()
    w.cloud.down = True
    w.tick(100)
    (left, *_) = w.replicas()
    assert left.status is ReplicaStatus.TERMINATING
    shown = views.service(w.state(), (), "https://edge", w.clock.now())
    says = f"{left.id}: terminate: cloud is down"
    assert shown.message.endswith(f"still to go; {says}")
    assert shown.replicas[0].error == says
    told = [event for event in w.store.events("svc") if event.message == says]
    assert [event.kind for event in told] == ["replica.terminating"]
    w.cloud.down = False
    w.tick()
    assert [replica.removal_error for replica in w.replicas()] == ["", ""]


def test_scale_to_zero_and_wake() -> None:
    """Without load the service goes to IDLE with no machine left; one request brings a replica back."""
    w = world()
    scaling: dict[str, Any] = {"target_qps_per_replica": 1, "qps_window_s": 5, "downscale_delay_s": 10}
    w.create(wanted=spec(min_replicas=0, max_replicas=2, **scaling))
    for seq in range(1, 60):
        w.store.record_load("svc", "edge", seq, (), w.clock.now())
        w.tick()
    assert w.cloud.machines == {}
    assert service_status(w.state().service, w.state().replicas, w.clock.now())[0] is ServiceStatus.IDLE
    table = w.store.table("svc")
    assert table is not None
    assert table.status is ServiceStatus.IDLE
    w.store.record_load("svc", "edge", 200, ((int(w.clock.now()), 1),), w.clock.now())
    w.cloud.ready_at_once = False
    for seq in range(201, 250):  # a cold start far longer than the downscale delay, and no second request
        w.store.record_load("svc", "edge", seq, (), w.clock.now())
        w.tick()
    for machine in w.cloud.machines.values():
        machine.ready = True
    w.tick()
    assert [replica.generation for replica in w.replicas(READY)] == [2]


def test_an_engine_that_exits_fails_slowly() -> None:
    """An engine that ends at once is replaced with back-off, never in a fast loop; the log's last words can be read."""
    w = world()
    w.create(wanted=spec(min_replicas=1, max_replicas=1))
    for _ in range(300):
        for machine in w.cloud.machines.values():
            machine.exit_code = 1
        w.tick()
    assert 4 <= len(w.cloud.started) <= 6  # at 0, 10, 30, 70, 150, 310 s
    status, message = service_status(w.state().service, w.state().replicas, w.clock.now())
    assert status is ServiceStatus.FAILED
    assert "no such model" in message


@pytest.mark.parametrize(
    ("refusal", "reason", "zones"),
    [
        (NoCapacity("no box left"), Reason.NO_CAPACITY, {"a", "b"}),
        (QuotaExceeded("limit 0"), Reason.QUOTA, {""}),
        (LaunchRefused("no such image"), Reason.LAUNCH_REFUSED, {""}),
        (Unauthorized("who are you?"), Reason.LAUNCH_REFUSED, {""}),
    ],
)
def test_refusals_are_remembered_as_widely_as_they_mean(
    refusal: NoCapacity | QuotaExceeded | LaunchRefused, reason: Reason, zones: set[str]
) -> None:
    """Capacity blocks the zone and the next one is tried; quota blocks the region, a refusal the cloud, for a while."""
    w = world(refusal=refusal)
    w.create(wanted=spec(min_replicas=1, max_replicas=1))
    w.tick(10)
    refusals = w.store.unavailable(w.clock.now())
    assert {refused.reason for refused in refusals} == {reason}
    assert {refused.zone for refused in refusals} == zones
    assert w.replicas() == []
    ended = [replica for replica in w.store.history("svc") if replica.reason is reason]
    assert len(ended) == len(zones)
    w.cloud.refusal = None
    w.tick(700)
    assert len(w.replicas(READY)) == 1


def test_a_lost_answer_starts_no_second_machine() -> None:
    """The cloud did the work and its answer was lost: the launch is repeated and finds the same machine."""
    w = world(lose_answers=3)
    w.create()
    w.tick(10)
    assert len(w.replicas(READY)) == 2
    assert set(w.cloud.started.values()) == {1}
    assert len(w.cloud.machines) == 2


def test_a_cloud_that_is_down_costs_no_replica() -> None:
    """While the cloud does not answer, ready replicas stay routed and failures are reported."""
    w = world()
    w.create()
    w.tick(4)
    w.cloud.down = True
    reports = w.tick(5)
    assert any("cloud is down" in failure for report in reports for failure in report.failures)
    assert len(w.routed()) == 2


def test_a_rolling_update_never_exceeds_its_surge_nor_drops_below_its_target() -> None:
    """Over the whole roll-out: at most max + surge machines, at least the target in the routing table."""
    w = world()
    w.create()
    w.tick(4)
    w.update(spec(fingerprint="v2"))
    for _ in range(40):
        w.tick()
        assert len(w.cloud.machines) <= 3
        assert len(w.routed()) >= 2
    assert {replica.fingerprint for replica in w.replicas(READY)} == {"v2"}
    assert len(w.cloud.machines) == 2


def test_a_broken_update_leaves_the_old_version_serving() -> None:
    """New replicas that exit are retried with back-off; both old replicas stay routed all the time."""
    w = world()
    w.create()
    w.tick(4)
    old = w.routed()
    w.update(spec(fingerprint="v2"))
    for _ in range(120):
        for replica_id, machine in w.cloud.machines.items():
            if replica_id not in old:
                machine.exit_code = 1
        w.tick()
        assert w.routed() == old
        assert len(w.cloud.machines) <= 3
    status, message = service_status(w.state().service, w.state().replicas, w.clock.now())
    assert status is ServiceStatus.READY
    assert "no such model" in message


def test_an_update_of_policy_only_replaces_no_machine() -> None:
    """The same fingerprint at another version: the machines stay."""
    w = world()
    w.create()
    w.tick(4)
    before = w.routed()
    w.update(spec(upscale_delay_s=1))
    w.tick(5)
    assert w.routed() == before


def test_down_removes_everything_and_forgets_the_service() -> None:
    """Unrouted, drained, terminated, seen gone, forgotten: no machine, no table, no service."""
    w = world()
    w.create()
    w.tick(4)
    w.delete()
    w.tick()
    assert w.routed() == []
    w.tick(15)
    assert w.cloud.machines == {}
    assert w.store.service_names() == ()
    assert w.store.tables() == ()


def test_a_machine_of_a_forgotten_service_is_removed() -> None:
    """A machine with our tag whose service does not exist is terminated after its grace."""
    w = world()
    w.create()
    w.tick(4)
    stranger = next(iter(w.cloud.machines.values()))
    lost = replace(stranger.instance, replica_id="ghost-u1d0-0-1", service="ghost")
    w.store.release_lease(w.store.acquire_lease("ghost", "a pass of its day", 1, w.clock.now()))
    w.cloud.machines["ghost-u1d0-0-1"] = replace(stranger, instance=lost)
    w.tick(50)
    assert "ghost-u1d0-0-1" in w.cloud.machines
    w.tick(20)
    assert "ghost-u1d0-0-1" not in w.cloud.machines
    assert len(w.cloud.machines) == 2


def test_one_service_in_trouble_does_not_stop_the_next() -> None:
    """A bug met in one service's pass is reported with its traceback; the other service comes up."""
    w = world()
    w.create("bad")
    w.create("good")
    w.tick(1)
    victim = next(machine for machine in w.cloud.machines.values() if machine.instance.service == "bad")
    victim.instance = replace(victim.instance, status=InstanceStatus.RUNNING, interruption_at="soon")  # type: ignore[arg-type]  # the bug
    reports = w.tick(4)
    failures = [failure for report in reports if report.service == "bad" for failure in report.failures]
    assert any("Traceback" in failure for failure in failures)
    assert len(w.routed("good")) == 2


def test_a_preview_explains_and_changes_nothing() -> None:
    """`why` shows what every pass would do, and does not do it."""
    w = world()
    w.create()
    lines = passes.preview(w.runtime, "svc")
    assert any(line.startswith("optimize: 2 missing of 2") for line in lines)
    assert w.cloud.machines == {}
    assert w.replicas() == []
    assert passes.preview(w.runtime, "nobody") == ()


def test_routers_never_wait_for_a_cloud_or_an_agent() -> None:
    """Whatever a pass asks of a cloud or tells an agent, routers have their new table before: either may hang for long."""
    w = world()
    w.create(wanted=spec(min_replicas=3, max_replicas=3))
    w.tick(4)
    dead, taken, _ = w.routed()
    del w.cloud.machines[dead]
    w.cloud.interrupt(taken, 120)
    w.cloud.lose_answers = 2
    routed_then: list[tuple[str, list[str]]] = []

    def listen(call: str) -> None:
        if call in ("before launch", "before terminate", "before drain"):
            routed_then.append((call.removeprefix("before "), w.routed()))

    cloud, prober = Interposed(w.cloud, listen), Interposed(w.runtime.prober, listen)
    w.runtime = replace(w.runtime, providers={"local": cloud}, prober=prober)
    w.tick()
    assert {name for name, _ in routed_then} == {"launch", "terminate", "drain"}
    assert not any({dead, taken} & set(routed) for _, routed in routed_then)
    pending = [replica.id for replica in w.replicas(ReplicaStatus.PENDING)]
    assert pending, "their launches are asked for again by the next pass"
    dead = w.routed()[0]
    del w.cloud.machines[dead]
    routed_then.clear()
    w.tick()
    assert not any(dead in routed for _, routed in routed_then)
    assert "launch" in {name for name, _ in routed_then}


def test_what_the_lease_brings_to_light_is_news_to_every_pass() -> None:
    """The owner drains a replica while a pass waits for the lease to publish: its drain begins with that pass, no earlier."""
    w = world()
    w.create(wanted=spec(min_replicas=1, max_replicas=1, drain_timeout_s=30.0))
    w.tick(4)
    (one,) = w.replicas()
    w.cloud.machines[one.id].in_flight = 1  # worth a new table, and nothing else

    def drain_and_wait(call: str) -> None:
        if call == "before acquire_lease":
            draining = moved(one, ReplicaStatus.DRAINING, w.clock.now(), reason=Reason.USER)
            w.store.commit("svc", None, Commit(replicas=(draining,)))
            w.clock.advance(40)

    plain, w.runtime = w.runtime, replace(w.runtime, store=Interposed(w.store, drain_and_wait))
    w.tick()
    w.runtime = plain
    assert w.routed() == []
    w.tick()
    assert [replica.status for replica in w.replicas() if replica.id == one.id] == [ReplicaStatus.DRAINING]


def test_every_report_is_told_as_well_as_returned() -> None:
    """Each service's, the deployment's, and that the store is away: the laptop's loop lives on what it is told."""
    w = world()
    w.create("a")
    w.create("b")
    told: list[passes.Report] = []
    w.cloud.down = True
    returned = passes.tick(w.runtime, None, told.append)
    assert sorted(report.service for report in told) == ["", "a", "b"]
    assert tuple(told[-3:]) == returned

    def lose(call: str) -> None:
        if call in ("before service_names", "before load"):
            raise Unreachable("no route to host")

    w.runtime = replace(w.runtime, store=Interposed(w.store, lose))
    for only, failure in ((None, "store: no route to host"), (frozenset({"a"}), "Unreachable: no route to host")):
        told.clear()
        (report,) = passes.tick(w.runtime, only, told.append)
        assert told == [report]
        assert report.failures == (failure,)


def test_a_large_service_is_recorded_in_transactions_that_fit() -> None:
    """70 launches decided at once: recorded before the first one is asked for, at most 32 in a transaction, and all there."""
    w = world()
    w.create(wanted=spec(min_replicas=70, max_replicas=70))
    recorded: list[int] = []
    cloud = Interposed(w.cloud, lambda call: recorded.append(len(w.replicas())) if call == "before launch" else None)
    w.runtime = replace(w.runtime, providers={"local": cloud})
    w.tick(4)
    assert recorded == [70] * 70
    assert len(w.routed()) == 70
    assert {replica.generation for replica in w.replicas()} == set(range(1, 71))


def test_a_pass_that_outlives_its_lease_launches_nothing_more() -> None:
    """A cloud that takes longer than the lease to answer: the rest is left to the next pass, which finds it all recorded."""
    w = world()
    w.create()
    launch = w.cloud.launch

    def slow_launch(request: LaunchRequest) -> Instance:
        w.clock.advance(w.runtime.settings.lease_ttl_s)
        return launch(request)

    w.cloud.launch = slow_launch  # type: ignore[method-assign]
    (report,) = w.tick()
    assert [failure for failure in report.failures if "longer than its lease" in failure]
    assert len(w.cloud.machines) == 1
    assert len(w.replicas(ReplicaStatus.PENDING)) == 1
    w.tick(2)
    assert len(w.cloud.machines) == 2


def test_a_busy_tick_puts_off_different_services() -> None:
    """Four services of which a tick has time for two: all of them come up, not the first two by name for ever."""
    w = world()
    for name in "abcd":
        w.create(name)
    fifth_s = w.runtime.settings.pass_budget_s / 5
    slow = Interposed(w.runtime.prober, lambda _call: w.clock.advance(fifth_s))
    w.runtime = replace(w.runtime, prober=slow)
    w.tick(20)
    assert all(len(w.routed(name)) == 2 for name in "abcd")


def test_requests_outlive_a_crash_between_draining_and_publishing() -> None:
    """The pass that drained died before the routers knew: its replica is removed only after they had time to settle."""
    w = world()
    w.create()
    w.tick(4)
    replica = w.replicas()[0]
    draining = moved(replica, ReplicaStatus.DRAINING, w.clock.now(), reason=Reason.USER)
    w.store.commit("svc", None, Commit(replicas=(draining,)))
    w.tick(every_s=60)
    assert replica.id not in w.routed()
    w.tick(5)
    assert replica.id in w.cloud.machines
    w.tick(2)
    assert replica.id not in w.cloud.machines


def test_an_empty_table_costs_no_machine() -> None:
    """A wrong, new or restored table knows none of the services: nothing is removed, and every tick says why."""
    w = world()
    w.create()
    w.tick(4)
    assert len(w.cloud.machines) == 2
    w.runtime = replace(w.runtime, store=MemoryStore(w.clock))
    w.clock.advance(3_600)
    for _ in range(3):
        (report,) = passes.tick(w.runtime)
        (failure,) = report.failures
        assert "never heard of" in failure
        assert "SAILPLANE_TABLE" in failure
    assert len(w.cloud.machines) == 2


def test_a_defect_in_a_launch_holds_no_removal_up() -> None:
    """What a provider must not raise is reported as a defect, after who leaves was told so and the other launch was recorded."""
    w = world()
    w.create(wanted=spec(min_replicas=3, max_replicas=3))
    w.tick(4)
    victims = [replica.id for replica in w.replicas()[:2]]
    for victim in victims:
        del w.cloud.machines[victim]
    calls: list[str] = []
    broken = iter((True, False))

    def happens(call: str) -> None:
        calls.append(call)
        if call == "before launch" and next(broken):
            raise ZeroDivisionError

    cloud: Any = Interposed(w.cloud, happens)
    w.runtime = replace(w.runtime, providers={w.cloud.name: cloud})
    (report,) = w.tick()
    assert "ZeroDivisionError" in report.failures[0]
    assert calls.count("after terminate") == 2
    assert [one.status for one in w.replicas() if one.id not in victims] == [
        READY,
        ReplicaStatus.PENDING,
        ReplicaStatus.PROVISIONING,
    ]
