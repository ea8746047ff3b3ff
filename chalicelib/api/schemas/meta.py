"""What is said about the control plane itself, and when something is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, RootModel

from chalicelib.api.schemas.fields import Answer, Request


class IntakeQuery(Request):
    """Who closes a control plane, or opens it again: their own mark only. Empty opens it whoever closed it."""

    by: Annotated[str, Field(max_length=64)] = ""


class Intake(Answer):
    """Whether services are made; `closed_until` is when they will be again by themselves."""

    closed_until: AwareDatetime | None


class Health(Answer):
    """The control plane answers."""

    status: Literal["ok"] = "ok"


class Info(Answer):
    """Which control plane this is."""

    version: str
    deployment: str
    providers: tuple[str, ...]
    edge_url: str


class Text(RootModel[str]):
    """What is no JSON."""


class OpenApi(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""


class FieldProblem(Answer):
    """One thing wrong with a request or a service YAML."""

    path: str
    reason: str
    hint: str
    line: int


class Problem(Answer):
    """RFC 9457 problem details. `problems` and `suggestions` come with a 422, `request_id` with a 500."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    problems: tuple[FieldProblem, ...] = ()
    suggestions: tuple[str, ...] = ()
    request_id: str = ""
