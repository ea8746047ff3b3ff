"""What each switch of `replica_policy` buys and costs: waiting time against replica-hours.

    python -m benchmarks.scaling_switches [--traffic FILE.csv ...] [--cold-start-s 180]

The shipped scaler looks every 10 s; replicas serve in order, `target_qps_per_replica` requests a second each, from
`--cold-start-s` after the decision for them. Three loads are generated from a seed: one that rises evenly, one with
bursts, and one day that others resemble; a file has one row for each request and its instant in a column TIMESTAMP, as
Azure's LLM traces of 2023 have it. Nothing but the scaler is the shipped code: `sailplane sim` has clouds, prices and failures too.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from chalicelib import lifecycle, scaler
from chalicelib.model import (
    CapacityType,
    Limits,
    Location,
    Observed,
    Offer,
    Replica,
    ReplicaStatus,
    RouterLoad,
    ScalerState,
    ScalingSpec,
    ScheduledBounds,
    Service,
    State,
)
from tests.fakes import spec

START = 1_800_000_000  # 08:00 UTC
LOOK_S = 10
PLAIN = ScalingSpec(min_replicas=1, max_replicas=20, target_qps_per_replica=1.0)
MORNING = (ScheduledBounds("55 9 * * *", min_replicas=8), ScheduledBounds("30 12 * * *", min_replicas=1))
SWITCHES = {
    "as SkyServe": PLAIN,
    "panic, 6 s": replace(PLAIN, panic_window_s=6.0),
    "panic, 30 s": replace(PLAIN, panic_window_s=30.0),
    "look ahead": replace(PLAIN, look_ahead=True),
    "both": replace(PLAIN, panic_window_s=30.0, look_ahead=True),
    "schedule": replace(PLAIN, schedule=MORNING),
}


@dataclass
class Fleet:
    """A service, its replicas, and the requests that wait for them."""

    service: Service
    cold_start_s: float
    replicas: list[Replica] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)  # the second of each
    waits_s: list[int] = field(default_factory=list)
    replica_s: int = 0

    def look(self, counts: Sequence[int], second: int) -> None:
        """Ask the scaler, and start or give up what it says."""
        now = float(START + second)
        kept = tuple((START + at, counts[at]) for at in range(max(0, second - 600), second) if counts[at])
        state = State(self.service, tuple(self.replicas), (RouterLoad("a", 1, now, kept),))
        load = scaler.sample(state, Observed(), Limits(), now)
        self.service = replace(self.service, scaler=scaler.decide(self.service, load, now).state)
        target = self.service.scaler.target
        self.replicas = scaler.best_first(self.service.spec.scaling, self.replicas)[:target]
        self.replicas += [self._launched(now) for _ in range(target - len(self.replicas))]

    def _launched(self, now: float) -> Replica:
        self.service = replace(self.service, last_generation=self.service.last_generation + 1)
        offer = Offer(Location("local", "here"), "box", 4, 16, CapacityType.ON_DEMAND, 1.0)
        number = self.service.last_generation
        return Replica("svc", f"r{number}", number, number, 1, "v1", offer, "", ReplicaStatus.STARTING, now, now)

    def serve(self, arrivals: int, second: int) -> None:
        """One second: who is due becomes ready, requests come, and who is ready takes the oldest."""
        now = float(START + second)
        self.replicas = [
            replace(one, status=ReplicaStatus.READY, ready_at=now)
            if one.ready_at is None and now - one.created_at >= self.cold_start_s
            else one
            for one in self.replicas
        ]
        self.waiting.extend([second] * arrivals)
        self.replica_s += len(self.replicas)
        ready = sum(one.status is ReplicaStatus.READY for one in self.replicas)
        for _ in range(min(ready, len(self.waiting))):
            self.waits_s.append(second - self.waiting.popleft())


def run(scaling: ScalingSpec, counts: Sequence[int], cold_start_s: float) -> tuple[float, float, int]:
    """Replica-hours, mean and 99th percentile of the wait in seconds. The first replica is warm."""
    made = replace(lifecycle.new_service("svc", "u1d0", spec(), START - 86_400), was_ready=True)
    made = replace(made, spec=replace(made.spec, scaling=scaling), scaler=ScalerState(1, since=START))
    fleet = Fleet(made, cold_start_s)
    fleet.look(counts, 0)
    fleet.replicas = [replace(one, created_at=START - cold_start_s) for one in fleet.replicas]
    for second, arrivals in enumerate(counts):
        if second % LOOK_S == 0:
            fleet.look(counts, second)
        fleet.serve(arrivals, second)
    waits = sorted([*fleet.waits_s, *(len(counts) - at for at in fleet.waiting)])
    return fleet.replica_s / 3600, sum(waits) / len(waits), waits[math.ceil(len(waits) * 0.99) - 1]


def generated(seed: int = 7) -> dict[str, list[int]]:
    """Requests in each second of four hours."""
    random, hours = Random(seed), 4 * 3600
    shapes = {
        "rise": [0.5 + min(9.0, 9.0 * second / 7200) for second in range(hours)],
        "bursts": [6.0 if second % 3600 >= 3000 else 0.8 for second in range(hours)],
        "morning": [7.0 if 7200 <= second < 15_000 else 0.8 for second in range(hours)],
    }
    return {name: [_poisson(random, rate) for rate in rates] for name, rates in shapes.items()}


def _poisson(random: Random, rate: float) -> int:
    """Knuth's method, as rates are small."""
    count, product, limit = -1, 1.0, math.exp(-rate)
    while product > limit:
        product *= random.random()
        count += 1
    return count


def recorded(path: Path) -> list[int]:
    """Requests in each second of a trace."""
    with path.open(newline="") as file:
        instants = [_second(row["TIMESTAMP"]) for row in csv.DictReader(file)]
    counts = Counter(int(instant - instants[0]) for instant in instants)
    return [counts[second] for second in range(max(counts) + 1)]


def _second(text: str) -> float:
    return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC).timestamp()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traffic", type=Path, nargs="*", default=[], help="CSV with a column TIMESTAMP")
    parser.add_argument("--cold-start-s", type=float, default=180.0)
    given = parser.parse_args()
    loads = generated() | {path.stem: recorded(path) for path in given.traffic}
    print(f"{'load':32} {'switch':12} {'replica-hours':>13} {'mean wait s':>11} {'p99 wait s':>10}")
    for name, counts in loads.items():
        for title, scaling in SWITCHES.items():
            hours, mean_s, p99_s = run(scaling, counts, given.cold_start_s)
            print(f"{name:32} {title:12} {hours:13.1f} {mean_s:11.1f} {p99_s:10d}")


if __name__ == "__main__":
    main()
