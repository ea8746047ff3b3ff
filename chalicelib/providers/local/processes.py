"""Finding and killing every process of one machine, also those that left its process group."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from chalicelib.errors import Unreachable

# In the environment of the agent and, inherited, of everything it starts.
TAG = "SAILPLANE_INSTANCE_DIR"
_PATIENCE_S, _PAUSE_S = 5.0, 0.01


def kill_all(directory: Path, session: int | None, is_locked: Callable[[], bool]) -> None:
    """SIGKILL until none is left, so that what forks meanwhile is caught too, and the agent's lock is free.

    (The kernel takes a dying process's environment before its locks.) Raises `Unreachable` when some do not die.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while (members := processes_of(directory, session)) or is_locked():
        if time.monotonic() > deadline:
            raise Unreachable(f"processes of {directory.name} do not die: {[each.pid for each in members]}")
        for process in members:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(_PAUSE_S)


def processes_of(directory: Path, session: int | None) -> list[psutil.Process]:
    """All living processes that carry the machine's tag, or that belong to its session and work inside its directory.

    The second kind is for programs whose environment cannot be read (started by `env -i`, or macOS' own shells). The
    session alone would not do, a number can come back; nor the directory alone, its owner's shell may stand in it.
    """
    return [process for process in psutil.process_iter() if _belongs(process, directory, session)]


def _belongs(process: psutil.Process, directory: Path, session: int | None) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if _environ(process).get(TAG) == str(directory):
            return True
        return session is not None and os.getsid(process.pid) == session and _is_inside(process, directory)
    except (psutil.Error, ProcessLookupError, PermissionError):
        return False  # it has just gone, or is another user's


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.AccessDenied:
        return {}


def _is_inside(process: psutil.Process, directory: Path) -> bool:
    return Path(process.cwd()).is_relative_to(directory)
