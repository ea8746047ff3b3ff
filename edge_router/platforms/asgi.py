"""The router as an ASGI 3 application, for any production-grade ASGI server.

    uvicorn --factory edge_router.platforms.asgi:from_env --no-access-log --no-proxy-headers

with uvloop and httptools installed, which it then uses. One worker process; a second one needs an id of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from random import random
from typing import Any

from edge_router.exchange import ControlPlane
from edge_router.refresh import Refresher
from edge_router.router import Request, Router

# Long enough for an exchange after the gap that `refresh` keeps; short enough that clients do not pile up here while
# the control plane is gone.
KNOCK_PATIENCE_S = 1.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def from_env() -> App:
    """The application as its environment says.

    SAILPLANE_CONTROL_URL   of the control plane, `http(s)://host[:port][/prefix]`
    SAILPLANE_ROUTER_TOKEN  its bearer token
    SAILPLANE_REFRESH_S     seconds between exchanges, 1 if not given
    SAILPLANE_ROUTER_ID     unique among running routers and kept over restarts; random if not given

    Raises:
        SystemExit: a variable is missing or makes no sense; the message names it.
    """
    router_id = os.environ.get("SAILPLANE_ROUTER_ID") or f"edge-{os.urandom(4).hex()}"
    try:
        token = _required("SAILPLANE_ROUTER_TOKEN")
        control = ControlPlane(_required("SAILPLANE_CONTROL_URL"), token, router_id)
    except ValueError as error:
        raise SystemExit(f"SAILPLANE_CONTROL_URL or SAILPLANE_ROUTER_TOKEN: {error}") from None
    # Milliseconds: a router that restarts under its old id goes on above its last number (1,000 exchanges a second).
    first_seq = time.time_ns() // 1_000_000
    router = Router(clock=time.time, random=random, first_seq=first_seq, token=token)
    return App(router, Refresher(lambda: control.exchange(router), _refresh_s(), random))


def _required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name} is not set: the edge router cannot find the control plane without it.")
    return value


def _refresh_s() -> float:
    text = os.environ.get("SAILPLANE_REFRESH_S", "1")
    try:
        refresh_s = float(text)
    except ValueError:
        refresh_s = 0.0
    if not 0.01 <= refresh_s <= 3600:
        raise SystemExit(f"SAILPLANE_REFRESH_S: {text!r} is not a number of seconds from 0.01 to 3600.")
    return refresh_s


class App:
    """Answers HTTP requests; refreshes from the server's start to its stop."""

    def __init__(self, router: Router, refresher: Refresher) -> None:
        self._router = router
        self._refresher = refresher

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:  # WebSocket handshakes cannot follow a redirect
            await send({"type": "websocket.close"})

    async def _http(self, scope: Mapping[str, Any], send: Send) -> None:
        """Answer without reading the body: the server reads past it, so that the connection can be used again.

        Except after `Expect: 100-continue`: that client holds its body back and may never send it, and nobody could
        tell then whether the next bytes are the body or a request. RFC 9110, 10.1.1: say that the connection closes.
        """
        told = dict(scope["headers"])
        ip, port = scope.get("client") or ("", 0)
        method = scope["method"].encode()
        request = Request(method, scope["raw_path"], scope["query_string"], told, ip, port or 0)
        response = self._router.handle(request)
        if response.hold_s:
            await self._exchanged()
            response = self._router.handle(request, again=response.counted)
        headers = list(response.headers)
        if b"expect" in told:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _exchanged(self) -> None:
        """Wait for the exchange that a knock asks for, a second at most.

        Who has just been told that a service is ready must not be told here that it is not.
        """
        import asyncio  # noqa: PLC0415 takes 48 ms and is loaded by whichever server runs this, not by other platforms

        loop, done = asyncio.get_running_loop(), asyncio.Event()
        self._refresher.knock(partial(loop.call_soon_threadsafe, done.set))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), KNOCK_PATIENCE_S)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._refresher.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._refresher.stop()
        await send({"type": "lifespan.shutdown.complete"})
