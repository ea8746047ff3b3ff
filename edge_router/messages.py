"""What goes in and what comes out: requests and responses, whatever the platform calls them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

Headers = tuple[tuple[bytes, bytes], ...]

_PRINTABLE = bytes(range(0x21, 0x7F)).decode()
_OURS = re.compile(rb"/(~|%7[Ee])[^/]*")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as on the wire.

    Args:
        method: in upper case.
        path: percent-encoded; `/<service>/<rest>`. `<rest>` goes to the replica byte for byte.
        query: without the question mark.
        headers: names in lower case.
        ip: the client's, with `port` what tells its connection from others.
        body: what `Router.body_limit` asked for, or all of it; None if nobody read it.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Mapping[bytes, bytes]
    ip: str = ""
    port: int = 0
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer.

    `hold_s` above 0: nobody known here can take the request yet. Look for a newer table, call `handle` with
    `again=counted` whenever there may be one, and after `hold_s` seconds, those of the first such answer, send this
    one as it is. `counted`: the request is in the books, or must not come into them.
    """

    status: int
    headers: Headers
    body: bytes = b""
    hold_s: float = 0.0
    counted: bool = False


class Refusal(Exception):
    """The request goes nowhere. Caught by the router, which answers with the problem (RFC 9457)."""

    def __init__(
        self, status: int, title: str, detail: str, extra: Headers = (), *, hold_s: float = 0.0, counted: bool = False
    ) -> None:
        super().__init__(detail)
        self._status = status
        self._title = title
        self._extra = extra
        self._hold_s = hold_s
        self._counted = counted

    def response(self, path: bytes) -> Response:
        """The problem. What may be a credential is left out of `instance`: the query, and our part of the path.

        `error` is what OpenAI's clients show.
        """
        problem = {
            "type": "about:blank",
            "title": self._title,
            "status": self._status,
            "detail": str(self),
            "instance": quote_from_bytes(_OURS.sub(b"", path), safe=_PRINTABLE),
            "error": {
                "message": str(self),
                "type": "sailplane_error",
                "code": self._title.lower().replace(" ", "_"),
            },
        }
        headers, body = _content(b"application/problem+json", problem)
        return Response(self._status, headers + self._extra, body, self._hold_s, self._counted)


def retry_after(seconds: float) -> Headers:
    """The header, in whole seconds."""
    return ((b"retry-after", b"%d" % -(-seconds // 1)),)


def answer(document: object) -> Response:
    """200 with JSON."""
    return Response(200, *_content(b"application/json", document))


def redirect(location: bytes, *, hold_s: float = 0.0) -> Response:
    """307: the client asks there again, with the same method and body."""
    if not location.isascii():
        location = quote_from_bytes(location, safe=_PRINTABLE).encode()
    headers = ((b"location", location), (b"cache-control", b"no-store"), (b"content-length", b"0"))
    return Response(307, headers, hold_s=hold_s, counted=True)


def _content(media_type: bytes, document: object) -> tuple[Headers, bytes]:
    body = json.dumps(document).encode()
    length = str(len(body)).encode()
    return ((b"content-type", media_type), (b"content-length", length), (b"cache-control", b"no-store")), body
