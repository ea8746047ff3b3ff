"""`sailplane admin-keys` and `audit`: who may do what, and who did."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from click.testing import CliRunner, Result

from chalicelib import identity
from chalicelib.model import AuditEntry, Scope
from sailplane.cli import cli
from tests.cli.conftest import YAML, Plane
from tests.fakes import Interposed


def run_with(plane: Plane, key: str, *args: str) -> Result:
    return CliRunner().invoke(cli, args, env={**plane.env, "SAILPLANE_KEY": key})


def test_a_key_is_made_listed_used_and_revoked(plane: Plane) -> None:
    """The key alone is on stdout; with it goes what its scopes and services allow, until it is revoked by its name."""
    made = plane.run("admin-keys", "create", "ci", "--scope", "deploy", "--service", "svc", "--expires", "90d")
    text = made.stdout.strip()
    (key,) = plane.world.store.admin_keys()
    assert key.hash == identity.admin_key_hash(text)
    assert (key.scopes, key.services) == (frozenset({Scope.DEPLOY}), ("svc",))
    assert text not in made.stderr
    assert f"Key {key.id} is good for deploy on svc and expires at " in made.stderr
    assert "shown this once" in made.stderr

    assert run_with(plane, text, "up", plane.file(), "-n", "svc", "-y").exit_code == 0
    other = run_with(plane, text, "up", plane.file(), "-n", "other", "-y")
    assert other.exit_code == 9
    assert "Your key is for 'svc' only, and this is about 'other'." in other.stderr
    refused = run_with(plane, text, "keys", "list")
    assert (refused.exit_code, "the scope `keys`; yours has deploy" in refused.stderr) == (9, True)
    assert "sailplane admin-keys create NAME --scope SCOPE" in refused.stderr

    listed = plane.run("admin-keys", "list").stdout
    assert re.search(rf"^{key.id}  ci +deploy +svc .* root ", listed, re.MULTILINE)
    assert text not in listed
    assert plane.json("admin-keys", "list")["keys"][0]["last_used_at"] is not None
    assert plane.run("admin-keys", "revoke", "ci").stdout == f"{key.id} is revoked.\n"
    gone = run_with(plane, text, "status")
    assert (gone.exit_code, "sailplane connect aws" in gone.stderr) == (9, True)


def test_a_key_that_is_not_there_is_said_before_anything_is_done(plane: Plane) -> None:
    """Like a name that two keys have: then the id decides."""
    for _ in range(2):
        plane.run("admin-keys", "create", "twin", "--scope", "read")
    plane.run("admin-keys", "create", "ci", "--scope", "read")
    unknown = plane.run("admin-keys", "revoke", "ci", "nobody")
    assert (unknown.exit_code, "sailplane admin-keys list" in unknown.stderr) == (4, True)
    assert plane.run("admin-keys", "revoke", "ci", "twin").exit_code == 3
    keys = plane.world.store.admin_keys()
    assert len(keys) == 3
    twin = next(key for key in keys if key.name == "twin")
    assert plane.json("admin-keys", "revoke", "ci", twin.id)["revoked"] == [
        next(key.id for key in keys if key.name == "ci"),
        twin.id,
    ]


def test_what_to_do_next_is_what_the_new_key_may(plane: Plane) -> None:
    """At this control plane's own address; with whatever scopes, the command named first succeeds."""
    for scopes in (["read"], ["keys"], ["secrets"], ["secrets", "keys"], ["deploy", "keys"], ["admin"]):
        made = plane.run("admin-keys", "create", "x", *(part for scope in scopes for part in ("--scope", scope)))
        offered = re.search(rf"Next: SAILPLANE_URL={plane.url} SAILPLANE_KEY=KEY sailplane (.+)", made.stderr)
        assert offered
        assert run_with(plane, made.stdout.strip(), *offered[1].split()).exit_code == 0


def test_a_second_key_of_one_name_is_said(plane: Plane) -> None:
    """It is no mistake while one takes the other's place."""
    first = plane.json("admin-keys", "create", "ci", "--scope", "read")["id"]
    second = plane.run("admin-keys", "create", "ci", "--scope", "read")
    assert f"'ci' is the name of {first} too" in second.stderr
    assert "is the name of" not in plane.run("admin-keys", "create", "other", "--scope", "read").stderr


def test_who_makes_endpoint_keys_need_not_see_services(plane: Plane) -> None:
    """The key is made and printed; what cannot be looked up for the hints is left out."""
    text = plane.run("admin-keys", "create", "portal", "--scope", "keys").stdout.strip()
    made = run_with(plane, text, "keys", "create", "svc")
    assert made.exit_code == 0
    assert made.stdout.startswith("sp_")
    assert "Next: sailplane keys list" in made.stderr


def test_an_update_of_what_somebody_else_has_changed_is_refused(plane: Plane) -> None:
    """Whoever was shown the difference to one version does not replace another: nothing is changed, exit code 5."""
    plane.up()
    theirs = plane.file(YAML.replace("replicas: 2", "replicas: 3"), "theirs.yaml")
    whole, meanwhile = plane.world.runtime.store, [True]

    def happens(call: str) -> None:
        if call == "after spec" and meanwhile.pop():
            meanwhile.append(False)
            assert plane.run("update", "svc", theirs, "-y", "--detach").exit_code == 0

    store: Any = Interposed(whole, happens)
    plane.world.runtime = replace(plane.world.runtime, store=store)
    ours = plane.run("update", "svc", plane.file(YAML.replace("replicas: 2", "replicas: 1")), "-y", "--detach")
    assert (ours.exit_code, "It has changed" in ours.stderr) == (5, True)
    assert [version.source.count("replicas: 3") for version in plane.world.store.specs("svc")] == [0, 1]


def test_the_audit_says_who_did_what(plane: Plane) -> None:
    """Newest first, as many as asked for, by as many pages as it takes."""
    assert plane.run("audit").stdout == "Nobody has changed anything.\n"
    text = plane.run("admin-keys", "create", "ci", "--scope", "deploy").stdout.strip()
    run_with(plane, text, "up", plane.file(), "-n", "svc", "-y")
    run_with(plane, text, "keys", "revoke", "nothing")
    lines = plane.run("audit").stdout.splitlines()
    assert lines[0].split() == ["AT", "WHO", "KEY", "FROM", "DID", "TARGET", "ANSWER"]
    assert re.search(r" ci +[0-9a-f]{10} +127\.0\.0\.1 +create service +svc +201$", lines[1])
    assert re.search(r" root +root +127\.0\.0\.1 +create admin key +[0-9a-f]{10} \(ci\) +201$", lines[2])
    assert len(lines) == 3
    for number in range(120):
        plane.world.store.record_audit(_entry(number))
    entries = plane.json("audit", "--limit", "121")["entries"]
    assert len({entry["id"] for entry in entries}) == len(entries) == 121
    assert len(plane.run("audit", "--limit", "3").stdout.splitlines()) == 4


def _entry(number: int) -> AuditEntry:
    at = datetime(2027, 1, 1, tzinfo=UTC).timestamp() + number
    return AuditEntry(f"r{number}", at, "root", "root", "create", "POST", "/v1/services", "")
