"""What a cloud that is down, slow or refusing costs the services of the other clouds.

    python -m benchmarks.slow_cloud [--services 8] [--rounds 10] [--slow-s 30]

Three clouds in this process, whose calls take 50 ms, and a store in memory; real threads and a real clock. In each round
every service loses a machine; measured is the time from the tick's start to the report of each service on the two healthy
clouds: its machine found dead, unrouted, replaced. Rounds do not wait for the third cloud's services, as the laptop's loop
does not. Compare the rows with each other. Ends with 1 if one is slower than the first by more than a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue

from chalicelib import passes
from chalicelib.bootstrap import SystemClock, SystemIds, Threads
from chalicelib.errors import Unauthorized, Unreachable
from chalicelib.model import Instance, LaunchRequest, Requirement, ResourceRequest
from chalicelib.ports import Runtime
from tests.fakes import FakeCloud, FakeMarket, FakeProber, World, offer, spec

CALL_S = 0.05
HEALTHY, TROUBLED = ("a", "b"), "c"
AT_MOST = 1.1


@dataclass
class Cloud(FakeCloud):
    """Its calls take `CALL_S`, or what its trouble makes of them."""

    trouble: Callable[[str], None] = lambda _call: time.sleep(CALL_S)

    def list_instances(self) -> tuple[Instance, ...]:
        self.trouble("list")
        return super().list_instances()

    def launch(self, request: LaunchRequest) -> Instance:
        self.trouble("launch")
        return super().launch(request)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        self.trouble("terminate")
        super().terminate(replica_id, instance_id)


def down(_call: str) -> None:
    """The connection is refused at once."""
    raise Unreachable("connection refused")


def refusing(call: str) -> None:
    """Every launch is refused."""
    time.sleep(CALL_S)
    if call == "launch":
        raise Unauthorized("the token has expired")


def measure(services: int, rounds: int, trouble: Callable[[str], None] | None) -> list[float]:
    """Seconds from a tick's start to each healthy service's report."""
    clock = SystemClock()
    clouds = {name: Cloud(clock, name) for name in (*HEALTHY, TROUBLED)}  # type: ignore[arg-type]  # any clock will do
    world = World(clock=clock)  # type: ignore[arg-type]  # same
    runtime = replace(
        world.runtime,
        ids=SystemIds(),
        providers=clouds,
        market=FakeMarket(tuple(offer(name) for name in clouds)),
        prober=FakeProber(clouds, clock),  # type: ignore[arg-type]  # same
        spawn=Threads(),
    )
    for name in clouds:
        wanted = replace(spec(min_replicas=1, max_replicas=1), resources=ResourceRequest(((Requirement(name),),)))
        for number in range(services):
            world.create(f"{name}-{number}", wanted)
    for _ in range(3):
        passes.tick(runtime)
    if trouble:
        clouds[TROUBLED].trouble = trouble
    took_s: SimpleQueue[float] = SimpleQueue()
    times: list[float] = []
    healthy = frozenset(name for name in runtime.store.service_names() if name.startswith(HEALTHY))
    for _ in range(rounds):
        for _ in range(2):  # or what is lost has never served, and its service is launched ever more slowly
            passes.tick(runtime, healthy)
        for cloud in clouds.values():
            cloud.machines.clear()
        runtime.spawn("rounds", partial(a_round, runtime, took_s))
        times += [took_s.get() for _ in range(len(HEALTHY) * services)]
    return times


def a_round(runtime: Runtime, took_s: SimpleQueue[float]) -> None:
    """One tick; puts the time of each service on a healthy cloud."""
    started = time.perf_counter()

    def told(report: passes.Report) -> None:
        if report.service.startswith(HEALTHY):
            took_s.put(time.perf_counter() - started)

    passes.tick(runtime, None, told)


def main() -> int:
    """Measure and print; the exit status."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--services", type=int, default=8, help="on each cloud")
    told.add_argument("--rounds", type=int, default=10)
    told.add_argument("--slow-s", type=float, default=30.0, help="how long each call of the slow cloud takes")
    args = told.parse_args()
    troubles = {"healthy": None, "down": down, "slow": lambda _call: time.sleep(args.slow_s), "refusing": refusing}
    usual_s, worst = 0.0, 0.0
    print(f"{'third cloud':12} {'median ms':>10} {'max ms':>8} {'ratio':>6}")
    for name, trouble in troubles.items():
        times = measure(args.services, args.rounds, trouble)
        median_s = statistics.median(times)
        usual_s = usual_s or median_s
        worst = max(worst, median_s / usual_s)
        print(f"{name:12} {median_s * 1e3:10.0f} {max(times) * 1e3:8.0f} {median_s / usual_s:6.2f}", flush=True)
    return worst > AT_MOST


if __name__ == "__main__":
    sys.exit(main())
