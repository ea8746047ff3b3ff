"""The machines' address: what routers, replicas and webhooks may ask, through Lambda's function URL, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from chalicelib.api.auth import Caller
from chalicelib.api.machines import on_function_url
from tests.api.conftest import ADMIN_KEY, ROUTER_TOKEN, Api


def _ask(api: Api, method: str, path: str, body: bytes = b"", *, key: str = ROUTER_TOKEN, query: str = "") -> Any:
    """As Lambda hands it over: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"content-type": "application/json", "authorization": f"Bearer {key}"},
        "requestContext": {
            "accountId": "anonymous",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "t"},
            "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599",
            "stage": "$default",
        },
        "isBase64Encoded": bool(body),
    }
    if body:
        event["body"] = base64.b64encode(body).decode()
    return on_function_url(api.app)(event, None)


def _status(answer: Mapping[str, Any]) -> int:
    status: int = answer["statusCode"]
    return status


def test_a_router_exchanges(api: Api) -> None:
    """Counts in, the sealed table out: the route is the one that API Gateway's caller meets."""
    answer = _ask(api, "POST", "/v1/edge/exchange", b'{"router_id": "edge-1", "seq": 1, "etag": "", "requests": {}}')
    assert _status(answer) == 200, answer
    assert json.loads(answer["body"])["table"]


def test_errors_are_problems_with_their_request_id(api: Api) -> None:
    """Whatever the app answers passes through: form, status, and the path that was asked for."""
    answer = _ask(api, "POST", "/v1/edge/exchange", b"{}", key="wrong")
    assert _status(answer) == 401
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert json.loads(answer["body"])["instance"] == "/v1/edge/exchange"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("GET", "/v1/edge/exchange"), ("GET", "/")])
def test_what_is_not_there_is_not_found(api: Api, method: str, path: str) -> None:
    """As a problem, without a word about the rest of the API."""
    answer = _ask(api, method, path)
    assert _status(answer) == 404
    assert json.loads(answer["body"])["status"] == 404


def test_the_owners_routes_are_not_at_this_address(api: Api) -> None:
    """With the owner's key too: a leaked one opens nothing here. All that machines call is here, whoever adds it."""
    for path, methods in api.app.routes.items():
        for method, entry in methods.items():
            asked = path.replace("{", "").replace("}", "")
            caller = entry.view_function.route.caller
            answer = _ask(api, method, asked, key=ADMIN_KEY)
            is_here = "at this path for machines" not in answer["body"]
            assert is_here == (caller is not Caller.ADMIN and path != "/openapi.json"), (method, path)
