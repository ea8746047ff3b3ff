"""What browsers want to hear before they show a page of another origin an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from edge_router.messages import Headers, Request, Response

# No cookie counts here, only keys that a page must have itself, so any origin may ask.
_ANY_ORIGIN: Headers = ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*"))
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1000}")
_METHOD = b"access-control-request-method"
_HEADERS = b"access-control-request-headers"


def is_preflight(request: Request) -> bool:
    """Whether a browser asks if its page may ask."""
    return request.method == b"OPTIONS" and b"origin" in request.headers and _METHOD in request.headers


def preflight(headers: Mapping[bytes, bytes]) -> Response:
    """204: it may, for a day (browsers cut that to two hours). `*` would not allow Authorization; named, it is."""
    asked = (
        (b"access-control-allow-methods", headers[_METHOD]),
        (b"access-control-allow-headers", headers.get(_HEADERS, b"")),
    )
    allowed = tuple((name, value) for name, value in asked if _NAMES.fullmatch(value))
    return Response(204, (*_ANY_ORIGIN, *allowed, (b"access-control-max-age", b"86400")))


def shown_to_pages(response: Response) -> Response:
    """The same, readable by pages of any origin."""
    return replace(response, headers=response.headers + _ANY_ORIGIN)
