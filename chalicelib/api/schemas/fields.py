"""What requests and answers are made of: names, numbers, and the four kinds of documents."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StringConstraints

from chalicelib.api import paging

RESERVED_NAMES = frozenset({"v1", "healthz"})  # the first segments of our own paths, here and at the edge
_NAME = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
# What a secret may be for: a service, all whose names begin so, or all.
SERVICE_PATTERN = r"^(\*|[a-z]([-a-z0-9]{0,38}[a-z0-9])?|[a-z][-a-z0-9]{0,38}\*)$"
_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$"  # no control characters, nor any that turn the direction
LONGEST_OVERLAP_S = 365 * 86_400.0
SLOWEST_PER_S, FASTEST_PER_S = 0.001, 1e6  # of a key's rate


def valid_name(name: str) -> str:
    """A service's name as it was given. Raises ValueError, saying what names look like, when it cannot be one."""
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is reserved; choose another name")
    if not re.fullmatch(_NAME, name):
        rule = "1 to 40 of a-z, 0-9 and -, a letter first, no - last"
        raise ValueError(f"{name!r} cannot name a service: a name is {rule}")
    return name


def _whole(number: object) -> object:
    """JSON knows one kind of number, and to JSON Schema 2.0 is an integer."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def dated(text: object) -> object:
    """Pydantic takes numbers for epoch seconds; the schema says `date-time`."""
    if isinstance(text, str) and not re.match(r"\d{4}-\d{2}-\d{2}[Tt]", text):
        raise ValueError("expected an instant such as 2030-01-02T03:04:05Z")
    return text


def _one_line(text: str) -> str:
    if not re.fullmatch(_LINE, text):
        raise ValueError("must be one line without control characters")
    return text


Line = Annotated[str, Field(json_schema_extra={"pattern": _LINE}), AfterValidator(_one_line)]
_NAMES: dict[str, JsonValue] = {"pattern": _NAME, "not": {"enum": [*sorted(RESERVED_NAMES)]}}
ServiceName = Annotated[str, Field(json_schema_extra=_NAMES), AfterValidator(valid_name)]
INTEGRAL = BeforeValidator(_whole)  # after the bounds, or pydantic leaves them out of the schema
Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True), INTEGRAL]
ReplicaId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")]
Token = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Cursor = Annotated[
    str,
    Field(json_schema_extra={"pattern": paging.PATTERN}, max_length=paging.LONGEST_CURSOR),
    AfterValidator(paging.valid_cursor),
]
EpochSecond = Annotated[int, Field(ge=0, le=10**11, strict=True), INTEGRAL]


class Request(BaseModel):
    """What is asked for. Unknown members are refused."""

    # What is refused may hold a secret, and an error may end up in a log.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class Body(Request):
    """A request's body. Strict: `false` is no number of seconds, though Python would have it so."""

    model_config = ConfigDict(strict=True)


class Answer(BaseModel):
    """What is told."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class PageQuery(Request):
    """How many at the most, and from where on: `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Cursor | None = None


class Page(Answer):
    """A part of a list. `next` is the `cursor` of the next one; null = that was the last."""

    next: str | None = None
