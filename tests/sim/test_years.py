"""Months of simulated service, spread over many drawn worlds: whatever happens, the judges have nothing to say.

They are named in `sailplane.sim.judges`. `make sim YEARS=N` goes on for as long as you like; `.ci/run` does for five years.
"""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sailplane.sim import storms
from sailplane.sim.__main__ import main, seeds

YEARS = 0.25  # 20 s of CPU
SEEDS = [*seeds(YEARS)]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_or_leaked(seed: int) -> None:
    """Whatever happened: what is wanted comes to be, stays as it is, and goes when it is told to; see the judges."""
    history, simulation = storms.run(seed)
    story = "\n".join([*simulation.diary, *history.violations, f"again: {storms.replay(seed)}"])
    assert not history.violations, story


def test_it_is_a_quarter_of_a_year() -> None:
    """All of these worlds together."""
    assert sum(storms.duration_s(seed) for seed in SEEDS) >= YEARS * 365 * 86_400


@pytest.mark.parametrize("years", ["-1", "0"])
def test_no_time_at_all_proves_nothing(years: str) -> None:
    """Refused, instead of "0 with a violation" for no world."""
    result = CliRunner().invoke(main, ["--years", years])
    assert (result.exit_code, "--years" in result.stderr) == (2, True)
