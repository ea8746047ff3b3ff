"""Memory is what most tests run on, so it must behave as DynamoDB does, whatever the order of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from chalicelib.errors import SailplaneError
from chalicelib.model import Lease, ReplicaStatus, Service
from chalicelib.ports import Commit, Store
from chalicelib.store.dynamodb import DynamoDBStore
from chalicelib.store.memory import MemoryStore
from tests.fakes import FakeClock
from tests.store.conftest import new_database
from tests.store.nouns import NOW, event, key, replica, service, spec, table

VERSIONS = st.integers(0, 3)
COMMITS = st.builds(
    lambda slots, version, status, with_table, events: (slots, version, status, with_table, events),
    st.sets(st.integers(0, 2), max_size=2),
    VERSIONS,
    st.sampled_from([ReplicaStatus.READY, ReplicaStatus.TERMINATED]),
    st.integers(0, 2),
    st.lists(st.sampled_from(["decision.a", "replica.b"]), max_size=2),
)


class Twins(RuleBasedStateMachine):
    """The same calls on two stores: the same answers, the same errors, the same state."""

    def __init__(self, dynamodb: DynamoDBStore, clock: FakeClock, name: str) -> None:
        super().__init__()
        self.clock = clock
        self.name = name
        self.stores: tuple[Store, Store] = (MemoryStore(clock), dynamodb)
        self.services: list[Service] = []
        self.leases: list[Lease] = []

    def both(self, call: Callable[[Store], Any]) -> Any:
        answers = []
        for store in self.stores:
            try:
                answers.append(call(store))
            except SailplaneError as error:
                answers.append(type(error))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(uid=st.sampled_from(["aaaa", "bbbb"]))
    def create(self, uid: str) -> None:
        given = service(self.name, uid=uid)
        written = self.both(lambda store: store.create_service(given, spec(self.name, source=uid), [event(uid)]))
        self.services += [written] if isinstance(written, Service) else []

    @precondition(lambda self: self.services)
    @rule(data=st.data(), number=st.integers(1, 3))
    def add_version(self, data: st.DataObject, number: int) -> None:
        given = replace(data.draw(st.sampled_from(self.services)), spec_version=number)
        written = self.both(lambda store: store.add_version(given, spec(self.name, number)))
        self.services += [written] if isinstance(written, Service) else []

    @rule(owner=st.sampled_from(["p", "q"]), ttl_s=st.sampled_from([1.0, 60.0]))
    def acquire(self, owner: str, ttl_s: float) -> None:
        lease = self.both(lambda store: store.acquire_lease(self.name, owner, ttl_s, self.clock.now()))
        self.leases += [lease] if isinstance(lease, Lease) else []

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        self.both(lambda store: store.release_lease(lease))

    @rule(data=st.data(), what=COMMITS)
    def commit(self, data: st.DataObject, what: tuple[set[int], int, ReplicaStatus, int, list[str]]) -> None:
        slots, version, status, table_version, kinds = what
        now = self.clock.now()
        commit = Commit(
            service=data.draw(st.sampled_from([None, *self.services])),
            replicas=tuple(replica(s, self.name, version=version, status=status, status_since=now) for s in slots),
            table=table(self.name, table_version) if table_version else None,
            events=tuple(event(at=now, kind=kind) for kind in kinds),
        )
        lease = data.draw(st.sampled_from([None, *self.leases]))
        self.both(lambda store: store.commit(self.name, lease, commit))

    @precondition(lambda self: self.services and self.leases)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        given = data.draw(st.sampled_from(self.services))
        lease = data.draw(st.sampled_from(self.leases))
        self.both(lambda store: store.delete_service(lease, given, [event("deleted", at=self.clock.now())]))

    @rule(router=st.sampled_from(["r1", "r2"]), seq=st.integers(1, 3), requests=st.integers(0, 2))
    def record(self, router: str, seq: int, requests: int) -> None:
        now = self.clock.now()
        counts = [(int(now), requests)] * requests
        self.both(lambda store: store.record_load(self.name, router, seq, counts, now))

    @rule(mine=st.sampled_from("abcd"), expires_in_s=st.sampled_from([None, 60.0]))
    def create_key(self, mine: str, expires_in_s: float | None) -> None:
        now = self.clock.now()
        made = key(f"{self.name}/{mine}", created_at=now, expires_at=expires_in_s and now + expires_in_s)
        self.both(lambda store: store.create_key(made))

    @rule(mine=st.sampled_from("abcd"), other=st.sampled_from("abcde"), version=st.integers(0, 2))
    def replace_key(self, mine: str, other: str, version: int) -> None:
        now = self.clock.now()
        old = key(f"{self.name}/{mine}", created_at=now, expires_at=now + 1, version=version)
        if mine != other:
            self.both(lambda store: store.replace_key(old, key(f"{self.name}/{other}", created_at=now)))

    @rule(mine=st.sampled_from("abcd"))
    def revoke_key(self, mine: str) -> None:
        self.both(lambda store: store.revoke_key(f"{self.name}/{mine}"))

    @rule(mine=st.sampled_from("abcd"), ago_s=st.sampled_from([-5.0, 0.0, 61.0]))
    def record_used(self, mine: str, ago_s: float) -> None:
        now = self.clock.now()
        self.both(lambda store: store.record_used({f"{self.name}/{mine}": now - ago_s}, now))

    @rule(seconds=st.sampled_from([1.0, 60.0, 601.0, 86_400.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_states_are_equal(self) -> None:
        self.both(lambda store: store.load(self.name))
        self.both(lambda store: store.history(self.name))
        self.both(lambda store: store.events(self.name, kind="decision"))
        self.both(lambda store: [one for one in store.endpoint_keys() if one.id.startswith(f"{self.name}/")])
        self.both(lambda store: (store.table(self.name), store.specs(self.name), self.name in store.service_names()))


def test_memory_and_dynamodb_agree(ministack_url: str) -> None:
    """Any sequence of calls, stale services and lost leases among them, ends alike in both."""
    clock = FakeClock(NOW)
    dynamodb = new_database(ministack_url, clock).store
    names = (f"hello-{number}" for number in count())
    run_state_machine_as_test(
        lambda: Twins(dynamodb, clock, next(names)),  # type: ignore[arg-type]  # any maker will do, not only a class
        settings=settings(
            max_examples=10,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
