"""Waiting for real processes: until something is so, and never longer than a deadline."""

from __future__ import annotations

import signal
import subprocess
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


def interrupted(process: subprocess.Popen[str], timeout_s: float = 30.0) -> str:
    """Press Ctrl-C and return what the process says on stderr until it ends; killed when it does not in time."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=timeout_s)[1]
    finally:
        process.kill()
