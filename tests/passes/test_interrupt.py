"""A cloud's notice: how fast it is acted upon, how it meets other passes, and what it must not do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from chalicelib import passes
from chalicelib.errors import Conflict
from chalicelib.model import (
    CapacityType,
    InterruptionNotice,
    NoticeKind,
    Reason,
    Replica,
    ReplicaStatus,
    Requirement,
    ResourceRequest,
)
from chalicelib.ports import Commit
from tests.fakes import FakeMarket, Interposed, World, spec

INTERRUPTION, REBALANCE, ENDED = NoticeKind
SPOT_ONLY = ResourceRequest(((Requirement(use_spot=True),),))


@pytest.fixture
def w() -> World:
    """Two ready replicas, and a count of the lists asked for from here on."""
    world = World()
    world.create()
    world.tick(4)
    return world


def counted(world: World) -> Counter[str]:
    """How often each method of the cloud and the store is called from here on."""
    calls: Counter[str] = Counter()
    ports = {
        "providers": {"local": Interposed(world.cloud, lambda call: calls.update([call]))},
        "store": Interposed(world.store, lambda call: calls.update([call])),
    }
    world.runtime = replace(world.runtime, **ports)  # type: ignore[arg-type]  # of the right kinds
    return calls


def notice(
    of: Replica, kind: NoticeKind = INTERRUPTION, in_s: float = 120, *, by_instance: bool = False
) -> InterruptionNotice:
    at = of.created_at + in_s
    if by_instance:
        return InterruptionNotice("local", kind, at, instance_id=of.instance_id)
    return InterruptionNotice("local", kind, at, replica_id=of.id)


def interrupt(world: World, *notices: InterruptionNotice) -> tuple[passes.Report, ...]:
    return passes.interrupt(world.runtime, notices, pause=world.clock.advance)


def by_id(world: World, replica: Replica) -> Replica:
    return next(one for one in world.store.history(replica.service) if one.id == replica.id)


@pytest.mark.parametrize("by_instance", [True, False])
def test_unrouted_and_replaced_at_once(w: World, *, by_instance: bool) -> None:
    """In the pass that the notice starts, no list needed: out of the table, another machine asked for, no time gone by."""
    taken, calls, before = w.replicas()[0], counted(w), w.clock.now()
    routed_then: list[list[str]] = []
    cloud = Interposed(w.cloud, lambda call: routed_then.append(w.routed()) if call == "before launch" else None)
    w.runtime = replace(w.runtime, providers={"local": cloud})
    (report,) = interrupt(w, notice(taken, by_instance=by_instance))
    assert (report.service, report.failures, w.clock.now()) == ("svc", (), before)
    assert taken.id not in w.routed()
    assert sum(w.cloud.started.values()) == 3
    assert all(taken.id not in routed for routed in routed_then), "unrouted first"
    assert by_id(w, taken).reason is Reason.INTERRUPTED
    assert not calls["before list_instances"]
    w.tick(3)
    assert len(w.routed()) == 2


def test_within_30_s_of_the_notice_whatever_else_is_under_way(w: World) -> None:
    """While another pass holds the service for 8 s: noted at once, unrouted and replaced as soon as that one ends."""
    taken = w.replicas()[0]
    held = w.store.acquire_lease("svc", "another pass", 8, w.clock.now())
    told_at = w.clock.now()
    (report,) = interrupt(w, notice(taken))
    assert held.expires_at <= w.clock.now() <= told_at + 30
    assert not report.is_held_up
    assert taken.id not in w.routed()
    assert sum(w.cloud.started.values()) == 3


def test_a_notice_outlives_the_pass_that_it_starts(w: World) -> None:
    """Not let in for as long as it waits, it is on the record: the next tick acts on it, and the cloud tells nobody again."""
    taken = w.replicas()[0]
    w.store.acquire_lease("svc", "a dead pass", 60, w.clock.now())
    (report,) = interrupt(w, notice(taken))
    assert report.is_held_up
    assert taken.id in w.routed()
    assert by_id(w, taken).interruption_at == taken.created_at + 120
    w.clock.advance(60)
    w.tick()
    assert taken.id not in w.routed()
    (event,) = w.store.events("svc", kind="replica.notice")
    assert "takes the machine in" in event.message


@pytest.mark.parametrize("status", [ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING])
def test_a_replica_that_never_served_is_replaced_too(status: ReplicaStatus) -> None:
    """A machine can be taken while it boots, or before its launch was answered: no second id for it, one that replaces it."""
    w = World()
    w.create(wanted=spec(min_replicas=1, max_replicas=1))
    w.cloud.ready_at_once = False
    w.cloud.lose_answers = 1
    w.tick({ReplicaStatus.PENDING: 1, ReplicaStatus.PROVISIONING: 2, ReplicaStatus.STARTING: 3}[status])
    (taken,) = w.replicas()
    assert taken.status is status
    interrupt(w, notice(taken))
    w.tick(3)
    assert by_id(w, taken).reason is Reason.INTERRUPTED
    w.cloud.ready_at_once = True
    for machine in w.cloud.machines.values():
        machine.ready = True
    w.tick(3)
    assert len(w.routed()) == 1
    assert set(w.cloud.machines) == set(w.routed())
    assert set(w.cloud.started.values()) == {1}


def test_a_machine_whose_id_is_not_recorded_yet_is_found_in_one_list() -> None:
    """The launch's answer was lost, EventBridge knows the machine by its own id: one list tells, and one only."""
    w = World()
    w.create()
    w.cloud.lose_answers = 2
    w.tick()
    first, second = w.replicas(ReplicaStatus.PENDING)
    calls = counted(w)
    machines = [w.cloud.machines[one.id].instance for one in (first, second)]
    told = [InterruptionNotice("local", INTERRUPTION, w.clock.now() + 120, instance_id=one.id) for one in machines]
    interrupt(w, *told)
    assert calls["before list_instances"] == 1
    assert {by_id(w, one).reason for one in (first, second)} == {Reason.INTERRUPTED}


