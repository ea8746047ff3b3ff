"""Every error of the API as RFC 9457 problem details. Nothing else turns an error into HTTP.

An error raised on purpose becomes an answer in `answer_for`. What Chalice answers by itself (404, 405, 415, and 500 for an
exception nobody expected, which it logs with its traceback) is rewritten by the middleware `as_problem`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from chalice.app import Request, Response
from pydantic import ValidationError

from chalicelib import errors

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

log = logging.getLogger(__name__)

# The first class in an error's ancestry that stands here decides: (status, slug of the type's URN, title).
_KINDS: Mapping[type[BaseException], tuple[HTTPStatus, str, str]] = {
    errors.SpecError: (HTTPStatus.UNPROCESSABLE_ENTITY, "spec", "The service YAML is not acceptable"),
    errors.NoFeasibleOffer: (HTTPStatus.UNPROCESSABLE_ENTITY, "no-feasible-offer", "Nothing on offer fits the request"),
    errors.Invalid: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "The request cannot be acted on"),
    errors.NotFound: (HTTPStatus.NOT_FOUND, "not-found", "There is no such thing"),
    errors.Exists: (HTTPStatus.CONFLICT, "exists", "The name is taken"),
    errors.Conflict: (HTTPStatus.PRECONDITION_FAILED, "conflict", "Somebody else changed it at the same time"),
    errors.LeaseHeld: (HTTPStatus.LOCKED, "lease-held", "Somebody else is at work on it"),
    errors.Retry: (HTTPStatus.SERVICE_UNAVAILABLE, "unreachable", "Something needed for the answer does not respond"),
}

# For pydantic's words that are about Python, or say nothing: https://docs.pydantic.dev/latest/errors/validation_errors/
_REASONS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "extra_forbidden": "there is no field of that name",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "missing": "is missing",
    "string_too_short": "is too short",
    "string_type": "must be a text",
    "too_short": "is empty",
}


class Refused(errors.SailplaneError):
    """A request that HTTP itself has a word for: 400, 401, 413. `slug` is for those that a program tells from others."""

    def __init__(
        self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None, slug: str = ""
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.slug = slug
        super().__init__(detail)


class InvalidRequest(errors.Invalid):
    """A body or a query that is not what the route takes; `problems` lists everything wrong with it."""

    def __init__(self, error: ValidationError) -> None:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        self.problems = tuple(
            errors.Problem(
                ".".join(map(str, one["loc"])), _REASONS.get(one["type"], one["msg"]).removeprefix("Value error, ")
            )
            for one in found
        )
        super().__init__("; ".join(f"{problem.path}: {problem.reason}" for problem in self.problems))


def answer_for(error: errors.SailplaneError) -> Response:
    """The answer that an error raised on purpose deserves. One without an entry is a fault of ours and is raised again."""
    if isinstance(error, Refused):
        return _problem(error.status, str(error), urn=_urn(error.slug), headers=error.headers)
    kind = next((_KINDS[kind] for kind in type(error).__mro__ if kind in _KINDS), None)
    if kind is None:
        raise error
    status, slug, title = kind
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return _problem(status, str(error), urn=_urn(slug), title=title, headers=headers, **_members(error))


def as_problem(request: Request | None, get_response: Callable[[Request | None], Response]) -> Response:
    """Chalice middleware: give every error the problem form, its `instance`, and a 500 the id to find it in the log by."""
    response = get_response(request)
    if response.status_code < HTTPStatus.BAD_REQUEST:
        return response
    if response.headers.get("Content-Type") != MEDIA_TYPE:
        response = _rewritten(response)
    if request is not None:
        response.body["instance"] = request.context.get("path", request.path)
        if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            response.body["request_id"] = request.context.get("requestId", "")
            log.error("request %s failed: %s %s", response.body["request_id"], request.method, request.path)
    response.body = json.dumps(response.body)
    return response


def _urn(slug: str) -> str:
    return f"urn:sailplane:problem:{slug}" if slug else "about:blank"


def _members(error: errors.SailplaneError) -> dict[str, Any]:
    match error:
        case errors.SpecError(problems=problems) | InvalidRequest(problems=problems):
            return {"problems": [asdict(problem) for problem in problems]}
        case errors.NoFeasibleOffer(suggestions=suggestions):
            return {"suggestions": list(suggestions)}
        case _:
            return {}


def _rewritten(response: Response) -> Response:
    """Chalice's own error, `{"Code", "Message"}`, in the problem form. A 500's message says nothing of the inside."""
    headers = {name: value for name, value in response.headers.items() if name.lower() != "content-type"}
    return _problem(HTTPStatus(response.status_code), response.body["Message"], headers=headers)


def _problem(
    status: HTTPStatus,
    detail: str,
    *,
    urn: str = "about:blank",
    title: str = "",
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    body = {"type": urn, "title": title or status.phrase, "status": status.value, "detail": detail, **members}
    return Response(body, {"Content-Type": MEDIA_TYPE, **(headers or {})}, status.value)
