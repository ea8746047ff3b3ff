"""One DynamoDB table through pynamodb: rows of plain values, conditions, transactions, faults named in our words.

pynamodb's `Connection` is used rather than its `Model`: a model keeps table, region, endpoint and client in class
attributes, which are globals, and its transactions want a second client. Here each table owns one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from pynamodb.connection import Connection
from pynamodb.connection.base import MetaTable
from pynamodb.exceptions import (
    PutError,
    PynamoDBException,
    TableError,
    TransactWriteError,
    UpdateError,
    VerboseClientError,
)
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from chalicelib.errors import Conflict, Fenced, SailplaneError, Unreachable
from chalicelib.ports import Ids
from chalicelib.store.documents import COMMIT_MAX_ITEMS

# One call takes 3 x (2 s + 5 s) and the SDK's back-off at most, well inside a pass's 50 s.
_CONNECT_TIMEOUT_S = 2
_READ_TIMEOUT_S = 5
_SDK_RETRIES = 2
_TRANSACTION_ATTEMPTS = 4  # when another transaction holds one of the items

_SCHEMA: dict[str, Any] = {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": "pk", "AttributeType": "S"},
        {"AttributeName": "sk", "AttributeType": "S"},
    ],
}

_THROTTLED_OR_DOWN = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceeded",  # a transaction's reasons leave "Exception" away
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionInProgressException",
        "500",  # botocore's code for an answer without one
        "502",
        "503",
        "504",
    }
)

Row = dict[str, Any]  # an item with plain values: str, int, float


@dataclass(frozen=True, slots=True)
class Write:
    """One item of a transaction, and the error that its failing condition means."""

    # pynamodb sends checks first, then deletes, puts, updates; DynamoDB gives its reasons in that order.
    kind: Literal["1-check", "2-delete", "3-put", "4-update"]
    pk: str
    sk: str
    refused: SailplaneError
    condition: Condition | None = None
    row: Row = field(default_factory=dict)
    actions: Sequence[Action] = ()


def check(pk: str, sk: str, refused: SailplaneError, condition: Condition) -> Write:
    """The item must meet the condition; it is not written."""
    return Write("1-check", pk, sk, refused, condition)


def delete(pk: str, sk: str, refused: SailplaneError, condition: Condition | None = None) -> Write:
    """Remove the item. One that is not there is no error unless the condition says so."""
    return Write("2-delete", pk, sk, refused, condition)


def put(row: Row, refused: SailplaneError, condition: Condition | None = None) -> Write:
    """Write the whole item."""
    return Write("3-put", row["pk"], row["sk"], refused, condition, row=row)


def update(pk: str, sk: str, refused: SailplaneError, condition: Condition, actions: Sequence[Action]) -> Write:
    """Change some of the item's attributes."""
    return Write("4-update", pk, sk, refused, condition, actions=actions)


