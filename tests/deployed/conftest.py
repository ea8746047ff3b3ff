"""An AWS account on this machine, and the package that is deployed into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sailplane.deploy.package import Package
from sailplane.local.ministack import environment
from tests.deployed.stand_in import REQUIREMENTS, StandIn


@pytest.fixture(scope="session")
def cache() -> Path:
    return Path(os.environ.get("SAILPLANE_CACHE", Path.home() / ".cache" / "sailplane"))


@pytest.fixture(scope="session")
def ministack_python(cache: Path) -> Path:
    return environment(cache, REQUIREMENTS)


@pytest.fixture(scope="module")
def stand_in(ministack_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with StandIn(ministack_python, tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """What is shipped, but for this machine: the stand-in runs functions with its own Python."""
    import platform  # noqa: PLC0415 here and below: other tests are collected too

    from infra.package import build  # noqa: PLC0415

    directory = tmp_path_factory.mktemp("dist")
    build(directory, ["aws"], arch={"aarch64": "arm64"}.get(platform.machine(), "x86_64"))
    return Package(directory)
