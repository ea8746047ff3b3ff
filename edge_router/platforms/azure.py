"""The router as an Azure Function, v2 programming model: one HTTP trigger for every path.

    infra/functions/azure: function_app.py, and host.json without the route prefix `/api`

Access is anonymous for Azure, because the keys are ours. App Service's front end decodes the path (`%2F`, `%5C`) and the
host encodes it again when it makes the `url`; what the client sent stands in `X-Waws-Unencoded-Url`, path and query. A
client could write that header itself only where no front end does, and would choose no more than its own path by it.
https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script.Grpc/MessageExtensions/GrpcMessageConversionExtensions.cs
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import azure.functions as func

from edge_router.messages import Request, Response
from edge_router.platforms.function import from_env

# FUNCTIONS_REQUEST_BODY_SIZE_LIMIT, if nobody changed it; the host refuses what is larger, with a 413 of its own.
MAX_BODY_BYTES = 104_857_600


def app() -> func.FunctionApp:
    """What the worker loads, as the environment says.

    Raises:
        WrongSetting: a variable is missing or makes no sense; the message names it.
    """
    return app_of(from_env("azure", max_body_bytes=MAX_BODY_BYTES).answer)


def app_of(answer: Callable[[Request], Response]) -> func.FunctionApp:
    """What the worker loads, for whatever answers requests. No method is listed, so that all are taken."""
    functions = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @functions.route(route="{*path}")
    def edge(req: func.HttpRequest) -> func.HttpResponse:
        return _translated(answer(_request(req)))

    return functions


def _request(request: func.HttpRequest) -> Request:
    url = urlsplit(request.url)
    target = request.headers.get("x-waws-unencoded-url") or f"{url.path}?{url.query}"
    path, _, query = target.encode().partition(b"?")
    asked_by = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return Request(
        method=request.method.encode(),
        path=path or b"/",
        query=query,
        headers={name.lower().encode(): value.encode() for name, value in request.headers.items()},
        # The front end appends `ip:port` of who asked it; what stands before that the client may have written itself.
        ip=asked_by.rpartition(":")[0] or asked_by,
        body=request.get_body(),
    )


def _translated(response: Response) -> func.HttpResponse:
    return func.HttpResponse(
        response.body,
        status_code=response.status,
        headers={name.decode(): value.decode() for name, value in response.headers},
    )
