"""The benchmark of all policies goes on where it was ended."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import policies as benchmark
from sailplane.sim import generated, policies
from sailplane.sim.market_files import Loaded
from sailplane.sim.scenario import Scenario

UNTIL_S = 0.05 * generated.DAY_S
NAMES = ("on_demand", "spothedge")


class Said:
    """Which policies were simulated, and which were found."""

    def __init__(self) -> None:
        self.simulated: set[str] = set()
        self.found: list[str] = []

    def __call__(self, policy: str, _t: float) -> None:
        self.simulated.add(policy)

    def say(self, policy: str, _what: str) -> None:
        self.found.append(policy)


def runs(kept: Path | None, names: tuple[str, ...] = NAMES, seed: int = 0) -> tuple[dict[str, benchmark.Run], Said]:
    market, said = generated.market(0, 0.2), Said()
    scenario = Scenario(policies.on(market, benchmark.SPEC), market, None, seed)
    return benchmark.run_all(scenario, names, UNTIL_S, jobs=1, kept=kept, progress=said), said


def test_a_finished_run_is_not_made_again(tmp_path: Path) -> None:
    """What is kept is what was made, and stands for it; another seed's does not."""
    made, said = runs(tmp_path, NAMES[:1])
    assert (said.simulated, said.found) == ({"on_demand"}, [])
    again, said = runs(tmp_path)
    assert (said.simulated, said.found) == ({"spothedge"}, ["on_demand"])
    assert again["on_demand"] == made["on_demand"]
    assert list(again) == list(NAMES)
    _, said = runs(tmp_path, NAMES[:1], seed=1)
    assert (said.simulated, said.found) == ({"on_demand"}, [])


def test_half_a_run_is_none(tmp_path: Path) -> None:
    """A file is there as a whole or not at all."""
    (tmp_path / "on_demand.partial").write_text('{"of": "')
    _, said = runs(tmp_path, NAMES[:1])
    assert said.simulated == {"on_demand"}
    assert [path.name for path in tmp_path.iterdir()] == ["on_demand.json"]


def test_a_market_leaves_table_figures_and_picture(tmp_path: Path) -> None:
    """Each policy against the one that it has to beat, and the bound."""
    found, _ = runs(None)
    market = generated.market(0, 0.2)
    loaded = Loaded(market, ("a note",))
    scenario = Scenario(policies.on(market, benchmark.SPEC), market)
    results = benchmark.compared(scenario, loaded, UNTIL_S, found)
    text = "\n".join(benchmark.described(results))
    assert "on_demand against spothedge: +" in text
    assert "| offline bound | 100 % |" in text
    benchmark.save(tmp_path / "out", results, text)
    figures = json.loads((tmp_path / "out" / "generated-0.json").read_text())
    assert [one["policy"] for one in figures["policies"]] == list(NAMES)
    assert figures["bound"]["usd"] < figures["policies"][1]["usd"]
    assert (tmp_path / "out" / "generated-0.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "generated-0.md").read_text().startswith("\n### generated-0: 3 replicas")
