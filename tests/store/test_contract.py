"""What every store promises, asked of memory, MiniStack and (strict_store) DynamoDB Local."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from chalicelib.errors import Conflict, Exists, Fenced, LeaseHeld, NotFound
from chalicelib.model import Lease, Reason, ReplicaStatus, RouterLoad, Service
from chalicelib.ports import Commit, Store
from tests.fakes import FakeClock
from tests.store.nouns import NOW, event, key, refusal, replica, service, spec, table

WRITERS = 16
DAY_S = 86_400.0


def created(store: Store, name: str = "hello", **fields: Any) -> Service:
    return store.create_service(service(name, **fields), spec(name), [event("created", kind="service.created")])


def everything(store: Store, name: str = "hello") -> tuple[object, ...]:
    return (
        store.service_names(),
        store.load(name),
        store.history(name),
        store.specs(name),
        store.events(name),
        store.tables(),
        store.unavailable(NOW),
    )


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """The results of `WRITERS` threads that start together."""
    barrier = Barrier(WRITERS)

    def run(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(run, range(WRITERS)))


# --- services and their specifications ---


def test_a_created_service_is_read_back_as_it_was_written(store: Store) -> None:
    """Record, specification and events are there at once and equal what was given, at version 1."""
    given = service(was_ready=True, last_generation=7)
    written = store.create_service(given, spec(), [event(data={"a": "b"}, replica="hello-k3f9-0-1")])
    assert written == replace(given, version=1)
    state = store.load("hello")
    assert state is not None
    assert (state.service, state.replicas, state.load) == (written, (), ())
    assert store.spec("hello", 1) == spec()
    assert store.events("hello") == (event(data={"a": "b"}, replica="hello-k3f9-0-1"),)


def test_a_name_is_taken_once(store: Store) -> None:
    """The second service of a name is refused and leaves no trace."""
    created(store)
    before = everything(store)
    with pytest.raises(Exists, match="'hello'"):
        store.create_service(service(uid="ffff"), spec(source="other"), [event("never")])
    assert everything(store) == before


def test_one_of_many_creators_wins(store: Store) -> None:
    """Of 16 services created under one name at the same moment exactly one exists."""

    def create(number: int) -> str | None:
        try:
            return store.create_service(service(uid=f"{number:04x}"), spec()).uid
        except Exists:
            return None

    (winner,) = [uid for uid in at_once(create) if uid]
    state = store.load("hello")
    assert state is not None
    assert state.service.uid == winner


def test_names_are_sorted(store: Store) -> None:
    """All services are listed, by name, whatever the order of their creation."""
    for name in ("b", "a-1", "c", "a"):
        created(store, name)
    assert store.service_names() == ("a", "a-1", "b", "c")


def test_versions_are_kept_in_order(store: Store) -> None:
    """Specifications come oldest first, by number and not by its text."""
    current = created(store)
    for number in (2, 10, 9, 100):
        current = store.add_version(replace(current, spec_version=number), spec(number=number, source=f"n{number}"))
    assert [version.number for version in store.specs("hello")] == [1, 2, 9, 10, 100]
    assert store.spec("hello", 10).source == "n10"
    state = store.load("hello")
    assert state is not None
    assert state.service == current
    assert current.version == 5


def test_a_version_is_never_overwritten(store: Store) -> None:
    """An existing specification stays as it is and the service with it."""
    current = created(store)
    before = everything(store)
    with pytest.raises(Conflict):
        store.add_version(replace(current, deleting=True), spec(source="changed"), [event("never")])
    assert everything(store) == before


def test_a_version_is_not_added_to_a_service_that_changed(store: Store) -> None:
    """An update of what was read before another's write is refused whole."""
    stale = created(store)
    store.commit("hello", None, Commit(service=stale))
    before = everything(store)
    with pytest.raises(Conflict):
        store.add_version(stale, spec(number=2), [event("never")])
    assert everything(store) == before


