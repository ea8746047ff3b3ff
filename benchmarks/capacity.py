"""What the control plane asks of DynamoDB, in requests and capacity units: the figures that `chalicelib.cost` reckons with.

    python -m benchmarks.capacity            (needs npm and Java 17, for Amazon's DynamoDB Local)

The shipped passes and the shipped store run over DynamoDB Local, which counts capacity as DynamoDB does: a strongly
consistent read takes one unit for each 4 KB of a query's items, a write one for each KB of each item, twice that in a transaction.
The clouds and the agents are in memory. Of each piece of work: requests, read units, write units, CPU in ms (the
client's work included), the median of several.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chalicelib import passes, spec
from chalicelib.api.edge import exchange
from chalicelib.api.schemas import Exchange
from chalicelib.model import ReplicaStatus, ServiceSpec
from chalicelib.store.dynamodb import DynamoDBStore
from edge_router.counts import Batch, Counts
from edge_router.platforms.function import REFRESH_S
from tests.fakes import FakeClock, FakeCloud, World
from tests.sealed import opened
from tests.store import dynamodb_local
from tests.store.nouns import RandomIds

CACHE = Path(os.environ.get("SAILPLANE_CACHE", "~/.cache/sailplane")).expanduser()
ROUNDS = 15
YAML = """\
service:
  readiness_probe:
    path: /v1/models
    initial_delay_seconds: 900
  replica_policy:
    min_replicas: {replicas}
    max_replicas: {most}
    target_qps_per_replica: 5
  ports: 8000
resources:
  accelerators: {{L4:1, A10G:1, A100:1}}
  use_spot: true
  disk_size: 200
envs:
  MODEL_NAME: mistralai/Mixtral-8x7B-Instruct-v0.1
setup: |
  uv venv --python 3.12 ~/venv && . ~/venv/bin/activate && uv pip install vllm==0.11.0
run: |
  . ~/venv/bin/activate
  vllm serve $MODEL_NAME --port 8000 --max-model-len 8192 --gpu-memory-utilization 0.92 --tensor-parallel-size 1
