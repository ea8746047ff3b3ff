"""How a handler becomes a route: who may call it, what it takes and gives, and how OpenAPI is told about it.

A handler is a plain function `(runtime, **path parameters, body=…, query=…) -> BaseModel`; nothing in it knows Chalice. One
that agents call is also given their token, as `bearer`, one of reach OWN who asks, as `principal`, one whose answer has a tag
the condition under which to change it, as `if_match`, and one that takes webhooks' deliveries what came, as `delivery`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from chalice.app import Blueprint, MultiDict, Request, Response
from pydantic import BaseModel, ValidationError

from chalicelib import identity
from chalicelib.api import once, problems
from chalicelib.api.auditing import audited
from chalicelib.api.auth import Caller, Principal, Reach, authenticate, bearer
from chalicelib.api.lookup import NoService
from chalicelib.api.preconditions import if_match
from chalicelib.api.schemas import Text
from chalicelib.errors import SailplaneError
from chalicelib.model import Scope
from chalicelib.ports import Runtime

Handler = Callable[..., Any]  # a BaseModel


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
    or_scope: Scope | None = None  # another one that suffices
    reach: Reach = Reach.DEPLOYMENT
    tagged: bool = False  # the answer has an `etag`
    media_type: str = "application/json"  # of the answer; anything else is a `Text`
    tells_all: bool = False  # a GET that is written into the audit as writes are

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Those of which a key must have one."""
        return (self.scope,) if self.or_scope is None else (self.scope, self.or_scope)

    @property
    def is_owners_write(self) -> bool:
        """What is done once under an idempotency key, and written into the audit. Machines' writes have ways of their own."""
        return self.caller is Caller.ADMIN and self.method != "GET"

    @property
    def is_conditional(self) -> bool:
        """Whether it heeds If-Match: what creates has nothing to match."""
        return self.tagged and self.method in ("PUT", "DELETE")


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
            return self._answer(self._blueprint.current_request, path)
        except SailplaneError as error:
            return problems.answer_for(error)

    def _answer(self, request: Request, path: dict[str, str]) -> Response:
        runtime = self._runtime()
        principal = authenticate(self.route.caller, request.headers.get("authorization", ""), runtime)
        act = partial(self._act, runtime, request, path, principal)
        if not (self.route.is_owners_write or self.route.tells_all):
            return act()
        return audited(runtime, principal, self.route.handler.__name__, request, path, act=act)

    def _act(self, runtime: Runtime, request: Request, path: dict[str, str], principal: Principal) -> Response:
        if self.route.caller is Caller.ADMIN:
            principal.require(*self.route.scopes)
        arguments = self._arguments(request, path, principal)
        do = partial(self._done, principal=principal, arguments=arguments)
        key = request.headers.get("idempotency-key")
        if key is None or not self.route.is_owners_write:
            return do(runtime)
        return once.done_once(runtime, principal, once.valid_key(key), _digest(request, runtime.settings.agent_key), do)

    def _arguments(self, request: Request, path: dict[str, str], principal: Principal) -> dict[str, Any]:
        """What the handler takes beside the runtime; whatever is wrong with the request is found here."""
        route, arguments = self.route, dict[str, Any](path)
        if route.body:
            arguments["body"] = _parsed_body(route.body, request.raw_body, route.max_body_bytes)
        if route.query:
            arguments["query"] = _parsed_query(route.query, request.query_params)
        if route.caller is Caller.ADMIN:
            _require_reach(route.reach, principal, path, arguments.get("body"))
        if route.reach is Reach.OWN:
            arguments["principal"] = principal
        if route.caller is Caller.AGENT:
            arguments["bearer"] = bearer(request.headers.get("authorization", ""))
        if route.caller is Caller.SENDER:
            arguments["delivery"] = _delivery(request, route.max_body_bytes)
        if route.is_conditional:
            arguments["if_match"] = if_match(request.headers.get("if-match"))
        return arguments

    def _done(self, runtime: Runtime, principal: Principal, arguments: dict[str, Any]) -> Response:
        try:
            answer = self.route.handler(runtime, **arguments)
        except NoService as error:
            visible = [name for name in error.nearest if principal.reaches((name,))]
            raise NoService(error.name, visible) from error
        # Some hold keys, none is good for long.
        headers = {"Content-Type": self.route.media_type, "Cache-Control": "no-store"}
        if self.route.tagged:
            headers["ETag"] = answer.etag
        text = answer.root if isinstance(answer, Text) else answer.model_dump_json()
        return Response(text, headers, self.route.status.value)


def _digest(request: Request, agent_key: str) -> str:
    """Of all that is asked: two requests with one digest ask for the same. Keyed, because a body may be a short secret."""
    query = {name: request.query_params.getlist(name) for name in request.query_params or ()}
    asked = [request.method, request.path, request.uri_params, query, request.headers.get("if-match")]
    return identity.request_digest(agent_key, json.dumps(asked, sort_keys=True).encode() + b"\n" + request.raw_body)


def _require_reach(reach: Reach, principal: Principal, path: Mapping[str, str], body: BaseModel | None) -> None:
    if reach is Reach.DEPLOYMENT:
        principal.require_reach(("*",))
    elif reach is Reach.SERVICE:
        principal.require_reach((str(path.get("name") or getattr(body, "name", "*")),))


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
