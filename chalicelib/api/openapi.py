"""The OpenAPI 3.1 document, generated from the routes that the app really has and the models they really use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from chalice.app import Chalice
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from chalicelib import __version__
from chalicelib.api import once, problems
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
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, routes, references)
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


def _operation(route: Route, routes: Sequence[Route], references: _References) -> dict[str, Any]:
    answer = _content(route.status, references[route.answer, "serialization"], route.media_type)
    if headers := dict(_answer_headers(route)):
        answer["headers"] = headers
    if links := dict(_links(route, routes)):
        answer["links"] = links
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": {str(route.status.value): answer},
    }
    for status in _error_statuses(route):
        operation["responses"][str(status)] = _content(
            HTTPStatus(status), references[Problem, "serialization"], problems.MEDIA_TYPE
        )
    if route.caller not in _UNKEYED:
        # OpenAPI 3.1 lets the list name roles where the scheme is not OAuth's: the scope that a key must have.
        scopes = [[scope] for scope in route.scopes] if route.caller is Caller.ADMIN else [[]]
        operation["security"] = [{route.caller.value: named} for named in scopes]
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
    by_key = (400, 409, 422) if route.is_owners_write else ()  # an Idempotency-Key's
    by_condition = (412,) if route.is_conditional else ()
    return sorted({*by_auth, *by_body, *by_query, *by_key, *by_condition, *route.errors, 500, 503})


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in _parameters(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.query:
        for name, schema in route.query.model_json_schema()["properties"].items():
            yield {"name": name, "in": "query", "required": False, "schema": schema}


def _header_parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.is_owners_write:
        yield _header_parameter(
            "Idempotency-Key",
            f"Names this request: sent again with this key within {once.KEPT_S / 3600:.0f} h it is answered as before and "
            "done once. A random one for every request.",
            {"pattern": once.PATTERN, "examples": ["8f2b7c0d4e6a4f0f9c1d"]},
        )
    if route.is_conditional:
        yield _header_parameter(
            "If-Match",
            "Only if the ETag still is one of these; a weak one never is.",
            {"examples": ['"k3f9.2"']},
        )


def _header_parameter(name: str, description: str, rules: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "string", **rules}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _answer_headers(route: Route) -> Iterator[tuple[str, dict[str, Any]]]:
    if route.tagged:
        yield "ETag", {"description": "The version that is shown; for If-Match.", "schema": {"type": "string"}}
    if route.is_owners_write:
        description = "The answer is one of before; nothing was done."
        yield "Idempotency-Replayed", {"description": description, "schema": {"const": "true"}}


def _links(route: Route, routes: Sequence[Route]) -> Iterator[tuple[str, dict[str, Any]]]:
    """From what was made to all that can be done with it: the operations on paths below."""
    for other in routes:
        named = _parameters(other.path)
        if route.status is HTTPStatus.CREATED and named and other.path.startswith(f"{route.path}/{{{named[0]}}}"):
            field = named[0] if named[0] in route.answer.model_fields else "id"
            yield (
                other.handler.__name__,
                {
                    "operationId": other.handler.__name__,
                    "parameters": {named[0]: f"$response.body#/{field}"},
                },
            )


def _parameters(path: str) -> list[str]:
    return [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]
