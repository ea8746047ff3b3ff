"""What is kept on disk in $SAILPLANE_HOME: refreshed prices, which control plane to talk to, and the local stack's own."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chalicelib.errors import Exists, Invalid
from chalicelib.providers.local import files
from sailplane.local.processes import ProcessId

ROUTER_STOP_S = 5.0


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
    clouds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connected:
    """A control plane elsewhere that commands talk to."""

    url: str
    key: str = field(repr=False)
    deployment: str
    region: str
    account: str = ""  # AWS's twelve digits; empty in what was kept before they were


class Home:
    """The directory of one local stack. Two of them do not share anything but the ports they may ask for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.local = root / "local"
        self.catalog = root / "catalog"
        self.log = self.local / "daemon.log"
        self.database = self.local / "ministack"
        self.replicas = self.local / "replicas"
        self.clouds = self.local / "clouds"
        self.snapshot = self.local / "table"  # the routing table, for a router that starts without the control plane
        self._connection = root / "connection.json"
        self._lock = self.local / "daemon.lock"
        self._state = self.local / "state.json"
        self._secrets = self.local / "secrets.json"

    def make(self) -> None:
        """See to it that the directory is there. Raises `Invalid` when it cannot be."""
        try:
            for directory in (self.root, self.local, self.catalog):  # parents get the umask's mode, not the given one
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            advice = "Choose another directory with --home or SAILPLANE_HOME."
            raise Invalid(f"Cannot keep anything in {self.root}: {error.strerror}. {advice}") from error

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the right to run this home's stack; the kernel takes it back however the process ends.

        Raises `Exists` when another process holds it, `Invalid` when the directory cannot be made.
        """
        self.make()
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
        kept = files.read(self._secrets)
        if kept is None:
            kept = asdict(Secrets(secrets.token_hex(24), secrets.token_hex(24), secrets.token_hex(24)))
            files.write(self._secrets, kept)
        return Secrets(**kept)

    def connect(self, connected: Connected) -> None:
        """Have commands talk to a control plane elsewhere. The file has its key, and is readable by its owner only."""
        self.make()
        files.write(self._connection, asdict(connected))

    def disconnect(self) -> None:
        """Have commands talk to the local stack again."""
        self._connection.unlink(missing_ok=True)

    def connected(self) -> Connected | None:
        """The control plane elsewhere that commands talk to, if any."""
        kept = files.read(self._connection)
        return Connected(**kept) if kept else None

    def publish(self, running: Running) -> None:
        """Let others find the stack that runs."""
        files.write(self._state, asdict(running))

    def running(self) -> Running | None:
        """The stack that runs, or None; what a killed one left behind does not count."""
        running = self._read_state()
        return running if running and running.daemon.find() else None

    def _read_state(self) -> Running | None:
        state = files.read(self._state)
        if state is None:
            return None
        processes = {name: ProcessId(**state[name]) for name in ("daemon", "router")}
        return Running(**{**state, **processes, "clouds": tuple(state.get("clouds", ()))})

    def _end_leftovers(self) -> None:
        """A stack that was killed could not end its router, which still routes and holds the port."""
        if left := self._read_state():
            left.router.end(ROUTER_STOP_S)
