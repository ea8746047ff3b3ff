"""What DynamoDB does on bad days and no stand-in does: injected between the SDK and the wire."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from itertools import product
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

from chalicelib.errors import Conflict, Exists, LeaseHeld, Unreachable
from chalicelib.model import RouterLoad
from chalicelib.ports import Commit
from chalicelib.store.dynamodb import DynamoDBStore
from tests.fakes import FakeClock
from tests.store.conftest import Database
from tests.store.nouns import NOW, RandomIds, event, key, replica, service, spec

Fault = Callable[[AWSRequest], AWSResponse | None]


class Body(BytesIO):
    """What botocore expects of urllib3's responses."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


def answer(code: str, status: int = 400, **content: Any) -> Fault:
    """A refusal in DynamoDB's words."""

    def fault(request: AWSRequest) -> AWSResponse:
        body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code, **content}
        return AWSResponse(str(request.url), status, HTTPHeaders(), Body(json.dumps(body).encode()))

    return fault


def cancelled(*reasons: str) -> Fault:
    """A cancelled transaction, with a reason for each of its items."""
    return answer("TransactionCanceledException", CancellationReasons=[{"Code": reason} for reason in reasons])


def lost_answer(request: AWSRequest) -> None:
    """DynamoDB does the work and its answer never arrives."""
    URLLib3Session().send(request)
    raise ReadTimeoutError(endpoint_url=str(request.url))


def no_connection(request: AWSRequest) -> None:
    raise ConnectionClosedError(endpoint_url=str(request.url))


def inject(store: DynamoDBStore, *faults: Fault, into: str = "*") -> list[Fault]:
    """The next requests meet these faults, one each; returns those that are still to come."""
    left = list(faults)

    def before_send(request: AWSRequest, **_: Any) -> AWSResponse | None:
        return left.pop(0)(request) if left else None

    hooks: Any = store._table._connection.client.meta.events  # typed for hooks without an answer
    hooks.register_first(f"before-send.dynamodb.{into}", before_send)
    return left


@pytest.fixture
def store(database: Database) -> DynamoDBStore:
    database.store.create_service(service(), spec())
    return database.store


def test_a_transaction_that_met_another_is_tried_again(store: DynamoDBStore, database: Database) -> None:
    """TransactionConflict says nothing about versions: the same commit goes through after a pause."""
    met = cancelled("None", "TransactionConflict")
    inject(store, met, met, met)
    store.commit("hello", None, Commit(replicas=(replica(0), replica(1))))
    assert len(store.history("hello")) == 2
    assert database.pauses == [0, 1, 2]


def test_a_transaction_that_keeps_meeting_others_is_a_conflict(store: DynamoDBStore, database: Database) -> None:
    """After four attempts the caller loads and decides again."""
    left = inject(store, *[cancelled("TransactionConflict")] * 5)
    with pytest.raises(Conflict):
        store.commit("hello", None, Commit(replicas=(replica(),)))
    assert (len(left), database.pauses) == (1, [0, 1, 2])


def test_a_failed_condition_outweighs_a_met_transaction(store: DynamoDBStore, database: Database) -> None:
    """Trying again could not help, so it is not tried."""
    inject(store, cancelled("TransactionConflict", "ConditionalCheckFailed"))
    with pytest.raises(Conflict, match="hello-k3f9-1-1"):
        store.commit("hello", None, Commit(replicas=(replica(0), replica(1))))
    assert database.pauses == []


def test_a_count_for_a_service_that_does_not_show_yet_is_kept(store: DynamoDBStore) -> None:
    """An eventually consistent read lacks what was written a moment ago: the first request would never be counted."""

    def too_early(request: AWSRequest) -> AWSResponse:
        body = json.dumps({"Responses": {str(store._table._name): []}, "UnprocessedKeys": {}})
        return AWSResponse(str(request.url), 200, HTTPHeaders(), Body(body.encode()))

    inject(store, too_early, into="BatchGetItem")
    store.record_load("hello", "r1", 1, [(int(NOW), 5)], NOW)
    state = store.load("hello")
    assert state is not None
    assert [load.counts for load in state.load] == [((int(NOW), 5),)]


def test_a_single_write_that_met_a_transaction_is_a_conflict(store: DynamoDBStore) -> None:
    """The lease's row may be part of its holder's commit at this moment."""
    inject(store, answer("TransactionConflictException"))
    with pytest.raises(Conflict):
        store.acquire_lease("hello", "p", 60, NOW)


