"""What each spot policy costs, and how often it meets the target: every policy on every market, with requests if wanted.

    python -m benchmarks.policies [--markets DIR] [--traffic FILE --traffic-scale S] [--days N] [--out DIR]

Runs the shipped passes in the simulator (docs/simulator.md), three replicas, the same seed for all. Without --markets on three
generated ones, which takes minutes; a month of recorded traces takes a policy about a quarter of an hour of one core. Prints
Markdown: a table a market, each policy's paired 95 % intervals against the two that it has to beat, and the offline bound.
With --out, the tables and a picture a market are left there too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chalicelib import catalog
from chalicelib.model import (
    EngineSpec,
    Offer,
    ProbeSpec,
    Requirement,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    ServiceSpec,
)
from sailplane.sim import bound, compare, generated, market_files, plot, policies, report, tables, traffic_files
from sailplane.sim.compare import Outcome
from sailplane.sim.market_files import Loaded
from sailplane.sim.scenario import Scenario
from sailplane.sim.traffic import Traffic

REPLICAS = 3
# The peer, and the baseline that published comparisons leave out.
AGAINST = ("spothedge", "round_robin_fallback")
SPEC = ServiceSpec(
    probe=ProbeSpec(path="/health"),
    scaling=ScalingSpec(min_replicas=REPLICAS, max_replicas=REPLICAS),
    # Tables of the least-load policies change with every request, and passes that write them cannot be skipped.
    routing=RoutingSpec(policy="round_robin"),
    resources=ResourceRequest(((Requirement(use_spot=True),),)),
    engine=EngineSpec(port=8080, run="serve"),
)


def main() -> int:
    """Run and print; the exit status."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--markets", type=Path, help="a directory with a directory of traces for each market")
    told.add_argument("--traffic", help="a file of traffic, or `generated`")
    told.add_argument("--traffic-scale", type=float, default=1.0)
    told.add_argument("--days", type=float, default=1e9, help="at most; all there is unless told")
    told.add_argument("--seed", type=int, default=0)
    told.add_argument(
        "--policy", action="append", choices=list(policies.POLICIES), help="[default: all but as_written]"
    )
    told.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    told.add_argument("--out", type=Path, help="a directory for tables and pictures")
    args = told.parse_args()
    names = args.policy or [name for name in policies.POLICIES if name != "as_written"]
    violations = 0
    for loaded in markets(args.markets):
        until_s = min(args.days * generated.DAY_S, loaded.market.duration_s)
        traffic = requests(args.traffic, args.seed, args.traffic_scale, until_s)
        spec = policies.on(loaded.market, SPEC)
        scenario = Scenario(spec, loaded.market, traffic, args.seed)
        wanted = {name: policies.POLICIES[name][1](spec) for name in names}
        outcomes = compare.run_all(scenario, wanted, until_s, processes=args.processes, progress=Progress(until_s))
        text = "\n".join(described(scenario, loaded.notes, outcomes, until_s))
        print(text, flush=True)
        violations += sum(len(outcome.history.violations) for outcome in outcomes.values())
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / f"{loaded.market.name}.md").write_text(f"{text}\n")
            histories = {name: outcome.history for name, outcome in outcomes.items()}
            plot.save(args.out / f"{loaded.market.name}.png", loaded.market, histories)
    return 1 if violations else 0


def markets(directory: Path | None) -> Iterator[Loaded]:
    """Those in a directory, or three of our own making."""
    if directory is None:
        for seed in range(3):
            yield Loaded(generated.market(seed, days=8.0), ())
    else:
        for path in market_files.directories(directory):
            yield market_files.load(path, price_list)


def price_list(cloud: str, instance_type: str) -> Sequence[Offer]:
    """The packaged one: the same prices wherever the benchmark runs."""
    return [offer for offer in catalog.offers([cloud]) if offer.instance_type == instance_type]


def requests(source: str | None, seed: int, scale: float, until_s: float) -> Traffic | None:
    """The traffic asked for, if any."""
    if source is None:
        return None
    if source == "generated":
        return generated.traffic(seed, until_s / generated.DAY_S, generated.MEAN_QPS * scale)
    return traffic_files.load(Path(source), seed=seed, scale=scale, until_s=until_s)


class Progress:
    """Says on stderr how far each policy is, at every tenth."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self._told: dict[str, int] = {}

    def __call__(self, policy: str, t: float) -> None:
        tenths = int(10 * t / self._until_s)
        if tenths > self._told.get(policy, 0):
            self._told[policy] = tenths
            print(f"{policy}: {tenths}0 %", file=sys.stderr, flush=True)


def described(
    scenario: Scenario, notes: Sequence[str], outcomes: Mapping[str, Outcome], until_s: float
) -> Iterator[str]:
    """One market's results in Markdown."""
    market = scenario.market
    yield f"\n### {market.name}: {REPLICAS} replicas, {until_s / generated.DAY_S:.1f} days, {len(market.zones)} zones\n"
    yield from (f"{note}\n" for note in notes)
    heading = tables.HEADING + (tables.HEADING_OF_REQUESTS if scenario.traffic else ())
    yield _line(heading)
    yield _line(["---"] + ["---:"] * (len(heading) - 1))
    for name, outcome in outcomes.items():
        one = report.report(name, outcome.history, market.on_demand_usd_per_hour, outcome.fates)
        yield _line(tables.row(one))
    cold = scenario.cold_start
    least = bound.offline(market, REPLICAS, until_s, cold.boot_s[0] + cold.setup_s[0])
    all_on_demand = REPLICAS * market.on_demand_usd_per_hour * until_s / 3600
    empty = [""] * (len(heading) - 5)
    yield _line(
        [
            "offline bound",
            "100 %",
            f"{least.usd:,.2f}",
            f"{least.usd / all_on_demand:.1%}",
            f"{least.spot_share:.0%}",
            *empty,
        ]
    )
    yield ""
    for than in (name for name in AGAINST if name in outcomes):
        others = {name: outcome for name, outcome in outcomes.items() if name != than}
        for difference in tables.differences({than: outcomes[than], **others}):
            yield f"- {tables.sentence(difference)}"
    for name, outcome in outcomes.items():
        yield from (f"- **{name} broke a rule**: {violation}" for violation in outcome.history.violations)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
