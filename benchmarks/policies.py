"""What each spot policy costs, and how often it meets the target: every policy on every market, with requests if wanted.

    python -m benchmarks.policies [--markets DIR] [--traffic FILE --traffic-scale S] [--days N] [--out DIR] [--jobs N]

Runs the shipped passes in the simulator (docs/simulator.md), three replicas, the same seed for all. Without --markets on three
generated ones, which takes minutes; a month of recorded traces takes a policy up to ten minutes of one core. Prints
Markdown: a table a market, each policy's paired 95 % intervals against the two that it has to beat, and the offline bound.

--out leaves there, for each market, the table (`.md`), its figures (`.json`) and a picture (`.png`); and each policy's run, which
is not made again when the benchmark is: end it and start it anew as you like. Another version of Sailplane needs another DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

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
from sailplane.sim.bound import Bound
from sailplane.sim.compare import Outcome
from sailplane.sim.history import Step
from sailplane.sim.market_files import Loaded, Missing
from sailplane.sim.report import Report
from sailplane.sim.scenario import Scenario
from sailplane.sim.tables import Difference
from sailplane.sim.traffic import Traffic

REPLICAS = 3
# The peer, and the baseline that published comparisons leave out.
AGAINST = ("spothedge", "round_robin_fallback")
# Traces of nodes that came and went say neither machine nor place; the published ones are of V100s in the east of the USA.
MACHINE = "aws/us-east-1a/p3.2xlarge"
SPEC = ServiceSpec(
    probe=ProbeSpec(path="/health"),
    scaling=ScalingSpec(min_replicas=REPLICAS, max_replicas=REPLICAS),
    # Tables of the least-load policies change with every request, and passes that write them cannot be skipped.
    routing=RoutingSpec(policy="round_robin"),
    resources=ResourceRequest(((Requirement(use_spot=True),),)),
    engine=EngineSpec(port=8080, run="serve"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One policy's, as it is kept. `of` is what it was a run of, in short."""

    of: str
    report: Report
    steps: tuple[Step, ...]
    violations: tuple[str, ...]


_RUN = TypeAdapter(Run)


@dataclass(frozen=True, slots=True)
class Compared:
    """All policies on one market."""

    loaded: Loaded
    until_s: float
    runs: Mapping[str, Run]
    least: Bound
    differences: Sequence[Difference]


def main() -> int:
    """Run and print; the exit status is 1 when a judge saw a rule broken."""
    args = arguments()
    names = args.policy or [name for name in policies.POLICIES if name != "as_written"]
    violations = 0
    found = list(markets(args.markets, args.machine))
    for number, loaded in enumerate(found, start=1):
        until_s = min(args.days * generated.DAY_S, loaded.market.duration_s)
        progress = Lines(f"{number}/{len(found)} {loaded.market.name}", until_s)
        traffic = requests(args.traffic, args.seed, args.traffic_scale, until_s)
        scenario = Scenario(policies.on(loaded.market, SPEC), loaded.market, traffic, args.seed)
        kept = args.out / loaded.market.name if args.out else None
        runs = run_all(scenario, names, until_s, jobs=args.jobs, kept=kept, progress=progress)
        results = compared(scenario, loaded, until_s, runs)
        text = "\n".join(described(results))
        print(text, flush=True)
        if args.out:
            save(args.out, results, text)
        violations += sum(len(run.violations) for run in runs.values())
    return 1 if violations else 0


def arguments() -> argparse.Namespace:
    """What the command line says."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--markets", type=Path, metavar="DIR", help="markets in it or below; one of them will do")
    told.add_argument(
        "--machine", default=MACHINE, metavar="CLOUD/ZONE/TYPE", help=f"of traces that do not say [default: {MACHINE}]"
    )
    told.add_argument("--traffic", metavar="FILE", help="of requests or rates, or `generated`")
    told.add_argument("--traffic-scale", type=float, default=1.0, metavar="S", help="multiplies the rate")
    told.add_argument("--days", type=float, default=1e9, metavar="N", help="at most; all there is unless told")
    told.add_argument("--seed", type=int, default=0)
    told.add_argument(
        "--policy", action="append", choices=list(policies.POLICIES), help="[default: all but as_written]"
    )
    told.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="at a time [default: cores]")
    told.add_argument("--out", type=Path, metavar="DIR", help="for tables, figures, pictures and finished runs")
    return told.parse_args()


def markets(path: Path | None, machine: str) -> Iterator[Loaded]:
    """Those at or below a path, or three of our own making."""
    if path is None:
        for seed in range(3):
            yield Loaded(generated.market(seed, days=8.0), ())
        return
    provider, zone, instance_type = machine.split("/")
    for trace in market_files.found(path):
        yield market_files.load(trace, price_list, Missing(provider, instance_type, zone))


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


class Progress(Protocol):
    """Is told how far a policy is, and what else there is to say of it."""

    def __call__(self, policy: str, t: float, /) -> None:
        """It has come to `t`, in simulated seconds."""

    def say(self, policy: str, what: str, /) -> None:
        """A line."""


class Lines:
    """On stderr, at every tenth."""

    def __init__(self, market: str, until_s: float) -> None:
        self._market, self._until_s = market, until_s
        self._told: dict[str, int] = {}

    def __call__(self, policy: str, t: float) -> None:
        tenths = int(10 * t / self._until_s)
        if tenths > self._told.get(policy, 0):
            self._told[policy] = tenths
            self.say(policy, f"{tenths}0 %")

    def say(self, policy: str, what: str) -> None:
        """A line."""
        print(f"{self._market}: {policy}: {what}", file=sys.stderr, flush=True)


def run_all(
    scenario: Scenario, names: Sequence[str], until_s: float, *, jobs: int, kept: Path | None, progress: Progress
) -> dict[str, Run]:
    """Each policy's run: the one that is kept, or made now and kept as soon as it is there."""
    specs = {name: policies.POLICIES[name][1](scenario.spec) for name in names}
    of = {name: _short(scenario, spec, until_s) for name, spec in specs.items()}
    runs = {name: run for name in names if kept and (run := _read(kept / f"{name}.json", of[name]))}
    for name in runs:
        progress.say(name, f"already in {kept}")
    missing = {name: spec for name, spec in specs.items() if name not in runs}
    for name, outcome in compare.each(scenario, missing, until_s, processes=jobs, progress=progress):
        runs[name] = _run(of[name], name, scenario, outcome)
        if kept:
            _write(kept / f"{name}.json", runs[name])
    return {name: runs[name] for name in names}


