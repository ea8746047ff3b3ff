"""`sailplane export` and `import` against control APIs over sockets."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.api.schemas import Backup, BackupEntry
from chalicelib.errors import Invalid
from chalicelib.model import Leftover, LeftoverKind
from sailplane.cli import backup_file
from tests.cli.conftest import Plane


class Crowded:
    """The plane's cloud with a machine of a service that nobody here knows."""

    def __init__(self, plane: Plane) -> None:
        self._cloud = plane.cloud
        plane.world.runtime = replace(plane.world.runtime, providers={"local": self})  # type: ignore[dict-item]  # all the rest is the cloud's

    def __getattr__(self, name: str) -> object:
        return getattr(self._cloud, name)

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        del live
        return (Leftover("local", LeftoverKind.MACHINE, "i-1", "here", "nobody knows it", "svc-ab12-0-1", 700.0),)

    def remove(self, leftover: Leftover) -> None:
        """Not asked for here."""


def exported(plane: Plane) -> Path:
    plane.up()
    plane.run("keys", "create", "svc")
    path = plane.directory / "backup"
    result = plane.run("export", "-o", str(path))
    assert result.exit_code == 0, result.stderr
    assert f"sailplane import {path}" in result.stderr
    return path


def test_what_is_exported_can_be_imported_and_again(plane: Plane) -> None:
    """Readable by its owner alone; the same from stdout; where everything is there already, it is said and left alone."""
    path = exported(plane)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for text in (path.read_text(), plane.run("export").stdout):
        assert [entry.kind for entry in backup_file.parse(text).entries] == ["key", "service"]
    again = plane.run("import", str(path), "--yes")
    assert (again.exit_code, again.stdout.count("was there already")) == (0, 2)
    assert f"From 'sailplane' at {plane.url}, as of " in again.stderr
    assert f"1 endpoint key, 1 service. It goes to 'sailplane' at {plane.url}." in again.stderr
    plane.run("down", "svc", "-y")
    back = plane.json("import", str(path), "--yes")
    assert [one["outcome"] for one in back["entries"]] == ["same", "restored"]
    assert plane.json("status", "svc")["target"] == 2


def test_what_was_revoked_after_the_backup_is_not_taken_in(plane: Plane) -> None:
    """Neither an endpoint key nor, with --admin-keys, an admin key; it is no failure."""
    plane.run("admin-keys", "create", "ann", "--scope", "read")
    path = exported(plane)
    [admin_key], [key] = plane.world.store.admin_keys(), plane.world.store.endpoint_keys()
    plane.run("admin-keys", "revoke", "ann")
    plane.run("keys", "revoke", key.id)
    left_out = plane.json("import", str(path), "--yes")
    assert (left_out["left_out"], [one["kind"] for one in left_out["entries"]]) == ([admin_key.id], ["key", "service"])
    told = plane.run("import", str(path), "--yes")
    assert f"These admin keys are left out: {admin_key.id} (ann). " in told.stderr
    assert f"These endpoint keys open services here from now on, but for those that were revoked here: {key.id}. " in (
        told.stderr
    )
    asked = plane.run("import", str(path), "--yes", "--admin-keys")
    assert (asked.exit_code, asked.stdout.count("it was revoked here since")) == (0, 2)
    assert f"may be used here from now on, but for those that were revoked here: {admin_key.id} (ann)" in asked.stderr
    assert plane.world.store.admin_keys() == plane.world.store.endpoint_keys() == ()


def test_a_file_may_hold_any_character() -> None:
    """A service's file may have been pasted from anywhere; what else ends a line somewhere is no end of one here."""
    entry = BackupEntry(kind="service", id="svc", document={"yaml": "a\u2028b\u0085c\u000cd\u2029e"})
    made_at = datetime(2026, 1, 1, tzinfo=UTC)
    page = Backup(format=1, sailplane="1", deployment="d", made_at=made_at, entries=(entry,), next=None)
    text = "".join(f"{line}\n" for line in backup_file.lines([page], "http://x"))
    assert backup_file.parse(text).entries == (entry,)
    assert backup_file.parse(text.replace("\n", "\r\n")).entries == (entry,)


def test_machines_that_would_be_lost_are_told_of_first(plane: Plane) -> None:
    """Code 3 and nothing changed, unless it is meant."""
    path = exported(plane)
    plane.run("down", "svc", "-y")
    Crowded(plane)
    refused = plane.run("import", str(path), "--yes")
    assert (refused.exit_code, "svc-ab12-0-1" in refused.stderr) == (3, True)
    assert plane.json("status")["services"] == []
    assert plane.run("import", str(path), "--yes", "--replace-machines").exit_code == 0


def test_another_service_of_that_name_is_an_exit_code(plane: Plane) -> None:
    """So that a script does not go on as if all had been taken in."""
    path = exported(plane)
    plane.run("down", "svc", "-y")
    plane.up()
    result = plane.run("import", str(path), "--yes")
    assert (result.exit_code, "another one of that name is here" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no backup"),
        ("hello", "Line 1"),
        ('{"a": 1}\n', "no backup"),
        ('{"sailplane_backup": 2, "sailplane": "9.9"}\n{"end": 0}\n', "Sailplane 9.9"),
        ('{"sailplane_backup": 1}\n', "cut off"),
        ('{"sailplane_backup": 1}\n{"end": 1}\n', "cut off"),
        ('{"sailplane_backup": 1}\n{"kind": "key", "id": "x", "docum', "Line 2"),
        ('{"sailplane_backup": 1}\n{"kind": "table", "id": "x", "document": {}}\n{"end": 1}\n', "Line 2"),
    ],
    ids=["empty", "no JSON", "another file", "newer", "head only", "one missing", "cut off", "unknown kind"],
)
def test_a_file_that_is_no_whole_backup_is_refused(text: str, told: str) -> None:
    """Before anything is asked of a control plane, with where it is wrong and what to do."""
    with pytest.raises(Invalid, match=told):
        backup_file.parse(text)
