"""A backup over the API: what one control plane gives, another takes in, once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib import backup
from chalicelib.errors import Invalid
from chalicelib.model import (
    AdminKey,
    Hook,
    HookKind,
    OidcIssuer,
    Push,
    ReplicaStatus,
    Scope,
    SecretBinding,
    State,
    Trust,
)
from tests.api.conftest import YAML, Api, assert_problem
from tests.fakes import FakeClock, FakeCloud, World
from tests.store import nouns

Entry = dict[str, Any]


def entries(api: Api) -> list[Entry]:
    found: list[Entry] = []
    cursor: str | None = ""
    while cursor is not None:
        page = json.loads(api.get(f"/v1/backup?cursor={cursor}" if cursor else "/v1/backup").body)
        found += page["entries"]
        cursor = page["next"]
    return found


def restore(api: Api, entry: Entry) -> str:
    response = api.post("/v1/backup/entries", entry)
    assert response.status_code == 200, response.body
    outcome: str = json.loads(response.body)["outcome"]
    return outcome


def lived_in(api: Api) -> Api:
    """A control plane with a service of two versions and two machines, one gone, an idle one, keys and a secret."""
    world = api.world
    api.post("/v1/services", {"name": "svc", "yaml": YAML, "envs": {}})
    world.tick(3)
    api.call("PUT", "/v1/services/svc", {"yaml": YAML.replace("replicas: 2", "replicas: 3"), "envs": {}})
    world.tick(3)
    world.cloud.machines.pop(world.replicas(ReplicaStatus.READY)[0].id)
    world.tick(60, every_s=10)
    api.post("/v1/services", {"name": "other", "yaml": YAML, "envs": {}})
    api.post("/v1/keys", {"services": ["svc"], "name": "app"})
    world.store.create_admin_key(AdminKey("0123456789", "ci", "ab" * 32, frozenset({Scope.DEPLOY}), world.clock.now()))
    world.runtime.secrets.write("team-hf", "the text of a secret")
    world.store.bind_secret(SecretBinding("team-hf", ("svc", "llm-*")))
    now = world.clock.now()
    world.store.create_trust(
        Trust("a" * 10, OidcIssuer.GITHUB, "https://issuer", "acme/app", ("svc",), now, ref="refs/heads/main")
    )
    push = Push("c" * 40, now)
    world.store.create_hook(
        Hook(
            "b" * 10,
            HookKind.GITHUB,
            "svc",
            now,
            "acme/app",
            "main",
            "service.yaml",
            push=push,
            is_pending=True,
            failures=3,
        )
    )
    return api


def elsewhere(api: Api) -> Api:
    """Another account, some hours later."""
    return Api(World(cloud=FakeCloud(FakeClock(api.world.clock.now() + 9_000))))


def test_another_control_plane_takes_everything_in(api: Api) -> None:
    """Versions as they were written, keys that still open, as many replicas as were wanted, and the bill so far."""
    source = lived_in(api)
    target = elsewhere(source)
    taken = entries(source)
    assert [entry["kind"] for entry in taken] == [
        "admin_key",
        "key",
        "secret",
        "service",
        "service",
        "trust",
        "webhook",
    ]
    outcomes = [restore(target, entry) for entry in taken]
    assert outcomes == ["restored", "restored", "missing", *["restored"] * 4]
    assert target.poked == ["other", "svc"]
    here, there = source.world, target.world
    for name in ("svc", "other"):
        assert there.store.specs(name) == here.store.specs(name)
        assert there.state(name).service.spec == here.state(name).service.spec
    assert [key.hash for key in there.store.endpoint_keys()] == [key.hash for key in here.store.endpoint_keys()]
    assert there.store.admin_keys() == here.store.admin_keys()
    assert there.store.trusts() == here.store.trusts()
    assert there.store.secret_bindings() == here.store.secret_bindings() != ()
    [hook] = there.store.hooks()
    assert (hook.service, hook.branch, hook.is_pending, hook.failures) == ("svc", "main", False, 0)
    assert hook.look_at == there.clock.now()
    assert there.state().service.uid != here.state().service.uid
    assert there.state().service.spend.usd_ever == pytest.approx(
        json.loads(source.get("/v1/services/svc/cost").body)["usd_ever"]
    )
    there.tick(5)
    assert len(there.replicas(ReplicaStatus.READY)) == 3


def test_no_secret_and_no_machine_is_in_it(api: Api) -> None:
    """Neither texts of secrets nor the control plane's own keys; machines stay where they are."""
    source = lived_in(api)
    written = json.dumps(entries(source))
    assert "the text of a secret" not in written
    assert all(key not in written for key in (source.world.runtime.settings.admin_key, "router-token", "agent-key"))
    assert all(replica.id not in written and replica.boot_nonce not in written for replica in source.world.replicas())


