"""The streaming reverse proxy between clients and the engine.

Bodies pass through unbuffered and unchanged in both directions. A request is sent to the engine at most once: only the
client knows whether asking again is harmless.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from replica_agent.config import Config
from replica_agent.engine import Engine, Phase
from replica_agent.gate import Gate
from replica_agent.grants import Grant, Grants, join, split
from replica_agent.problem import problem
from replica_agent.quota import Quotas
from replica_agent.times import ControlTime

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
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        middlewares=(_once,),
    )


@dataclass(frozen=True, slots=True)
class Visit:
    """A client's request, with what its grant allows taken off it."""

    request: web.BaseRequest
    grant: Grant
    target: bytes  # for the engine

    @property
    def path(self) -> str:
        """For people: decoded, without grant and query."""
        return _readable(self.target)


class Proxy:
    """Sends everything that is not the agent's own, and that a router has sent here, to the engine."""

    def __init__(
        self,
        config: Config,
        *,
        engine: Engine,
        gate: Gate,
        session: aiohttp.ClientSession,
        clock: ControlTime,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self._silence_s = silence_s
        self._engine = engine
        self._gate = gate
        self._session = session
        self._clock = clock
        self._grants = Grants(config.grant_keys, config.service)
        self._quotas = Quotas(time.monotonic)
        self._config = config
        self._origin = f"http://127.0.0.1:{engine.port}"
        self._dropped = _HOP_BY_HOP | _kept_from_engine(config)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with what the engine answers, or with a problem document, or send the client back to the router."""
        response = await self._answer(request)
        if not response.prepared:
            _let_browsers_read(request, response.headers)
        if self._gate.draining:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        text, target = split(_bytes(request.raw_path))
        if not text:
            detail = "Ask the service's endpoint: it sends you here with a grant."
            return problem(401, "No grant", detail, _readable(target))
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        method = request.headers["Access-Control-Request-Method"] if is_preflight else request.method
        grant = self._grants.read(text, _bytes(method), target.partition(b"?")[0])
        if grant is None:
            detail = "It is not for this replica, this method and this path. Ask the service's endpoint again."
            return problem(403, "Bad grant", detail, _readable(target))
        if is_preflight:
            return _preflight(request, method)
        if grant.expires_at <= self._clock.now():
            return self._back(text, target)
        return await self._admit(Visit(request, grant, target))

    def _back(self, text: bytes, target: bytes) -> web.StreamResponse:
        """To the router, with the expired grant as the ticket: clients have lost their key on the way here."""
        config = self._config
        if not config.edge_url:
            return problem(401, "Grant has expired", "Ask the service's endpoint again.", _readable(target))
        ticket = f"~{text.decode()}~{config.replica_id}~{config.boot_nonce}"
        location = f"{config.edge_url}/{config.service}/{ticket}{_text(target)}"
        return web.Response(status=307, headers={"Location": location})

    async def _admit(self, visit: Visit) -> web.StreamResponse:
        if self._gate.closed:
            return problem(503, "Replica is stopping", "Ask the service's endpoint again.", visit.path, 1)
        if self._engine.phase is not Phase.RUNNING:
            detail = f"The engine's phase is {self._engine.phase}."
            return problem(503, "Engine is not up", detail, visit.path, _ENGINE_START_RETRY_S)
        if visit.request.headers.get("Upgrade", "").lower() == "websocket":
            return problem(501, "WebSockets are not supported", "Use HTTP requests or SSE streams.", visit.path)
        if wait_s := self._quotas.enter(visit.grant):
            return problem(429, "Too many requests", "The endpoint key's limit is reached.", visit.path, wait_s)
        try:
            with self._gate:
                return await self._forward(visit)
        finally:
            self._quotas.leave(visit.grant)

    async def _forward(self, visit: Visit) -> web.StreamResponse:
        request = visit.request
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            upstream = await self._session.request(
                request.method,
                URL(self._origin + _text(visit.target), encoded=True),
                headers=self._request_headers(request),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError:
            detail = f"Nothing listens on port {self._engine.port} of the replica yet."
            return problem(503, "Engine is not up", detail, visit.path, _ENGINE_START_RETRY_S)
        except aiohttp.ClientError as error:
            return _unanswered(visit, error)
        async with upstream:
            try:
                first = await self._first_bytes(upstream)
            except aiohttp.ClientError as error:
                return _unanswered(visit, error)
            return await self._relay(visit, upstream, first)

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

    async def _relay(self, visit: Visit, upstream: aiohttp.ClientResponse, first: bytes) -> web.StreamResponse:
        request, headers = visit.request, _end_to_end(upstream.headers, _HOP_BY_HOP)
        _let_browsers_read(request, headers)
        if "Location" in headers:
            headers["Location"] = self._location(visit, upstream.status, headers["Location"])
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
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

    def _location(self, visit: Visit, status: int, location: str) -> str:
        """Where the engine redirects to: with a grant for there, when that is this replica again."""
        own = (visit.request.host, f"127.0.0.1:{self._engine.port}", f"localhost:{self._engine.port}")
        try:
            there = urlsplit(urljoin(f"http://{own[0]}{_text(visit.target)}", location))
        except ValueError:  # not a URL: the client's to complain about
            return location
        if there.netloc not in own:
            return location
        method = visit.request.method
        if status == 303 or (status in (301, 302) and method == "POST"):
            method = "GET"  # as clients do, RFC 9110, section 15.4
        path = there.path or "/"
        grant = self._grants.moved(visit.grant, method.encode(), _bytes(path))
        return _text(join(grant, _bytes(urlunsplit(("", "", path, there.query, there.fragment)))))

    def _request_headers(self, request: web.BaseRequest) -> CIMultiDict[str]:
        """The client's headers for the engine. It sees itself as Host and the client's view in X-Forwarded-*."""
        headers = _end_to_end(request.headers, self._dropped)
        headers.pop("Host", None)
        headers["X-Forwarded-For"] = ", ".join(
            [*request.headers.getall("X-Forwarded-For", ()), request.remote or "unknown"]
        )
        headers.setdefault("X-Forwarded-Proto", request.scheme)
        headers.setdefault("X-Forwarded-Host", request.headers.get("Host", ""))
        return headers


def _kept_from_engine(config: Config) -> AbstractSet[str]:
    """What clients show routers is worth nothing to the engine, or worth too much to be shown to it."""
    if config.access == "required":
        return {"authorization", "x-api-key"}
    return {"authorization"} if config.engine_key else frozenset()


def _preflight(request: web.BaseRequest, method: str) -> web.Response:
    """What a browser wants to hear before it sends what a page wants to send here."""
    headers = {"Access-Control-Allow-Methods": method}
    if asked := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = asked  # `*` would leave Authorization out
    return web.Response(status=204, headers=headers)


def _let_browsers_read(request: web.BaseRequest, headers: MutableMapping[str, str]) -> None:
    """A page of any origin: what it may ask for, the grant has settled."""
    if "Origin" in request.headers and "Access-Control-Allow-Origin" not in headers:
        headers["Access-Control-Allow-Origin"] = "*"
        headers["Access-Control-Expose-Headers"] = "*"


def _text(raw: bytes) -> str:
    """As aiohttp holds what a client may have sent in any encoding."""
    return raw.decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _readable(target: bytes) -> str:
    return unquote(target.partition(b"?")[0].decode(errors="replace"))


def _unanswered(visit: Visit, error: aiohttp.ClientError) -> web.Response:
    # Not the error's text, which may quote what the engine said.
    return problem(502, "Engine did not answer", f"The request failed with {type(error).__name__}.", visit.path)


def _end_to_end(headers: CIMultiDictProxy[str], dropped: AbstractSet[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    dropped = dropped | named
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
