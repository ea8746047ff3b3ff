"""How a handler becomes a route: who may call it, what it takes and gives, and how OpenAPI is told about it.

A handler is a plain function `(runtime, **path parameters, body=…, query=…) -> BaseModel`; nothing in it knows Chalice. One
that agents call is also given their token, as `bearer`, one of reach OWN who asks, as `principal`, and one that takes webhooks'
deliveries what came, as `delivery`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from chalice.app import Blueprint, MultiDict, Request, Response
from pydantic import BaseModel, ValidationError

from chalicelib.api import problems
from chalicelib.api.auth import Caller, Principal, Reach, authenticate, bearer
from chalicelib.errors import SailplaneError
from chalicelib.model import Scope
from chalicelib.ports import Runtime

Handler = Callable[..., BaseModel]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. `max_body_bytes` bounds what is read before anything is parsed.

    `scope` and `reach` are for routes whose caller is ADMIN: the scope that a key must have, and what of the deployment it
    must be for. A route that says neither is closed to all but the most powerful keys.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: type[BaseModel]
    status: HTTPStatus = HTTPStatus.OK
    caller: Caller = Caller.ADMIN
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()  # statuses beyond the ones every route of its kind may answer
    max_body_bytes: int = 256 * 1024
    scope: Scope = Scope.ADMIN
    reach: Reach = Reach.DEPLOYMENT


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook's delivery as it came: headers by lower-case name, and the very bytes that were signed."""

    headers: Mapping[str, str]
    body: bytes


# Whose word it is is in the body's signature, so its form is the sender's choice.
_DELIVERED_AS = ["application/json", "application/x-www-form-urlencoded"]


def blueprint(name: str, runtime: Callable[[], Runtime], routes: tuple[Route, ...]) -> Blueprint:
    """A Chalice blueprint serving `routes`. The runtime is asked for at the first request, not before."""
    made = Blueprint(name)
    for route in routes:
        view = _View(route, runtime, made)
        types = _DELIVERED_AS if route.caller is Caller.SENDER else _DELIVERED_AS[:1]
        made.route(route.path, methods=[route.method], name=view.__name__, content_types=types)(view)
    return made


class _View:
    """What Chalice calls. It keeps its `route`, so that the OpenAPI document can be made by walking `app.routes`."""

    def __init__(self, route: Route, runtime: Callable[[], Runtime], blueprint: Blueprint) -> None:
        self.route = route
        self._runtime = runtime
        self._blueprint = blueprint
        self.__name__ = route.handler.__name__
        self.__doc__ = route.summary

    def __call__(self, **path: str) -> Response:
        try:
            answer = self._answer(self._blueprint.current_request, path)
        except SailplaneError as error:
            return problems.answer_for(error)
        return Response(answer.model_dump_json(), {"Content-Type": "application/json"}, self.route.status.value)

    def _answer(self, request: Request, path: dict[str, str]) -> BaseModel:
        runtime = self._runtime()
        authorization = request.headers.get("authorization", "")
        principal = authenticate(self.route.caller, authorization, runtime)
        if self.route.caller is Caller.ADMIN:
            principal.require(self.route.scope)
        call = partial(self.route.handler, runtime, **path)
        if self.route.caller is Caller.AGENT:
            call = partial(call, bearer=bearer(authorization))
        if self.route.caller is Caller.SENDER:
            call = partial(call, delivery=_delivery(request, self.route.max_body_bytes))
        body = None
        if self.route.body:
            body = _parsed_body(self.route.body, request.raw_body, self.route.max_body_bytes)
            call = partial(call, body=body)
        if self.route.query:
            call = partial(call, query=_parsed_query(self.route.query, request.query_params))
        if self.route.caller is Caller.ADMIN:
            _require_reach(self.route.reach, principal, path, body)
        if self.route.reach is Reach.OWN:
            call = partial(call, principal=principal)
        return call()


def _require_reach(reach: Reach, principal: Principal, path: Mapping[str, str], body: BaseModel | None) -> None:
    if reach is Reach.DEPLOYMENT:
        principal.require_reach(("*",))
    elif reach is Reach.SERVICE:
        service: str = path.get("name") or getattr(body, "name", "*")
        principal.require_reach((service,))


def _delivery(request: Request, max_bytes: int) -> Delivery:
    _require_size(request.raw_body, max_bytes)
    return Delivery({name.lower(): value for name, value in request.headers.items()}, request.raw_body)


def _require_size(body: bytes, max_bytes: int) -> None:
    if len(body) > max_bytes:
        detail = f"The body has {len(body):,} bytes; {max_bytes:,} are accepted here."
        raise problems.Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def _parsed_body(model: type[BaseModel], body: bytes, max_bytes: int) -> BaseModel:
    _require_size(body, max_bytes)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            detail = f"The body is not JSON: {error.errors()[0]['msg']}."
            raise problems.Refused(HTTPStatus.BAD_REQUEST, detail) from error
        raise problems.InvalidRequest(error) from error


def _parsed_query(model: type[BaseModel], query: MultiDict | None) -> BaseModel:
    try:
        return model.model_validate(dict(query or {}))
    except ValidationError as error:
        raise problems.InvalidRequest(error) from error