class Table:
    """See `DynamoDBStore` for the arguments. Reads are strongly consistent. Every method may raise `Unreachable`."""

    def __init__(
        self,
        name: str,
        region: str,
        *,
        ids: Ids,
        endpoint_url: str | None,
        on_request: Callable[[str], None] | None,
        pause: Callable[[int], None],
    ) -> None:
        self._name = name
        self._ids = ids
        self._pause = pause
        host, key = _stand_in(endpoint_url) if endpoint_url else (None, None)
        self._connection = Connection(
            region=region,
            host=host,
            connect_timeout_seconds=_CONNECT_TIMEOUT_S,
            read_timeout_seconds=_READ_TIMEOUT_S,
            max_retry_attempts=_SDK_RETRIES,
            max_pool_connections=32,
            aws_access_key_id=key,
            aws_secret_access_key=key,
        )
        self._connection.add_meta_table(MetaTable({"TableName": name, **_SCHEMA}))
        client = self._connection.client  # made here, once, and not by the first threads that need it at the same time
        if on_request is not None:
            client.meta.events.register(
                "before-send.dynamodb.*", lambda event_name, **_: on_request(event_name.rpartition(".")[2])
            )

    def create(self) -> None:
        """Make the table, billed on demand, with TTL on `expires_at`, and wait for it. Does nothing when it is there."""
        client: Any = self._connection.client  # botocore makes its methods at run time
        with _faults_named():
            try:
                self._connection.create_table(
                    self._name,
                    attribute_definitions=_SCHEMA["AttributeDefinitions"],
                    key_schema=_SCHEMA["KeySchema"],
                    billing_mode="PAY_PER_REQUEST",
                )
            except TableError as error:
                if "ResourceInUseException" not in _codes(error):
                    raise
            client.get_waiter("table_exists").wait(TableName=self._name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
            ttl = client.describe_time_to_live(TableName=self._name)["TimeToLiveDescription"]
            if ttl["TimeToLiveStatus"] not in ("ENABLED", "ENABLING"):
                self._connection.update_time_to_live(self._name, "expires_at")

    def get(self, pk: str, sk: str) -> Row | None:
        """One item."""
        with _faults_named():
            answer = self._connection.get_item(self._name, pk, sk, consistent_read=True)
        return _values(answer["Item"]) if "Item" in answer else None

    def get_many(self, pk: str, sort_keys: Sequence[str], *, consistent: bool = True) -> dict[str, Row]:
        """Those of up to 100 items of one partition that exist, by sort key, in one request.

        Not `consistent`, it costs half, and a write of the last second may be missing.
        """
        keys: Any = [{"pk": pk, "sk": sk} for sk in sort_keys]  # annotated as text by pynamodb, taken as maps
        with _faults_named():
            answer = self._connection.batch_get_item(self._name, keys, consistent_read=consistent)
        if answer.get("UnprocessedKeys"):
            raise Unreachable("DynamoDB throttled a read. Try again.")
        return {row["sk"]: row for row in map(_values, answer["Responses"][self._name])}

    def query(
        self,
        pk: str,
        keys: Condition | None = None,
        *,
        only: Condition | None = None,
        descending: bool = False,
        page_items: int | None = None,
    ) -> Iterator[Row]:
        """A partition's items by sort key. One request per 1 MB, or per `page_items`, that the caller takes."""
        start = None
        while True:
            with _faults_named():
                answer = self._connection.query(
                    self._name,
                    pk,
                    range_key_condition=keys,
                    filter_condition=only,
                    consistent_read=True,
                    exclusive_start_key=start,
                    limit=page_items,
                    scan_index_forward=not descending,
                )
            yield from map(_values, answer["Items"])
            start = answer.get("LastEvaluatedKey")
            if start is None:
                return

    def put_if(self, row: Row, condition: Condition | None) -> bool:
        """Write the whole item, in any case when there is no condition. False when the condition failed."""
        with _faults_named():
            try:
                self._connection.put_item(
                    self._name, row["pk"], row["sk"], attributes=_attributes(row), condition=condition
                )
            except PutError as error:
                if "ConditionalCheckFailedException" not in _codes(error):
                    raise
                return False
        return True

    def update_if(self, pk: str, sk: str, actions: Sequence[Action], condition: Condition) -> Row | None:
        """Change some of the item's attributes. The item as written, or None when the condition failed."""
        with _faults_named():
            try:
                answer = self._connection.update_item(
                    self._name, pk, sk, actions=actions, condition=condition, return_values="ALL_NEW"
                )
            except UpdateError as error:
                if "ConditionalCheckFailedException" not in _codes(error):
                    raise
                return None
        return _values(answer["Attributes"])

    def transact(self, writes: Sequence[Write]) -> None:
        """All writes or none, once: a token lets DynamoDB recognise a transaction whose answer was lost.

        Raises:
            ValueError: more than 100 items.
            Conflict: other transactions kept holding the same items.
            SailplaneError: what the failing condition means, `Fenced` before any other.
        """
        if len(writes) > COMMIT_MAX_ITEMS:
            raise ValueError(f"A commit may hold {COMMIT_MAX_ITEMS} items, not {len(writes)}: make it smaller.")
        ordered = sorted(writes, key=lambda write: write.kind)
        token = self._ids.token(16)
        for attempt in range(_TRANSACTION_ATTEMPTS):
            if attempt:
                self._pause(attempt - 1)
            if self._try_transaction(ordered, token):
                return
        raise Conflict("Other writes to the same items kept coming in between. Nothing was written.")

    def _try_transaction(self, writes: Sequence[Write], token: str) -> bool:
        """False when it met another transaction."""
        requests: dict[str, list[dict[str, Any]]] = {"1-check": [], "2-delete": [], "3-put": [], "4-update": []}
        for write in writes:
            requests[write.kind].append(self._request(write))
        with _faults_named():
            try:
                self._connection.transact_write_items(
                    requests["1-check"],
                    requests["2-delete"],
                    requests["3-put"],
                    requests["4-update"],
                    client_request_token=token,
                )
            except TransactWriteError as error:
                codes = [reason.code if reason else "" for reason in error.cancellation_reasons]
                refused = [
                    write.refused
                    for code, write in zip(codes, writes, strict=False)
                    if code == "ConditionalCheckFailed"
                ]
                if refused:
                    raise min(refused, key=lambda error: not isinstance(error, Fenced)) from error
                if "TransactionConflict" not in codes:
                    raise
                return False
        return True

    def _request(self, write: Write) -> dict[str, Any]:
        return self._connection.get_operation_kwargs(
            self._name,
            write.pk,
            write.sk,
            key="Item" if write.row else "Key",
            attributes=_attributes(write.row),
            condition=write.condition,
            actions=write.actions or None,
        )


def _stand_in(url: str) -> tuple[str, str]:
    """A local stand-in's endpoint and its access key id; one that accepts any still wants some."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.username or "local"


def _attributes(row: Row) -> dict[str, dict[str, str]]:
    return {name: {"S": value} if isinstance(value, str) else {"N": repr(value)} for name, value in row.items()}


def _values(item: dict[str, dict[str, str]]) -> Row:
    return {name: _value(*pair) for name, attribute in item.items() for pair in attribute.items()}


def _value(kind: str, text: str) -> str | int | float:
    if kind == "S":
        return text
    return int(text) if text.isdigit() else float(text)


@contextmanager
def _faults_named() -> Iterator[None]:
    """Say in our words what a caller can do something about; the rest stays as pynamodb and botocore say it."""
    try:
        yield
    except (PynamoDBException, BotoCoreError, ClientError) as error:
        cause, codes = _cause(error), _codes(error)
        if isinstance(cause, BotoConnectionError | HTTPClientError) or codes & _THROTTLED_OR_DOWN:
            raise Unreachable(f"DynamoDB did not answer or throttled: {cause}") from error
        if "TransactionConflictException" in codes:
            raise Conflict("The item is part of a transaction under way. Nothing was written.") from error
        raise


def _cause(error: Exception) -> Exception | None:
    return error.cause if isinstance(error, PynamoDBException) else error


def _codes(error: Exception) -> set[str]:
    """DynamoDB's codes. pynamodb's own `cause_response_code` breaks on connection errors, whose `response` is None."""
    cause = _cause(error)
    codes = {cause.response["Error"]["Code"]} if isinstance(cause, ClientError) else set()
    if isinstance(cause, VerboseClientError):
        codes |= {reason.code for reason in cause.cancellation_reasons if reason}
    return codes
