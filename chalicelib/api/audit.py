"""Who did what."""

from __future__ import annotations

from collections.abc import Callable

from chalice.app import Blueprint

from chalicelib.api import paging, schemas, views
from chalicelib.api.routes import Route, blueprint
from chalicelib.ports import Runtime


def audit(runtime: Callable[[], Runtime]) -> Blueprint:
    """The route for the audit, itself for keys with the scope ADMIN."""
    summary = "Who changed what, kept for 90 days, newest first"
    return blueprint(
        __name__,
        runtime,
        (Route("GET", "/v1/audit", list_audit, summary, schemas.Audit, query=schemas.PageQuery),),
    )


def list_audit(runtime: Runtime, query: schemas.PageQuery) -> schemas.Audit:
    """The newest page, or from the cursor on back."""
    found = runtime.store.audit_page(limit=query.limit + 1, upto=paging.place(query.cursor))
    shown, older = paging.cut(found, query.limit)
    return schemas.Audit(entries=tuple(map(views.audit_entry, shown)), next=older)
