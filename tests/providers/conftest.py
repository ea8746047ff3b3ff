from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from chalicelib.model import CapacityType, Instance, Offer
from chalicelib.providers.local import processes
from chalicelib.providers.local.compute import LocalProvider
from chalicelib.providers.local.machine import Machine
from chalicelib.providers.local.offers import offers
from tests.fakes import FakeClock
from tests.providers.contract import LAST
from tests.waiting import until


@dataclass
class LocalCloud:
    """`contract.Cloud` on this machine."""

    root: Path
    python: str
    clock: FakeClock
    provider: LocalProvider
    offer: Offer

    def another_deployment(self) -> LocalProvider:
        return LocalProvider(self.root, "another", self.python, os.environ, self.clock)

    def another_process(self) -> LocalProvider:
        """A provider without memory of this one, as after a restart of the control plane."""
        return LocalProvider(self.root, "test", self.python, os.environ, self.clock)

    def at(self, root: Path) -> LocalCloud:
        """The same somewhere else."""
        return LocalCloud(
            root, self.python, self.clock, LocalProvider(root, "test", self.python, os.environ, self.clock), self.offer
        )

    def run_out(self) -> None:
        self.provider.set_capacity(0)

    def until_logged(self, instance: Instance) -> None:
        until(lambda: LAST in (self.provider.read_log(instance.replica_id, instance.id, 10) or ""))

    def is_dead(self, replica_id: str) -> bool:
        return not Machine(self.root / replica_id).is_locked

    def agents_of(self, replica_id: str) -> list[int]:
        """Process ids of the agents of one replica: the living processes that lead its sessions."""
        members = processes.processes_of(self.root / replica_id, None)
        return [process.pid for process in members if os.getsid(process.pid) == process.pid]

    def destroy(self) -> None:
        """Kill everything and make sure that nothing is left."""
        until(lambda: not [process for process in psutil.process_iter() if self._kills(process)])

    def _kills(self, process: psutil.Process) -> bool:
        """Kill the process if it is one of this cloud's. False when it is not, or was faster."""
        try:
            owned = process.environ().get(processes.TAG, "").startswith(f"{self.root}/")
            if owned:
                process.kill()
        except psutil.Error:
            return False
        return owned


def _local_cloud(home: Path, python: str) -> LocalCloud:
    root, clock = home / "instances", FakeClock()
    on_demand = next(offer for offer in offers(1.0, 1.0) if offer.capacity_type is CapacityType.ON_DEMAND)
    return LocalCloud(root, python, clock, LocalProvider(root, "test", python, os.environ, clock), on_demand)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    """Real agents."""
    local = _local_cloud(tmp_path, sys.executable)
    yield local
    local.destroy()


@pytest.fixture
def thin_cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    """Agents that do nothing but live, which start ten times as fast."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" -m tests.providers.thin_agent "$@"\n')
    python.chmod(0o700)
    local = _local_cloud(tmp_path, str(python))
    yield local
    local.destroy()