def test_an_unknown_version_is_not_found(store: Store) -> None:
    """The error names service and number."""
    with pytest.raises(NotFound, match=r"'hello'.* 3"):
        store.spec("hello", 3)


def test_what_is_unknown_reads_as_nothing(store: Store) -> None:
    """Reading a service that never was is no error."""
    assert store.load("hello") is None
    assert store.table("hello") is None
    assert everything(store) == ((), None, (), (), (), (), ())


# --- deletion and names used again ---


def test_a_deleted_service_leaves_only_its_past(store: Store) -> None:
    """Record, specifications, load and table are gone; replica history and events stay."""
    current = created(store)
    lease = store.acquire_lease("hello", "p", 60, NOW)
    gone = replica(status=ReplicaStatus.TERMINATED)
    store.commit("hello", lease, Commit(replicas=(gone,), table=table()))
    store.record_load("hello", "r1", 1, [(int(NOW), 5)], NOW)
    store.delete_service(lease, current, [event("deleted", at=NOW + 1)])
    store.record_load("hello", "r1", 2, [(int(NOW), 5)], NOW)
    assert store.load("hello") is None
    assert store.table("hello") is None
    assert (store.service_names(), store.specs("hello"), store.tables()) == ((), (), ())
    assert [r.id for r in store.history("hello")] == [gone.id]
    assert [e.message for e in store.events("hello")] == ["created", "deleted"]


def test_a_name_can_be_used_again(store: Store) -> None:
    """A second life starts at version 1 with no load, no table and a specification of its own."""
    first = created(store, uid="aaaa")
    lease = store.acquire_lease("hello", "p", 60, NOW)
    store.commit("hello", lease, Commit(table=table()))
    store.record_load("hello", "r1", 1, [(int(NOW), 5)], NOW)
    store.delete_service(lease, first)
    second = store.create_service(service(uid="bbbb"), spec(source="second"))
    state = store.load("hello")
    assert state is not None
    assert (state.service, state.load) == (second, ())
    assert store.table("hello") is None
    assert store.spec("hello", 1).source == "second"
    store.record_load("hello", "r1", 1, [(int(NOW), 3)], NOW)
    state = store.load("hello")
    assert state is not None
    assert state.load == (RouterLoad("r1", 1, NOW, ((int(NOW), 3),)),)


def test_nothing_of_an_earlier_life_can_write(store: Store) -> None:
    """Lease and record of a deleted service are refused even when the name's new life has the same numbers."""
    first = created(store, uid="aaaa")
    old_lease = store.acquire_lease("hello", "p", 60, NOW)
    store.delete_service(old_lease, first)
    with pytest.raises(Fenced):
        store.commit("hello", old_lease, Commit(events=(event("never"),)))
    created(store, uid="bbbb")
    assert store.acquire_lease("hello", "p", 60, NOW).token > old_lease.token
    before = everything(store)
    with pytest.raises(Fenced):
        store.commit("hello", old_lease, Commit(events=(event("never"),)))
    with pytest.raises(Conflict):
        store.add_version(first, spec(number=2))
    with pytest.raises(Conflict):
        store.commit("hello", None, Commit(service=first))
    assert everything(store) == before


def test_a_long_history_of_versions_is_deleted_whole(store: Store) -> None:
    """More specifications than fit in one transaction go all the same."""
    current = created(store)
    for number in range(2, 131):
        current = store.add_version(current, spec(number=number, source=""))
    lease = store.acquire_lease("hello", "p", 60, NOW)
    stolen = replace(lease, token=lease.token - 1)
    with pytest.raises(Fenced):
        store.delete_service(stolen, current)
    with pytest.raises(Conflict):
        store.delete_service(lease, replace(current, version=1))
    assert len(store.specs("hello")) == 130
    store.delete_service(lease, current)
    assert store.specs("hello") == ()
    assert store.load("hello") is None