def test_it_is_taken_in_once_however_often_it_is_sent(api: Api) -> None:
    """Interrupted anywhere and run again from the start, it ends as if it had run once; what was changed meanwhile stays."""
    source = lived_in(api)
    taken = entries(source)
    for crash in range(len(taken) + 1):
        target = elsewhere(source)
        for entry in taken[:crash]:
            restore(target, entry)
        again = [restore(target, entry) for entry in taken]
        assert again == ["missing" if entry["kind"] == "secret" else "same" for entry in taken[:crash]] + [
            "missing" if entry["kind"] == "secret" else "restored" for entry in taken[crash:]
        ]
        target.world.tick(5)
        target.call("PUT", "/v1/services/svc", {"yaml": YAML.replace("replicas: 2", "replicas: 1"), "envs": {}})
        assert {restore(target, entry) for entry in taken} == {"same", "missing"}
        assert target.world.state().service.spec_version == 3


def test_something_else_of_that_name_stays(api: Api) -> None:
    """A service, a key and an admin key that are here already and differ are told, and kept as they are."""
    source = lived_in(api)
    taken = entries(source)
    target = elsewhere(source)
    target.post("/v1/services", {"name": "svc", "yaml": YAML, "envs": {}})
    key = source.world.store.endpoint_keys()[0]
    target.world.store.create_key(replace(key, hash="cd" * 32, version=0))
    target.world.store.create_admin_key(AdminKey("0123456789", "x", "cd" * 32, frozenset({Scope.READ}), 1.0))
    target.world.runtime.secrets.write("team-hf", "set before")
    target.world.store.create_trust(replace(source.world.store.trusts()[0], repository="acme/other"))
    target.world.store.create_hook(replace(source.world.store.hooks()[0], created_at=1.0, version=0))
    before = target.world.state()
    assert [restore(target, entry) for entry in taken] == [
        "kept",
        "kept",
        "restored",
        "restored",
        "kept",
        "kept",
        "kept",
    ]
    assert target.world.state() == before


def test_a_text_that_outlived_its_table_is_for_whom_the_backup_says(api: Api) -> None:
    """A stack was deleted and made anew: the text lies there, for nobody until then; what is said here stays."""
    [entry] = [entry for entry in entries(lived_in(api)) if entry["kind"] == "secret"]
    target = elsewhere(api)
    target.world.runtime.secrets.write("team-hf", "the text of before")
    assert [restore(target, entry) for _ in range(2)] == ["restored", "same"]
    [binding] = target.world.store.secret_bindings()
    assert binding.services == ("svc", "llm-*")
    narrowed = target.world.store.bind_secret(replace(binding, services=()))
    assert restore(target, entry) == "same"
    assert target.world.store.secret_bindings() == (narrowed,)


def test_a_trust_and_a_webhook_that_were_removed_stay_so(api: Api) -> None:
    """They were removed for a reason, which a backup of before does not know: a repository that somebody else has taken."""
    source = lived_in(api)
    taken = [entry for entry in entries(source) if entry["kind"] in ("trust", "webhook")]
    for entry in taken:
        assert source.call("DELETE", f"/v1/{entry['kind']}s/{entry['id']}").status_code == 200
    assert [restore(source, entry) for entry in taken] == ["revoked", "revoked"]
    assert (source.world.store.trusts(), source.world.store.hooks()) == ((), ())


