"""The router as a Google Cloud Function, an HTTP function of functions-framework.

    entry point: handle        (infra/functions/gcp/main.py)

Flask would route before it asks a function: `//` in a path becomes a redirect to `/`, `/static/`, `/robots.txt` and
`/favicon.ico` are its own, and a Location is encoded anew. So the router answers before Flask has looked at the path, takes
path and query from the request line (`RAW_URI`, as gunicorn and Werkzeug's server call it), and sends headers as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import flask

from edge_router.messages import Request, Response
from edge_router.platforms.function import from_env

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers

# Of an HTTP/1 request; Google's front end refuses what is larger, with a 413 of its own.
# https://docs.cloud.google.com/run/quotas#request_limits
MAX_BODY_BYTES = 32 * 1024**2

View = Callable[[flask.Request], flask.Response]


def view() -> View:
    """What functions-framework calls, as the environment says; to be called while it loads the function's source.

    Raises:
        WrongSetting: a variable is missing or makes no sense; the message names it.
    """
    handle = view_of(from_env("gcp", max_body_bytes=MAX_BODY_BYTES).answer)
    flask.current_app.before_request(lambda: handle(flask.request))
    return handle


def view_of(answer: Callable[[Request], Response]) -> View:
    """What functions-framework calls, for whatever answers requests."""

    def handle(request: flask.Request) -> flask.Response:
        return _translated(answer(_request(request)))

    return handle


class _Verbatim(flask.Response):
    """Sends the headers that it was given."""

    default_mimetype = None

    def get_wsgi_headers(self, _environ: WSGIEnvironment) -> Headers:
        return self.headers


def _request(request: flask.Request) -> Request:
    path, _, query = request.environ["RAW_URI"].encode("latin-1").partition(b"?")
    return Request(
        method=request.method.encode(),
        path=path,
        query=query,
        headers={name.lower().encode(): value.encode("latin-1") for name, value in request.headers},
        # Who asked Google's front end stands last; what stands before it the client may have written itself.
        ip=request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip() or request.remote_addr or "",
        body=request.get_data(),
    )


def _translated(response: Response) -> flask.Response:
    headers = [(name.decode(), value.decode()) for name, value in response.headers]
    return _Verbatim(response.body, response.status, headers)