def test_a_refused_deletion_removes_nothing(store: Store) -> None:
    """Neither a lost lease nor a changed record deletes anything."""
    stale = created(store)
    lost = store.acquire_lease("hello", "a", 10, NOW)
    lease = store.acquire_lease("hello", "b", 60, NOW + 10)
    store.commit("hello", lease, Commit(service=stale, table=table()))
    before = everything(store)
    current = replace(stale, version=2)
    with pytest.raises(Fenced):
        store.delete_service(lost, current, [event("never")])
    with pytest.raises(Conflict):
        store.delete_service(lease, stale, [event("never")])
    assert everything(store) == before


# --- replicas and commits ---


def test_replicas_are_written_under_their_version(store: Store) -> None:
    """0 means "must not exist", anything else must be what is stored; the stored version is one higher."""
    created(store)
    store.commit("hello", None, Commit(replicas=(replica(),)))
    first = replica(version=1)
    ready = replace(first, status=ReplicaStatus.READY, ready_at=NOW, url="http://127.0.0.1:9", reason=Reason.USER)
    store.commit("hello", None, Commit(replicas=(ready,)))
    state = store.load("hello")
    assert state is not None
    assert state.replicas == (replace(ready, version=2),)
    for stale in (replica(), first, replica(version=3), replica(slot=1, version=1)):
        with pytest.raises(Conflict):
            store.commit("hello", None, Commit(replicas=(stale,)))
    assert store.load("hello") == state


def test_terminated_replicas_are_history_for_a_day(store: Store, clock: FakeClock) -> None:
    """They leave the state at once and the history a day after their end; live ones stay in both, newest first."""
    created(store)
    old = replica(slot=0, status=ReplicaStatus.TERMINATED, status_since=NOW, error="no such file")
    live = replica(slot=1, created_at=NOW + 1)
    store.commit("hello", None, Commit(replicas=(old, live)))
    state = store.load("hello")
    assert state is not None
    assert [r.id for r in state.replicas] == [live.id]
    assert [r.id for r in store.history("hello")] == [live.id, old.id]
    clock.advance(DAY_S - 1)
    assert [r.error for r in store.history("hello")] == ["", "no such file"]
    clock.advance(1)
    assert [r.id for r in store.history("hello")] == [live.id]


@pytest.mark.parametrize("version", [0, 1, 2])
def test_an_id_that_is_over_is_never_written_again(store: Store, version: int) -> None:
    """TERMINATED is final: under no version, neither as a new replica nor as history, as long as it is remembered."""
    created(store)
    store.commit("hello", None, Commit(replicas=(replica(),)))
    over = replica(status=ReplicaStatus.TERMINATED, version=1)
    store.commit("hello", None, Commit(replicas=(over,)))
    before = everything(store)
    for again in (replica(version=version), replace(over, version=version)):
        with pytest.raises(Conflict):
            store.commit("hello", None, Commit(replicas=(again,)))
    assert everything(store) == before
    assert store.history("hello") == (replace(over, version=2),)


def test_a_commit_is_all_or_nothing(store: Store) -> None:
    """One stale replica among good writes of every kind, and none of them happens."""
    current = created(store)
    lease = store.acquire_lease("hello", "p", 60, NOW)
    store.commit("hello", lease, Commit(replicas=(replica(0),)))
    before = everything(store)
    whole = Commit(
        service=replace(current, was_ready=True),
        replicas=(replica(1), replica(0)),
        table=table(),
        unavailable=(refusal(),),
        events=(event("never"),),
    )
    with pytest.raises(Conflict):
        store.commit("hello", lease, whole)
    assert everything(store) == before
    store.commit("hello", lease, replace(whole, replicas=(replica(1), replica(0, version=1))))
    state = store.load("hello")
    assert state is not None
    assert state.service == replace(current, was_ready=True, version=2)
    assert [r.version for r in state.replicas] == [2, 1]
    assert (store.table("hello"), store.unavailable(NOW)) == (table(), (refusal(),))
    assert [e.message for e in store.events("hello")][-1] == "never"


def test_an_empty_commit_is_allowed(store: Store) -> None:
    """Nothing to write is nothing to refuse, except under a lost lease."""
    created(store)
    store.commit("hello", None, Commit())
    lease = store.acquire_lease("hello", "p", 60, NOW)
    store.commit("hello", lease, Commit())
    with pytest.raises(Fenced):
        store.commit("hello", replace(lease, token=lease.token + 1), Commit())