def test_a_key_that_was_revoked_stays_revoked(api: Api) -> None:
    """Whatever a backup of before says: an endpoint key, one that was replaced and is forgotten, an admin key."""
    source = lived_in(api)
    taken = [entry for entry in entries(source) if entry["kind"] in ("admin_key", "key")]
    [endpoint_key] = source.world.store.endpoint_keys()
    source.call("DELETE", "/v1/admin-keys/0123456789")
    source.post(f"/v1/keys/{endpoint_key.id}/rotate", {"overlap_s": 60})
    assert [restore(source, entry) for entry in taken] == ["revoked", "same"]
    source.world.clock.advance(8 * 86_400)
    assert [restore(source, entry) for entry in taken] == ["revoked", "revoked"]
    assert source.world.store.admin_keys() == ()
    assert endpoint_key.id not in {key.id for key in source.world.store.endpoint_keys()}


def test_an_older_backup_says_of_no_secret_whom_it_is_for(api: Api) -> None:
    """Then whoever sets it does; and what was said here before is not unsaid by a backup."""
    assert restore(api, {"kind": "secret", "id": "old", "document": {}}) == "missing"
    assert api.world.store.secret_bindings() == ()
    said = api.world.store.bind_secret(SecretBinding("team-hf", ("mine",)))
    assert restore(api, {"kind": "secret", "id": "team-hf", "document": {"services": ["*"]}}) == "missing"
    assert api.world.store.secret_bindings() == (said,)


def test_a_service_that_is_being_shut_down_is_not_taken_along(api: Api) -> None:
    """Its owner wants it gone."""
    api.world.create()
    api.world.delete()
    assert entries(api) == []


def test_a_service_being_reckoned_from_machines_that_run_counts_them(api: Api) -> None:
    """Their cost up to the backup is in its sum, since their records are not."""
    api.world.create()
    api.world.tick(3)
    api.world.clock.advance(7200)
    [entry] = entries(api)
    assert entry["document"]["service"]["spend"]["usd_ever"] == pytest.approx(4.0, abs=0.01)


def test_large_backups_come_in_pages(api: Api) -> None:
    """No answer is larger than a function may give, quoted as the gateway wants it, and nothing is lost between two."""
    large = YAML + '# "é"\n' * 20_000
    names = [f"svc-{number:02}" for number in range(12)]
    for name, versions in zip(names, [1] * 10 + [19, 1], strict=True):
        service = replace(nouns.service(name), spec_version=versions, version=0)
        *earlier, last = (nouns.spec(name, one + 1, source=large) for one in range(versions))
        api.world.store.create_service(service, last, earlier=earlier)
    pages = [api.get("/v1/backup").body.decode()]
    while cursor := json.loads(pages[-1])["next"]:
        pages.append(api.get(f"/v1/backup?cursor={cursor}").body.decode())
    assert max(len(json.dumps(page)) for page in pages) < 6_000_000
    assert len(pages) > 1
    assert [entry["id"] for page in pages for entry in json.loads(page)["entries"]] == names


def test_versions_beyond_what_one_write_takes_are_left_behind() -> None:
    """The newest go along: those that were rolled out, and what can be returned to."""
    state = State(replace(nouns.service(), spec_version=200))
    versions = [nouns.spec(number=number, source="y" * 40_000) for number in range(1, 201)]
    document = backup.of_service(state, versions, nouns.NOW)
    numbers = [version["number"] for version in document["versions"]]
    assert numbers == list(range(201 - len(numbers), 201))
    assert len(json.dumps(document)) < 3_200_000
    assert backup.service_of(document, "new", nouns.NOW).service.uid == "new"


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"service": None, "versions": []},
        {"service": "svc", "versions": [1]},
    ],
)
def test_what_is_no_entry_is_refused_with_what_is_wrong(api: Api, broken: dict[str, Any]) -> None:
    """422, and nothing is written."""
    assert_problem(api.post("/v1/backup/entries", {"kind": "service", "id": "svc", "document": broken}), 422)
    assert_problem(api.post("/v1/backup/entries", {"kind": "key", "id": "x", "document": broken}), 422)
    assert api.world.store.service_names() == ()