def _run(of: str, name: str, scenario: Scenario, outcome: Outcome) -> Run:
    history = outcome.history
    figures = report.report(name, history, scenario.market.on_demand_usd_per_hour, outcome.fates)
    return Run(of, figures, tuple(history.steps), tuple(history.violations))


def _short(scenario: Scenario, spec: ServiceSpec, until_s: float) -> str:
    everything = (scenario.market, scenario.traffic, scenario.seed, scenario.cold_start, spec, until_s)
    return hashlib.blake2s(repr(everything).encode(), digest_size=8).hexdigest()


def _read(path: Path, of: str) -> Run | None:
    run = _RUN.validate_json(path.read_bytes()) if path.exists() else None
    return run if run and run.of == of else None


def _write(path: Path, run: Run) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(
        ".partial"
    )  # an interrupted write leaves no half a run under the name that is looked for
    partial.write_bytes(_RUN.dump_json(run))
    partial.replace(path)


def compared(scenario: Scenario, loaded: Loaded, until_s: float, runs: Mapping[str, Run]) -> Compared:
    """The bound, and every policy against each of those that are to be beaten."""
    cold = scenario.cold_start
    least = bound.offline(loaded.market, REPLICAS, until_s, cold.boot_s[0] + cold.setup_s[0])
    differences: list[Difference] = []
    for than in (name for name in AGAINST if name in runs):
        others = [run.report for name, run in runs.items() if name != than]
        differences += tables.differences([runs[than].report, *others])
    return Compared(loaded, until_s, runs, least, differences)


def described(results: Compared) -> Iterator[str]:
    """One market's results in Markdown."""
    market, until_s = results.loaded.market, results.until_s
    reports = [run.report for run in results.runs.values()]
    yield f"\n### {market.name}: {REPLICAS} replicas, {until_s / generated.DAY_S:.1f} days, {len(market.zones)} zone(s)\n"
    yield from (f"{note}\n" for note in results.loaded.notes)
    yield from _table(tables.HEADING, [tables.row(one) for one in reports])
    least, all_on_demand = results.least, REPLICAS * market.on_demand_usd_per_hour * until_s / 3600
    of_bound = ("100 %", f"{least.usd:,.2f}", f"{least.usd / all_on_demand:.1%}", f"{least.spot_share:.0%}")
    yield _line(["offline bound", *of_bound, *[""] * (len(tables.HEADING) - 5)])
    yield ""
    if any(one.requests for one in reports):
        yield from _table(tables.HEADING_OF_REQUESTS, [tables.row_of_requests(one) for one in reports])
        yield ""
    yield from (f"- {tables.sentence(one)}" for one in results.differences)
    for name, run in results.runs.items():
        yield from (f"- **{name} broke a rule**: {violation}" for violation in run.violations)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _line(heading)
    yield _line(["---"] + ["---:"] * (len(heading) - 1))
    yield from map(_line, rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def save(directory: Path, results: Compared, text: str) -> None:
    """The table, the figures and the picture of a market."""
    name, runs = results.loaded.market.name, results.runs
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text(f"{text}\n")
    figures = {
        "market": name,
        "notes": results.loaded.notes,
        "days": results.until_s / generated.DAY_S,
        "policies": [asdict(run.report) for run in runs.values()],
        "violations": {policy: run.violations for policy, run in runs.items()},
        "differences": [asdict(one) for one in results.differences],
        "bound": asdict(results.least),
    }
    (directory / f"{name}.json").write_text(f"{json.dumps(figures, indent=2)}\n")
    plot.save(
        directory / f"{name}.png",
        results.loaded.market,
        {policy: run.steps for policy, run in runs.items()},
        results.until_s,
    )


if __name__ == "__main__":
    sys.exit(main())
