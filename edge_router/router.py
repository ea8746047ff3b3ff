"""A request in, a response out. No I/O and no waiting, so that every platform can call it in its own way."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from math import inf
from threading import Lock

from edge_router import address, cors, models, prompt
from edge_router.admission import (
    Routes,
    Visit,
    admit,
    body_limit,
    identify,
    may_need_body,
    refuse_what_cannot_follow,
)
from edge_router.counts import Batch, Counts
from edge_router.grants import ANY, NO_KEY, ONE, RENEWED, TTL_S, Grants, Use
from edge_router.keys import Buckets, by_hash
from edge_router.messages import Refusal, Request, Response, answer, redirect, retry_after
from edge_router.patience import GLANCE_S, patience
from edge_router.pick import Picker, Wish
from edge_router.recent import Retries
from edge_router.sealing import secrets, unseal
from edge_router.table import Replica, TableRefused, parse

_UNSAFE = re.compile(rb"[\x00-\x20\x7f]")
_ALIVE = (b"/", b"/healthz")
# A service whose command fails is retried with a back-off up to 10 minutes; one that shuts down will not be back.
_HOPELESS = ("FAILED", "SHUTTING_DOWN")
_RETRY_HOPELESS_S = 30
_RETRY_SOON_S = 2


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
        self._routes: Routes | None = None
        self._confirmed_at = -inf
        self._grants = Grants(self._secrets)
        self._buckets = Buckets()
        self._counts = Counts(first_seq)
        self._retries = Retries()

    # --- what clients ask

    def handle(self, request: Request, *, again: bool = False) -> Response:
        """The response to one request.

        Args:
            request: as it came.
            again: it was handled before, with an older table, and is in the books: the earlier answer's `counted`.
        """
        if cors.is_preflight(request):
            return cors.preflight(request.headers)
        try:
            response = answer({"status": "ok"}) if request.path in _ALIVE else self._route(request, again=again)
        except Refusal as refusal:
            response = refusal.response(request.path)
        return cors.shown_to_pages(response) if b"origin" in request.headers else response

    def body_limit(self, request: Request) -> int:
        """How many bytes of the body `handle` wants to see: read up to one byte more than that; 0 = read nothing."""
        routes = self._routes
        if routes is None or request.method in (b"GET", b"HEAD", b"OPTIONS"):
            return 0
        try:
            at = address.read(request.path)
            if not may_need_body(routes, at):
                return 0
            return body_limit(routes, at, identify(routes, self._grants, request, at, self._clock()))
        except Refusal:
            return 0

    def _route(self, request: Request, *, again: bool) -> Response:
        routes, now = self._routes, self._clock()
        if routes is None:
            detail = "This router has no routing table yet."
            raise Refusal(503, "Service Unavailable", detail, retry_after(1), hold_s=GLANCE_S)
        if _UNSAFE.search(request.path) or _UNSAFE.search(request.query):
            raise Refusal(400, "Bad Request", "The path or the query holds a control character or a space.")
        at = address.read(request.path)
        key = identify(routes, self._grants, request, at, now)
        if at.rest.startswith(models.PATH) and at.service == address.BY_MODEL and request.method in (b"GET", b"HEAD"):
            return models.listing(routes.table, key, at.rest.removeprefix(models.PATH))
        visit = admit(routes, request, at, key)
        refuse_what_cannot_follow(visit, self._max_body_bytes)
        if not again:
            self._count(visit, now)
        replica = self._pick(visit, now)
        if replica is None:
            return self._held(visit)
        return self._resolved(visit, replica, now) if visit.is_resolve else self._redirected(visit, replica, now)

    def _count(self, visit: Visit, now: float) -> None:
        """Requests that no replica can take are counted too: they are load, and what wakes a service at zero.

        Who comes with our part of the path, whoever wrote it, is not counted again, and yet not unseen.
        """
        with self._lock:
            if visit.key:
                self._counts.use(visit.key.id, now)
            if not visit.is_new:
                return
            if visit.key and (wait_s := self._buckets.take(visit.key, now)):
                detail = f"The key {visit.key.id} may ask {visit.key.rate_per_s:g} times a second."
                raise Refusal(429, "Too Many Requests", detail, retry_after(wait_s))
            self._counts.add(visit.name, now)

    def _pick(self, visit: Visit, now: float) -> Replica | None:
        meet, at_any_cost = _meeting(visit)
        with self._lock:
            avoid = self._retries.avoid(visit.request, visit.name, visit.at.rest, now, stays=bool(meet))
            replica = visit.picker.pick(Wish(avoid, visit.key, meet, at_any_cost), now)
            if replica:
                self._retries.remember(visit.request, visit.name, visit.at.rest, now, replica.id)
        return replica

    def _held(self, visit: Visit) -> Response:
        """Nobody is ready: keep the client for a while, then send it round again, and in the end away."""
        is_hopeless = visit.service.status in _HOPELESS
        wait_s = 0.0 if is_hopeless else visit.service.wait_for_replica_s
        hold_s, goes_round = patience(wait_s, visit.at.hops, self._hold_cap_s)
        if goes_round and visit.at.ticket is None:  # who comes by ticket has no key left to come with again
            return redirect(_with_query(visit.at.next_hop(), visit.request), hold_s=hold_s)
        detail = f"The service has no ready replica; it is {visit.service.status}. Try again."
        retry = retry_after(_RETRY_HOPELESS_S if is_hopeless else _RETRY_SOON_S)
        raise Refusal(503, "Service Unavailable", detail, retry, hold_s=hold_s, counted=True)

    def _redirected(self, visit: Visit, replica: Replica, now: float) -> Response:
        grant = self._grant(visit, replica, now, RENEWED if visit.at.ticket else ONE)
        return redirect(_with_query(b"%b/~%b/%b" % (replica.url.encode(), grant, visit.at.rest), visit.request))

    def _resolved(self, visit: Visit, replica: Replica, now: float) -> Response:
        grant = self._grant(visit, replica, now, ANY)
        expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(now) + TTL_S))
        return answer({"url": f"{replica.url}/~{grant.decode()}", "expires_at": expires_at})

    def _grant(self, visit: Visit, replica: Replica, now: float, scope: bytes) -> bytes:
        key_id = visit.key.id if visit.key else NO_KEY
        share = visit.picker.share(visit.key, replica)
        use = Use(visit.name, visit.request.method, visit.at.path)
        return self._grants.issue(replica, use, key_id=key_id, share=share, scope=scope, now=now)

    # --- what the control plane gives and takes

    @property
    def etag(self) -> str | None:
        """The current table's, None before the first."""
        routes = self._routes
        return routes.table.etag if routes else None

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
            before = self._routes
            if before and table.issued_at < before.table.issued_at:
                age_s = before.table.issued_at - table.issued_at
                raise TableRefused(f"issued_at: {age_s:.1f} s older than the current table")
            known = before.pickers if before else {}
            pickers = {
                name: Picker(service, known.get(name), self._location, self._random)
                for name, service in table.services.items()
            }
            self._grants.keep(replica for service in table.services.values() for replica in service.replicas)
            self._buckets.keep(table.keys)
            self._confirmed_at = self._clock()
            self._routes = Routes(table, pickers, by_hash(table.keys.values(), self._confirmed_at))

    def confirm(self) -> None:
        """The control plane has said that the current table is the newest."""
        self._confirmed_at = self._clock()

    def batch(self) -> Batch:
        """The counts to hand over next; the same again until they are acknowledged."""
        now = self._clock()
        with self._lock:
            return self._counts.freeze(self._routes.table.services if self._routes else (), now)

    def waited_s(self, batch: Batch) -> float:
        """How long `batch` has been on its way."""
        return max(0.0, self._clock() - batch.frozen_at)

    def hurry(self) -> None:
        """This router ends: the next new batch holds everything."""
        with self._lock:
            self._counts.hurry()

    def acknowledge(self, batch: Batch) -> None:
        """The control plane has recorded `batch`."""
        with self._lock:
            self._counts.acknowledge(batch)


def _meeting(visit: Visit) -> tuple[bytes, bool]:
    """What brings requests together at one replica, and whether at any cost."""
    service = visit.service
    if service.sticky_header and (value := visit.request.headers.get(service.sticky_header)):
        return value, True
    if service.policy == "prefix_aware":
        return prompt.beginning(visit.document, service.prefix_characters).encode("utf-8", "surrogatepass"), False
    return b"", False


def _with_query(location: bytes, request: Request) -> bytes:
    return location + b"?" + request.query if request.query else location
