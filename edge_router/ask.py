"""One question over HTTP. `urllib.request` would take as long to import as all the rest of the router."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

# A table of 10,000 replicas has 2.5 MB; a function's answer ends at 6 MB.
_MAX_ANSWER_BYTES = 8_000_000


class NoAnswer(Exception):
    """Nobody answered, or with too much. The message names host and port and says why; it holds no path, nor a query."""


def ask(
    method: str, url: str, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of the answer. Redirects are not followed.

    On a new connection each time: an idle one may be gone unnoticed when a client waits.

    Args:
        method: GET or POST.
        url: `http(s)://host[:port][/path][?query]`.
        timeout_s: of each step (connect, send, receive).
        body: None for none.
        headers: besides those that HTTP needs.

    Raises:
        NoAnswer: no connection, no HTTP, or more than 8 MB.
    """
    parts = urlsplit(url)
    connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connection_class(parts.hostname or "", parts.port, timeout=timeout_s)
    where = f"{parts.hostname}:{connection.port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body, {"Connection": "close", **(headers or {})})
        with connection.getresponse() as response:
            answer = response.read(_MAX_ANSWER_BYTES + 1)
    except (OSError, HTTPException) as error:
        raise NoAnswer(f"{where}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if len(answer) > _MAX_ANSWER_BYTES:
        raise NoAnswer(f"{where}: an answer longer than {_MAX_ANSWER_BYTES} bytes")
    return response.status, answer
