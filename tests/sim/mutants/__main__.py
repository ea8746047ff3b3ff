"""Show that every planted bug is caught: `python -m tests.sim.mutants [NAME…]` prints by which seed and by which judge."""

from __future__ import annotations

import sys
from multiprocessing import Pool

from sailplane.sim import storms
from tests.sim.mutants import MUTANTS

SEEDS = 50


def caught_by(name: str) -> tuple[str, int, str]:
    """The first seed that a bug does not survive, and what a judge says of it; `SEEDS` and nothing when it survives all of them."""
    for seed in range(SEEDS):
        history, _ = storms.run(seed, around=MUTANTS[name])
        if history.violations:
            return name, seed, history.violations[0].splitlines()[-1]
    return name, SEEDS, ""


def main(names: list[str]) -> int:
    """Print a line for each bug as soon as it is judged; 1 when one survives."""
    survivors = []
    with Pool() as pool:
        for done, (name, seed, verdict) in enumerate(pool.imap_unordered(caught_by, names), 1):
            told = f"seed {seed}: {verdict[:150]}" if verdict else f"SURVIVES {SEEDS} seeds"
            survivors += [] if verdict else [name]
            sys.stdout.write(f"{done}/{len(names)} {name}: {told}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(names) - len(survivors)} of {len(names)} planted bugs are caught within {SEEDS} seeds\n")
    if survivors:
        sys.stdout.write(f"survivors: {', '.join(survivors)}\n")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [*MUTANTS]))
