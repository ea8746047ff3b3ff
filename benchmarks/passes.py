"""What a pass over a service costs in CPU time: at rest, and when it launches.

    python -m benchmarks.passes [--rounds 300] [--replicas 3]

One service at a time on three clouds at the packaged prices, some 8,000 offers; the store and the clouds are in memory and
take next to nothing, so that what is measured is the passes' own. `first` is a launch in a process that has never looked at the
market, as a cold Lambda; `launch` loses a machine and replaces it; `rest` has nothing to do. Medians, in ms. Ends with 1 if a
pass at rest takes more than `AT_MOST_MS`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chalicelib import passes
from chalicelib.catalog import CatalogMarket
from chalicelib.model import RISK_AWARE, SPOTHEDGE, Requirement, ResourceRequest, ServiceSpec
from chalicelib.ports import Runtime
from tests.fakes import FakeClock, FakeCloud, FakeProber, World, on_spot, spec

CLOUDS = ("aws", "azure", "gcp")
AT_MOST_MS = 2.0


def services(replicas: int) -> Mapping[str, ServiceSpec]:
    """By name."""
    bounds: dict[str, Any] = {"min_replicas": replicas, "max_replicas": replicas}
    scaled: dict[str, Any] = {"min_replicas": replicas, "max_replicas": 2 * replicas, "target_qps_per_replica": 5.0}
    fallback: dict[str, Any] = {"dynamic_ondemand_fallback": True}
    wanted = {
        "fixed": spec(**bounds),
        "scaled": spec(**scaled),
        "spot": on_spot(spec(**bounds)),
        SPOTHEDGE: on_spot(spec(**bounds), placer=SPOTHEDGE, num_overprovision=1, **fallback),
        RISK_AWARE: on_spot(spec(**bounds), placer=RISK_AWARE, **fallback),
    }
    return {name: _on_gpus(one) for name, one in wanted.items()}


def _on_gpus(wanted: ServiceSpec) -> ServiceSpec:
    use_spot = wanted.resources.groups[0][0].use_spot
    return replace(wanted, resources=ResourceRequest(((Requirement(accelerators=(("L4", 1),), use_spot=use_spot),),)))


class Plane:
    """A control plane with one service, on clouds that have room for everybody."""

    def __init__(self, wanted: ServiceSpec) -> None:
        self.clock = FakeClock()
        self.clouds = {name: FakeCloud(self.clock, name) for name in CLOUDS}
        world = World(clock=self.clock)
        world.create(wanted=wanted)
        self.runtime: Runtime = replace(
            world.runtime, providers=self.clouds, market=CatalogMarket({}), prober=FakeProber(self.clouds, self.clock)
        )

    def pass_ms(self) -> tuple[float, bool]:
        """One pass, a while after the last: CPU milliseconds, and whether it acted."""
        self.clock.advance(10.0)
        started = time.process_time()
        reports = passes.tick(self.runtime)
        return (time.process_time() - started) * 1e3, any(report.acted for report in reports)

    def settle(self) -> None:
        """Until it has been at rest for some passes."""
        quiet = 0
        while quiet < 10:
            quiet = 0 if self.pass_ms()[1] else quiet + 1

    def lose_one(self) -> None:
        """A machine dies; which is found, and mended, by the next pass."""
        cloud = next(cloud for cloud in self.clouds.values() if cloud.machines)
        cloud.machines.popitem()


def measure(wanted: ServiceSpec, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of the first pass, of one that launches, of one at rest."""
    plane = Plane(wanted)
    first = plane.pass_ms()[0]
    launches, at_rest = [], []
    for _ in range(max(1, rounds // 30)):
        plane.settle()
        rests = [plane.pass_ms() for _ in range(30)]
        at_rest += [ms for ms, acted in rests if not acted]
        plane.lose_one()
        launches.append(plane.pass_ms()[0])
    return first, statistics.median(launches), statistics.median(at_rest)


def main() -> int:
    """Measure and print; the exit status."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--rounds", type=int, default=300)
    told.add_argument("--replicas", type=int, default=3)
    args = told.parse_args()
    print(f"{'service':18} {'first':>7} {'launch':>7} {'rest':>7}  ms of CPU")
    worst = 0.0
    for name, wanted in services(args.replicas).items():
        first, launch, rest = measure(wanted, args.rounds)
        worst = max(worst, rest)
        print(f"{name:18} {first:7.1f} {launch:7.1f} {rest:7.2f}", flush=True)
    return worst > AT_MOST_MS


if __name__ == "__main__":
    sys.exit(main())
