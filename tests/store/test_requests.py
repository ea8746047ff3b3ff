"""What the store asks of DynamoDB: money, and the time a pass has. Counted on the wire, retries included."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.errors import LeaseHeld
from chalicelib.model import ReplicaStatus
from chalicelib.ports import Commit
from tests.store.conftest import Database
from tests.store.nouns import NOW, event, key, refusal, replica, service, spec, table


def with_30_replicas(database: Database) -> None:
    store = database.store
    store.create_service(service(), spec())
    ready = tuple(replica(slot, status=ReplicaStatus.READY) for slot in range(30))
    store.commit("hello", store.acquire_lease("hello", "p", 60, NOW), Commit(replicas=ready, table=table()))
    store.record_load("hello", "r1", 1, [(int(NOW), 5)], NOW)
    database.requests.clear()


def test_reading_a_steady_service_is_one_query(database: Database) -> None:
    """Record, 30 replicas, load and lease come in one strongly consistent Query."""
    with_30_replicas(database)
    state = database.store.load("hello")
    assert state is not None
    assert (len(state.replicas), len(state.load)) == (30, 1)
    assert database.requests == {"Query": 1}


def test_each_read_is_one_request(database: Database) -> None:
    """A Query for every list, a GetItem for every single thing; what is missing costs no more."""
    with_30_replicas(database)
    store = database.store
    for read in (
        store.service_names,
        store.tables,
        lambda: store.specs("hello"),
        lambda: store.unavailable(NOW),
        store.endpoint_keys,
        lambda: store.events("hello"),
        lambda: store.events("hello", kind="decision", limit=1),
        lambda: store.load("nobody"),
    ):
        database.requests.clear()
        read()
        assert database.requests == {"Query": 1}
    for get in (lambda: store.table("hello"), lambda: store.table("nobody"), lambda: store.spec("hello", 1)):
        database.requests.clear()
        get()
        assert database.requests == {"GetItem": 1}


def test_the_past_costs_a_pass_nothing(database: Database) -> None:
    """A day's worth of refused launches lies in a partition that only `history` reads; each was one transaction."""
    store = database.store
    with_30_replicas(database)
    for slot in range(100, 150):
        over = replica(slot, status=ReplicaStatus.TERMINATED, error="no capacity " * 40)
        store.commit("hello", None, Commit(replicas=(over,)))
    assert database.requests == {"TransactWriteItems": 50}
    items: list[int] = []
    store._table._connection.client.meta.events.register(
        "after-call.dynamodb.Query", lambda parsed, **_: items.append(parsed["ScannedCount"])
    )
    state = store.load("hello")
    assert state is not None
    assert len(state.replicas) == 30
    assert items == [30 + len(("META", "LEASE", "LOAD"))]
    database.requests.clear()
    assert len(store.history("hello")) == 80
    assert database.requests == {"Query": 2}


def test_the_newest_events_are_read_and_no_others(database: Database) -> None:
    """Reads are paid by the item looked at: `limit` of them, in one request, unless only some kinds are wanted."""
    looked_at: list[int] = []
    database.store._table._connection.client.meta.events.register(
        "after-call.dynamodb.Query", lambda parsed, **_: looked_at.append(parsed["ScannedCount"])
    )
    oldest = event(kind="decision.x")
    database.store.commit("hello", None, Commit(events=(oldest, *(event(at=NOW + n) for n in range(1, 10)))))
    database.requests.clear()
    assert len(database.store.events("hello", limit=4)) == 4
    assert database.store.events("hello", limit=1, kind="decision") == (oldest,)
    assert looked_at == [4, 10]
    assert database.requests == {"Query": 2}


def test_each_write_is_one_transaction(database: Database) -> None:
    """Creation, a new version, and a commit of every kind of item at once."""
    store = database.store
    current = store.create_service(service(), spec(), [event()])
    current = store.add_version(current, spec(number=2), [event()])
    store.commit("hello", None, Commit(current, (replica(),), table(), (refusal(),), (event(),)))
    assert database.requests == {"TransactWriteItems": 3}


def test_an_empty_commit_costs_nothing(database: Database) -> None:
    """Nothing to write is not sent."""
    database.store.commit("hello", None, Commit())
    assert not database.requests


