"""The OpenAPI 3.1 document, generated from the routes that the app really has and the models they really use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from chalice.app import Chalice
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from chalicelib import __version__
from chalicelib.api import problems
from chalicelib.api.auth import Caller
from chalicelib.api.routes import Route
from chalicelib.api.schemas import Problem

_REF = "#/components/schemas/{model}"
_UNKEYED = (Caller.ANYONE, Caller.SENDER)  # a signature is no scheme that OpenAPI knows


def document(app: Chalice) -> dict[str, Any]:
    """The document for every route of `app`. A route that was not made by `routes.blueprint` has no `route`: AttributeError."""
    routes = tuple(entry.view_function.route for methods in app.routes.values() for entry in methods.values())
    references, schemas = models_json_schema(list(_models(routes)), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sailplane control API", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                caller.value: {"type": "http", "scheme": "bearer"} for caller in Caller if caller not in _UNKEYED
            },
        },
    }


_References = Mapping[Any, dict[str, Any]]  # (model, mode) -> {"$ref": …}


def _models(routes: tuple[Route, ...]) -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    yield Problem, "serialization"
    for route in routes:
        yield route.answer, "serialization"
        if route.body:
            yield route.body, "validation"


def _operation(route: Route, references: _References) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {str(route.status.value): _content(route.status, references[route.answer, "serialization"])},
    }
    for status in _error_statuses(route):
        operation["responses"][str(status)] = _content(
            HTTPStatus(status), references[Problem, "serialization"], problems.MEDIA_TYPE
        )
    if route.caller not in _UNKEYED:
        operation["security"] = [{route.caller.value: []}]
    if route.body:
        schema = references[route.body, "validation"]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if (
        route.caller is Caller.SENDER
    ):  # its form is GitHub's, GitLab's or Standard Webhooks' to describe, and so are its headers
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    return operation


def _content(status: HTTPStatus, schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {"description": status.phrase, "content": {media_type: {"schema": schema}}}


def _error_statuses(route: Route) -> list[int]:
    by_auth = {Caller.ANYONE: (), Caller.ADMIN: (401, 403)}.get(route.caller, (401,))
    by_body = (400, 413, 415, 422) if route.body or route.caller is Caller.SENDER else ()
    by_query = (422,) if route.query else ()
    return sorted({*by_auth, *by_body, *by_query, *route.errors, 500, 503})


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for segment in route.path.split("/"):
        if segment.startswith("{"):
            yield {"name": segment[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.query:
        for name, schema in route.query.model_json_schema()["properties"].items():
            yield {"name": name, "in": "query", "required": False, "schema": schema}
