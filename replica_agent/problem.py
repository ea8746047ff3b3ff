"""What the agent itself answers; errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """Not the engine's words. A body that comes bit by bit has no length yet."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""


def problem(status: int, title: str, detail: str, instance: str, retry_after_s: int | None = None) -> Answer:
    """An `application/problem+json` answer. `instance` is the path that was asked for, without grant and query.

    Its member `error` is what OpenAI's clients show.
    """
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "error": {"message": detail, "type": "sailplane_error", "code": title.lower().replace(" ", "_")},
    }
    headers = {"Content-Type": "application/problem+json"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return Answer(status, headers, json.dumps(document).encode())
