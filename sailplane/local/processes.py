"""Processes of the local stack: telling them apart from later ones of the same number, and ending them."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from a later one that got the same number."""

    pid: int
    created_at: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this number now. Raises `psutil.NoSuchProcess`."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """A handle on the process while it lives."""
        try:
            process = psutil.Process(self.pid)
            # Linux derives the instant from the boot time, which clock adjustments move by up to a second.
            same = abs(process.create_time() - self.created_at) < 2
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def is_gone_within(self, timeout_s: float) -> bool:
        """Wait for the process to end. One that nobody has reaped yet counts as ended; some containers take seconds."""
        deadline = time.monotonic() + timeout_s
        while self.find():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def end(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL when it lives on for `timeout_s`. Nothing happens to one that has ended."""
        process = self.find()
        if process is None:
            return
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            if not self.is_gone_within(timeout_s):
                process.kill()
                self.is_gone_within(timeout_s)


def end_child(child: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM to a child process, and SIGKILL when it lives on for `timeout_s`; reaped when this returns."""
    child.terminate()
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