def test_a_commit_that_cannot_be_atomic_is_refused(store: Store) -> None:
    """100 items are written: the lease is one, a new or a TERMINATED replica two. More is our own mistake: none is written."""
    created(store)
    lease = store.acquire_lease("hello", "p", 60, NOW)
    replicas = tuple(replica(slot) for slot in range(50))
    before = everything(store)
    with pytest.raises(ValueError, match="100"):
        store.commit("hello", lease, Commit(replicas=replicas))
    assert everything(store) == before
    store.commit("hello", lease, Commit(replicas=replicas[:49], events=(event(),)))
    written = store.history("hello")
    assert len(written) == 49
    over = tuple(replace(one, status=ReplicaStatus.TERMINATED) for one in written)
    with pytest.raises(ValueError, match="100"):
        store.commit("hello", lease, Commit(replicas=over, events=(event(), event())))
    store.commit("hello", lease, Commit(replicas=tuple(replace(one, url="http://a") for one in written)))


def test_of_16_writers_one_wins_each_version(store: Store) -> None:
    """All commit the same version at the same moment: one succeeds, fifteen hear Conflict, the winner's write stays."""
    created(store)
    store.commit("hello", None, Commit(replicas=(replica(),)))
    for version in range(1, 4):

        def write(writer: int, version: int = version) -> int | None:
            try:
                store.commit("hello", None, Commit(replicas=(replica(version=version, error=f"{writer}"),)))
            except Conflict:
                return None
            return writer

        (winner,) = [writer for writer in at_once(write) if writer is not None]
        (stored,) = store.history("hello")
        assert (stored.version, stored.error) == (version + 1, f"{winner}")


def test_no_update_of_16_writers_is_lost(store: Store) -> None:
    """Each adds one twice, loading again after every Conflict: the sum is complete."""
    created(store)
    store.commit("hello", None, Commit(replicas=(replica(),)))

    def add_two(_: int) -> None:
        added = 0
        while added < 2:
            (stored,) = store.history("hello")
            try:
                store.commit("hello", None, Commit(replicas=(replace(stored, slot=stored.slot + 1),)))
            except Conflict:
                continue
            added += 1

    at_once(add_two)
    (stored,) = store.history("hello")
    assert (stored.slot, stored.version) == (2 * WRITERS, 2 * WRITERS + 1)


# --- leases ---


def test_a_held_lease_is_refused_until_it_expires(store: Store) -> None:
    """The refusal names the holder; at the instant of expiry the lease can be taken over."""
    first = store.acquire_lease("hello", "pass-1", 60, NOW)
    assert first == Lease("hello", "pass-1", first.token, NOW + 60)
    for owner in ("pass-1", "pass-2"):
        with pytest.raises(LeaseHeld, match="pass-1"):
            store.acquire_lease("hello", owner, 60, NOW + 59.9)
    second = store.acquire_lease("hello", "pass-2", 60, NOW + 60)
    assert second.token > first.token


def test_leases_of_services_are_independent(store: Store) -> None:
    """A lease on one service does not keep anybody from another."""
    store.acquire_lease("hello", "p", 60, NOW)
    assert store.acquire_lease("other", "q", 60, NOW).service == "other"


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    """The token rises all the same, and what was released writes no more."""
    created(store)
    first = store.acquire_lease("hello", "p", 60, NOW)
    store.release_lease(first)
    with pytest.raises(Fenced):
        store.commit("hello", first, Commit(replicas=(replica(),)))
    second = store.acquire_lease("hello", "p", 60, NOW)
    assert second.token > first.token


