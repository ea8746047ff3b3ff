"""Show that every planted bug is caught: `python -m tests.sim.mutants [NAME…]` prints by which seed and which judge."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor

from sailplane.sim import storms
from tests.sim.mutants import MUTANTS

SEEDS = 50


def caught_by(name: str) -> tuple[int, str] | None:
    """The first seed that a bug does not survive, and what the judges say; None when it survives all of them."""
    for seed in range(SEEDS):
        history, _ = storms.run(seed, around=MUTANTS[name])
        if history.violations:
            return seed, history.violations[0]
    return None


def main(names: list[str]) -> int:
    """Print a line for each bug; 1 when one survives."""
    survivors = 0
    with ProcessPoolExecutor() as pool:
        for name, found in zip(names, pool.map(caught_by, names), strict=True):
            survivors += found is None
            told = f"seed {found[0]}: {found[1].splitlines()[-1][:150]}" if found else f"SURVIVES {SEEDS} seeds"
            sys.stdout.write(f"{name}: {told}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(names) - survivors} of {len(names)} planted bugs are caught within {SEEDS} seeds\n")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [*MUTANTS]))
