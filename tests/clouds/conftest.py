from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clouds.machines import Machines


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """A hypervisor; nothing that it started outlives the test."""
    hypervisor = Machines(tmp_path / "machines")
    yield hypervisor
    hypervisor.close()