def test_a_lost_lease_releases_nothing(store: Store) -> None:
    """Giving back what was taken over leaves the new holder alone."""
    first = store.acquire_lease("hello", "a", 10, NOW)
    second = store.acquire_lease("hello", "b", 60, NOW + 10)
    store.release_lease(first)
    with pytest.raises(LeaseHeld, match="b"):
        store.acquire_lease("hello", "c", 60, NOW + 11)
    store.release_lease(second)
    store.release_lease(second)
    assert store.acquire_lease("hello", "c", 60, NOW + 11).token > second.token


def test_a_stale_holder_writes_nothing(store: Store) -> None:
    """After a take-over every write of the earlier holder is fenced, though its versions are right."""
    current = created(store)
    stale = store.acquire_lease("hello", "a", 10, NOW)
    lease = store.acquire_lease("hello", "b", 60, NOW + 10)
    before = everything(store)
    good = Commit(current, (replica(),), table(), (refusal(),), (event("never"),))
    with pytest.raises(Fenced):
        store.commit("hello", stale, good)
    with pytest.raises(Fenced):  # says more than Conflict: this pass must stop, not load again
        store.commit("hello", stale, replace(good, replicas=(replica(version=9),)))
    assert everything(store) == before
    store.commit("hello", lease, good)


def test_an_expired_lease_that_nobody_took_still_writes(store: Store) -> None:
    """Only a take-over fences: the token decides, not the clock."""
    created(store)
    lease = store.acquire_lease("hello", "a", 10, NOW)
    store.commit("hello", lease, Commit(replicas=(replica(status_since=NOW + 1000),)))
    assert len(store.history("hello")) == 1


def test_one_of_16_passes_gets_the_lease(store: Store) -> None:
    """All ask at the same moment, under the same owner's name even."""

    def acquire(_: int) -> Lease | None:
        try:
            return store.acquire_lease("hello", "p", 60, NOW)
        except LeaseHeld:
            return None

    assert len([lease for lease in at_once(acquire) if lease]) == 1


# --- events ---


def test_events_come_oldest_first_and_the_newest_are_kept(store: Store) -> None:
    """`limit` keeps the newest, `after` leaves out its own instant."""
    store.commit("hello", None, Commit(events=tuple(event(f"{n}", at=NOW + n / 1000) for n in range(10))))
    assert [e.message for e in store.events("hello", limit=3)] == ["7", "8", "9"]
    assert [e.message for e in store.events("hello", after=NOW + 0.007)] == ["8", "9"]
    assert [e.message for e in store.events("hello", after=NOW + 1)] == []
    assert store.events("hello", limit=0) == ()
    assert store.events("other") == ()


def test_events_are_chosen_by_the_start_of_their_kind(store: Store) -> None:
    """A limit counts those that are chosen, not those that are looked at."""
    kinds = ["decision.reconcile", "decision.optimize", *["replica.ready"] * 8]
    store.commit("hello", None, Commit(events=tuple(event(kind=k, at=NOW + n) for n, k in enumerate(kinds))))
    assert [e.kind for e in store.events("hello", kind="decision")] == kinds[:2]
    assert [e.kind for e in store.events("hello", kind="decision", limit=1)] == kinds[1:2]
    assert [e.at for e in store.events("hello", kind="replica", limit=1)] == [NOW + 9]


def test_events_of_one_instant_keep_their_order_and_are_all_kept(store: Store) -> None:
    """Two commits in one instant, equal messages in one commit: nothing replaces anything."""
    store.commit("hello", None, Commit(events=(event("b"), event("a"), event("a"))))
    store.commit("hello", None, Commit(events=(event("other"),)))
    assert [e.message for e in store.events("hello")] == ["b", "a", "a", "other"]


def test_events_are_forgotten_after_a_week(store: Store, clock: FakeClock) -> None:
    """Expired ones are filtered, whether or not the database has removed them."""
    store.commit("hello", None, Commit(events=(event("old"), event("new", at=NOW + 1))))
    clock.advance(7 * DAY_S)
    assert [e.message for e in store.events("hello")] == ["new"]


# --- load ---


def loads(store: Store) -> tuple[RouterLoad, ...]:
    state = store.load("hello")
    assert state is not None
    return state.load


