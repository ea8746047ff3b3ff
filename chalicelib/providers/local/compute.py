"""The `local` provider: every replica is a process group of this machine, with its own agent, port, directory and log.

Replicas survive the control plane and are found again by the tag in their directory. What keeps a launch from happening
twice is not this process: the agent locks its directory for its whole life and refuses to live where one has lived.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from chalicelib.errors import LaunchRefused, NoCapacity, Unreachable
from chalicelib.model import Instance, InstanceStatus, LaunchRequest
from chalicelib.ports import Clock
from chalicelib.providers.boot import configuration
from chalicelib.providers.local import errors, interruption, workdir
from chalicelib.providers.local.files import exclusive, write
from chalicelib.providers.local.machine import Machine
from chalicelib.providers.local.processes import TAG

# All that a replica inherits from this machine's user; the control plane's credentials stay with it.
_INHERITED = ("PATH", "HOME", "USER", "LANG", "TMPDIR")
_START_TIMEOUT_S, _START_POLL_S = 20.0, 0.02
_REFUSED = 3  # the agent's exit code when the directory is not its to live in
_KEPT_S = 3600.0  # how long a machine that is gone can still be listed and its log be read


class LocalProvider:
    """`ports.Provider` with real processes.

    `root` holds one directory a machine; `python` is an interpreter that can run `-m replica_agent`; of `host_env` only
    what a shell needs reaches a replica. `control_url` is where agents ask for secrets.
    """

    name = "local"
    listing_lag_s = 0.0

    def __init__(
        self,
        root: Path,
        deployment: str,
        python: str,
        host_env: Mapping[str, str],
        clock: Clock,
        *,
        control_url: str = "",
    ) -> None:
        # Resolved, because processes are recognised by the path.
        self._root = root.resolve()
        self._deployment = deployment
        self._python = python
        self._env = {name: host_env[name] for name in _INHERITED if name in host_env}
        self._clock = clock
        self._control_url = control_url
        self._root.mkdir(parents=True, exist_ok=True)

    def list_instances(self) -> tuple[Instance, ...]:
        with errors.reaching(), self._nothing_vanishes():
            return tuple(self._observe(machine) for machine in self._machines())

    def launch(self, request: LaunchRequest) -> Instance:
        machine = self._machine(request.replica.id)
        with errors.launching():
            self._admit(machine, request)
            with exclusive(machine.directory / "launch.lock"):
                if machine.life is None and machine.ended is None:
                    self._start(machine)
        return self._observe(machine)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        del instance_id  # the same as the replica's
        machine = self._machine(replica_id)
        with errors.reaching():
            if machine.exists:
                machine.end(self._clock.now(), preempted=False)

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        del instance_id
        with errors.reaching():
            return self._machine(replica_id).log_tail(tail)

    def preempt(self, replica_id: str, notice_s: float) -> None:
        """Take the machine back in `notice_s` seconds. Raises `NotFound` when it is not running."""
        interruption.preempt(self._machine(replica_id), self._clock.now() + notice_s)

    def kill(self, replica_id: str) -> None:
        """Lose the machine now, without notice. Raises `NotFound` when it is not running."""
        interruption.kill(self._machine(replica_id))

    def set_capacity(self, machines: int | None) -> None:
        """Limit how many machines there may be at once, None = no limit. Those that run go on running."""
        interruption.set_capacity(self._root, machines)

    def _machine(self, replica_id: str) -> Machine:
        return Machine(self._root / replica_id)

    def _machines(self) -> list[Machine]:
        candidates = [Machine(path) for path in sorted(self._root.iterdir()) if not path.name.startswith(".")]
        return [machine for machine in candidates if (machine.tag or {}).get("deployment") == self._deployment]

    def _observe(self, machine: Machine) -> Instance:
        """Look at a machine. One that died by itself is declared over, and what may be left of it is killed."""
        if machine.status() is InstanceStatus.GONE and machine.ended is None:
            now = self._clock.now()
            at = machine.interruption_at
            machine.end(now, preempted=at is not None and at <= now)
        return machine.instance()

    def _admit(self, machine: Machine, request: LaunchRequest) -> None:
        """Make the machine's directory unless there is one. Raises `NoCapacity`."""
        with exclusive(self._root / ".admission.lock"):
            if machine.exists:
                return
            self._prune()
            limit = interruption.capacity(self._root)
            if (
                limit is not None
                and sum(each.status() is not InstanceStatus.GONE for each in self._machines()) >= limit
            ):
                raise NoCapacity(f"this machine is set to have room for {limit} replicas (faults.json)")
            draft = self._root / f".{machine.id}"
            shutil.rmtree(draft, ignore_errors=True)
            try:
                self._furnish(draft, request)
                draft.rename(machine.directory)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def _furnish(self, draft: Path, request: LaunchRequest) -> None:
        replica, engine = request.replica, request.engine
        told = configuration(request, cloud=self.name, control_url=self._control_url)
        draft.mkdir(mode=0o700)
        if engine.workdir:
            workdir.copy(Path(engine.workdir), draft / "workdir", never=self._root)
        else:
            (draft / "workdir").mkdir()
        write(
            draft / "machine.json",
            {"deployment": self._deployment, "service": replica.service, "created_at": self._clock.now()},
        )
        write(
            draft / "agent.json",
            {
                **told,
                "env": {**told["env"], **self._tag(self._machine(replica.id))},
                "host": "127.0.0.1",
                "port": 0,
                "image": "",  # a laptop need not have docker
                "metadata_url": "",
                "control_url": "",  # which sees what happens on its own machine
                "workdir": "workdir",
            },
        )

    def _start(self, machine: Machine) -> None:
        """Start an agent and wait until one has begun to live there, this one or an earlier call's."""
        with (machine.directory / "agent.log").open("ab") as log:
            agent = subprocess.Popen(  # noqa: S603 - no shell, and no word of it is the user's
                # -P: nothing in the current directory may pass for a module.
                [self._python, "-P", "-m", "replica_agent", "--config", str(machine.directory / "agent.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=machine.directory,
                env={**self._env, **self._tag(machine)},
                start_new_session=True,
            )
        threading.Thread(target=agent.wait, name=f"reap {machine.id}", daemon=True).start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            exit_code = agent.poll()
            if machine.life is not None or machine.ended is not None:
                return
            if exit_code not in (None, _REFUSED):
                said = (machine.directory / "agent.log").read_text(errors="replace").strip().splitlines()[-5:]
                shutil.rmtree(machine.directory)
                raise LaunchRefused(f"the replica's agent ended with exit code {exit_code}: {' | '.join(said)}")
            time.sleep(_START_POLL_S)
        raise Unreachable(f"the agent of {machine.id} has not begun to listen within {_START_TIMEOUT_S:g} s")

    def _tag(self, machine: Machine) -> dict[str, str]:
        return {TAG: str(machine.directory), "SAILPLANE_REPLICA_ID": machine.id}

    def _prune(self) -> None:
        with self._nothing_vanishes():
            for machine in self._machines():
                ended = machine.ended
                if ended is not None and ended["at"] < self._clock.now() - _KEPT_S:
                    shutil.rmtree(machine.directory, ignore_errors=True)

    def _nothing_vanishes(self) -> AbstractContextManager[None]:
        """Keeps a listing and a pruning apart: half a directory reads like a machine that has yet to begin."""
        return exclusive(self._root / ".listing.lock")
