"""MiniStack with a lock on its door and a memory, run by MiniStack's own Python: `python guarded_ministack.py`.

MiniStack executes what anybody sends it and allows every web site to send it something (CORS `*`); its AUTH=true asks for an
access key but accepts `test`, and no signature is checked. What stands in the database is run as the user's own commands, so
other users of this machine, and pages in the user's browser, must not write there.

By itself it writes its state down when it is stopped in order, and only then. Here it does so half a second after a write
too, so that a crash or SIGKILL costs no more than that.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# Installed in an environment of its own, which type checkers do not see.
from ministack import app as ministack  # type: ignore[import-not-found]
from ministack.core import persistence  # type: ignore[import-not-found]

Asgi = Callable[[Mapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
_CREDENTIAL = re.compile(rb"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")

_READS = (
    *("GetItem", "BatchGetItem", "Query", "Scan", "DescribeTable", "ListTables", "DescribeTimeToLive"),
    *("GetParameters", "GetParametersByPath"),
)
# Saving holds requests up, some 2 ms for a handful of services; twice a second that is not felt.
SAVED_AFTER_S = 0.5


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


def saved(app: Asgi, save: Callable[[], None]) -> Asgi:
    """`app`, with `save` called within `SAVED_AFTER_S` after every request that may have changed something."""
    due: list[asyncio.TimerHandle] = []

    def save_now() -> None:
        due.clear()
        save()

    async def saving(
        scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        await app(scope, receive, send)
        if scope["type"] == "http" and not due and not _only_reads(scope):
            due.append(asyncio.get_running_loop().call_later(SAVED_AFTER_S, save_now))

    return saving


def _only_reads(scope: Mapping[str, Any]) -> bool:
    target = next((value for name, value in scope["headers"] if name == b"x-amz-target"), b"")
    return target.decode().rpartition(".")[2] in _READS


def _save() -> None:
    persistence.save_all(ministack._build_persistence_save_dict())  # noqa: SLF001 what its own shutdown does


def _knows(scope: Mapping[str, Any], key: bytes) -> bool:
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    match = _CREDENTIAL.match(given)
    return match is not None and hmac.compare_digest(match[1], key)


if __name__ == "__main__":
    ministack.app = guarded(saved(ministack.app, _save), os.environ.pop("SAILPLANE_DATABASE_KEY").encode())
    ministack.main()
