"""Whole requests through Sailplane's router and through SkyServe's load balancer, and what a redirect costs beside nginx's.

    python -m benchmarks.edge [--seconds 2] [--repeat 3] [--connections 1,16,64,256,512] [--json FILE]

A client that follows redirects asks two replicas through each front: same client, same replicas, one after the other, again
and again. The front has one core, client and replicas the other, where the system lets processes be pinned. `with agents` is the
router before replicas that have their agent in front, as they have in production; these check the grants. The first run
installs skypilot 0.14.1 into an environment of its own under $SAILPLANE_CACHE (270 MB, from PyPI).

Each figure is the median of its repetitions, with the lowest and the highest where that says how noisy the machine is. CPU is
the front's. Ends with 1 if a request failed that went through the router.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import psutil

from benchmarks.edge import fronts
from benchmarks.edge.fronts import Front

ANSWERS = ("instant/whole", "slow/whole", "instant/stream", "slow/stream")
TITLES = {
    "instant/whole": "instant replicas, 1 kB in one piece",
    "slow/whole": "replicas that take 100 ms, 1 kB in one piece",
    "instant/stream": "instant replicas, 10 events 10 ms apart",
    "slow/stream": "replicas that take 100 ms, then 10 events 10 ms apart",
}
OPEN_LOOP_PER_S = 1_000
OPEN_LOOP_CONNECTIONS = 64
DRAIN_S = 60.0
QUICK_S = 0.1


@dataclass(frozen=True)
class Run:
    """What one run of the client saw. Times in milliseconds; `cpu_us` is the front's CPU for each request."""

    front: str
    case: str
    connections: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    errors: int


