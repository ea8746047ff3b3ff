"""One machine of the local cloud: a directory, the agent that lives in it, and every process the agent started.

    machine.json   whose it is: the tag              agent.lock   held by the agent while it lives, see replica_agent.lock
    agent.json     what the agent is to do, 0600     ended.json   the machine is over, for good: when, and by whom
    notice.json    when it will be taken back        replica.log, agent.log, workdir/

A directory appears under its name complete, by one rename, so there is no half-made machine.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.model import Instance, InstanceStatus
from chalicelib.providers.local import files, processes


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine by its directory, whether or not there is one."""

    directory: Path

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def exists(self) -> bool:
        return self.directory.is_dir()

    @property
    def tag(self) -> Mapping[str, Any] | None:
        """Deployment, service and time of creation."""
        return files.read(self.directory / "machine.json")

    @property
    def life(self) -> Mapping[str, Any] | None:
        """Process id and port of the agent that lives or lived here, None before it began."""
        return files.read(self.directory / "agent.lock")

    @property
    def ended(self) -> Mapping[str, Any] | None:
        """When (`at`) and whether `preempted`, None while nobody has declared the machine over."""
        return files.read(self.directory / "ended.json")

    @property
    def interruption_at(self) -> float | None:
        notice = files.read(self.directory / "notice.json")
        return None if notice is None else float(notice["interruption_at"])

    @property
    def is_locked(self) -> bool:
        """An agent lives here."""
        try:
            with (self.directory / "agent.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def status(self) -> InstanceStatus:
        """What the directory and the kernel say. A machine that died by itself reads GONE; `end` makes it final."""
        life = self.life  # before the lock: contents without a lock mean death only if they were there first
        locked = self.is_locked
        if self.ended is not None:
            return InstanceStatus.STOPPING if locked else InstanceStatus.GONE
        if life is None:
            return InstanceStatus.PENDING
        return InstanceStatus.RUNNING if locked else InstanceStatus.GONE

    def instance(self) -> Instance:
        """The machine as `ports.Provider` describes it."""
        status, tag, life, ended = self.status(), self.tag or {}, self.life or {}, self.ended or {}
        return Instance(
            provider="local",
            id=self.id,
            replica_id=self.id,
            service=tag["service"],
            status=status,
            created_at=tag["created_at"],
            url=f"http://127.0.0.1:{life['port']}" if status is InstanceStatus.RUNNING else "",
            interruption_at=self.interruption_at,
            preempted=ended.get("preempted", False),
        )

    def end(self, at: float, *, preempted: bool) -> None:
        """Declare the machine over and kill what runs in it. Who declares first decides whether it was preempted.

        Declaring comes first: an agent that is only just starting then finds the declaration and leaves.
        """
        if self.ended is None:
            files.write(self.directory / "ended.json", {"at": at, "preempted": preempted})
        self.kill()

    def kill(self) -> None:
        """SIGKILL everything at once and say nothing: the machine's power is cut."""
        processes.kill_all(self.directory, (self.life or {}).get("pid"), lambda: self.is_locked)

    def log_tail(self, lines: int) -> str | None:
        """The last lines the engine wrote; None when it never wrote any."""
        texts = [
            path.read_bytes().decode(errors="replace")
            for name in ("replica.log.1", "replica.log")
            if (path := self.directory / name).exists()
        ]
        return "".join("".join(texts).splitlines(keepends=True)[-lines:] if lines else []) if texts else None
