"""What one look at an account found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
