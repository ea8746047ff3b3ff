"""Every stock client gets its answer through a router that only redirects: at once, as a stream, and from a cold service."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.environment import Clients, install
from tests.e2e.test_laptop import HELLO, Laptop
from tests.waiting import until

pytestmark = pytest.mark.clients

CLIENTS = (
    "curl",
    "requests",
    "httpx",
    "aiohttp",
    "openai-python",
    "litellm",
    "node fetch",
    "axios",
    "openai-node",
)
COLD_START_S = 12
ANSWER = "You said: good morning"
# Eight redirects of 4 s each: below the 5 s that httpx waits for an answer unless told otherwise.
SPEC = f"""
service:
  readiness_probe: {{path: /v1/models, endpoint_probe_interval_seconds: 1}}
  replica_policy: {{min_replicas: 0, max_replicas: 1, target_qps_per_replica: 100, qps_window_seconds: 5,
                    upscale_delay_seconds: 0, downscale_delay_seconds: %s}}
  routing: {{wait_for_replica_s: 32}}
resources: {{infra: local, ports: 8080}}
envs: {{HELLO_START_DELAY: "%s"}}
workdir: {HELLO.parent}
run: exec python3 server.py --port $SAILPLANE_PORT
"""


@pytest.fixture(scope="session")
def clients() -> Clients:
    return install(Path(os.environ.get("SAILPLANE_CACHE", str(Path.home() / ".cache" / "sailplane"))))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """A stack with a warm service and one that sleeps when nobody has asked for 20 s."""
    laptop = Laptop(
        tmp_path_factory.mktemp("clients") / "home",
        os.environ.get("SAILPLANE_CACHE", str(Path.home() / ".cache" / "sailplane")),
    )
    laptop.start()
    for name, spec in (("warm", SPEC % (3600, 0)), ("cold", SPEC % (20, COLD_START_S))):
        path = laptop.home / f"{name}.yaml"
        path.write_text(spec)
        started = laptop.run("up", str(path), "-n", name, "-y")
        assert started.returncode == 0, started.stderr
    yield laptop
    laptop.run("local", "stop", "--down")
    for process in laptop.processes():
        process.kill()


@pytest.fixture(scope="module")
def key(stack: Laptop) -> str:
    """One key for both services, once the router knows it: it asks for news every second, and curl is faster."""
    made = str(stack.json("keys", "create", "warm", "cold", "--name", "clients")["key"])
    shown = {"Authorization": f"Bearer {made}"}
    models = f"{base_url(stack, 'warm').replace('/warm/v1', '/v1')}/models"
    until(lambda: httpx.get(models, headers=shown).is_success)
    return made


def base_url(stack: Laptop, service: str) -> str:
    return f"{stack.json('status', service, '--endpoint')['endpoint']}/v1"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("mode", ["plain", "stream"])
def test_a_client_gets_its_answer(client: str, mode: str, stack: Laptop, key: str, clients: Clients) -> None:
    """Each client, with the key where it puts an API key anyway, is answered whole, and as a stream in pieces."""
    asked = subprocess.run(
        clients.command(client, mode, base_url(stack, "warm"), key),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    pieces = [json.loads(line) for line in asked.stdout.splitlines()]
    assert "".join(pieces).endswith(ANSWER)
    assert len(pieces) == 1 if mode == "plain" else len(pieces) > 3


def test_no_client_notices_that_a_service_is_cold(stack: Laptop, key: str, clients: Clients) -> None:
    """All of them at once, at a service with no replica: it wakes, and each gets its answer without asking twice."""
    until(lambda: stack.json("status", "cold")["status"] == "IDLE", timeout_s=90)
    url = base_url(stack, "cold")
    asking = {
        client: subprocess.Popen(
            clients.command(client, "plain", url, key), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for client in CLIENTS
    }
    said = {client: process.communicate(timeout=120) for client, process in asking.items()}
    failed = {client: said[client][1][-500:] for client, process in asking.items() if process.returncode}
    assert not failed
    assert all(ANSWER in out for out, _ in said.values())


@pytest.mark.parametrize("client", ["curl", "openai-python", "node fetch"])
def test_a_client_without_a_key_gets_in_nowhere(client: str, stack: Laptop, clients: Clients) -> None:
    """A wrong key is refused, by an error that names it, and no answer comes."""
    command = clients.command(client, "plain", base_url(stack, "warm"), "sp_0000000000_wrong")
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert asked.returncode != 0
    assert "401" in asked.stderr
    assert ANSWER not in asked.stdout
