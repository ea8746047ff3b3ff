"""Every write of an owner's leaves a trace: who, what, to which thing, from where, when, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus

from chalice.app import Request, Response
from pydantic import BaseModel, ValidationError

from chalicelib import identity
from chalicelib.api import problems
from chalicelib.api.auth import Principal
from chalicelib.errors import SailplaneError
from chalicelib.model import AuditEntry
from chalicelib.ports import Runtime

LONGEST_PATH = 512
LONGEST_TARGET = 256
_LARGEST_BODY = 5 * 1024 * 1024  # more is accepted nowhere


class _Id(BaseModel):
    id: str = ""


class Named(BaseModel):
    """What names a thing in a request or an answer. Nothing else of either is looked at."""

    id: str = ""
    name: str = ""
    service: str = ""
    services: tuple[str, ...] = ()
    kind: str = ""
    leftovers: tuple[_Id, ...] = ()

    @property
    def words(self) -> str:
        """What its owner calls it, or whose it is, or what it is."""
        services = "all services" if "*" in self.services else ", ".join(self.services)
        return self.name or self.service or services or self.kind


def audited(
    runtime: Runtime,
    principal: Principal,
    operation: str,
    request: Request,
    path: Mapping[str, str],
    *,
    act: Callable[[], Response],
) -> Response:
    """What `act` answers. Written before it is begun, so that nothing is done unseen, and again when it has ended."""
    sent = _named(request.raw_body) if len(request.raw_body) <= _LARGEST_BODY else Named()
    entry = AuditEntry(
        id=request.context.get("requestId") or runtime.ids.token(8),
        at=runtime.clock.now(),
        principal=principal.id,
        name=principal.name,
        operation=operation,
        method=request.method,
        path=identity.redacted(request.context.get("path", request.path))[:LONGEST_PATH],
        ip=request.context.get("identity", {}).get("sourceIp", ""),
        target=target(path, sent, Named()),
    )
    runtime.store.record_audit(entry)
    try:
        answer = act()
    except SailplaneError as error:
        answer = problems.answer_for(error)
    is_done = answer.status_code < HTTPStatus.BAD_REQUEST
    answered = _named(answer.body) if is_done and request.method != "GET" else Named()
    runtime.store.record_audit(
        replace(
            entry,
            status=answer.status_code,
            replayed="Idempotency-Replayed" in answer.headers,
            target=target(path, sent, answered),
        )
    )
    return answer


def target(path: Mapping[str, str], sent: Named, answered: Named) -> str:
    """The thing that a request made, changed or removed: its id, and in brackets what it is called; empty where there is none.

    A replica's id says of which service it is, unless it is cut short.
    """
    service, replica = path.get("name", ""), path.get("replica", "")
    if replica:
        given = replica if replica.startswith(f"{service}-") else f"{service} {replica}"
    else:
        given = next(iter(path.values()), "") or sent.id
    ids = [given] if given else [one.id for one in sent.leftovers]
    if answered.id:
        ids = list(dict.fromkeys([*ids, answered.id]))
    words = answered.words or sent.words
    named = ", ".join(ids) if not words or words in ids else f"{', '.join(ids)} ({words})" if ids else words
    return identity.redacted(named)[:LONGEST_TARGET]


def _named(body: bytes | str) -> Named:
    try:
        return Named.model_validate_json(body)
    except ValidationError:
        return Named()
