"""What the local stack keeps on disk, in $SAILPLANE_HOME/local: its secrets, who is running, and the log."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import psutil

from chalicelib.errors import Exists

ROUTER_STOP_S = 5.0


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
        """Wait for the process to end. One that nobody has reaped yet counts as ended; some containers take seconds for it."""
        deadline = time.monotonic() + timeout_s
        while self.find():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the parts of one local stack know each other by. Made at first start, kept from then on."""

    admin_key: str = field(repr=False)
    router_token: str = field(repr=False)
    agent_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Running:
    """A local stack that serves."""

    daemon: ProcessId
    router: ProcessId
    api_url: str
    edge_url: str


class Home:
    """The directory of one local stack. Two of them do not share anything but the ports they may ask for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.local = root / "local"
        self.log = self.local / "daemon.log"
        self.database = self.local / "ministack"
        self.replicas = self.local / "replicas"
        self._lock = self.local / "daemon.lock"
        self._state = self.local / "state.json"
        self._secrets = self.local / "secrets.json"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the right to run this home's stack; the kernel takes it back however the process ends.

        Raises `Exists` when another process holds it.
        """
        self.local.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Exists(f"Another process ({file.read()}) runs the local stack of {self.root}.") from None
            file.truncate(0)
            file.write(f"pid {os.getpid()}")
            file.flush()
            self._end_leftovers()
            try:
                yield
            finally:
                self._state.unlink(missing_ok=True)

    def secrets(self) -> Secrets:
        """This home's secrets, made when there are none yet. The file is readable by its owner only."""
        if not self._secrets.exists():
            made = Secrets(secrets.token_hex(24), secrets.token_hex(24), secrets.token_hex(24))
            _write_private(self._secrets, json.dumps(asdict(made)))
        return Secrets(**json.loads(self._secrets.read_text()))

    def publish(self, running: Running) -> None:
        """Let others find the stack that runs."""
        _write_private(self._state, json.dumps(asdict(running)))

    def running(self) -> Running | None:
        """The stack that runs, or None; what a killed one left behind does not count."""
        running = self._read_state()
        return running if running and running.daemon.find() else None

    def _read_state(self) -> Running | None:
        try:
            state = json.loads(self._state.read_text())
        except FileNotFoundError:
            return None
        return Running(ProcessId(**state.pop("daemon")), ProcessId(**state.pop("router")), **state)

    def _end_leftovers(self) -> None:
        """A stack that was killed could not end its router, which still routes and holds the port."""
        left = self._read_state()
        if left and (router := left.router.find()):
            router.terminate()
            if not left.router.is_gone_within(ROUTER_STOP_S):
                router.kill()


def _write_private(path: Path, text: str) -> None:
    """Replace a file at once, so that no reader ever sees half of it, and let nobody else read it."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
