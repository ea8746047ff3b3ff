"""The benchmarks start agents of their own, and would wait for ever for one that cannot read what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replica_agent.config import load


@pytest.mark.parametrize("which", ["agent", "edge"])
def test_an_agent_takes_what_a_benchmark_gives_it(tmp_path: Path, which: str) -> None:
    """Nothing that an agent asks for is missing."""
    from benchmarks import agent  # noqa: PLC0415 not in every worker
    from benchmarks.edge import fronts  # noqa: PLC0415 as above

    document = {"agent": agent.configuration(), "edge": fronts.agent_configuration(0)}[which]
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(document))
    assert load(path).replica_id == document["replica_id"]
