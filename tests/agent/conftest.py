from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.running import Agent


@pytest.fixture
def new_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts agents; whatever they started is gone when the test ends."""
    agents: list[Agent] = []

    def start(**overrides: object) -> Agent:
        agents.append(Agent(tmp_path / f"replica-{len(agents)}"))
        return agents[-1].start(**overrides)

    yield start
    for agent in agents:
        agent.destroy()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One agent with a ready engine, shared by the tests of a module that leave it as it was."""
    shared = Agent(tmp_path_factory.mktemp("agent") / "replica")
    yield shared.start().until_ready()
    shared.destroy()
