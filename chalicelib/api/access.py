"""A line in the log for each request that changes something or fails. Looks and routers' exchanges would be most of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from chalice.app import Request, Response

_log = logging.getLogger(__name__)

_EXCHANGE = "/v1/edge/exchange"  # each router's, every 3 s


def logged(request: Request | None, get_response: Callable[[Request | None], Response]) -> Response:
    """Chalice middleware. The route is written and not the path, in which callers may put anything."""
    response = get_response(request)
    if request is None:
        return response
    route = request.context.get("resourcePath", "")
    failed = response.status_code >= HTTPStatus.BAD_REQUEST
    if failed or (request.method != "GET" and route != _EXCHANGE):
        level = logging.ERROR if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        told = {"method": request.method, "route": route, "status": response.status_code}
        _log.log(level, "request", extra={"request_id": request.context.get("requestId", ""), **told})
    return response
