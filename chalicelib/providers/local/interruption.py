"""Making a laptop misbehave like a cloud: taking machines back, losing them, having none left."""

from __future__ import annotations

import json
from pathlib import Path

from chalicelib.errors import NotFound
from chalicelib.model import InstanceStatus
from chalicelib.providers.local.machine import Machine, write


def preempt(machine: Machine, at: float) -> None:
    """Give notice that the machine will be taken at the instant `at`. Raises `NotFound` when it is not running."""
    _require_running(machine)
    write(machine.directory / "notice.json", {"interruption_at": at})


def kill(machine: Machine) -> None:
    """Lose the machine now, without notice. Raises `NotFound` when it is not running."""
    _require_running(machine)
    machine.kill()


def capacity(root: Path) -> int | None:
    """How many machines this cloud has, None when it is not limited."""
    try:
        limit: int | None = json.loads(_faults(root).read_text(encoding="utf-8"))["capacity"]
    except FileNotFoundError:
        return None
    return limit


def set_capacity(root: Path, machines: int | None) -> None:
    """Limit how many machines there may be at once; those that run go on running."""
    write(_faults(root), {"capacity": machines})


def _faults(root: Path) -> Path:
    return root.parent / "faults.json"


def _require_running(machine: Machine) -> None:
    if not machine.exists or machine.status() is not InstanceStatus.RUNNING:
        raise NotFound(f"no machine of replica {machine.id} is running")
