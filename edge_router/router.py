"""A request in, a response out. No I/O and no waiting, so that every platform can call it in its own way."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from threading import Lock

from edge_router import address, cors, keys, prompt
from edge_router.address import BY_MODEL, Address
from edge_router.counts import Batch, Counts
from edge_router.grants import ANY, NO_KEY, ONE, RENEWED, TTL_S, Grants, Use
from edge_router.messages import Headers, Refusal, Request, Response, answer, redirect, retry_after
from edge_router.patience import GLANCE_S, patience
from edge_router.pick import Picker, Wish
from edge_router.recent import RecentPicks
from edge_router.sealing import secrets, unseal
from edge_router.table import Key, Replica, Service, Table, TableRefused, parse

__all__ = ["Headers", "Request", "Response", "Router"]

_UNSAFE = re.compile(rb"[\x00-\x20\x7f]")
_ALIVE = (b"/", b"/healthz")
_RESOLVE = b"_resolve"
_MODELS = b"v1/models"
# What is read of a body to find the model in it. Lambda takes 6 MB.
_MODEL_BYTES = 8_000_000
# What is read to find out how the prompt begins; what is longer is routed by load. JSON of 1 MB takes 5 ms.
_PROMPT_BYTES = 1_000_000
# A service whose command fails is retried with a back-off up to 10 minutes; one that shuts down will not be back.
_HOPELESS = ("FAILED", "SHUTTING_DOWN")
_RETRY_HOPELESS_S = 30
_RETRY_SOON_S = 2

# Long enough for a connection's retry at once, short enough to be forgotten by a client that merely comes back.
_CONNECTION_S = 5.0
# As long as openai-python waits for an answer: what breaks may have been under way for all of that.
_QUESTION_S = 600.0
_ATTEMPTS = 3  # of such clients; machines of one zone die together, and another question may look the same


@dataclass(frozen=True, slots=True)
class _Visit:
    """A request that may go on: to which service, with which key, and how."""

    request: Request
    at: Address
    picker: Picker
    name: str  # of the service
    key: Key | None
    document: dict[str, object]  # the body's, where the service was found by it

    @property
    def service(self) -> Service:
        return self.picker.service

    @property
    def is_resolve(self) -> bool:
        return self.at.rest == _RESOLVE and self.request.method in (b"GET", b"HEAD")


class Router:
    """Routes on the last good table, counts, and never forgets either because of somebody else's failure. Thread-safe.

    Args:
        clock: epoch seconds.
        random: uniform in [0, 1).
        first_seq: number of the first batch of counts. It must lie above those of an earlier router with the same id.
        token: the router token, or several, separated by commas: tables and grants of any are taken, the first is used.
            Raises `ValueError` when there is none.
        location: `cloud/region/zone` of this router, for services that prefer what is near; "" if not known.
        max_body_bytes: of the platform; 0 for no limit.
        hold_cap_s: how long the platform can hold one request.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        first_seq: int,
        token: str,
        location: str = "",
        max_body_bytes: int = 0,
        hold_cap_s: float = 25.0,
    ) -> None:
        self._clock = clock
        self._random = random
        self._secrets = secrets(token)
        self._location = location
        self._max_body_bytes = max_body_bytes
        self._hold_cap_s = hold_cap_s
        self._lock = Lock()
        self._table: Table | None = None
        self._confirmed_at = -inf
        self._pickers: dict[str, Picker] = {}
        self._grants = Grants(self._secrets)
        self._buckets = keys.Buckets()
        self._counts = Counts(first_seq)
        self._by_connection = RecentPicks(_CONNECTION_S, keep=1)
        self._by_question = RecentPicks(_QUESTION_S, keep=_ATTEMPTS)

    # --- what clients ask

    def handle(self, request: Request, *, again: bool = False) -> Response:
        """The response to one request.

        Args:
            request: as it came.
            again: it was handled before, with an older table, and need not be counted: the earlier answer's `counted`.
        """
        if request.path in _ALIVE:
            response = answer({"status": "ok"})
        elif cors.is_preflight(request):
            return cors.preflight(request.headers)
        else:
            try:
                response = self._route(request, again=again)
            except Refusal as refusal:
                response = refusal.response(request.path)
        return cors.shown_to_pages(response) if b"origin" in request.headers else response

    def body_limit(self, request: Request) -> int:
        """How many bytes of the body `handle` wants to see: read up to one byte more than that; 0 = read nothing.

        Nobody's body is read who has no key.
        """
        if request.method in (b"GET", b"HEAD", b"OPTIONS") or self._table is None:
            return 0
        try:
            at = address.read(request.path)
            key = self._who(self._table, request, at)
            if at.service == BY_MODEL:
                return _MODEL_BYTES
            return _PROMPT_BYTES if self._service(at.service, key).service.policy == "prefix_aware" else 0
        except Refusal:
            return 0

    def _route(self, request: Request, *, again: bool) -> Response:
        table = self._table
        if table is None:
            detail = "This router has no routing table yet."
            raise Refusal(503, "Service Unavailable", detail, retry_after(1), hold_s=GLANCE_S)
        if _UNSAFE.search(request.path) or _UNSAFE.search(request.query):
            raise Refusal(400, "Bad Request", "The path or the query holds a control character or a space.")
        at = address.read(request.path)
        key = self._who(table, request, at)
        if at.service == BY_MODEL and at.rest.startswith(_MODELS) and request.method in (b"GET", b"HEAD"):
            return _models(table, key, at.rest.removeprefix(_MODELS))
        visit = self._visit(table, request, at, key)
        self._refuse_what_cannot_follow(visit)
        now = self._clock()
        if not (again or at.hops or at.ticket):
            self._count(visit, now)
        replica = self._pick(visit, now)
        if replica is None:
            return self._hold(visit)
        return self._resolved(visit, replica, now) if visit.is_resolve else self._redirected(visit, replica, now)

    # --- who may

    def _who(self, table: Table, request: Request, at: Address) -> Key | None:
        """The key that the request shows, or the one that its ticket was made for; None for none that is good."""
        now = self._clock()
        if at.ticket is None:
            return keys.check(table.keys, keys.presented(request.headers), now)
        key_id = self._grants.key_id_of(at.ticket, Use(at.service, request.method, at.path), now)
        key = table.keys.get(key_id or NO_KEY)
        return key if key and now < key.expires_at else None

    def _service(self, name: str, key: Key | None) -> Picker:
        """The picker of a service that the key is good for."""
        picker = self._pickers.get(name)
        if picker and picker.service.access == "open":
            return picker
        if key is None:
            raise _unauthorized()
        if picker is None:
            detail = "No service of that name is served here. Requests go to /<service>/<path>."
            raise Refusal(404, "Not Found", detail, hold_s=GLANCE_S)
        if not key.permits(name):
            raise Refusal(403, "Forbidden", f"The key {key.id} is not for this service.")
        return picker

    def _visit(self, table: Table, request: Request, at: Address, key: Key | None) -> _Visit:
        """The service that the path names, or the model in the body."""
        if at.service != BY_MODEL:
            picker = self._service(at.service, key)
            document = _document(request) if picker.service.policy == "prefix_aware" else {}
            return _Visit(request, at, picker, at.service, _of(picker, at.service, key), document)
        if key is None and not any(service.access == "open" for service in table.services.values()):
            raise _unauthorized()
        if len(request.body or b"") > _MODEL_BYTES:
            detail = (
                f"To find the model, at most {_MODEL_BYTES} bytes of a body are read. Use /<service>/v1/... instead."
            )
            raise Refusal(413, "Content Too Large", detail)
        document = prompt.decoded(request.body)
        model = prompt.model(document)
        if not model:
            detail = "The body is no JSON object that names a model. Name the service: /<service>/v1/..."
            raise Refusal(400, "Bad Request", detail)
        name = next((name for name, service in _open_to(table, key) if model in service.models), None)
        if name is None:
            detail = f"This key may use no model {model[:100]!r}. GET /v1/models lists those it may."
            raise Refusal(404, "Not Found", detail, hold_s=GLANCE_S)
        picker = self._service(name, key)
        return _Visit(request, at, picker, name, _of(picker, name, key), document)

    def _refuse_what_cannot_follow(self, visit: _Visit) -> None:
        if visit.is_resolve:
            return
        way_out = f"GET /{visit.name}/_resolve tells a URL to use in place of /{visit.name} for a minute."
        if visit.service.mode == "resolve":
            raise Refusal(421, "Misdirected Request", f"This service answers no redirects. {way_out}")
        length = visit.request.headers.get(b"content-length", b"")
        if self._max_body_bytes and length.isdigit() and int(length) > self._max_body_bytes:
            detail = f"A body may have {self._max_body_bytes} bytes here. For longer ones, {way_out}"
            raise Refusal(413, "Content Too Large", detail)

    # --- where to

    def _count(self, visit: _Visit, now: float) -> None:
        """Requests that are then refused are counted too: they are load, and what wakes a service at zero."""
        with self._lock:
            if visit.key:
                self._counts.use(visit.key.id, now)
                if wait_s := self._buckets.take(visit.key, now):
                    detail = f"The key {visit.key.id} may ask {visit.key.rate_per_s:g} times a second."
                    raise Refusal(429, "Too Many Requests", detail, retry_after(wait_s))
            self._counts.add(visit.name, now)

    def _pick(self, visit: _Visit, now: float) -> Replica | None:
        request = visit.request
        length = request.headers.get(b"content-length", b"")
        connection = (visit.name, request.ip, request.port)
        question = (request.ip, hash((visit.name, visit.at.rest, request.query, length)))
        meet, at_any_cost = _meeting(visit)
        # OpenAI's and Anthropic's clients, and all others that Stainless makes, number their retries from 1.
        is_retry = request.headers.get(b"x-stainless-retry-count", b"0") != b"0"
        with self._lock:
            avoid: tuple[str, ...] = ()
            if is_retry:
                avoid = self._by_question.of(question, now)
            elif not meet:
                avoid = self._by_connection.of(connection, now)
            replica = visit.picker.pick(Wish(avoid, visit.key, meet, at_any_cost), now)
            if replica:
                self._by_connection.remember(connection, now, replica.id)
                self._by_question.remember(question, now, replica.id)
        return replica

    def _hold(self, visit: _Visit) -> Response:
        """Nobody is ready: keep the client for a while, then send it round again, and in the end away."""
        service = visit.service
        is_hopeless = service.status in _HOPELESS
        wait_s = 0.0 if is_hopeless else service.wait_for_replica_s
        hold_s, is_sent_round = patience(wait_s, visit.at.hops, self._hold_cap_s)
        if is_sent_round and visit.at.ticket is None:  # who comes by ticket has no key left to come with again
            return redirect(_with_query(visit.at.next_hop(), visit.request), hold_s=hold_s)
        detail = f"The service has no ready replica; it is {service.status}. Try again."
        retry = retry_after(_RETRY_HOPELESS_S if is_hopeless else _RETRY_SOON_S)
        raise Refusal(503, "Service Unavailable", detail, retry, hold_s=hold_s, counted=True)

    def _redirected(self, visit: _Visit, replica: Replica, now: float) -> Response:
        grant = self._grant(visit, replica, now, RENEWED if visit.at.ticket else ONE)
        return redirect(_with_query(b"%b/~%b/%b" % (replica.url.encode(), grant, visit.at.rest), visit.request))

    def _resolved(self, visit: _Visit, replica: Replica, now: float) -> Response:
        grant = self._grant(visit, replica, now, ANY)
        expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(now) + TTL_S))
        return answer({"url": f"{replica.url}/~{grant.decode()}", "expires_at": expires_at})

    def _grant(self, visit: _Visit, replica: Replica, now: float, scope: bytes) -> bytes:
        key_id = visit.key.id if visit.key else NO_KEY
        share = visit.picker.share(visit.key, replica)
        use = Use(visit.name, visit.request.method, visit.at.path)
        return self._grants.issue(replica, use, key_id=key_id, share=share, scope=scope, now=now)

    # --- what the control plane gives and takes

    @property
    def etag(self) -> str | None:
        """The current table's, None before the first."""
        table = self._table
        return table.etag if table else None

    @property
    def age_s(self) -> float:
        """Seconds since the current table was taken or confirmed; infinite before the first."""
        return self._clock() - self._confirmed_at

    def accept(self, sealed: str) -> None:
        """Route on a new table from now on.

        Raises:
            TableRefused: its seal is not ours, it is malformed, or older than the current one, which stays.
        """
        table = parse(unseal(sealed, self._secrets))
        with self._lock:
            if self._table is not None and table.issued_at < self._table.issued_at:
                age_s = self._table.issued_at - table.issued_at
                raise TableRefused(f"issued_at: {age_s:.1f} s older than the current table")
            self._pickers = {
                name: Picker(service, self._pickers.get(name), self._location, self._random)
                for name, service in table.services.items()
            }
            self._grants.keep(replica for service in table.services.values() for replica in service.replicas)
            self._buckets.keep(table.keys)
            self._table = table
            self._confirmed_at = self._clock()

    def confirm(self) -> None:
        """The control plane has said that the current table is the newest."""
        self._confirmed_at = self._clock()

    def batch(self) -> Batch:
        """The counts to hand over next; the same again until they are acknowledged."""
        now = self._clock()
        with self._lock:
            return self._counts.freeze(self._table.services if self._table else (), now)

    def acknowledge(self, batch: Batch) -> None:
        """The control plane has recorded `batch`."""
        with self._lock:
            self._counts.acknowledge(batch)