def test_load_adds_up_by_second(store: Store) -> None:
    """Counts of one second add up, every router apart; an idle report is a report too, a function's as well."""
    created(store)
    second = int(NOW)
    store.record_load("hello", "r1", 5, [(second, 2), (second - 1, 1)], NOW)
    store.record_load("hello", "r1", 6, [(second, 3), (second + 1, 4)], NOW + 1)
    store.record_load("hello", "r2", 1, [], NOW + 2, on_demand=True)
    assert loads(store) == (
        RouterLoad("r1", 6, NOW + 1, ((second - 1, 1), (second, 5), (second + 1, 4))),
        RouterLoad("r2", 1, NOW + 2, (), on_demand=True),
    )


def test_load_is_counted_once(store: Store) -> None:
    """A batch sent again, and one overtaken by a later one, change nothing."""
    created(store)
    for seq in (2, 2, 1):
        store.record_load("hello", "r1", seq, [(int(NOW), 2)], NOW)
    assert loads(store) == (RouterLoad("r1", 2, NOW, ((int(NOW), 2),)),)


def test_load_sent_16_times_at_once_is_counted_once(store: Store) -> None:
    """A router that repeats itself over several connections is still heard once."""
    created(store)
    at_once(lambda _: store.record_load("hello", "r1", 1, [(int(NOW), 2)], NOW))
    assert loads(store) == (RouterLoad("r1", 1, NOW, ((int(NOW), 2),)),)


def test_an_idle_router_is_written_down_every_20_s(store: Store) -> None:
    """A report of no requests shortly after the last report is not written; requests always are, silence of 20 s is ended."""
    created(store)
    for seq, (after_s, count) in enumerate([(0, 0), (5, 0), (19, 0), (20, 0), (21, 3), (22, 0)], start=1):
        store.record_load("hello", "r1", seq, [(int(NOW), count)] if count else [], NOW + after_s)
        expected = {0: 0, 5: 0, 19: 0, 20: 20, 21: 21, 22: 21}[after_s]
        assert loads(store)[0].reported_at == NOW + expected


def test_load_is_dropped_after_ten_minutes(store: Store, clock: FakeClock) -> None:
    """Old counts go with the next report, a silent router's row by itself."""
    created(store)
    second = int(NOW)
    store.record_load("hello", "r1", 1, [(second - 601, 9), (second - 600, 1), (second, 2)], NOW)
    assert loads(store) == (RouterLoad("r1", 1, NOW, ((second - 600, 1), (second, 2))),)
    store.record_load("hello", "r1", 2, [(second + 599, 3)], NOW + 601)
    assert loads(store) == (RouterLoad("r1", 2, NOW + 601, ((second + 599, 3),)),)
    clock.advance(601 + 599)
    assert len(loads(store)) == 1
    clock.advance(1)
    assert loads(store) == ()


def test_load_of_an_unknown_service_is_ignored(store: Store) -> None:
    """It is no error, and nothing of it turns up when the name comes into use."""
    store.record_load("hello", "r1", 1, [(int(NOW), 2)], NOW)
    created(store)
    assert loads(store) == ()


# --- route tables and refusals ---


def test_a_table_follows_the_one_before(store: Store) -> None:
    """Each version is exactly one above the stored one; the first may have any."""
    store.commit("hello", None, Commit(table=table(version=4)))
    store.commit("hello", None, Commit(table=table(version=5)))
    for version in (5, 4, 7):
        with pytest.raises(Conflict):
            store.commit("hello", None, Commit(table=table(version=version)))
    assert store.table("hello") == table(version=5)
    store.commit("a", None, Commit(table=table("a")))
    assert [t.service for t in store.tables()] == ["a", "hello"]


def test_refusals_hold_until_their_end(store: Store) -> None:
    """One at `until` holds no longer; of one scope the last writer's word counts, within a commit too."""
    store.commit("hello", None, Commit(unavailable=(refusal("a", NOW + 10), refusal("b", NOW + 20))))
    assert [u.zone for u in store.unavailable(NOW + 9.9)] == ["a", "b"]
    assert [u.zone for u in store.unavailable(NOW + 10)] == ["b"]
    store.commit("x", None, Commit(unavailable=(refusal("b", NOW + 90), refusal("b", NOW + 30, failures=2))))
    assert store.unavailable(NOW + 20) == (refusal("b", NOW + 30, failures=2),)