def test_a_key_that_ends_restores_no_admin_key(api: Api) -> None:
    """Or it would outlive itself in one that has no end. Everything else it may; one for some services may nothing."""
    taken = entries(lived_in(api))
    admin_key = next(entry for entry in taken if entry["kind"] == "admin_key")
    target = elsewhere(api)
    wanted = {"name": "x", "scopes": ["admin"]}
    short = json.loads(target.post("/v1/admin-keys", {**wanted, "expires_in_s": 60}).body)["key"]
    limited = json.loads(target.post("/v1/admin-keys", {**wanted, "services": ["svc"]}).body)["key"]
    assert_problem(target.call("POST", "/v1/backup/entries", admin_key, key=short), 403)
    for entry in taken:
        assert_problem(target.call("POST", "/v1/backup/entries", entry, key=limited), 403)
    others = [target.call("POST", "/v1/backup/entries", one, key=short) for one in taken if one["kind"] != "admin_key"]
    assert {response.status_code for response in others} == {200}
    assert restore(target, admin_key) == "restored"


def test_who_took_a_backup_is_in_the_audit(api: Api) -> None:
    """It holds every service file, and the hash of every key."""
    entries(api)
    told = json.loads(api.get("/v1/audit").body)["entries"]
    assert [(one["operation"], one["status"]) for one in told] == [("take_backup", 200)]


@pytest.mark.parametrize("key_id", ["root", "0123456789#", ""])
def test_an_admin_key_has_an_id_that_it_can_be_revoked_by(api: Api, key_id: str) -> None:
    """`root` above all, as which the audit would name whatever is done with it."""
    entry = next(entry for entry in entries(lived_in(api)) if entry["kind"] == "admin_key")
    document = entry["document"] | {"id": key_id}
    assert_problem(elsewhere(api).post("/v1/backup/entries", entry | {"document": document}), 422)


@pytest.mark.parametrize("wrong", [{"kind": "generic"}, {"repository": ""}])
def test_a_webhook_has_a_repository_unless_it_is_generic(api: Api, wrong: dict[str, str]) -> None:
    """There is no forge to ask for what a generic one follows, and nothing to ask a forge without one."""
    entry = next(entry for entry in entries(lived_in(api)) if entry["kind"] == "webhook")
    target = elsewhere(api)
    assert_problem(target.post("/v1/backup/entries", entry | {"document": entry["document"] | wrong}), 422)
    assert target.world.store.hooks() == ()


def test_versions_must_be_the_services_own(api: Api) -> None:
    """All there, once each, and with a name that a service may have."""
    source = lived_in(api)
    good = next(entry for entry in entries(source) if entry["id"] == "svc")
    target = elsewhere(source)
    versions = good["document"]["versions"]
    for wrong in (versions[:1], [*versions, versions[0]], [{**one, "service": "other"} for one in versions]):
        assert_problem(
            target.post("/v1/backup/entries", good | {"document": good["document"] | {"versions": wrong}}), 422
        )
    reserved = {"service": good["document"]["service"] | {"name": "v1"}}
    reserved["versions"] = [{**one, "service": "v1"} for one in versions]
    assert_problem(target.post("/v1/backup/entries", good | {"document": reserved}), 422)
    assert target.world.store.service_names() == ()


@settings(max_examples=25)
@given(
    st.recursive(st.none() | st.text() | st.floats(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner))
)
def test_no_document_breaks_the_reader(document: Any) -> None:
    """Whatever is sent is read or refused."""
    with pytest.raises(Invalid):
        backup.service_of({"service": document, "versions": document}, "u", 1.0)
