"""Whole service files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chalicelib import spec

OWN = Path(__file__).with_name("corpus")
FILES = sorted(OWN.glob("*.yaml"))
# A directory of further files that must parse, e.g. a collection of SkyServe's examples.
FURTHER = os.environ.get("SAILPLANE_SPEC_CORPUS")
if FURTHER:
    FILES += sorted(Path(FURTHER).glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_service_file_parses_as_it_is(path: Path) -> None:
    """Files written for SkyServe, or with everything Sailplane adds, are accepted unchanged."""
    parsed = spec.parse(path.read_text())
    assert parsed.spec.engine.run
    assert parsed.spec.engine.port in range(8000, 9100)
    assert len(parsed.spec.fingerprint) == 64


def test_set_of_accelerators_is_one_group() -> None:
    """`{L4:8, A10g:8}` is a choice of the cheapest, with the names as the catalog spells them."""
    known = ["L4", "A10", "A10G", "A100", "A100-80GB"]
    parsed = spec.parse((OWN / "openai-map.yaml").read_text(), known_accelerators=known)
    (group,) = parsed.spec.resources.groups
    wanted = [(("L4", 8),), (("A10G", 8),), (("A10", 8),), (("A100", 4),), (("A100-80GB", 2),)]
    assert [requirement.accelerators for requirement in group] == wanted
    assert {requirement.memory_min_gib for requirement in group} == {32.0}


def test_same_accelerator_may_appear_with_several_counts() -> None:
    """`{A100:4, A100:8}` are two different machines, not one key given twice."""
    (group,) = spec.parse((OWN / "autoscaled.yaml").read_text()).spec.resources.groups
    assert [requirement.accelerators[0] for requirement in group][2:4] == [("A100", 4), ("A100", 8)]


def test_commands_keep_their_variables() -> None:
    """`setup` and `run` reach the replica untouched: its shell knows the variables."""
    engine = spec.parse((OWN / "secret-in-commands.yaml").read_text()).spec.engine
    assert "hub.login('${TOKEN}')" in engine.setup
    assert engine.run == "serve --model $MODEL\n"
    assert dict(engine.envs) == {"MODEL": "tiny/Story-15M", "TOKEN": "<your-token>"}