# --- boots ---


def test_a_service_that_was_acted_on_is_remembered_when_it_is_gone(store: Store) -> None:
    """Its machines are known to have been ours; those of a name that was never used are somebody's."""
    service = created(store)
    assert not store.has_launched("hello")
    lease = store.acquire_lease("hello", "pass", 60, NOW)
    assert store.has_launched("hello")
    store.delete_service(lease, service)
    assert store.has_launched("hello")
    assert not store.has_launched("never")


def test_a_refusal_is_remembered_for_an_hour_after_its_end(store: Store) -> None:
    """So that the next one in a row can be told from the first; a success in its scope ends it at once."""
    held, other = refusal("a", until=NOW + 60), refusal("b", until=NOW + 60, fingerprint="f1")
    store.commit("hello", None, Commit(unavailable=(held, other)))
    assert store.unavailable(NOW + 60) == ()
    assert store.refusals(NOW + 3659) == (held, other)
    assert store.refusals(NOW + 3660) == ()
    store.commit("hello", None, Commit(disproved=(replace(held, failures=3),)))
    assert store.refusals(NOW) == (other,)
    store.commit("hello", None, Commit(disproved=(other,), unavailable=(other,)))
    assert store.refusals(NOW) == (other,), "written in the same breath, it holds"


def test_the_first_machine_to_boot_as_a_replica_is_the_only_one(store: Store) -> None:
    """It may ask again, because answers get lost; nobody else may, and another boot of the replica is another matter."""
    assert store.claim_boot("hello-1-0-1", "n1", "mine")
    assert store.claim_boot("hello-1-0-1", "n1", "mine")
    assert not store.claim_boot("hello-1-0-1", "n1", "stolen")
    assert store.claim_boot("hello-1-0-1", "n2", "another boot")


# --- endpoint keys ---


def test_a_key_is_read_back_as_it_was_written(store: Store) -> None:
    """Whole, at version 1; all of them in the order of their making."""
    full = key("b", expires_at=NOW + 60, rate_per_s=0.5, concurrency=3)
    assert store.create_key(full) == replace(full, version=1)
    later, same_instant = store.create_key(key("0", created_at=NOW + 1)), store.create_key(key("a"))
    assert store.endpoint_keys() == (same_instant, replace(full, version=1), later)


def test_a_key_s_id_is_taken_once(store: Store) -> None:
    """The second is refused, and the first stays as it is; a revoked one is gone, and its id is never taken again."""
    first = store.create_key(key())
    with pytest.raises(Exists, match="0123456789"):
        store.create_key(key(hash="other"))
    assert store.endpoint_keys() == (first,)
    store.revoke_key(first.id)
    assert store.endpoint_keys() == ()
    with pytest.raises(NotFound, match="0123456789"):
        store.revoke_key(first.id)
    for late in (first, key(hash="other")):
        with pytest.raises(Exists, match="was revoked"):
            store.create_key(replace(late, version=0))
    assert store.endpoint_keys() == ()


def test_a_replaced_key_does_not_come_back(store: Store) -> None:
    """It ends: a backup of before, in which it has no end, does not make it good again when it is forgotten."""
    old = store.create_key(key("a"))
    store.replace_key(replace(old, expires_at=NOW + 5), key("b"))
    with pytest.raises(Exists, match="was revoked"):
        store.create_key(replace(old, version=0))
    assert [one.expires_at for one in store.endpoint_keys()] == [NOW + 5, None]


def test_an_expired_key_is_kept_for_a_week(store: Store, clock: FakeClock) -> None:
    """So that its owner sees why a client is refused; one without end stays."""
    store.create_key(key("a", expires_at=NOW + 10))
    for_ever = store.create_key(key("b"))
    clock.advance(10 + 7 * DAY_S - 1)
    assert len(store.endpoint_keys()) == 2
    clock.advance(1)
    assert store.endpoint_keys() == (for_ever,)