@pytest.mark.parametrize("reason", ["ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_throttled_transaction_is_unreachable(store: DynamoDBStore, reason: str) -> None:
    """Throttling hides among a transaction's reasons."""
    inject(store, cancelled("None", reason))
    with pytest.raises(Unreachable):
        store.commit("hello", None, Commit(replicas=(replica(0), replica(1))))
    assert store.history("hello") == ()


def test_a_database_that_is_down_or_throttles_is_unreachable(store: DynamoDBStore) -> None:
    """Whatever the call and however it fails, once the SDK has given up the caller hears `Unreachable`."""
    faults = {
        "f0": answer("ProvisionedThroughputExceededException"),
        "f1": answer("ThrottlingException"),
        "f2": answer("RequestLimitExceeded"),
        "f3": answer("TransactionInProgressException"),
        "f4": answer("InternalServerError", 500),
        "f5": answer("ServiceUnavailable", 503),
        "f6": no_connection,
    }
    calls: list[Callable[[str], object]] = [
        store.load,
        lambda name: store.spec(name, 1),
        lambda name: store.commit(name, None, Commit(replicas=(replica(name=name),))),
        lambda name: store.acquire_lease(name, "p", 60, NOW),
        lambda name: store.record_load(name, "r1", 1, [], NOW),
    ]

    def before_send(request: AWSRequest, **_: Any) -> AWSResponse | None:
        (name,) = [name for name in faults if f"#{name}" in str(request.body)]
        return faults[name](request)

    hooks: Any = store._table._connection.client.meta.events  # typed for hooks without an answer
    hooks.register_first("before-send.dynamodb.*", before_send)

    def error_of(case: tuple[str, Callable[[str], object]]) -> Exception | None:
        name, call = case
        try:
            call(name)
        except Unreachable as error:
            return error
        return None

    cases = list(product(faults, calls))
    with ThreadPoolExecutor(len(cases)) as pool:  # the SDK waits up to 3 s between its attempts
        errors = list(pool.map(error_of, cases))
    assert all(errors)


def test_a_table_that_cannot_be_made_is_unreachable(store: DynamoDBStore) -> None:
    """The first thing the local runtime asks for fails in our words too."""
    inject(store, *[no_connection] * 3)
    with pytest.raises(Unreachable):
        store.create_table()


def test_a_short_outage_is_not_noticed(store: DynamoDBStore) -> None:
    """The SDK tries twice more by itself."""
    inject(store, no_connection, answer("ThrottlingException"))
    assert store.load("hello") is not None


def test_part_of_a_read_that_was_throttled_is_unreachable(store: DynamoDBStore) -> None:
    """A batch answers with what it did not get to, which must not be taken for missing."""
    key = {"pk": {"S": "SERVICE#hello"}, "sk": {"S": "META"}}
    body = {"Responses": {store._table._name: []}, "UnprocessedKeys": {store._table._name: {"Keys": [key]}}}
    inject(store, lambda request: AWSResponse(str(request.url), 200, HTTPHeaders(), Body(json.dumps(body).encode())))
    with pytest.raises(Unreachable):
        store.record_load("hello", "r1", 1, [(int(NOW), 1)], NOW)


def test_what_is_the_operators_to_mend_is_not_called_unreachable(store: DynamoDBStore) -> None:
    """A denied access does not pass by trying again."""
    inject(store, answer("AccessDeniedException"))
    with pytest.raises(Exception, match="AccessDenied") as raised:
        store.load("hello")
    assert not isinstance(raised.value, Unreachable)


def test_a_lost_answer_to_a_commit_is_no_conflict(store: DynamoDBStore) -> None:
    """The SDK sends the transaction again; DynamoDB knows it by its token and does not do it twice."""
    inject(store, lost_answer)
    store.commit("hello", None, Commit(replicas=(replica(),), events=(event(),)))
    (stored,) = store.history("hello")
    assert stored.version == 1
    assert len(store.events("hello")) == 1


def test_a_lost_answer_to_a_creation_is_no_taken_name(store: DynamoDBStore) -> None:
    """It is our own service that is there; a second creation is refused as ever."""
    inject(store, lost_answer)
    written = store.create_service(service("other"), spec("other"))
    assert written == replace(service("other"), version=1)
    with pytest.raises(Exists):
        store.create_service(service("other"), spec("other"))


def test_a_lost_answer_to_taking_the_lease_gives_the_lease(store: DynamoDBStore) -> None:
    """The grant found in the row is our own, so nobody waits for a holder that does not know of it."""
    inject(store, lost_answer)
    lease = store.acquire_lease("hello", "p", 60, NOW)
    store.commit("hello", lease, Commit(replicas=(replica(),)))
    with pytest.raises(LeaseHeld):
        store.acquire_lease("hello", "p", 60, NOW)


def test_a_lost_answer_to_a_report_counts_it_once(store: DynamoDBStore) -> None:
    """The write sent again fails its condition, the row read again has the report's number."""
    inject(store, lost_answer, into="PutItem")
    store.record_load("hello", "r1", 1, [(int(NOW), 2)], NOW)
    state = store.load("hello")
    assert state is not None
    assert state.load == (RouterLoad("r1", 1, NOW, ((int(NOW), 2),)),)


def test_a_lost_answer_to_a_release_is_no_error(store: DynamoDBStore) -> None:
    """Given back twice is given back."""
    lease = store.acquire_lease("hello", "p", 60, NOW)
    inject(store, lost_answer)
    store.release_lease(lease)
    assert store.acquire_lease("hello", "q", 60, NOW).owner == "q"


def test_nobody_listening_is_unreachable() -> None:
    """A refused connection ends in our error, which names the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        store = DynamoDBStore("table", "us-east-1", clock=FakeClock(NOW), ids=RandomIds(), endpoint_url=url)
        with pytest.raises(Unreachable, match=url):
            store.service_names()


def test_a_key_whose_answer_was_lost_is_made_once(store: DynamoDBStore) -> None:
    """Its text is told after all, instead of a refusal because of itself."""
    inject(store, lost_answer, into="TransactWriteItems")
    assert store.create_key(key()) == replace(key(), version=1)
    assert len(store.endpoint_keys()) == 1


def test_a_key_revoked_while_its_use_is_noted_stays_revoked(store: DynamoDBStore) -> None:
    """The write that was decided on before finds nothing to write to."""
    store.create_key(key())

    def revoke(_request: AWSRequest) -> None:
        store.revoke_key(key().id)

    inject(store, revoke, into="UpdateItem")
    store.record_used({key().id: NOW}, NOW)
    assert store.endpoint_keys() == ()
    assert [*store._table.query("KEYS")] == []
