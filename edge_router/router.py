"""A request in, a response out. No I/O and no waiting, so that every platform can call it in its own way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from urllib.parse import quote_from_bytes

from edge_router.counts import Batch, Counts
from edge_router.pick import pick
from edge_router.recent import RecentPicks
from edge_router.table import Service, Table, TableRefused, parse

Headers = tuple[tuple[bytes, bytes], ...]

_PRINTABLE = bytes(range(0x21, 0x7F)).decode()
_UNSAFE = re.compile(rb"[\x00-\x20\x7f]")
_OK = b'{"status":"ok"}'
_PATH_FORM = "Requests go to /<service>/<path>."
# A service whose command fails is retried with a back-off up to 10 minutes; one that shuts down will not be back.
_RETRY_AFTER_S = {"FAILED": 30, "SHUTTING_DOWN": 30}
_RETRY_AFTER_SOON_S = 2


# Long enough for a connection's retry at once, short enough to be forgotten by a client that merely comes back.
_CONNECTION_S = 5.0
# As long as openai-python waits for an answer: what breaks may have been under way for all of that.
_QUESTION_S = 600.0
_ATTEMPTS = 3  # of such clients; machines of one zone die together, and another question may look the same


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the platform tells.

    `ip` and `port` recognise a connection. `body_length` (Content-Length as on the wire) recognises, with ip and path, a
    question that is asked again on whatever connection: `is_retry` says that the client calls it that.
    """

    ip: str = ""
    port: int = 0
    body_length: bytes = b""
    is_retry: bool = False


_NOBODY = Caller()


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer. `knock`: somebody waits for a replica or a service that an exchange may bring."""

    status: int
    headers: Headers
    body: bytes = b""
    knock: bool = False


class Router:
    """Routes on the last good table, counts, and never forgets either because of somebody else's failure. Thread-safe.

    Args:
        clock: epoch seconds.
        random: uniform in [0, 1).
        first_seq: number of the first batch of counts. It must lie above those of an earlier router with the same id.
    """

    def __init__(self, *, clock: Callable[[], float], random: Callable[[], float], first_seq: int) -> None:
        self._clock = clock
        self._random = random
        self._lock = Lock()
        self._table: Table | None = None
        self._counts = Counts(first_seq)
        self._by_connection = RecentPicks(_CONNECTION_S, keep=1)
        self._by_question = RecentPicks(_QUESTION_S, keep=_ATTEMPTS)
        self._picks = 0
        self._turns: dict[str, int] = {}
        self._sent: dict[str, int] = {}

    def handle(self, path: bytes, query: bytes, caller: Caller = _NOBODY, *, again: bool = False) -> Response:
        """The response to one request, whatever its method: a `307` keeps method and body.

        Args:
            path: as on the wire, percent-encoded; `/<service>/<rest>`. `<rest>` goes to the replica byte for byte.
            query: as on the wire, without the question mark.
            caller: recognises one that retries.
            again: the request was handled before, with an older table, and has been counted.
        """
        if path in (b"/", b"/healthz"):
            return Response(200, _content(b"application/json", _OK), _OK)
        if _UNSAFE.search(path) or _UNSAFE.search(query):
            return _problem(400, "Bad Request", "The path or the query holds a control character or a space.", path)
        table = self._table
        if table is None:
            return _unready(path, "This router has no routing table yet.", retry_after_s=1)
        first, _, rest = path.removeprefix(b"/").partition(b"/")
        name = first.decode("latin-1")
        service = table.services.get(name) if path.startswith(b"/") else None
        if service is None:
            detail = f"No service of that name is served here. {_PATH_FORM}"
            return _problem(404, "Not Found", detail, path, knock=True)
        connection, question = (name, caller.ip, caller.port), (caller.ip, hash((path, query, caller.body_length)))
        url = self._count_and_pick(name, service, connection, question, is_retry=caller.is_retry, again=again)
        if url is None:
            detail = f"The service has no ready replica; it is {service.status}. Try again."
            return _unready(path, detail, _RETRY_AFTER_S.get(service.status, _RETRY_AFTER_SOON_S))
        location = url.encode() + b"/" + rest
        return _redirect(location + b"?" + query if query else location)

    def _count_and_pick(
        self, name: str, service: Service, connection: Hashable, question: Hashable, *, is_retry: bool, again: bool
    ) -> str | None:
        """The URL of a replica. Refused requests are counted too: they are load, and what wakes a service at zero."""
        now = self._clock()
        with self._lock:
            if not again:
                self._counts.add(name, now)
            recent, who = (self._by_question, question) if is_retry else (self._by_connection, connection)
            avoid = recent.of(who, now)
            replica = pick(service, sent=self._sent, turns=self._turns, avoid=avoid, random=self._random())
            if replica is None:
                return None
            self._picks += 1
            self._turns[replica.id] = self._picks
            self._sent[replica.id] = self._sent.get(replica.id, 0) + 1
            self._by_connection.remember(connection, now, replica.id)
            self._by_question.remember(question, now, replica.id)
        return replica.url

    @property
    def etag(self) -> str | None:
        """The current table's, None before the first."""
        table = self._table
        return table.etag if table else None

    def accept(self, document: object) -> None:
        """Route on a new table from now on.

        Raises:
            TableRefused: it is malformed, or older than the current one, which stays.
        """
        table = parse(document)
        with self._lock:
            if self._table is not None and table.issued_at < self._table.issued_at:
                age_s = self._table.issued_at - table.issued_at
                raise TableRefused(f"issued_at: {age_s:.1f} s older than the current table")
            ids = {replica.id for service in table.services.values() for replica in service.replicas}
            self._turns = {replica_id: turn for replica_id, turn in self._turns.items() if replica_id in ids}
            self._sent = {}
            self._table = table

    def batch(self) -> Batch:
        """The counts to hand over next; the same again until they are acknowledged."""
        now = self._clock()
        with self._lock:
            return self._counts.freeze(self._table.services if self._table else (), now)

    def acknowledge(self, batch: Batch) -> None:
        """The control plane has recorded `batch`."""
        with self._lock:
            self._counts.acknowledge(batch)


def _redirect(location: bytes) -> Response:
    if not location.isascii():
        location = quote_from_bytes(location, safe=_PRINTABLE).encode()
    return Response(307, ((b"location", location), (b"cache-control", b"no-store"), (b"content-length", b"0")))


def _unready(path: bytes, detail: str, retry_after_s: int) -> Response:
    retry_after = (b"retry-after", str(retry_after_s).encode())
    return _problem(503, "Service Unavailable", detail, path, (retry_after,), knock=True)


def _problem(
    status: int, title: str, detail: str, path: bytes, extra: Headers = (), *, knock: bool = False
) -> Response:
    """RFC 9457. The query is left out of `instance`, it may hold a credential."""
    instance = quote_from_bytes(path, safe=_PRINTABLE)
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": instance}
    body = json.dumps(document).encode()
    return Response(status, _content(b"application/problem+json", body) + extra, body, knock)


def _content(media_type: bytes, body: bytes) -> Headers:
    return (
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    )
