"""Every write of an owner's leaves a trace: who, what, from where, when, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chalice.app import Request, Response

from chalicelib import identity
from chalicelib.api import problems
from chalicelib.api.auth import Principal
from chalicelib.errors import SailplaneError
from chalicelib.model import AuditEntry
from chalicelib.ports import Runtime

LONGEST_PATH = 512


def audited(
    runtime: Runtime, principal: Principal, operation: str, request: Request, act: Callable[[], Response]
) -> Response:
    """What `act` answers. Written before it is begun, so that nothing is done unseen, and again when it has ended."""
    entry = AuditEntry(
        id=request.context.get("requestId") or runtime.ids.token(8),
        at=runtime.clock.now(),
        principal=principal.id,
        name=principal.name,
        operation=operation,
        method=request.method,
        path=identity.redacted(request.context.get("path", request.path))[:LONGEST_PATH],
        ip=request.context.get("identity", {}).get("sourceIp", ""),
    )
    runtime.store.record_audit(entry)
    try:
        answer = act()
    except SailplaneError as error:
        answer = problems.answer_for(error)
    replayed = "Idempotency-Replayed" in answer.headers
    runtime.store.record_audit(replace(entry, status=answer.status_code, replayed=replayed))
    return answer