def test_a_lease_is_one_update(database: Database) -> None:
    """One to take it, one to give it back, and one read more to learn who holds it."""
    lease = database.store.acquire_lease("hello", "p", 60, NOW)
    with pytest.raises(LeaseHeld):
        database.store.acquire_lease("hello", "q", 60, NOW)
    database.store.release_lease(lease)
    assert database.requests == {"UpdateItem": 3, "GetItem": 1}


def test_a_report_of_load_is_two_requests(database: Database) -> None:
    """One read, one write; a report sent again is one read."""
    with_30_replicas(database)
    for _ in range(2):
        database.store.record_load("hello", "r1", 2, [(int(NOW), 5)], NOW)
    assert database.requests == {"BatchGetItem": 2, "PutItem": 1}


def test_the_use_of_keys_is_written_once_a_minute(database: Database) -> None:
    """One query tells which of them are news; the others cost nothing, not even a write that is refused."""
    store = database.store
    for name in ("a", "b", "c"):
        store.create_key(key(name))
    store.record_used({"a": NOW}, NOW)
    database.requests.clear()
    store.record_used({"a": NOW + 59, "b": NOW + 59, "gone": NOW}, NOW + 59)
    assert database.requests == {"Query": 1, "UpdateItem": 1}


def test_a_deletion_is_one_query_and_one_transaction(database: Database) -> None:
    """As long as the service had fewer than some 90 versions."""
    with_30_replicas(database)
    store = database.store
    lease = store.acquire_lease("hello", "p", 60, NOW + 60)
    database.requests.clear()
    store.delete_service(lease, replace(service(), version=1), [event()])
    assert database.requests == {"Query": 1, "TransactWriteItems": 1}


def test_a_second_megabyte_is_a_second_request(database: Database) -> None:
    """1.4 MB of replicas are two requests, not one for each replica."""
    database.store.create_service(service(), spec())
    for start in range(0, 60, 12):
        many = tuple(replica(slot, error="e" * 24_000) for slot in range(start, start + 12))
        database.store.commit("hello", None, Commit(replicas=many))
    database.requests.clear()
    database.store.load("hello")
    assert database.requests == {"Query": 2}


def test_the_table_is_made_once_with_its_time_to_live(database: Database) -> None:
    """Making it again changes nothing, and `expires_at` is the attribute that DynamoDB deletes by."""
    client: Any = database.store._table._connection.client  # botocore makes its methods at run time
    name = database.store._table._name
    database.store.create_service(service(), spec())
    database.store.create_table()
    assert database.store.service_names() == ("hello",)
    ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")
    made = client.describe_table(TableName=name)["Table"]
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_what_expires_says_so_to_the_database(database: Database) -> None:
    """TERMINATED replicas, events, load and refusals carry whole epoch seconds; leases and the rest carry nothing."""
    store = database.store
    with_30_replicas(database)
    gone = replica(99, status=ReplicaStatus.TERMINATED, status_since=NOW + 0.5)
    store.commit("hello", None, Commit(replicas=(gone,), unavailable=(refusal(),), events=(event(),)))
    store.create_key(key("for-ever"))
    store.create_key(key("a", expires_at=NOW + 9.5))
    expiries: Counter[tuple[str, int]] = Counter()
    silent = set()
    for partition in (
        "SERVICES",
        "SERVICE#hello",
        "PAST#hello",
        "SPECS#hello",
        "EVENTS#hello",
        "ROUTES",
        "UNAVAILABLE",
        "KEYS",
    ):
        for row in store._table.query(partition):
            kind = f"{partition}/{row['sk'].partition('#')[0]}" if partition == "SERVICE#hello" else partition
            if "expires_at" in row:
                expiries[kind, row["expires_at"] - int(NOW)] += 1
            else:
                silent.add(kind)
    assert expiries == {
        ("PAST#hello", 86_401): 1,
        ("SERVICE#hello/LOAD", 600): 1,
        ("EVENTS#hello", 7 * 86_400): 1,
        ("UNAVAILABLE", 3_660): 1,
        ("KEYS", 10 + 7 * 86_400): 1,
    }
    assert silent == {
        "KEYS",
        "SERVICES",
        "SERVICE#hello/META",
        "SERVICE#hello/REPLICA",
        "SERVICE#hello/LEASE",
        "SPECS#hello",
        "ROUTES",
    }
