"""What Amazon API Gateway and Lambda are to the deployed app: HTTP in, Chalice's event in the middle, HTTP out.

`chalice local` answers in 44 ms on a kept-alive connection and serves one request at a time; this ASGI app is served by
uvicorn and passes the same REST proxy events (payload format 1.0) to the same app object.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from chalicelib.api.paths import match_route

if TYPE_CHECKING:
    from chalice import Chalice

# Lambda's limit for a synchronous invocation's payload.
MAX_BODY_BYTES = 6 * 1024 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, complete."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Gateway:
    """An ASGI application around a Chalice app.

    A Chalice app keeps the current request on itself, because a Lambda instance serves one request at a time. Here every
    worker thread has an app of its own for the same reason.

    Args:
        make_app: builds the Chalice app; called once to learn the routes and once in every worker thread.
        threads: how many requests are handled at once; more wait their turn.
    """

    def __init__(self, make_app: Callable[[], Chalice], threads: int = 8) -> None:
        self._make_app = make_app
        self._routes: Mapping[str, Mapping[str, Any]] = make_app().routes
        self._pool = ThreadPoolExecutor(threads, "api", initializer=self._prepare_worker)
        self._worker = threading.local()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request (an ASGI connection of type `http`)."""
        answer = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    def close(self) -> None:
        """Let running handlers finish and end the worker threads."""
        self._pool.shutdown()

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> Answer:
        path = scope["path"]
        match = match_route(self._routes, scope["raw_path"].decode("ascii"))
        if match is None:
            return problem(HTTPStatus.NOT_FOUND, "There is nothing at this path; see /openapi.json.", path)
        route, parameters = match
        if scope["method"] not in self._routes[route]:
            allowed = ", ".join(sorted(self._routes[route]))
            detail = f"{scope['method']} is not possible here, only {allowed}."
            return problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, path, [(b"allow", allowed.encode())])
        body = await read_body(receive, MAX_BODY_BYTES)
        if body is None:
            detail = f"The body is larger than {MAX_BODY_BYTES // 1024**2} MB, which is all that Lambda takes."
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, path, [(b"connection", b"close")])
        event = to_event(scope, route, parameters, body)
        loop = asyncio.get_running_loop()
        return from_lambda(await loop.run_in_executor(self._pool, self._invoke, event))

    def _prepare_worker(self) -> None:
        self._worker.app = self._make_app()

    def _invoke(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        result: Mapping[str, Any] = self._worker.app(event, None)
        return result


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """The whole request body, or None when it is longer than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def to_event(scope: Mapping[str, Any], route: str, parameters: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The REST proxy event (payload format 1.0) that API Gateway would hand to Lambda.

    A body that is not UTF-8 text travels as base64; API Gateway decides that by content type, which suits text alike.
    """
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    query = parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True) or None
    text, is_base64 = _as_text(body)
    return {
        "resource": route,
        "path": scope["path"],
        "httpMethod": scope["method"],
        "headers": dict(headers),
        "multiValueHeaders": _grouped(headers),
        "queryStringParameters": query and {name: values[-1] for name, values in query.items()},
        "multiValueQueryStringParameters": query,
        "pathParameters": dict(parameters) or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": route,
            "path": scope["path"],
            "httpMethod": scope["method"],
            "identity": {"sourceIp": (scope.get("client") or ("",))[0]},
            "requestId": str(uuid.uuid4()),
            "stage": "local",
        },
        "body": text,
        "isBase64Encoded": is_base64,
    }


def _as_text(body: bytes) -> tuple[str | None, bool]:
    if not body:
        return None, False
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), True


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def from_lambda(result: Mapping[str, Any]) -> Answer:
    """The HTTP answer that API Gateway makes of a proxy integration's result."""
    body = base64.b64decode(result["body"]) if result.get("isBase64Encoded") else result["body"].encode()
    single = {name.lower(): value for name, value in result["headers"].items()}
    repeated = [(name.lower(), value) for name, values in result["multiValueHeaders"].items() for value in values]
    headers = {"content-type": "application/json", **single, "content-length": len(body)}
    pairs = [*headers.items(), *repeated]
    return Answer(result["statusCode"], [(name.encode(), str(value).encode("latin-1")) for name, value in pairs], body)


def problem(status: HTTPStatus, detail: str, instance: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error in RFC 9457's form."""
    document = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "instance": instance}
    body = json.dumps(document).encode()
    fixed = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    return Answer(status, [*fixed, *headers], body)
