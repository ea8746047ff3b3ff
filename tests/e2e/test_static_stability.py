"""Control plane and store killed under load: clients of living replicas notice nothing."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.test_laptop import Laptop, hello, ready_ids
from tests.waiting import until

CLIENTS = 4
# Of the load after the kill: above a refresh, a failed exchange, and the time that an old table could have been good for.
DARK_S = 5.0


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    cache = os.environ.get("SAILPLANE_CACHE", str(Path.home() / ".cache" / "sailplane"))
    laptop = Laptop(tmp_path / "home", cache)
    yield laptop
    for process in laptop.processes():
        process.kill()


@dataclass
class Load:
    """Clients that never retry."""

    endpoint: str
    key: str
    answered: Counter[str] = field(default_factory=Counter)  # by the replica that did
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def client(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(headers=headers, follow_redirects=True, timeout=10) as http:
            while not self.over.is_set():
                try:
                    answer = http.get(f"{self.endpoint}/v1/models")
                except httpx.TransportError as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text}")
                self.answered[answer.url.netloc.decode()] += 1


def test_requests_go_on_while_control_plane_and_store_are_gone(laptop: Laptop) -> None:
    """SIGKILL to both in the midst of requests: none fails without a retry, both replicas go on, with the same keys."""
    laptop.start()
    file = Path(hello(laptop))
    file.write_text(
        file.read_text().replace("min_replicas: 1", "min_replicas: 2").replace("max_replicas: 3", "max_replicas: 2")
    )
    laptop.json("up", str(file), "-n", "hello", "-y")
    until(lambda: len(ready_ids(laptop)) == 2)
    key = laptop.json("keys", "create", "hello")["key"]
    endpoint = laptop.json("status", "hello", "--endpoint")["endpoint"]
    headers = {"Authorization": f"Bearer {key}"}
    until(lambda: httpx.get(f"{endpoint}/v1/models", headers=headers, follow_redirects=True).is_success)
    load = Load(endpoint, key)
    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(load.client) for _ in range(CLIENTS)]
        try:
            until(lambda: len(load.answered) == 2 and load.answered.total() > 50)
            _kill_control_plane_and_store(laptop)
            before, killed_at = Counter(load.answered), time.monotonic()
            until(lambda: time.monotonic() - killed_at > DARK_S or load.failed)
        finally:
            load.over.set()
    assert [client.exception() for client in running] == [None] * CLIENTS
    assert load.failed == []
    assert all(count > 50 for count in (load.answered - before).values())
    assert len(load.answered - before) == 2
    assert httpx.get(f"{endpoint}/v1/models", follow_redirects=True).status_code == 401


def _kill_control_plane_and_store(laptop: Laptop) -> None:
    """The daemon, which has the API and the passes in it and would start the database again, and the database."""
    psutil.Process(laptop.json("local", "status")["pid"]).kill()
    (database,) = (process for process in laptop.processes() if any("guarded" in word for word in process.cmdline()))
    database.kill()
    assert laptop.run("status", "hello").returncode != 0
