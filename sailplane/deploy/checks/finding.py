"""What one look at an account found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx


class Verdict(StrEnum):
    """How it is."""

    FINE = "ok"
    MISSING = "missing"  # what needs it will fail
    UNKNOWN = "unknown"  # it could not be asked


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `sailplane check`."""

    cloud: str
    what: str
    verdict: Verdict
    found: str
    fix: str = ""  # the command, or the sentence, that mends it


def asked(http: httpx.Client, method: str, url: str, body: Any = None) -> dict[str, Any] | str:
    """What a cloud answers, or in words why it does not."""
    try:
        answer = http.request(method, url, json=body)
    except httpx.TransportError as error:
        return f"no answer: {error}"
    if answer.is_error:
        return f"HTTP {answer.status_code}: {_message(answer)}"
    found: dict[str, Any] = answer.json()
    return found


def _message(answer: httpx.Response) -> str:
    """Both clouds put an error's text at the same place; proxies in between put it anywhere."""
    try:
        return str(answer.json()["error"]["message"]).splitlines()[0]
    except (ValueError, KeyError, TypeError, IndexError):
        return answer.reason_phrase
