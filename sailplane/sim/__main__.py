"""Simulated years of drawn worlds, on all cores: `python -m sailplane.sim --years 5`; one of them again: `--seed 17`.

A whole year of one service: `--seed 5 --days 365`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate, count, takewhile

import click
from rich.progress import Progress, TimeElapsedColumn

from sailplane.sim import storms

_YEAR_S = 365 * 86_400.0


@click.command(help=__doc__)
@click.option(
    "--years",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="How long all worlds together last.",
)
@click.option("--seed", type=int, help="Run this world only, and tell its story.")
@click.option("--days", type=float, help="With --seed, an odd one: how long the season lasts, instead of nine days.")
@click.option("--first", type=int, default=0, show_default=True, help="The first seed of --years.")
@click.option("--jobs", type=int, default=os.cpu_count(), show_default=True, help="Processes.")
def main(years: float, seed: int | None, days: float | None, first: int, jobs: int) -> None:
    sys.exit(_tell(seed, days) if seed is not None else _run(years, first, jobs))


def seeds(years: float, first: int = 0) -> Iterator[int]:
    """The seeds from `first` on whose worlds together last for so long."""
    passed_s = accumulate((storms.duration_s(seed) for seed in count(first)), initial=0.0)
    return (seed for seed, _ in enumerate(takewhile(lambda s: s < years * _YEAR_S, passed_s), first))


def violations(seed: int) -> list[str]:
    """What the judges say of one world."""
    history, _ = storms.run(seed)
    return history.violations


def _run(years: float, first: int, jobs: int) -> int:
    chosen = list(seeds(years, first))
    bad = 0
    with ProcessPoolExecutor(jobs) as pool, Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as bar:
        for seed, found in zip(chosen, bar.track(pool.map(violations, chosen), len(chosen)), strict=True):
            if found:
                bad += 1
                bar.console.print(f"seed {seed}: {found[0]}\n  again: {storms.replay(seed)}", markup=False)
    click.echo(f"{len(chosen)} worlds, {years:g} simulated years: {bad} with a violation")
    return int(bad > 0)


def _tell(seed: int, days: float | None) -> int:
    history, simulation = storms.run(seed, days=days)
    click.echo("\n".join(simulation.diary))
    click.echo(f"seed {seed}: {history.violations or 'no violation'}; {history.counts}")
    click.echo(
        f"{history.until_s / 86_400:.1f} days, {history.passes_run} passes run, {history.passes_skipped} skipped"
    )
    return int(bool(history.violations))


if __name__ == "__main__":
    main()
