"""The edge router's process on this machine."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sailplane.local.home import ROUTER_STOP_S
from sailplane.local.processes import ProcessId, end_child

LONGEST_PAUSE_S = 10.0

_log = logging.getLogger(__name__)


class Router:
    """Keeps one router process up on a socket that is ours, so that clients wait instead of failing while it restarts.

    Args:
        listener: a listening socket, handed down to the process.
        env: the whole environment of the process.
        directory: where it runs, which tells the routers of several stacks apart.
    """

    def __init__(self, listener: socket.socket, env: Mapping[str, str], directory: Path) -> None:
        self._listener = listener
        self._env = dict(env)
        self._directory = directory
        self._pause_s = 0.1
        self._started_at = 0.0
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        end_child(self._process, ROUTER_STOP_S)

    @property
    def id(self) -> ProcessId:
        """The process that serves now."""
        return ProcessId.of(self._process.pid)

    def keep_up(self) -> bool:
        """Start the process again if it has ended and its pause is over; True when that was done.

        The pause is 0.1 s, doubled with every start up to 10 s, and back at 0.1 s for a router that had lived 10 s.
        """
        code = self._process.poll()
        lived_s = time.monotonic() - self._started_at
        if code is None or lived_s < self._pause_s:
            return False
        _log.warning("The edge router ended with code %s after %.1f s; starting it again.", code, lived_s)
        self._pause_s = 0.1 if lived_s > LONGEST_PAUSE_S else min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._process = self._start()
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        fd = self._listener.fileno()
        # -P: nothing in the directory may pass for a module.
        command = [sys.executable, "-P", "-m", "edge_router", f"--fd={fd}"]
        # A session of its own: Ctrl-C in the terminal is for the supervisor, which stops things in order.
        return subprocess.Popen(command, env=self._env, cwd=self._directory, pass_fds=[fd], start_new_session=True)
