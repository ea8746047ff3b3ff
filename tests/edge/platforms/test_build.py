"""What is shipped to the clouds' functions."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.checkout import ROOT
from infra.edge import ENTRIES, LIMIT_BYTES, build
from tests.edge.platforms.runtimes import ISOLATED, PATHS, SITE_PACKAGES


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    """By whatever process, wherever to; the command says how large each is."""
    command = [sys.executable, "-m", "infra.edge", "--out", str(tmp_path / "theirs")]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (tmp_path / "ours").mkdir()
    for platform in ENTRIES:
        ours = build(platform, tmp_path / "ours")
        theirs = tmp_path / "theirs" / ours.name
        assert hashlib.sha256(ours.read_bytes()).digest() == hashlib.sha256(theirs.read_bytes()).digest()
        assert f"{ours.name}  {ours.stat().st_size:,} bytes" in said


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    """In a sentence with what to do instead, and no traceback."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "infra.edge", "aws", "--out", str(tmp_path / "file" / "below")]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"cannot write to {tmp_path}/file/below" in ended.stderr
    assert "give another directory with --out" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("platform", ENTRIES)
def test_a_zip_is_small_and_says_nothing_of_its_maker(platform: str, tmp_path: Path) -> None:
    """Less than 100 KB; no time, no owner, every file readable, in order."""
    path = build(platform, tmp_path)
    assert path.stat().st_size < LIMIT_BYTES
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        assert archive.testzip() is None
    assert [member.filename for member in members] == sorted(member.filename for member in members)
    assert {(member.date_time, member.external_attr >> 16) for member in members} == {((1980, 1, 1, 0, 0, 0), 0o644)}


@pytest.mark.parametrize(
    ("platform", "beside"),
    [
        ("aws", {"lambda_function.py"}),
        ("gcp", {"main.py", "requirements.txt"}),
        ("azure", {"function_app.py", "host.json", "requirements.txt"}),
    ],
)
def test_a_zip_holds_what_its_platform_needs(platform: str, beside: set[str], artefacts: Mapping[str, Path]) -> None:
    """The modules that are loaded in its runtime, all of them out of the zip, and no others."""
    folder = artefacts[platform]
    program = (
        PATHS
        + f"import edge_router.platforms.{platform}; print(*(m.__file__ for n, m in sorted(sys.modules.items()) if n.startswith('edge_router')))"
    )
    command = [*ISOLATED, program, str(folder), SITE_PACKAGES]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, env={}).stdout.split()
    shipped = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {Path(path).relative_to(folder).as_posix() for path in loaded} == shipped - beside
    assert beside <= shipped


def test_azure_adds_no_prefix(artefacts: Mapping[str, Path]) -> None:
    """Or every path would begin with /api."""
    host = json.loads((artefacts["azure"] / "host.json").read_text())
    assert host == {"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}
