"""Who asks, for which service, and may they? Pure: a visit comes out, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edge_router import keys, models, prompt
from edge_router.address import BY_MODEL, Address
from edge_router.grants import NO_KEY, TTL_S, Grants, Use
from edge_router.messages import Refusal, Request
from edge_router.patience import GLANCE_S
from edge_router.pick import Picker
from edge_router.table import Key, Service, Table

_RESOLVE = b"_resolve"
# What is read of a body to find the model in it. Lambda takes 6 MB.
_MODEL_BYTES = 8_000_000
# What is read to find out how the prompt begins; what is longer is routed by load. JSON of 1 MB takes 5 ms.
_PROMPT_BYTES = 1_000_000


class Routes(NamedTuple):
    """A table, who picks the replicas of its services, and its keys by their hashes."""

    table: Table
    pickers: Mapping[str, Picker]
    keys: Mapping[str, Key]


class Visit(NamedTuple):
    """A request that may go on: to which service, with which key, and what its body says where that matters."""

    request: Request
    at: Address
    name: str  # of the service
    picker: Picker
    key: Key | None
    document: dict[str, object]

    @property
    def service(self) -> Service:
        """The service, as the table has it."""
        return self.picker.service

    @property
    def is_resolve(self) -> bool:
        """Whether only the URL of a replica is asked for."""
        return self.at.rest == _RESOLVE and self.request.method in (b"GET", b"HEAD")

    @property
    def is_new(self) -> bool:
        """Not sent round or back by us."""
        return not (self.at.hops or self.at.ticket)


def identify(routes: Routes, grants: Grants, request: Request, at: Address, now: float) -> Key | None:
    """The key that the request shows, or the one that its ticket was made for; None for none that is good.

    Raises:
        Refusal: 401 for a wrong key where the model picks the service: "no such model" would be the wrong thing to mend.
            What is none of ours is none: OpenAI's clients insist on an `api_key`, for open services as well.
    """
    if at.ticket is None:
        shown = keys.presented(request.headers)
        key = keys.check(routes.keys, shown, now)
        if shown.startswith(keys.PREFIX) and key is None and at.service == BY_MODEL:
            raise keys.unauthorized()
        return key
    if at.rest == _RESOLVE:  # no router writes a ticket for this, but a replica could, for its whole service
        return None
    key_id = grants.key_id_of(at.ticket, Use(at.service, request.method, at.path), now)
    key = routes.table.keys.get(key_id or NO_KEY)
    return key if key and now < key.expires_at else None


def admit(routes: Routes, request: Request, at: Address, key: Key | None) -> Visit:
    """The visit of whoever holds `key`, to the service that the path names or to that of the model in the body.

    Raises:
        Refusal: 401 without a key that is needed, 403 with another service's, 404 for what is not served here, 400 or
            413 for a body that names no model.
    """
    by_model = at.service == BY_MODEL
    document = _document_with_model(routes, request, key) if by_model else {}
    name = models.service_of(routes.table, key, prompt.model(document)) if by_model else at.service
    picker = _picker(routes, name, key)
    if picker.service.policy == "prefix_aware" and not by_model and len(request.body or b"") <= _PROMPT_BYTES:
        document = prompt.decoded(request.body)
    return Visit(request, at, name, picker, key if key and key.permits(name) else None, document)


def may_need_body(routes: Routes, at: Address) -> bool:
    """False where whoever asks is routed without a look at the body, which spares most requests a look at the key."""
    picker = routes.pickers.get(at.service)
    return at.service == BY_MODEL or (picker is not None and picker.service.policy == "prefix_aware")


def body_limit(routes: Routes, at: Address, key: Key | None) -> int:
    """How many bytes of the body `admit` wants.

    Raises:
        Refusal: as `admit`; nobody's body is read who has no key.
    """
    if at.service == BY_MODEL:
        models.refuse_nobody(routes.table, key)
        return _MODEL_BYTES
    return _PROMPT_BYTES if _picker(routes, at.service, key).service.policy == "prefix_aware" else 0


def refuse_what_cannot_follow(visit: Visit, max_body_bytes: int) -> None:
    """Raise the refusal that names the way out, of services that are not to redirect and of bodies that are too long."""
    if visit.is_resolve:
        return
    way_out = f"GET /{visit.name}/_resolve tells a URL that serves in place of /{visit.name} for {TTL_S} s."
    if visit.service.mode == "resolve":
        raise Refusal(421, "Misdirected Request", f"This service redirects nobody. {way_out}")
    length = visit.request.headers.get(b"content-length", b"")
    if max_body_bytes and length.isdigit() and int(length) > max_body_bytes:
        raise Refusal(
            413, "Content Too Large", f"A body may have {max_body_bytes} bytes here. For longer ones: {way_out}"
        )


def _picker(routes: Routes, name: str, key: Key | None) -> Picker:
    picker = routes.pickers.get(name)
    if picker and picker.service.access == "open":
        return picker
    if key is None:
        raise keys.unauthorized()
    if picker is None:
        detail = "No service of that name is served here. Requests go to /<service>/<path>."
        raise Refusal(404, "Not Found", detail, hold_s=GLANCE_S)
    if not key.permits(name):
        raise Refusal(403, "Forbidden", f"The key {key.id} is not for this service.")
    return picker


def _document_with_model(routes: Routes, request: Request, key: Key | None) -> dict[str, object]:
    models.refuse_nobody(routes.table, key)
    if len(request.body or b"") > _MODEL_BYTES:
        detail = f"At most {_MODEL_BYTES} bytes of a body are searched for the model. Use /<service>/v1/... instead."
        raise Refusal(413, "Content Too Large", detail)
    document = prompt.decoded(request.body)
    if not prompt.model(document):
        detail = "The body is no JSON object that names a model. Name the service instead: /<service>/v1/..."
        raise Refusal(400, "Bad Request", detail)
    return document
