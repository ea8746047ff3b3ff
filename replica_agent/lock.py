"""One directory, one agent, one life.

`agent.lock` is locked (flock) for as long as the agent lives, so whoever wants to know whether it does asks the kernel
and no stale process id can lie. Its contents are written once, before the engine starts: a file with contents and no
lock is a machine that has lived and died, and nothing may live there again.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

_TRIES, _PAUSE_S = 40, 0.025  # whoever asks whether an agent lives holds the lock for microseconds


class Refused(Exception):
    """This directory is not this process's to live in."""


def take(directory: Path) -> int:
    """Lock the directory for the rest of this process and return the lock's descriptor.

    Raises `Refused` when another agent lives here, when one has lived here, or when the machine was ended before it began.
    """
    descriptor = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _locked(descriptor):
        os.close(descriptor)
        raise Refused(f"another agent is running in {directory}")
    if os.fstat(descriptor).st_size or (directory / "ended.json").exists():
        os.close(descriptor)
        raise Refused(f"an agent has lived in {directory} before; a replica has one life, launch another one instead")
    return descriptor


def publish(descriptor: int, document: Mapping[str, object]) -> None:
    """Tell where this agent listens. From here on the machine has lived."""
    os.pwrite(descriptor, json.dumps(document).encode(), 0)


def _locked(descriptor: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return True
    return False
