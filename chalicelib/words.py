"""Figures as people say them. Pure."""

from __future__ import annotations


def lasting(seconds: float) -> str:
    """A duration in the unit that needs no more than three digits: `90 s`, `45 min`, `24 h`, `90 days`."""
    for unit, unit_s, up_to_s in (("s", 1, 600), ("min", 60, 36_000), ("h", 3_600, 3 * 86_400)):
        if seconds < up_to_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
