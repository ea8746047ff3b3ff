"""An engine that does nothing but remember: POST /echo notes the request's id, GET /seen tells how often it met each."""

from __future__ import annotations

import sys
from collections import Counter

from aiohttp import web

SEEN: Counter[str] = Counter()


async def echo(request: web.Request) -> web.Response:
    body = await request.read()
    SEEN[body.decode().partition(" ")[0]] += 1
    return web.Response(body=body)


async def seen(_request: web.Request) -> web.Response:
    return web.json_response(SEEN)


async def health(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.get("/health", health), web.post("/echo", echo), web.get("/seen", seen)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
