"""Waiting for real processes: until something is so, and never longer than a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], timeout_s: float = 15.0) -> T:
    """Call `look` until what it returns is truthy, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not seen within {timeout_s:g} s; last: {seen!r}"
        time.sleep(0.01)
    return seen
