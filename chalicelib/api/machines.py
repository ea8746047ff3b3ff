"""The function URL at which machines reach the control plane: payload format 2.0 in, routes of the same app behind it.

A function URL costs nothing, API Gateway $3.50 a million requests, and routers ask all day. There is nothing here for an
owner's key to open: a route that takes one is not found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from chalice.app import Chalice

from chalicelib.api import problems
from chalicelib.api.auth import Caller
from chalicelib.api.paths import match_route

Event = Mapping[str, Any]
Handler = Callable[[Event, object], Mapping[str, Any]]

_DOCUMENT = "/openapi.json"  # describes the owner's routes too, at the owner's address


def on_function_url(app: Chalice) -> Handler:
    """The handler of the machines' function.

    Its event is https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads, and so is its answer.
    """

    def machines(event: Event, context: object) -> Mapping[str, Any]:
        path, method = event["rawPath"], event["requestContext"]["http"]["method"]
        matched = match_route(app.routes, path)
        if matched is None or not _is_for_machines(app, matched[0], method):
            return _not_found(path)
        return _answer(app(_as_rest(event, *matched), context))

    return machines


def _is_for_machines(app: Chalice, route: str, method: str) -> bool:
    entry = app.routes[route].get(method)
    return entry is not None and route != _DOCUMENT and entry.view_function.route.caller is not Caller.ADMIN


def _as_rest(event: Event, route: str, parameters: Mapping[str, str]) -> Event:
    """What API Gateway would have sent: its proxy event, payload format 1.0, as far as Chalice and our routes read it."""
    http = event["requestContext"]["http"]
    query = parse_qs(event["rawQueryString"], keep_blank_values=True) or None
    return {
        "resource": route,
        "path": event["rawPath"],
        "httpMethod": http["method"],
        "headers": event["headers"],
        "multiValueHeaders": {name: [value] for name, value in event["headers"].items()},
        "queryStringParameters": query and {name: values[-1] for name, values in query.items()},
        "multiValueQueryStringParameters": query,
        "pathParameters": dict(parameters) or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": route,
            "path": event["rawPath"],
            "httpMethod": http["method"],
            "identity": {"sourceIp": http["sourceIp"]},
            "requestId": event["requestContext"]["requestId"],
            "stage": event["requestContext"]["stage"],
        },
        "body": event.get("body"),
        "isBase64Encoded": event["isBase64Encoded"],
    }


def _answer(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Format 2.0 has one value for a header's name; HTTP lets several be joined with commas."""
    joined = {name: ", ".join(values) for name, values in answer["multiValueHeaders"].items()}
    return {
        "statusCode": answer["statusCode"],
        "headers": {**answer["headers"], **joined},
        "body": answer["body"],
        "isBase64Encoded": answer.get("isBase64Encoded", False),
    }


def _not_found(path: str) -> Mapping[str, Any]:
    status = HTTPStatus.NOT_FOUND
    detail = "There is nothing at this path for machines; owners use the control plane's other address."
    document = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail, "instance": path}
    return {
        "statusCode": status.value,
        "headers": {"Content-Type": problems.MEDIA_TYPE},
        "body": json.dumps(document),
        "isBase64Encoded": False,
    }
