"""The engine: the user's `setup`, then `run`, as bash scripts in a process group of their own or in a container.

The group's leader is a leash, a shell that does nothing but wait on a pipe whose other end this process holds. When the
agent dies, however it dies, the pipe closes and the leash kills the group: no engine outlives its agent. (Linux has
PR_SET_PDEATHSIG for this, but it reaches the direct child only, not what bash started, and macOS has nothing like it.)
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from enum import StrEnum
from pathlib import Path

from replica_agent.container import Container
from replica_agent.log import Log
from replica_agent.registry import Registry

_LEASH = 'trap "" TERM INT HUP; read -r _; kill -KILL 0'
_LAST_WORDS_S = 1.0  # for output that is still in the pipe when its writer has gone
_TAIL_LINES, _TAIL_BYTES = 20, 16_384
_CONTAINER_POLL_S, _CONTAINER_END_S = 0.1, 10.0


class Phase(StrEnum):
    """What the engine is doing."""

    SETUP = "SETUP"
    RUNNING = "RUNNING"
    EXITED = "EXITED"


class Engine:
    """Runs once. It is not restarted here: the control plane replaces the whole replica, with back-off."""

    def __init__(
        self,
        directory: Path,
        workdir: Path,
        port: int,
        env: Mapping[str, str],
        log: Log,
        *,
        host: str,
        container: Container | None,
    ) -> None:
        self.phase = Phase.SETUP
        self.exit_code: int | None = None
        self.port = port
        self._directory = directory
        self._workdir = workdir
        self._env = env
        self._log = log
        self._host = host  # the agent's; what listens there on the engine's port would be in its way
        self._container = container
        self._container_process: asyncio.subprocess.Process | None = None
        self._leash: asyncio.subprocess.Process | None = None
        self._outputs: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def log_tail(self) -> str:
        """The last 20 lines of output once the engine has exited, else empty."""
        return self._log.tail(_TAIL_LINES, _TAIL_BYTES) if self.phase is Phase.EXITED else ""

    def give_up(self, why: str) -> None:
        """Let it never run, so that it ends without an exit code, and say why."""
        self._log.say(why)
        self.phase = Phase.EXITED

    async def run(self, setup: str, run: str) -> None:
        """Run both scripts and return when the engine has exited. Failures are told by `exit_code` and the log."""
        if self.phase is Phase.EXITED:
            return
        code = await self._attempt("setup", setup) if setup.strip() else 0
        if code == 0:
            self.phase = Phase.RUNNING
            code = await self._attempt("run", run)
        if not self._stopping:
            await self._end()
        self.exit_code = code
        self.phase = Phase.EXITED

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL to whatever of the group still lives after `grace_s`."""
        self._stopping = True
        if self._container and self._container_process:
            with suppress(OSError):
                await self._spawn(self._container.terminate(), asyncio.subprocess.DEVNULL, asyncio.subprocess.DEVNULL)
            await self._silence(grace_s)
        elif self._leash:
            self._signal(self._leash, signal.SIGTERM)
            await self._silence(grace_s)
        await self._end()

    async def _attempt(self, name: str, text: str) -> int:
        """Run one script and return its exit code: -N after signal N, 127 when it could not be started."""
        try:
            if _is_taken(self.port) or _is_taken(self.port, self._host):
                self._log.say(
                    f"port {self.port} of this machine is taken by another process. Let `run` listen on $SAILPLANE_PORT"
                    " and each replica gets a free one."
                )
                return 127
            code = await self._enter_container() or await self._script(name, text)
        except OSError as error:
            self._log.say(f"cannot start {name} in {self._workdir}: {error.strerror}: {error.filename}")
            return 127
        self._log.say(f"{name} {f'was ended by signal {-code}' if code < 0 else f'exited with code {code}'}")
        return code

    async def _enter_container(self) -> int:
        """Start the container, if there is to be one and it does not run yet; the exit code when it ends instead."""
        if self._container is None or self._container_process is not None:
            return 0
        registry = self._container.registry
        try:
            return (await self._log_in(registry) if registry else 0) or await self._start_container(self._container)
        finally:
            if registry:
                registry.forget()

    async def _log_in(self, registry: Registry) -> int:
        process, output = await self._logged(registry.login(), asyncio.subprocess.PIPE)
        await process.communicate(registry.password.encode())
        await asyncio.wait({output}, timeout=_LAST_WORDS_S)
        return process.returncode or 0

    async def _start_container(self, container: Container) -> int:
        process, output = await self._logged(container.start(), asyncio.subprocess.PIPE)
        self._container_process = process
        ended = asyncio.create_task(process.wait())
        while not container.is_up:
            await asyncio.wait({ended}, timeout=_CONTAINER_POLL_S)
            if ended.done():
                await asyncio.wait({output}, timeout=_LAST_WORDS_S)
                return ended.result() or 1
        return 0

    async def _script(self, name: str, text: str) -> int:
        path = (self._container.scripts if self._container else self._directory) / f"{name}.sh"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        command = self._container.execute(path) if self._container else ["bash", str(path)]
        process, output = await self._logged(command, asyncio.subprocess.DEVNULL)
        self._outputs.add(output)
        output.add_done_callback(self._outputs.discard)
        code = await process.wait()
        # A daemon that `setup` left behind holds the pipe open, and `run` may need it: do not wait for the end.
        await asyncio.wait({output}, timeout=_LAST_WORDS_S)
        return code

    async def _logged(
        self, command: Sequence[str], stdin: int
    ) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
        # A pipe of our own: asyncio's would make `wait` wait for the last child that holds it (Python 3.11).
        reading, writing = os.pipe()
        output = asyncio.create_task(self._keep(reading))
        try:
            return await self._spawn(command, stdin, writing), output
        finally:
            os.close(writing)

    async def _spawn(self, command: Sequence[str], stdin: int, output: int) -> asyncio.subprocess.Process:
        """Start a command in the leash's group."""
        if self._leash is None:
            self._leash = await _leash(self._directory)
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd=self._workdir,
            env=self._env,
            process_group=self._leash.pid,
        )

    async def _keep(self, reading: int) -> None:
        output = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(output)
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb"))
        with closing(pipe):
            while data := await output.read(65_536):
                with suppress(OSError):  # a full disk costs the log, not the engine
                    self._log.write(data)

    async def _end(self) -> None:
        """Kill what is left of the group, after the container, which the rest of the group is not part of."""
        if self._container_process and self._container_process.stdin:
            self._container_process.stdin.close()
            await asyncio.wait({asyncio.create_task(self._container_process.wait())}, timeout=_CONTAINER_END_S)
        if self._leash:
            self._signal(self._leash, signal.SIGKILL)
            await self._leash.wait()
            await self._silence(_LAST_WORDS_S)
            self._leash = None

    async def _silence(self, timeout_s: float) -> None:
        """Wait until nobody can write to the log any more: everybody who could is gone."""
        if self._outputs:
            await asyncio.wait(self._outputs, timeout=timeout_s)

    def _signal(self, leash: asyncio.subprocess.Process, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # the group has ended by itself
            os.killpg(leash.pid, number)


async def _leash(directory: Path) -> asyncio.subprocess.Process:
    quiet = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        "sh", "-c", _LEASH, stdin=asyncio.subprocess.PIPE, stdout=quiet, stderr=quiet, cwd=directory, process_group=0
    )


def free_port() -> int:
    """A port for the engine that nothing listens on.

    Taken from 20000-29999, below the ports that Linux (32768+) and macOS (49152+) hand to outgoing connections, one of
    which could otherwise take it before the engine binds. Starting at the process id keeps agents apart from each other.
    """
    first = os.getpid() % 10_000
    return next(port for step in range(10_000) if not _is_taken(port := 20_000 + (first + step * 7) % 10_000))


def _is_taken(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as candidate:
        candidate.settimeout(1.0)
        return candidate.connect_ex((host, port)) == 0
