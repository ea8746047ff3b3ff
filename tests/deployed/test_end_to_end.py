"""The real template and the real zips, deployed into an AWS account on this machine, used, and taken out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sailplane.deploy.package import Package
from tests.deployed.stand_in import StandIn

pytestmark = pytest.mark.deployed


def test_the_whole_path(stand_in: StandIn, package: Package, tmp_path: Path) -> None:
    """Bootstrap twice, a service, a spot warning, a new version, teardown: at the end nothing of ours is left."""
    before = stand_in.everything()
    options = ("-d", "acme", "--package", str(package.directory), "-y")
    made = stand_in.json(tmp_path, "bootstrap", "aws", *options)
    assert made["changed"] is True
    again = stand_in.json(tmp_path, "bootstrap", "aws", *options)
    assert again["changed"] is False
    stand_in.widen_roles()
    stand_in.cli(tmp_path, "connect", "aws", "-d", "acme")
    assert stand_in.json(tmp_path, "status") == {"services": []}
    stand_in.cli(tmp_path, "teardown", "-y")
    assert stand_in.everything() == before
