"""All of AWS that a deployment uses, by MiniStack, run by MiniStack's own Python: `python ministack_aws.py`.

Unlike the laptop's database it executes what it is sent, so it serves nobody without the key but those whom AWS would serve
too: callers of the functions' public addresses, and functions, with the credentials of their roles, which it checks.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# Installed in an environment of its own, which type checkers do not see.
from ministack import app as ministack  # type: ignore[import-not-found]

Asgi = Callable[[Mapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

_CREDENTIAL = re.compile(rb"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")
_PUBLIC = re.compile(rb"[a-z0-9]+\.(lambda-url|execute-api)\.[a-z0-9.-]+")
_PUBLIC_PATH = "/_aws/lambda-url/"  # the same without a name server


def guarded(app: Asgi, key: bytes) -> Asgi:
    """`app` for the key, for sessions of roles, and for the functions' public addresses; 403 for others."""

    async def guard(
        scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan" or _may(scope, key):
            await app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    return guard


def _may(scope: Mapping[str, Any], key: bytes) -> bool:
    headers = dict(scope["headers"])
    if _PUBLIC.fullmatch(headers.get(b"host", b"")) or scope["path"].startswith(_PUBLIC_PATH):
        return True
    match = _CREDENTIAL.match(headers.get(b"authorization", b""))
    return match is not None and (hmac.compare_digest(match[1], key) or match[1].startswith(b"ASIA"))


if __name__ == "__main__":
    key = os.environ.pop("SAILPLANE_DATABASE_KEY")
    os.environ["AWS_ACCESS_KEY_ID"] = key  # the administrator's
    ministack.app = guarded(ministack.app, key.encode())
    ministack.main()