def _unauthorized() -> Refusal:
    detail = "This needs an endpoint key, as Authorization: Bearer <key> or as X-Api-Key, and shows no valid one."
    return Refusal(401, "Unauthorized", detail, ((b"www-authenticate", b"Bearer"),))


def _of(picker: Picker, name: str, key: Key | None) -> Key | None:
    """Who asks an open service with a key for another asks as anybody."""
    return key if key and (picker.service.access == "required" or key.permits(name)) else None


def _open_to(table: Table, key: Key | None) -> Iterator[tuple[str, Service]]:
    for name, service in sorted(table.services.items()):
        if service.access == "open" or (key and key.permits(name)):
            yield name, service


def _models(table: Table, key: Key | None, rest: bytes) -> Response:
    """OpenAI's list of models, or one of it."""
    known = [
        {"id": model, "object": "model", "created": 0, "owned_by": name}
        for name, service in _open_to(table, key)
        for model in service.models
    ]
    if key is None and not known:
        raise _unauthorized()
    if rest in (b"", b"/"):
        return answer({"object": "list", "data": known})
    wanted = rest.removeprefix(b"/").decode("latin-1")
    model = next((each for each in known if each["id"] == wanted), None)
    if model is None:
        raise Refusal(404, "Not Found", "This key may use no such model. GET /v1/models lists those it may.")
    return answer(model)


def _document(request: Request) -> dict[str, object]:
    return prompt.decoded(request.body) if len(request.body or b"") <= _PROMPT_BYTES else {}


def _meeting(visit: _Visit) -> tuple[bytes, bool]:
    """What brings requests together at one replica, and whether at any cost."""
    service = visit.service
    if service.sticky_header and (value := visit.request.headers.get(service.sticky_header)):
        return value, True
    if service.policy == "prefix_aware":
        return prompt.beginning(visit.document, service.prefix_characters).encode("utf-8", "surrogatepass"), False
    return b"", False


def _with_query(location: bytes, request: Request) -> bytes:
    return location + b"?" + request.query if request.query else location
