"""Three clouds on this machine, for real: daemon, real SDKs over HTTP, machines that boot from their user data, agents, engines."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from chalicelib.api.schemas import Replica
from chalicelib.model import ReplicaStatus
from sailplane.cli.client import Client
from sailplane.cli.connection import locate
from sailplane.local.home import Home
from tests.e2e.test_laptop import FREE_PORTS, Laptop
from tests.waiting import until

CLOUDS = ("aws", "gcp", "azure")
SERVER = Path(__file__).parents[2] / "examples" / "hello" / "server.py"
# Service files as users have them. Another directory of them, e.g. of SkyServe's examples, may be named instead.
CORPUS = Path(os.environ.get("SAILPLANE_SPEC_CORPUS", str(Path(__file__).parents[1] / "spec" / "corpus")))
BOOT_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """One stack with all three clouds and a service on each: the corpus' first three files, each told another cloud."""
    laptop = Laptop(
        tmp_path_factory.mktemp("clouds") / "home",
        os.environ.get("SAILPLANE_CACHE", str(Path.home() / ".cache" / "sailplane")),
    )
    laptop.json("local", "start", "--detach", "--clouds", ",".join(CLOUDS), *FREE_PORTS)
    for cloud, file in zip(CLOUDS, _files(), strict=True):
        laptop.json("up", _told(file, cloud, laptop.home.parent), "-n", cloud, "-y", "--detach")
    yield laptop
    laptop.run("local", "stop", "--down")
    for process in laptop.processes():
        process.kill()


def _files() -> list[Path]:
    """The first three that ask for accelerators and leave the place open."""
    texts = {path: path.read_text() for path in sorted(CORPUS.glob("*.yaml"))}
    return [path for path, text in texts.items() if "accelerators" in text and "infra" not in text][:3]


def _told(file: Path, cloud: str, directory: Path) -> str:
    """The file as it is, but for its engine, its cloud, and one spot replica instead of several."""
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    service = document["service"]
    service.pop("replica_policy", None)
    service |= {
        "replicas": 1,
        "access": {"keys": "open"},
        "readiness_probe": {"path": "/v1/models", "endpoint_probe_interval_seconds": 1, "initial_delay_seconds": 60},
    }
    document["resources"] |= {"infra": cloud, "use_spot": True}
    document |= {"setup": "", "run": f"exec python3 {SERVER} --port $SAILPLANE_PORT"}
    path = directory / f"{cloud}.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def _replicas(laptop: Laptop, service: str) -> list[Replica]:
    with Client(partial(locate, Home(laptop.home))) as client:
        return list(client.service(service).replicas)


def _ready(laptop: Laptop, service: str) -> list[Replica]:
    return [replica for replica in _replicas(laptop, service) if replica.status is ReplicaStatus.READY]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_service_on_a_cloud_answers_through_the_router(stack: Laptop, cloud: str) -> None:
    """The machine booted from its user data on an address of its own, and the stock client is redirected to it."""
    (replica,) = until(lambda: _ready(stack, cloud), BOOT_TIMEOUT_S)
    assert replica.provider == cloud
    address = httpx.URL(replica.url).host
    assert address.startswith("127.")
    assert address != "127.0.0.1"
    endpoint = stack.json("status", cloud, "--endpoint")["endpoint"]
    until(lambda: httpx.get(f"{endpoint}/v1/models", follow_redirects=True).is_success)
    answer = httpx.get(f"{endpoint}/v1/models", follow_redirects=True)
    assert answer.json()["data"][0]["id"] == "hello"
    assert [httpx.URL(hop.headers["location"]).host for hop in answer.history] == [address]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_notice_unroutes_at_once_and_brings_a_replacement(stack: Laptop, cloud: str) -> None:
    """Given the cloud's own way: unrouted within 5 s, replacement asked for within 30 s, which then serves."""
    (victim,) = until(lambda: _ready(stack, cloud), BOOT_TIMEOUT_S)
    noticed_at = time.time()
    stack.json("replica", "preempt", cloud, victim.id, "--notice", "30")
    until(lambda: _ready(stack, cloud) and victim.id not in [each.id for each in _ready(stack, cloud)], BOOT_TIMEOUT_S)
    events = [
        (datetime.fromisoformat(event["at"]).timestamp() - noticed_at, event)
        for event in stack.json("events", cloud)["events"]
    ]
    after = [(age_s, event) for age_s, event in events if age_s > 0]
    unrouted_s = next(
        age_s for age_s, event in after if event["kind"] == "routes" and victim.id not in event["message"]
    )
    requested_s = next(age_s for age_s, event in after if event["kind"] == "replica.pending")
    assert unrouted_s < 5
    assert requested_s < 30


def test_a_machine_that_dies_is_replaced(stack: Laptop) -> None:
    """Without notice, on a cloud: the cloud's list and the silent agent are enough."""
    (victim,) = until(lambda: _ready(stack, "gcp"), BOOT_TIMEOUT_S)
    stack.json("replica", "kill", "gcp", victim.id)
    until(lambda: _ready(stack, "gcp") and _ready(stack, "gcp")[0].id != victim.id, BOOT_TIMEOUT_S)


def test_down_leaves_nothing_in_any_cloud(stack: Laptop) -> None:
    """Every machine is seen gone; what the firewall rules and networks are is told by doctor, and removed."""
    assert stack.run("down", "--all", "-y").returncode == 0
    fixed = stack.json("doctor", "--fix", "--yes")
    assert fixed == {"leftovers": [], "unreachable": {}}
    machines = [process for process in stack.processes() if "clouds/" in " ".join(process.environ().values())]
    assert [process for process in machines if "replica_agent" in " ".join(process.cmdline())] == []
