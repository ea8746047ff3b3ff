"""The streaming reverse proxy between clients and the engine.

Bodies pass through unbuffered and unchanged in both directions. A request is sent to the engine at most once: only the
client knows whether asking again is harmless.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from replica_agent.engine import Engine, Phase
from replica_agent.gate import Gate
from replica_agent.problem import problem

# RFC 9110, section 7.6.1, and `Expect`, which is answered here.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_ENGINE_START_RETRY_S = 5
# How long an answer's headers wait for its first byte. A client that sees its event stream open does not mind half a minute.
_SILENCE_S = 30.0
MAX_HEADER_BYTES = 65_536


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


def client_session() -> aiohttp.ClientSession:
    """The agent's connections to its engine: no cookies kept, nothing decompressed, no time limit on an answer."""
    return aiohttp.ClientSession(
        # Idle connections go before uvicorn's 5 s and gunicorn's 2 s: one that the engine is just closing fails a POST.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=1.5),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        middlewares=(_once,),
    )


class Proxy:
    """Sends everything that is not the agent's own to the engine."""

    def __init__(
        self, engine: Engine, gate: Gate, session: aiohttp.ClientSession, silence_s: float = _SILENCE_S
    ) -> None:
        self._silence_s = silence_s
        self._engine = engine
        self._gate = gate
        self._session = session
        self._origin = f"http://127.0.0.1:{engine.port}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with what the engine answers, or with a problem document of 400, 501, 502 or 503."""
        with self._gate:
            response = self._refusal(request) or await self._forward(request)
        if self._gate.draining:
            response.force_close()
        return response

    def _refusal(self, request: web.BaseRequest) -> web.StreamResponse | None:
        if self._gate.closed:
            return problem(503, "Replica is stopping", "Ask the service's endpoint again.", request.path, 1)
        if self._engine.phase is not Phase.RUNNING:
            detail = f"The engine's phase is {self._engine.phase}."
            return problem(503, "Engine is not up", detail, request.path, _ENGINE_START_RETRY_S)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return problem(501, "WebSockets are not supported", "Use HTTP requests or SSE streams.", request.path)
        if not request.raw_path.startswith("/"):
            return problem(400, "Bad request target", "The request target must be a path.", request.path)
        return None

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            upstream = await self._session.request(
                request.method,
                URL(self._origin + request.raw_path, encoded=True),
                headers=_request_headers(request),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError:
            detail = f"Nothing listens on port {self._engine.port} of the replica yet."
            return problem(503, "Engine is not up", detail, request.path, _ENGINE_START_RETRY_S)
        except aiohttp.ClientError as error:
            return _unanswered(request, error)
        async with upstream:
            try:
                first = await self._first_bytes(upstream)
            except aiohttp.ClientError as error:
                return _unanswered(request, error)
            return await self._relay(request, upstream, first)

    async def _first_bytes(self, upstream: aiohttp.ClientResponse) -> bytes:
        """What the body begins with; nothing when it ends at once or stays silent.

        Engines send a stream's headers before they have a token (vLLM does), and a client that has them can no longer ask
        again by itself. So they are held back until there is something to go with them: whatever dies before that, engine
        or machine, leaves the client a request that nobody had begun to answer.
        """
        try:
            async with asyncio.timeout(self._silence_s):
                return await upstream.content.readany()
        except TimeoutError:
            return b""

    async def _relay(
        self, request: web.BaseRequest, upstream: aiohttp.ClientResponse, first: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=upstream.status, reason=upstream.reason, headers=_end_to_end(upstream.headers)
        )
        if self._gate.draining:
            response.force_close()
        await response.prepare(request)
        try:
            await response.write(first)
            async for data in upstream.content.iter_any():
                await response.write(data)
        except aiohttp.ClientError:
            # The headers are out, so the only honest signal left is a broken connection: no final chunk, no full length.
            if request.transport:
                request.transport.close()
            return response
        await response.write_eof()
        return response


def _unanswered(request: web.BaseRequest, error: aiohttp.ClientError) -> web.Response:
    # Not the error's text, which may quote what the engine said.
    return problem(502, "Engine did not answer", f"The request failed with {type(error).__name__}.", request.path)


def _request_headers(request: web.BaseRequest) -> CIMultiDict[str]:
    """The client's headers for the engine. The engine sees itself as Host and the client's view in X-Forwarded-*."""
    headers = _end_to_end(request.headers)
    headers.pop("Host", None)
    headers["X-Forwarded-For"] = ", ".join(
        [*request.headers.getall("X-Forwarded-For", ()), request.remote or "unknown"]
    )
    headers.setdefault("X-Forwarded-Proto", request.scheme)
    headers.setdefault("X-Forwarded-Host", request.headers.get("Host", ""))
    return headers


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    dropped = _HOP_BY_HOP | named
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
