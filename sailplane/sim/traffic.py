"""Requests over time. Instants are seconds since the first one's day began; see `market`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it comes, how long a prompt it brings and how long an answer it gets, in tokens."""

    at: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests, in the order in which they come."""

    name: str
    requests: tuple[Request, ...]
