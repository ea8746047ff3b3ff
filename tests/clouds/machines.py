"""The hypervisor of the clouds in a box: machines that really boot, as processes of this one.

Each has a loopback address, a directory, a session and a metadata service of its own, and runs its user data in it. What is
not emulated: a machine sees this computer's files, and other machines' ports.
"""

from __future__ import annotations

import random
import secrets
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from chalicelib.providers.boot import AGENT_PORT
from chalicelib.providers.local.processes import TAG, kill_all
from tests.clouds.box import HttpServer, Metadata


@dataclass
class _Machine:
    """One machine: everything that carries its directory in `TAG`."""

    directory: Path
    metadata_key: str  # unguessable: one machine must not see another's
    metadata: Metadata
    process: subprocess.Popen[bytes]
    destroyed: bool = False

    @property
    def is_on(self) -> bool:
        return not self.destroyed and not (self.directory / "off").exists()

    def destroy(self) -> None:
        self.destroyed = True
        kill_all(self.directory, self.process.pid, is_locked=lambda: False)
        self.process.wait()


class Machines:
    """`box.Hypervisor` with real processes. `close` takes all of them."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()  # processes are recognised by the path
        self._root.mkdir(parents=True, exist_ok=True)
        self._machines: dict[str, _Machine] = {}
        self._lock = threading.Lock()
        self._claims = ExitStack()
        self._addresses = _addresses(self._claims)
        self._metadata = HttpServer(("127.0.0.1", 0), _MetadataHandler)
        self._metadata.answer = self._answer  # type: ignore[attr-defined]  # for its handlers
        threading.Thread(target=self._metadata.serve_forever, args=(0.05,), name="metadata", daemon=True).start()

    def boot(self, machine_id: str, user_data: str, metadata: Metadata) -> str:
        directory = self._root / machine_id
        key = secrets.token_hex(16)
        with self._lock:
            address = next(self._addresses)
            machine = _Machine(directory, key, metadata, self._started(directory, user_data, key))
            self._machines[machine_id] = machine
        threading.Thread(target=_watch, args=(machine,), name=f"power {machine_id}", daemon=True).start()
        return address

    def destroy(self, machine_id: str) -> None:
        with self._lock:
            machine = self._machines.get(machine_id)
        if machine is not None:
            machine.destroy()

    def is_running(self, machine_id: str) -> bool:
        with self._lock:
            machine = self._machines.get(machine_id)
        return machine is not None and machine.is_on

    def console(self, machine_id: str) -> str:
        path = self._root / machine_id / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        for machine_id in list(self._machines):
            self.destroy(machine_id)
        self._metadata.shutdown()
        self._metadata.server_close()
        self._claims.close()

    def _started(self, directory: Path, user_data: str, key: str) -> subprocess.Popen[bytes]:
        commands = directory / "bin"
        commands.mkdir(parents=True)
        (directory / "user-data").write_text(user_data)
        shutdown = commands / "shutdown"
        shutdown.write_text(f"#!/bin/sh\n: > {shlex.quote(str(directory / 'off'))}\n")
        shutdown.chmod(0o700)
        host, port = self._metadata.server_address[:2]
        environment = {
            # This Python comes first: it has what the agent needs.
            "PATH": f"{commands}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(directory),
            "SAILPLANE_ROOT": str(directory / "opt"),
            "SAILPLANE_METADATA_URL": f"http://{host!s}:{port}/{key}",
            TAG: str(directory),
        }
        with (directory / "console").open("ab") as console:
            return subprocess.Popen(
                ["bash", str(directory / "user-data")],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )

    def _answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        key, _, rest = path.removeprefix("/").partition("/")
        with self._lock:
            found = [each for each in self._machines.values() if each.metadata_key == key and each.is_on]
        return found[0].metadata(method, f"/{rest}", headers) if found else (404, {}, b"")


def _watch(machine: _Machine) -> None:
    """A machine whose user data has run to its end goes on running; one that switches itself off is taken away."""
    while machine.is_on:
        time.sleep(0.05)
    machine.destroy()


def _addresses(claims: ExitStack) -> Iterator[str]:
    """Loopback addresses that nobody else gives out: a /24 belongs to who listens on the agents' port of its last address."""
    while True:
        network = f"127.{random.randint(64, 126)}.{random.randint(0, 255)}"
        if not _is_free(f"{network}.254"):
            continue
        try:
            claims.enter_context(socket.create_server((f"{network}.254", AGENT_PORT)))
        except OSError:
            continue  # somebody was faster
        for host in range(1, 254):
            if _is_free(f"{network}.{host}"):  # a machine may have outlived the process that started it
                yield f"{network}.{host}"


def _is_free(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, AGENT_PORT)) != 0


class _MetadataHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answered, body = self.server.answer(self.command, self.path, headers)  # type: ignore[attr-defined]  # set by Machines
        self.send_response(status)
        for name, value in {**answered, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # a machine that is killed does not wait for its answer
            self.end_headers()
            self.wfile.write(body)

    do_PUT = do_POST = do_GET  # noqa: N815 - the base class names them so

    def log_message(self, *_args: object) -> None:
        """Say nothing."""
