"""How the agent itself asks its engine: probes and metrics."""

from __future__ import annotations

import aiohttp

from replica_agent.heads import MAX_HEAD_BYTES


class Broken(aiohttp.ClientError):
    """The engine broke the connection before it answered."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again by itself after a broken connection."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise Broken(str(error)) from error


def client_session(engine_key: str = "") -> aiohttp.ClientSession:
    """The agent's connections to its engine: no cookies kept, nothing decompressed, no time limit on an answer."""
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {engine_key}"} if engine_key else None,
        # Idle connections go before uvicorn's 5 s and gunicorn's 2 s: one that the engine is just closing fails a POST.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=1.5),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        middlewares=(_once,),
    )
