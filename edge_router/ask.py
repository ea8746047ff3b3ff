"""One question over HTTP. `urllib.request` would take as long to import as all the rest of the router."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event, Timer
from urllib.parse import urlsplit

# A table of 10,000 replicas has 2.5 MB; a function's answer ends at 6 MB.
_MAX_ANSWER_BYTES = 8_000_000
# Timeouts that question and answer may take together. Whoever answers byte by byte would otherwise keep
# a function's only thread for hours, and all that wait behind it. 2.5 MB within 2 s are 10 Mbit/s.
_STEPS = 2


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
        timeout_s: to connect, and of each step after that, which take twice as long together at most.
        body: None for none.
        headers: besides those that HTTP needs.

    Raises:
        NoAnswer: no connection, no HTTP, not all of it in time, or more than 8 MB.
    """
    parts = urlsplit(url)
    connection_class = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connection_class(parts.hostname or "", parts.port, timeout=timeout_s)
    where = f"{parts.hostname}:{connection.port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.connect()
        cut = Event()
        end = Timer(_STEPS * timeout_s, _cut, (connection.sock, cut))
        end.daemon = True
        end.start()
        try:
            connection.request(method, target, body, {"Connection": "close", **(headers or {})})
            with connection.getresponse() as response:
                answer = response.read(_MAX_ANSWER_BYTES + 1)
        finally:
            end.cancel()
    except (OSError, HTTPException, UnicodeError) as error:  # the last one: of a host that is no name
        raise NoAnswer(f"{where}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if cut.is_set():
        raise NoAnswer(f"{where}: not all of the answer within {_STEPS * timeout_s:g} s")
    if len(answer) > _MAX_ANSWER_BYTES:
        raise NoAnswer(f"{where}: an answer longer than {_MAX_ANSWER_BYTES} bytes")
    return response.status, answer


def _cut(connected: socket.socket, cut: Event) -> None:
    """Ends whatever another thread does with it, which then finds out why; past TLS, which would take its leave first."""
    cut.set()
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
