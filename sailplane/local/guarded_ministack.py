"""MiniStack with a lock on its door, run by MiniStack's own Python: `python guarded_ministack.py`.

MiniStack executes what anybody sends it and allows every web site to send it something (CORS `*`); its AUTH=true asks for an
access key but accepts `test`, and no signature is checked. What stands in the database is run as the user's own commands, so
other users of this machine, and pages in the user's browser, must not write there.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ministack import app as ministack  # type: ignore[import-not-found]  # installed in an environment of its own

Asgi = Callable[[Mapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
_CREDENTIAL = re.compile(rb"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")


def guarded(app: Asgi, key: bytes) -> Asgi:
    """`app` for those who give `key` as their AWS access key id, which every SDK sends with every request; 403 for others."""

    async def guard(
        scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan" or _knows(scope, key):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close"})

    return guard


def _knows(scope: Mapping[str, Any], key: bytes) -> bool:
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    match = _CREDENTIAL.match(given)
    return match is not None and hmac.compare_digest(match[1], key)


if __name__ == "__main__":
    ministack.app = guarded(ministack.app, os.environ.pop("SAILPLANE_DATABASE_KEY").encode())
    ministack.main()
