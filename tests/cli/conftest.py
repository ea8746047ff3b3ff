"""The command line against a real control API over sockets, with a fake cloud whose time runs a hundred times as fast."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result

from chalicelib.api.app import create_app
from chalicelib.errors import NoCapacity
from chalicelib.model import Replica
from chalicelib.ports import Settings
from sailplane.cli import cli
from sailplane.local.gateway import Gateway
from tests.fakes import FakeClock, FakeCloud, World

KEY = "admin-key-of-the-tests"
YAML = """\
service:
  readiness_probe: /health
  replicas: 2
  ports: 8080
resources:
  infra: local
run: serve
"""


@dataclass
class Cloud(FakeCloud):
    """A cloud with logs, of which engines can be made to exit at once, all or all but the next few."""

    broken: bool = False
    sound: int = 0  # how many engines of versions after the first are started well although it is broken
    capacity_left: int | None = None  # how many machines it has room for yet
    notices: list[tuple[str, float]] = field(default_factory=list)

    def _start(self, replica: Replica) -> None:
        if self.capacity_left == 0:
            raise NoCapacity("none left")
        if self.capacity_left is not None:
            self.capacity_left -= 1
        super()._start(replica)
        is_sound = self.sound > 0 and replica.spec_version > 1
        self.machines[replica.id].exit_code = 3 if self.broken and not is_sound else None
        self.sound -= is_sound

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        del instance_id, tail
        return f"{replica_id} one\n{replica_id} two\n"

    def preempt(self, replica_id: str, notice_s: float) -> None:
        self.notices.append((replica_id, notice_s))

    def kill(self, replica_id: str) -> None:
        self.machines.pop(replica_id)


@dataclass
class Plane:
    """A control plane that is up, and the command line that talks to it."""

    world: World
    cloud: Cloud
    url: str
    directory: Path

    @property
    def env(self) -> dict[str, str]:
        return {"SAILPLANE_URL": self.url, "SAILPLANE_KEY": KEY, "SAILPLANE_HOME": str(self.directory)}

    def run(self, *args: str) -> Result:
        return CliRunner().invoke(cli, args, env=self.env)

    def json(self, *args: str) -> Any:
        result = self.run(*args, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def file(self, text: str = YAML, name: str = "service.yaml") -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def up(self, name: str = "svc") -> Result:
        return self.run("up", self.file(), "-n", name, "-y")


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    cloud = Cloud(FakeClock())
    world = World(cloud=cloud)
    settings = Settings(edge_url="http://127.0.0.1:7490", admin_key=KEY, router_tokens=("r" * 32,), agent_key="a" * 32)
    world.runtime = replace(world.runtime, settings=settings)
    gateway = Gateway(lambda: create_app(lambda: world.runtime))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(gateway, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    over = threading.Event()
    threads = [
        threading.Thread(target=server.run, args=([listener],)),
        threading.Thread(target=_tick, args=(world, over)),
    ]
    for thread in threads:
        thread.start()
    yield Plane(world, cloud, f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path)
    over.set()
    server.should_exit = True
    for thread in threads:
        thread.join()
    gateway.close()


def _tick(world: World, over: threading.Event) -> None:
    while not over.wait(0.01):
        world.tick()
