"""Whether a control plane that was made works: what CloudFormation cannot know."""

from __future__ import annotations

from collections.abc import Callable

import httpx

# With a pause of 2 s, 20 s at the least: IAM takes some 10 s until it knows a new role everywhere, a cold start 2 s.
_TURNS = 10
_QUOTED_CHARACTERS = 300


def complaint(http: httpx.Client, url: str, pause: Callable[[], None]) -> str:
    """What is wrong with the function behind `url`, in words; empty when it answers that it could begin its work.

    Its first answer needs its package whole, its configuration, and a role that may read it.
    """
    said = _complaint(http, url)
    for _ in range(_TURNS - 1):
        if not said:
            break
        pause()
        said = _complaint(http, url)
    return said


def _complaint(http: httpx.Client, url: str) -> str:
    try:
        answer = http.get(f"{url.rstrip('/')}/healthz")
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {error}"
    return "" if answer.is_success else f"HTTP {answer.status_code} {answer.text[:_QUOTED_CHARACTERS]}"
