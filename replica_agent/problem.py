"""Errors that the agent itself answers with, as RFC 9457 problem documents."""

from __future__ import annotations

import json

from aiohttp import web


def problem(status: int, title: str, detail: str, instance: str, retry_after_s: int | None = None) -> web.Response:
    """An `application/problem+json` answer. `instance` is the path that was asked for, without its query."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": instance}
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.Response(
        status=status, headers=headers, content_type="application/problem+json", text=json.dumps(document)
    )
