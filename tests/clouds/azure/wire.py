"""What goes over the wire: requests that fit the contract, answers, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request that fits the contract. `base_url` is the one it came to."""

    operation: str
    method: str
    path: str
    parameters: Mapping[str, str]  # of the path
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: Json

    @property
    def name(self) -> str:
        return self.parameters.get("name", "")

    @property
    def base_url(self) -> str:
        return f"http://{self.headers['host']}"


@dataclass(frozen=True)
class Answer:
    """`body` is a document, or text as it is."""

    status: int
    body: Json | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.headers = status, code, message, headers

    @property
    def answer(self) -> Answer:
        return Answer(self.status, {"error": {"code": self.code, "message": self.message}}, self.headers)
