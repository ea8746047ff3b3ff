"""How Google's API says no: an HTTP status, a message, and a reason that a client can read."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """The answer to a request that is not granted."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        details = [{"message": str(self), "domain": "global", "reason": self.reason}]
        return {"error": {"code": self.status, "message": str(self), "errors": details}}


def invalid(field: str, value: str, why: str) -> Refusal:
    """A field's value is not acceptable. As the cloud does, the message repeats the value."""
    return Refusal(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def not_found(what: str) -> Refusal:
    """What a request names, or refers to, is not there."""
    path = what if what.startswith("projects/") else f"projects/boxed/{what}"
    return Refusal(404, "notFound", f"The resource '{path}' was not found")