@pytest.mark.parametrize("kind", NoticeKind)
def test_somebody_else_s_machine_is_nothing_to_us(w: World, kind: NoticeKind) -> None:
    """Neither a list, nor a probe, nor a write: a cloud's bus tells of every machine in the account."""
    calls = counted(w)
    at = w.clock.now()
    strangers = [
        InterruptionNotice("local", kind, at, instance_id="i-0123456789abcdef0"),
        InterruptionNotice("aws", kind, at, instance_id=w.replicas()[0].instance_id),
        InterruptionNotice("local", kind, at, replica_id="nobody-u1d0-0-1"),
        InterruptionNotice("local", kind, at, replica_id="nonsense"),
    ]
    assert interrupt(w, *strangers) == ()
    assert set(calls) == {f"{moment} {name}" for moment in ("before", "after") for name in ("service_names", "load")}


def test_twice_and_late_changes_nothing(w: World) -> None:
    """The second notice, and one that comes when its machine is long gone, start no second replacement and tell no second time."""
    taken = w.replicas()[0]
    told = notice(taken, in_s=60)
    for _ in range(3):
        interrupt(w, told)
    assert sum(w.cloud.started.values()) == 3
    w.tick(60)
    assert by_id(w, taken).status is ReplicaStatus.TERMINATED
    assert interrupt(w, told, replace(told, replica_id="", instance_id=taken.instance_id)) == ()
    assert len(w.store.events("svc", kind="replica.notice")) == 1
    assert sum(w.cloud.started.values()) == 3


def test_a_notice_meets_another_writer_and_stays(w: World) -> None:
    """Somebody writes to the replica between reading and noting: read again, noted again; for ever, and it says so."""
    taken, other = w.replicas()
    store, written_to = w.store, [taken]

    def meddle(call: str) -> None:
        if call == "before commit" and written_to:
            found = by_id(w, written_to.pop())
            store.commit("svc", None, Commit(replicas=(replace(found, error="by somebody else"),)))

    w.runtime = replace(w.runtime, store=Interposed(store, meddle))
    interrupt(w, notice(taken))
    assert by_id(w, taken).error == "by somebody else"
    assert taken.id not in w.routed()
    written_to += [other] * 10
    with pytest.raises(Conflict):
        interrupt(w, notice(other))
    assert by_id(w, other).interruption_at is None


def test_the_end_of_a_machine_is_looked_at_in_a_fresh_list(w: World) -> None:
    """ENDED: gone from the list and silent, it is lost and replaced; still listed and answering, nothing happens."""
    lost, well = w.replicas()
    calls = counted(w)
    interrupt(w, notice(well, ENDED))
    assert len(w.routed()) == 2
    del w.cloud.machines[lost.id]
    interrupt(w, notice(lost, ENDED, by_instance=True))
    assert w.routed() == [well.id]
    assert sum(w.cloud.started.values()) == 3
    assert calls["before list_instances"] == 2


def test_a_recommendation_is_an_event(w: World) -> None:
    """REBALANCE is told, and that is all."""
    risky, calls = w.replicas()[0], counted(w)
    assert interrupt(w, notice(risky, REBALANCE)) == ()
    (event,) = w.store.events("svc", kind="replica.notice")
    assert (event.replica, "may soon take" in event.message) == (risky.id, True)
    assert len(w.routed()) == 2
    assert not calls["before acquire_lease"]


@pytest.mark.parametrize("noticed", [True, False])
def test_the_place_a_spot_machine_was_taken_from_is_avoided(*, noticed: bool) -> None:
    """With or without notice: its replacement goes to the other zone though it costs more; the first one comes back in time."""
    w = World()
    spot = [replace(one, capacity_type=CapacityType.SPOT) for one in w.runtime.market.offers(["local"])]
    w.runtime = replace(w.runtime, market=FakeMarket(tuple(spot)))
    wanted = spec(min_replicas=1, max_replicas=1)
    w.create(wanted=replace(wanted, resources=SPOT_ONLY))
    w.tick(4)
    (taken,) = w.replicas()
    if noticed:
        interrupt(w, notice(taken, in_s=10))
    else:
        del w.cloud.machines[taken.id]
        w.tick()
    (refused,) = w.store.unavailable(w.clock.now())
    assert (refused.zone, refused.capacity_type, refused.failures) == ("a", "SPOT", 1)
    assert refused.until == w.clock.now() + 60
    w.tick(20)
    (replacement,) = w.replicas(ReplicaStatus.READY)
    assert replacement.offer.location.zone == "b"
    assert [one.failures for one in w.store.refusals(w.clock.now())] == [1], (
        "told once, and launches do not disprove it"
    )


def test_an_on_demand_machine_that_is_lost_says_nothing_about_its_place(w: World) -> None:
    """It broke; it was not taken back for somebody who pays more."""
    interrupt(w, notice(w.replicas()[0]))
    assert w.store.refusals(w.clock.now()) == ()
