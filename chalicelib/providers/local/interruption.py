"""Making a laptop misbehave like a cloud: taking machines back, losing them, having none left."""

from __future__ import annotations

from pathlib import Path

from chalicelib.errors import NotFound
from chalicelib.model import InstanceStatus
from chalicelib.providers.local import files
from chalicelib.providers.local.machine import Machine


def preempt(machine: Machine, at: float) -> None:
    """Give notice that the machine will be taken at the instant `at`. Raises `NotFound` when it is not running."""
    _require_running(machine)
    files.write(machine.directory / "notice.json", {"interruption_at": at})


def kill(machine: Machine) -> None:
    """Lose the machine now, without notice. Raises `NotFound` when it is not running."""
    _require_running(machine)
    machine.kill()


def capacity(root: Path) -> int | None:
    """How many machines this cloud has, None when it is not limited."""
    limit: int | None = (files.read(_faults(root)) or {}).get("capacity")
    return limit


def set_capacity(root: Path, machines: int | None) -> None:
    """Limit how many machines there may be at once; those that run go on running."""
    files.write(_faults(root), {"capacity": machines})


def _faults(root: Path) -> Path:
    return root.parent / "faults.json"


def _require_running(machine: Machine) -> None:
    if not machine.exists or machine.status() is not InstanceStatus.RUNNING:
        raise NotFound(f"no machine of replica {machine.id} is running")