@dataclass(frozen=True)
class Bench:
    """How long, and on which cores."""

    seconds: float
    client_cores: tuple[int, ...]

    def run(self, front: Front, answer: str, connections: int, *, whole: bool, per_s: float = 0.0) -> Run:
        """One run of the client, in a process of its own: whole requests, or the redirect alone."""
        follow = whole and front.follows
        command = [sys.executable, "-m", "benchmarks.edge.client", f"{front.url}/{answer}", f"--pid={front.pid}"]
        command += [f"--key={front.key}", f"--connections={connections}", f"--seconds={self.seconds}"]
        command += [f"--per-second={per_s}", *(["--follow"] if follow else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            pin([process.pid], self.client_cores)
            said, _ = process.communicate()
        drain(front)
        seen = json.loads(said)
        good = seen["statuses"].get("200" if whole else "307", 0)
        return Run(
            front=front.name,
            case=answer if whole else f"redirect, {per_s:g}/s" if per_s else "redirect",
            connections=connections,
            per_s=good / self.seconds,
            p50_ms=seen["p50_ms"] or float("nan"),
            p99_ms=seen["p99_ms"] or float("nan"),
            cpu_us=seen["cpu_s"] / max(1, good) * 1e6,
            errors=seen["requests"] - good,
        )


def drain(front: Front) -> None:
    """Wait until the front answers single requests again: what clients have given up would be the next run's load."""
    deadline = time.monotonic() + DRAIN_S
    quick = 0
    while quick < 3 and time.monotonic() < deadline:
        started = time.monotonic()
        fronts.answers(front.url, 307 if front.follows else 200, front.key)
        quick = quick + 1 if time.monotonic() - started < QUICK_S else 0


def pin(pids: Iterable[int], cores: Sequence[int]) -> None:
    """Let processes run on these cores only; nothing where that cannot be said (macOS)."""
    if hasattr(os, "sched_setaffinity"):
        for pid in pids:
            os.sched_setaffinity(pid, cores)


def median(runs: Sequence[Run], figure: str) -> float:
    """Of one figure."""
    return float(statistics.median(getattr(run, figure) for run in runs))


def spread(runs: Sequence[Run], figure: str) -> str:
    """The median, and how far the runs lie apart."""
    values = [getattr(run, figure) for run in runs]
    return f"{statistics.median(values):,.1f} ({min(values):,.1f}-{max(values):,.1f})"


def redirects(bench: Bench, ours: Front, bare: Front | None, connections: Sequence[int], repeat: int) -> list[Run]:
    """The redirect alone, ours and nginx's in turn."""
    if bare is None:
        print("\nnginx is not installed: nothing to hold the redirect's cost against")
        return []
    print("\nthe redirect alone, CPU of the front in us: median (lowest-highest)")
    print(f"{'connections':>11} {'sailplane':>22} {'nginx':>20} {'ratio of lowest':>16} {'ours p99 ms':>12}")
    seen = []
    for count in connections:
        ours_runs, bare_runs = [], []
        for _ in range(repeat):
            ours_runs.append(bench.run(ours, "instant/whole", count, whole=False))
            bare_runs.append(bench.run(bare, "instant/whole", count, whole=False))
        ratio = min(run.cpu_us for run in ours_runs) / min(run.cpu_us for run in bare_runs)
        cells = f"{spread(ours_runs, 'cpu_us'):>22} {spread(bare_runs, 'cpu_us'):>20} {ratio:>16.2f}"
        print(f"{count:>11} {cells} {median(ours_runs, 'p99_ms'):>12.2f}", flush=True)
        seen += ours_runs + bare_runs
    return seen


def open_loop(bench: Bench, ours: Front, repeat: int) -> list[Run]:
    """A steady stream of requests that does not wait for answers."""
    runs = [
        bench.run(ours, "instant/whole", OPEN_LOOP_CONNECTIONS, whole=False, per_s=OPEN_LOOP_PER_S)
        for _ in range(repeat)
    ]
    print(f"\nthe redirect alone at {OPEN_LOOP_PER_S:,} requests/s, ms from when each was due")
    print(f"p50 {spread(runs, 'p50_ms')}   p99 {spread(runs, 'p99_ms')}   errors {sum(run.errors for run in runs)}")
    return runs


def whole(bench: Bench, which: Sequence[Front], connections: Sequence[int], repeat: int) -> list[Run]:
    """Whole requests, the fronts in turn."""
    seen = []
    for answer in ANSWERS:
        print(f"\nwhole requests, {TITLES[answer]}")
        print(
            f"{'connections':>11} {'front':<11} {'req/s':>22} {'p50 ms':>9} {'p99 ms':>9} {'CPU us/req':>11} {'errors':>7}"
        )
        for count in connections:
            runs: dict[str, list[Run]] = {front.name: [] for front in which}
            for _, front in product(range(repeat), which):
                runs[front.name].append(bench.run(front, answer, count, whole=True))
            for name, those in runs.items():
                times = f"{median(those, 'p50_ms'):>9.2f} {median(those, 'p99_ms'):>9.2f}"
                costs = f"{median(those, 'cpu_us'):>11.0f} {sum(run.errors for run in those):>7}"
                print(f"{count:>11} {name:<11} {spread(those, 'per_s'):>22} {times} {costs}", flush=True)
                seen += those
    return seen


def main() -> int:
    """Print the tables; 1 if a request failed that went through ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run, after a warm-up (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind (%(default)s)")
    parser.add_argument("--connections", default="1,16,64,256,512", help="(%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there")
    options = parser.parse_args()
    connections = [int(count) for count in options.connections.split(",")]
    cache = Path(os.environ.get("SAILPLANE_CACHE", "~/.cache/sailplane")).expanduser()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    front_cores, other_cores = cores[:1], tuple(cores[1:2] or cores)
    print(
        f"{platform.platform()}, Python {platform.python_version()}, {psutil.cpu_count()} cores, load {os.getloadavg()}"
    )
    with ExitStack() as exits:
        pin([os.getpid()], other_cores)
        urls = exits.enter_context(fronts.replicas())
        ours = exits.enter_context(fronts.sailplane(urls))
        guarded = exits.enter_context(fronts.sailplane(exits.enter_context(fronts.agents()), "with agents"))
        theirs = exits.enter_context(fronts.skyserve(urls, cache))
        bare = exits.enter_context(fronts.nginx(urls))
        pin([front.pid for front in (ours, guarded, theirs, bare) if front], front_cores)
        bench = Bench(options.seconds, other_cores)
        seen = redirects(bench, ours, bare, connections, options.repeat)
        seen += open_loop(bench, ours, options.repeat)
        seen += whole(bench, (ours, guarded, theirs), connections, options.repeat)
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in seen], indent=1))
    return any(run.errors for run in seen if run.front in (ours.name, guarded.name))


if __name__ == "__main__":
    sys.exit(main())
