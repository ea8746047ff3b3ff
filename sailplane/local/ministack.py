"""The local stack's DynamoDB and SSM: MiniStack, installed into an environment of its own and run as a process of ours.

MiniStack pins its dependencies exactly, so it cannot share ours. It binds every interface unless told otherwise, prepares
for SFTP and MQTT, and removes docker containers that it takes for its own; all of that is switched off here.
`guarded_ministack` is what is run: it keeps others out, and its state on disk while it runs.
"""

from __future__ import annotations

import http.client
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from chalicelib.errors import Invalid, Unreachable
from chalicelib.providers.local import files
from sailplane.local.processes import ProcessId, end_child

VERSION = "1.5.33"
HOST = "127.0.0.1"

_REQUIREMENTS = Path(__file__).with_name("ministack-requirements.txt")
_GUARDED = Path(__file__).with_name("guarded_ministack.py")
_LOG_TAIL_LINES = 12

_log = logging.getLogger(__name__)


def environment(cache: Path, requirements: Path = _REQUIREMENTS) -> Path:
    """MiniStack's Python, installed on first use: some 15 s and 70 MB, from PyPI, every file checked against its hash.

    An interrupted installation leaves nothing that a later one would take for whole; two at once wait for each other.

    Args:
        cache: the directory for what can be fetched again.
        requirements: what is installed, by hash.

    Raises:
        Unreachable: it could not be installed; the message ends with pip's last lines.
    """
    # Its Lambdas run on its own interpreter, so the Python version belongs to the name.
    home = (
        cache
        / f"{requirements.stem.removesuffix('-requirements')}-{VERSION}-py{sys.version_info.major}{sys.version_info.minor}"
    )
    python = home / "bin" / "python"
    if not python.exists():
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)  # what lies in it is executed
        with files.exclusive(home.with_name(f"{home.name}.lock")):
            if not python.exists():
                _install(home, requirements)
    return python


def _install(home: Path, requirements: Path) -> None:
    draft = home.with_name(f"{home.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(draft)])
    pip = [str(draft / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "install", "--require-hashes", "--only-binary=:all:", "--requirement", str(requirements)])
    draft.rename(home)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-_LOG_TAIL_LINES:])
        raise Unreachable(
            f"MiniStack {VERSION} could not be installed. It is fetched from PyPI once, on first use: check the network "
            f"and try again. {' '.join(command[:3])} said:\n{said}"
        )


class MiniStack:
    """One MiniStack process on 127.0.0.1, from `with` to the end of its block, state kept on disk in between.

    Args:
        python: as returned by `environment`.
        home: a directory for its state and its log, used by no other MiniStack at the same time.
        port: where it listens; 0 takes any free port.
        start_timeout_s: how long it may take until it answers.
        stop_timeout_s: how long it may take to write its state before it is killed.
        script: what runs it, given `_env`.
        settings: what of its environment is to be otherwise.

    Raises on entering:
        Invalid: the port is taken.
        Unreachable: it ended, or did not answer in time; the message ends with its last log lines.
    """

    def __init__(
        self,
        python: Path,
        home: Path,
        port: int = 0,
        *,
        start_timeout_s: float = 30.0,
        stop_timeout_s: float = 10.0,
        script: Path = _GUARDED,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.log = home / "ministack.log"
        self.port = port
        self._key = secrets.token_hex(24)
        self._python = python
        self._state = home / "state"
        self._pid_file = home / "ministack.json"
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._script = script
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint, with the only access key id that it serves before the `@`. A secret, like the database itself."""
        return f"http://{self._key}@{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._state.mkdir(parents=True, exist_ok=True)
        self._stop_leftover()
        self.port = free_port(self.port)
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the supervisor, which stops things in order.
            self._process = subprocess.Popen(
                # -P: beside the script lies the module you are reading, by the same name as theirs.
                [str(self._python), "-P", str(self._script)],
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            files.write(self._pid_file, asdict(ProcessId.of(self._process.pid)))
            self._wait_until_healthy(self._process)
        except BaseException:  # Ctrl-C while waiting included: nothing may be left running
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, its state written; killed when that takes too long. Does nothing when it has ended."""
        if self._process is None:
            return
        end_child(self._process, self._stop_timeout_s)
        self._pid_file.unlink(missing_ok=True)

    def has_ended(self) -> bool:
        """Whether the process ended by itself or was killed by somebody."""
        return self._process is not None and self._process.poll() is not None

    def keep_up(self) -> None:
        """Start the process again, at the same place with what it last saved, if it has ended. Raises as on entering."""
        if self._process is not None and self.has_ended():
            _log.warning("The database ended with code %s; starting it again.", self._process.returncode)
            self.__enter__()

    def _env(self) -> dict[str, str]:
        """All of its environment: nothing of ours, the user's cloud credentials least of all, reaches it."""
        return {
            "SAILPLANE_DATABASE_KEY": self._key,
            "PATH": os.defpath,
            "TMPDIR": str(self._state),
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "dynamodb,ssm",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self._state),
            "LOG_LEVEL": "WARNING",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "DOCKER_HOST": f"unix://{self._state}/no-docker.sock",
            **self._settings,
        }

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not _is_healthy(self.port, self._key):
            if process.poll() is not None:
                raise Unreachable(f"MiniStack ended with code {process.returncode} at its start. {self._log_tail()}")
            if time.monotonic() > deadline:
                raise Unreachable(f"MiniStack did not answer within {self._start_timeout_s:g} s. {self._log_tail()}")
            time.sleep(0.05)

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "\n".join([f"The end of {self.log}:", *lines])

    def _stop_leftover(self) -> None:
        """A supervisor that was killed could not stop its MiniStack, which holds the state that is to be loaded."""
        if left := files.read(self._pid_file):
            ProcessId(**left).end(self._stop_timeout_s)


def free_port(port: int) -> int:
    """A port on 127.0.0.1 that nobody listens on: `port`, or any for 0. Raises `Invalid` when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Invalid(
                f"Port {port} on {HOST} is taken or forbidden ({error.strerror}). Stop who uses it, or choose another."
            ) from error
        free: int = probe.getsockname()[1]
        return free


def _is_healthy(port: int, key: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/"}
        connection.request("GET", "/_ministack/health", headers=headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
