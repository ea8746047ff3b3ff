"""What is shipped, built once and unpacked, for all tests of the platforms."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.checkout import ROOT
from infra.edge import ENTRIES, build


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """For each function a folder with its zip's content, and nothing else of ours; for the server this checkout."""
    out = tmp_path_factory.mktemp("edge")
    for platform in ENTRIES:
        with zipfile.ZipFile(build(platform, out)) as archive:
            archive.extractall(out / platform)
    return {platform: out / platform for platform in ENTRIES} | {"server": ROOT}
