"""Our scaler and spot placer beside SkyServe's own, decision by decision.

    python -m benchmarks.skyserve [--traces 1000] [--record]

The first run installs skypilot 0.14.1 into an environment of its own under $SAILPLANE_CACHE (260 MB, from PyPI). Each row is
a kind of random trace: how many were compared, in how many every decision was the same, and how many differences each known
defect of SkyServe's accounts for (docs/skyserve-differences.md). Ends with 1 if there is a difference that has no name, or
any at all in a row that is to have none. The ratio of speeds leaves SkyServe's logging out, which is switched off.

`--record` writes SkyServe's answers to a sample of the traces under tests/, against which `make test` holds ours without
SkyPilot: to be done after a change of the traces, or for another version of SkyServe.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.skyserve import check, record, spot
from benchmarks.skyserve.environment import Peer, environment, peer
from benchmarks.skyserve.traces import ANY, BY_ACCELERATOR_ANY, BY_ACCELERATOR_SAME, SAME, sample

TESTS = Path(__file__).parents[2] / "tests"


def compared(skyserve: Peer, traces: int) -> dict[str, check.Tally]:
    """Every row of the table. Names that end with a star are to have no difference."""
    fifth, tenth, twentieth = (-(-traces // parts) for parts in (len(SAME), 10, 20))
    rows = {}
    for family in SAME:
        rows[f"{family.__name__} *"] = check.loads(skyserve, sample((family,), fifth))
    for family in ANY:
        rows[family.__name__] = check.loads(skyserve, sample((family,), tenth))
    rows["held_steps, delays as written"] = check.loads(skyserve, sample(SAME[:1], tenth), first_look_s=0)
    for family in BY_ACCELERATOR_SAME:
        rows[f"{family.__name__} *"] = check.loads(skyserve, sample((family,), tenth))
    for family in BY_ACCELERATOR_ANY:
        rows[family.__name__] = check.accelerators(skyserve, sample((family,), twentieth))
    some, all_ = range(tenth), range(traces)
    rows["spot and on demand *"] = spot.mixes(skyserve, (spot.random_mixes(seed, lowest_target=1) for seed in all_))
    rows["the same, down to zero"] = spot.mixes(skyserve, (spot.random_mixes(seed, lowest_target=0) for seed in some))
    rows["zones *"] = spot.hunts(skyserve, (spot.random_hunt(seed) for seed in all_))
    return rows


def main() -> int:
    """Print the table; 1 if something has no explanation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1_000, help="of the kinds in which nothing may differ")
    parser.add_argument("--record", action="store_true", help="write SkyServe's answers for the tests")
    options = parser.parse_args()
    cache = Path(os.environ.get("SAILPLANE_CACHE", "~/.cache/sailplane")).expanduser()
    with peer(environment(cache)) as skyserve:
        if options.record:
            record.record(skyserve, TESTS)
        rows = compared(skyserve, options.traces)
    print(
        f"{'traces':>36}{'compared':>10}{'equal':>7}{'decisions':>11}{'ours/s':>9}{'theirs/s':>10}{'ratio':>7}  differences"
    )
    for name, row in rows.items():
        ours_per_s, theirs_per_s = row.decisions / row.our_seconds, row.decisions / row.their_seconds
        speed = f"{ours_per_s:>9,.0f}{theirs_per_s:>10,.0f}{ours_per_s / theirs_per_s:>7.2f}"
        differences = ", ".join(f"{count} {named}" for named, count in row.differences.most_common()) or "none"
        print(f"{name:>36}{row.traces:>10}{row.equal:>7}{row.decisions:>11,}{speed}  {differences}")
    unexplained = {name: row for name, row in rows.items() if row.differences[check.UNEXPLAINED]}
    for name, row in unexplained.items():
        print(f"{name}: nobody can name, for example, {row.examples[0]}")
    unequal = [name for name, row in rows.items() if name.endswith("*") and row.equal < row.traces]
    for name in unequal:
        print(f"{name}: differs in traces in which none of SkyServe's defects is involved")
    return bool(unexplained or unequal)


if __name__ == "__main__":
    sys.exit(main())