"""


@dataclass
class Used:
    """What one piece of work took."""

    requests: int = 0
    read_units: float = 0.0
    write_units: float = 0.0
    cpu_ms: float = 0.0


class Plane:
    """A control plane on DynamoDB Local with services on an endless cloud, and a meter on its table."""

    def __init__(self, url: str, services: int, replicas: int) -> None:
        self.clock = FakeClock()
        self.names = [f"service-{number}" for number in range(services)]
        store = DynamoDBStore(
            f"t-{services}-{replicas}", "us-east-1", clock=self.clock, ids=RandomIds(), endpoint_url=url
        )
        store.create_table()
        self.used = Used()
        self._watch(store)
        self.world = World(cloud=FakeCloud(self.clock), store=store)
        wanted = replace(_wanted(replicas), resources=World().create().spec.resources)  # which the fake market has
        for name in self.names:
            self.world.create(name, wanted)
        self.runtime = replace(
            self.world.runtime, settings=replace(self.world.runtime.settings, router_tokens=("router-token",))
        )
        self.counts = Counts(first_seq=1)
        self.etag: str | None = None

    def _watch(self, store: DynamoDBStore) -> None:
        client = store._table._connection.client  # noqa: SLF001 nobody but this benchmark wants to know
        client.meta.events.register("provide-client-params.dynamodb.*", _ask_for_capacity)
        client.meta.events.register("after-call.dynamodb.*", self._count)

    def _count(self, model: Any, parsed: Mapping[str, Any], **_: object) -> None:
        answers = parsed.get("ConsumedCapacity", [])
        units = sum(one["CapacityUnits"] for one in (answers if isinstance(answers, list) else [answers]))
        self.used.requests += 1
        if model.name in ("Query", "GetItem", "BatchGetItem"):
            self.used.read_units += units
        else:
            self.used.write_units += units

    def measure(self, work: Callable[[], object], rounds: int = ROUNDS) -> Used:
        """Medians over `rounds`, ten seconds apart."""
        seen = []
        for _ in range(rounds):
            self.clock.advance(10.0)
            self.used = Used()
            started = time.process_time()
            work()
            self.used.cpu_ms = (time.process_time() - started) * 1e3
            seen.append(self.used)
        return Used(
            round(statistics.median(one.requests for one in seen)),
            statistics.median(one.read_units for one in seen),
            statistics.median(one.write_units for one in seen),
            statistics.median(one.cpu_ms for one in seen),
        )

    def settle(self) -> Used:
        """Passes until all is at rest; what they took together."""
        self.used = Used()
        started = time.process_time()
        for _ in range(40):
            self.clock.advance(1.0)
            if not any(report.acted for report in passes.tick(self.world.runtime)):
                self.used.cpu_ms = (time.process_time() - started) * 1e3
                return self.used
        raise AssertionError("it did not come to rest")

    def lose_one(self) -> Used:
        """A machine dies; until its successor serves."""
        self.world.cloud.machines.popitem()
        self.clock.advance(60.0)
        return self.settle()

    def serve(self, minutes: int) -> None:
        """What a function does that is asked five times a second for each service."""
        for _ in range(minutes * round(60 / REFRESH_S)):
            self.clock.advance(REFRESH_S)
            now = self.clock.now()
            for name in self.names * round(5 * REFRESH_S):
                self.counts.add(name, now)
            self._exchange(self.counts.freeze(self.names, now))

    def _exchange(self, batch: Batch) -> None:
        asked = {"router_id": "router-aws-0123456789", "seq": batch.seq, "requests": batch.requests, "etag": self.etag}
        body = Exchange.model_validate_json(json.dumps(asked | {"on_demand": True}))
        answer = exchange(self.runtime, body)
        self.counts.acknowledge(batch)
        if answer.table is not None:
            self.etag = opened(answer.table, "router-token")["etag"]


def _ask_for_capacity(params: dict[str, Any], model: Any, **_: object) -> None:
    if "ReturnConsumedCapacity" in model.input_shape.members:
        params["ReturnConsumedCapacity"] = "TOTAL"


def _wanted(replicas: int) -> ServiceSpec:
    return spec.parse(YAML.format(replicas=replicas, most=2 * replicas)).spec


def _print(what: str, used: Used) -> None:
    print(f"{what:44} {used.requests:8} {used.read_units:8.1f} {used.write_units:8.1f} {used.cpu_ms:8.1f}", flush=True)


def main() -> None:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        dynamodb_local.running(dynamodb_local.install(CACHE), Path(scratch) / "log") as url,
    ):
        print(f"{'':44} {'requests':>8} {'read':>8} {'write':>8} {'CPU ms':>8}")
        for services, replicas in ((1, 1), (1, 3), (10, 3)):
            _measure(Plane(url, services, replicas), f"{services} service{'s' * (services > 1)} of {replicas}")


def _measure(plane: Plane, size: str) -> None:
    store, runtime, due = plane.world.store, plane.world.runtime, frozenset(plane.names)

    def a_pass() -> object:
        return passes.tick(runtime, due)

    _print(f"{size}: from nothing to ready", plane.settle())
    assert all(one.status is ReplicaStatus.READY for one in plane.world.state("service-0").replicas)
    _print(f"{size}: a tick at rest", plane.measure(lambda: passes.tick(runtime)))
    _print(f"{size}: a pass at rest", plane.measure(a_pass))
    _print(f"{size}: an exchange's reads", plane.measure(lambda: (store.tables(), store.endpoint_keys())))
    _print(f"{size}: a lost machine replaced", plane.lose_one())
    plane.serve(10)
    _print(f"{size}: a pass at rest, 5 req/s for 10 min", plane.measure(a_pass))
    _print(f"{size}: a minute of its busy router", plane.measure(lambda: plane.serve(1)))


if __name__ == "__main__":
    main()