def test_a_key_is_replaced_at_once(store: Store, clock: FakeClock) -> None:
    """The old one with its end and the new one are written together; what is known of its use stays."""
    old = store.create_key(key("a"))
    store.record_used({"a": NOW}, NOW)
    new = store.replace_key(replace(old, expires_at=NOW + 5), key("b", created_at=NOW + 1))
    assert new == key("b", created_at=NOW + 1, version=1)
    ended = replace(old, expires_at=NOW + 5, last_used_at=NOW, version=2)
    assert store.endpoint_keys() == (ended, new)
    clock.advance(5 + 7 * DAY_S)
    assert store.endpoint_keys() == (new,)


def test_a_key_is_not_replaced_when_it_changed_meanwhile(store: Store) -> None:
    """Nor when it was revoked, or the new one's id is taken: nothing is written then."""
    old, other = store.create_key(key("a")), store.create_key(key("b"))
    with pytest.raises(Conflict):
        store.replace_key(replace(old, expires_at=NOW), key("b", hash="new"))
    second = store.replace_key(replace(old, expires_at=NOW + 9), key("c"))
    with pytest.raises(Conflict):
        store.replace_key(replace(old, expires_at=NOW), key("d"))
    assert store.endpoint_keys() == (replace(old, expires_at=NOW + 9, version=2), other, second)
    store.revoke_key("b")
    with pytest.raises(Conflict):
        store.replace_key(replace(other, expires_at=NOW), key("d"))
    assert {one.id for one in store.endpoint_keys()} == {"a", "c"}


def test_the_last_use_is_kept_to_the_minute(store: Store) -> None:
    """Later reports within it change nothing, nor do older ones; none lies in the future, and strangers are ignored."""

    def last_used(used_at: float, now: float) -> float | None:
        store.record_used({"a": used_at, "stranger": now}, now)
        (found,) = store.endpoint_keys()
        assert found.version == 1
        return found.last_used_at

    store.create_key(key("a"))
    assert last_used(NOW - 3.5, NOW) == NOW - 3.5
    assert last_used(NOW + 56, NOW + 60) == NOW - 3.5
    assert last_used(NOW + 56.5, NOW + 60) == NOW + 56.5
    assert last_used(NOW, NOW + 70) == NOW + 56.5
    assert last_used(NOW + 1e6, NOW + 200) == NOW + 200


def test_a_revoked_key_does_not_come_back_by_its_use(store: Store) -> None:
    """A router reports what it saw before it learned."""
    store.create_key(key("a"))
    store.revoke_key("a")
    store.record_used({"a": NOW}, NOW)
    assert store.endpoint_keys() == ()


# --- more than one page ---


def test_more_than_a_megabyte_of_replicas_is_read_whole(store: Store) -> None:
    """DynamoDB answers 1 MB at a time; state and history are complete all the same."""
    created(store)
    for start in range(0, 60, 12):
        many = tuple(replica(slot, error="e" * 24_000) for slot in range(start, start + 12))
        store.commit("hello", None, Commit(replicas=many))
    state = store.load("hello")
    assert state is not None
    assert sorted(r.slot for r in state.replicas) == list(range(60))
    assert len(store.history("hello")) == 60


def test_more_than_a_megabyte_of_events_is_searched_whole(store: Store) -> None:
    """The one event wanted lies behind 1.4 MB of others, and all of them can be read."""
    store.commit("hello", None, Commit(events=(event("wanted", kind="decision.x"),)))
    for n in range(6):
        others = tuple(event("m" * 24_000, at=NOW + 1 + n + i / 10) for i in range(10))
        store.commit("hello", None, Commit(events=others))
    assert [e.message for e in store.events("hello", kind="decision", limit=5)] == ["wanted"]
    assert len(store.events("hello", limit=100)) == 61
