"""The router behind a Lambda function URL (payload format 2.0).

    handler: lambda_function.handler        (infra/functions/aws/lambda_function.py)

A function URL hands over `rawPath` and `rawQueryString` percent-encoded as they were sent; API Gateway's HTTP APIs, which
use the same format, decode `rawPath`, and a path that held `%2F` or `%3F` is another one then. Cookies come apart.
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from edge_router.messages import Request, Response
from edge_router.platforms.function import from_env

# The whole event, in which a binary body is a third longer. Lambda itself refuses what is larger, with a 413 of its own.
MAX_BODY_BYTES = 6 * 1024**2

Handler = Callable[[Mapping[str, Any], object], dict[str, Any]]


def handler() -> Handler:
    """What Lambda calls, as the environment says.

    Raises:
        WrongSetting: a variable is missing or makes no sense; the message names it.
    """
    return handler_of(from_env("aws", max_body_bytes=MAX_BODY_BYTES).answer)


def handler_of(answer: Callable[[Request], Response]) -> Handler:
    """What Lambda calls, for whatever answers requests."""

    def handle(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
        return _translated(answer(_request(event)))

    return handle


def _request(event: Mapping[str, Any]) -> Request:
    http = event["requestContext"]["http"]
    # "replace", as JSON can hold what no text can; a stranger's request is no error of this function.
    headers = {name.lower().encode(): value.encode("utf-8", "replace") for name, value in event["headers"].items()}
    if cookies := event.get("cookies"):
        headers[b"cookie"] = "; ".join(cookies).encode("utf-8", "replace")
    body = event.get("body") or ""
    return Request(
        method=http["method"].encode(),
        path=event["rawPath"].encode(),
        query=event["rawQueryString"].encode(),
        headers=headers,
        ip=http["sourceIp"],
        body=b64decode(body) if event.get("isBase64Encoded") else body.encode(),
    )


def _translated(response: Response) -> dict[str, Any]:
    return {
        "statusCode": response.status,
        "headers": {name.decode(): value.decode() for name, value in response.headers},
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }
