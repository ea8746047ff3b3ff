"""Which route a path belongs to: what API Gateway works out itself, and a function URL or a laptop's server does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import unquote


def match_route(routes: Iterable[str], raw_path: str) -> tuple[str, dict[str, str]] | None:
    """The route (such as `/v1/services/{name}`) that a path still percent-encoded belongs to, and its parameters, decoded.

    As in API Gateway a literal segment wins over a parameter, and one trailing slash is ignored.
    """
    parts = raw_path.removesuffix("/").split("/")
    candidates = (route for route in routes if _fits(route.removesuffix("/").split("/"), parts))
    best = min(candidates, key=lambda route: [segment.startswith("{") for segment in route.split("/")], default=None)
    if best is None:
        return None
    pairs = zip(best.split("/"), parts, strict=False)
    return best, {name[1:-1]: unquote(value) for name, value in pairs if name.startswith("{")}


def _fits(segments: Sequence[str], parts: Sequence[str]) -> bool:
    if len(segments) != len(parts):
        return False
    return all(segment == part or (segment[:1] == "{" and part) for segment, part in zip(segments, parts, strict=True))
