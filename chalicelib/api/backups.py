"""A backup, entry by entry: taken page by page, and brought in one entry at a time, each whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from chalice.app import Blueprint

from chalicelib import __version__, backup, deploying, identity
from chalicelib.api import paging, schemas
from chalicelib.api.auth import Principal, Reach, forbidden
from chalicelib.api.routes import Route, blueprint
from chalicelib.api.views import instant
from chalicelib.errors import Exists, Invalid
from chalicelib.model import AdminKey, EndpointKey, Event, SecretBinding, Trust
from chalicelib.ports import Runtime
from chalicelib.schedule import kept_on, kept_on_for_a_push

# A function answers with 6 MB at the most, in which the text of a page is quoted once more: a service's 3 MB of versions are
# 4 MB then. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_PAGE_BYTES = 4_000_000
_Entry = schemas.BackupEntry


def backups(runtime: Callable[[], Runtime]) -> Blueprint:
    """The routes for backups, for keys with the scope ADMIN."""
    return blueprint(
        __name__,
        runtime,
        (
            Route(
                "GET",
                "/v1/backup",
                take_backup,
                "Everything that another control plane can take in",
                schemas.Backup,
                query=schemas.BackupQuery,
                tells_all=True,
            ),
            Route(
                "POST",
                "/v1/backup/entries",
                restore_entry,
                "Take in one entry of a backup",
                schemas.RestoredEntry,
                body=_Entry,
                reach=Reach.OWN,
                errors=(423,),
                max_body_bytes=5 * 1024 * 1024,
            ),
        ),
    )


def take_backup(runtime: Runtime, query: schemas.BackupQuery) -> schemas.Backup:
    """A page of entries, in the order in which they are to be restored."""
    start, taken, size = paging.place(query.cursor), list[_Entry](), 0
    following: str | None = None
    for place, make in _places(runtime):
        if place < start:
            continue
        if entry := make():
            size += len(json.dumps(entry.model_dump_json()))
            if taken and size > _PAGE_BYTES:
                following = paging.cursor(place)
                break
            taken.append(entry)
    return schemas.Backup(
        format=backup.FORMAT,
        sailplane=__version__,
        deployment=runtime.settings.deployment,
        made_at=instant(runtime.clock.now()),
        entries=tuple(taken),
        next=following,
    )


def _places(runtime: Runtime) -> Iterator[tuple[str, Callable[[], _Entry | None]]]:
    """What there is, sorted by place: who may call first, what wakes services last."""
    for admin_key in sorted(runtime.store.admin_keys(), key=lambda one: one.id):
        yield f"1#{admin_key.id}", partial(_noun, "admin_key", admin_key.id, admin_key)
    for key in sorted(runtime.store.endpoint_keys(), key=lambda one: one.id):
        yield f"2#{key.id}", partial(_noun, "key", key.id, key)
    for secret in deploying.known_secrets(runtime):
        document = {"services": list(secret.services)}
        yield f"3#{secret.name}", partial(_Entry, kind="secret", id=secret.name, document=document)
    for name in runtime.store.service_names():
        yield f"4#{name}", partial(_service, runtime, name)
    for trust in runtime.store.trusts():
        yield f"5#{trust.id}", partial(_noun, "trust", trust.id, trust)
    for hook in runtime.store.hooks():
        yield f"6#{hook.id}", partial(_noun, "webhook", hook.id, hook)


def _noun(kind: Any, noun_id: str, noun: object) -> _Entry:
    return _Entry(kind=kind, id=noun_id, document=backup.of(noun))


def _service(runtime: Runtime, name: str) -> _Entry | None:
    """None for one that is gone meanwhile, or going."""
    state = runtime.store.load(name)
    if state is None or state.service.deleting:
        return None
    document = backup.of_service(state, runtime.store.specs(name), runtime.clock.now())
    return _Entry(kind="service", id=name, document=document)


def restore_entry(runtime: Runtime, body: schemas.BackupEntry, principal: Principal) -> schemas.RestoredEntry:
    """Write what the entry holds, unless it is there. What is there and differs is left as it is. Raises `Invalid`."""
    principal.require_reach(("*",))
    if body.kind == "admin_key" and principal.expires_at is not None:
        raise forbidden("Your key ends, and an admin key that it brings in might outlive it: use the root key.")
    outcome = _RESTORE[body.kind](runtime, body)
    return schemas.RestoredEntry(kind=body.kind, id=body.id, outcome=outcome)


def _restore_admin_key(runtime: Runtime, body: _Entry) -> schemas.RestoreOutcome:
    key = backup.noun_of(AdminKey, body.document)
    if not re.fullmatch(identity.ADMIN_KEY_ID, key.id):  # it could neither be used nor, as `root`, be revoked
        raise Invalid(f"{key.id!r} is no admin key's id: ten hexadecimal digits.")
    try:
        runtime.store.create_admin_key(key)
    except Exists:
        return _found(key, runtime.store.admin_key(key.id))
    return "restored"


def _restore_key(runtime: Runtime, body: _Entry) -> schemas.RestoreOutcome:
    key = backup.noun_of(EndpointKey, body.document)
    try:
        runtime.store.create_key(key)
    except Exists:
        return _found(key, next((known for known in runtime.store.endpoint_keys() if known.id == key.id), None))
    return "restored"


def _found(key: AdminKey | EndpointKey, known: AdminKey | EndpointKey | None) -> schemas.RestoreOutcome:
    return _outcome(known, is_same=known is not None and known.hash == key.hash)


def _outcome(known: object, *, is_same: bool) -> schemas.RestoreOutcome:
    """What it means that something cannot be written: its id stays taken when it is revoked, replaced, removed, or long over."""
    if known is None:
        return "revoked"
    return "same" if is_same else "kept"


def _restore_secret(runtime: Runtime, body: _Entry) -> schemas.RestoreOutcome:
    """Its text is in no backup. For whom it is may be known before it is set."""
    if body.id in {secret.name for secret in runtime.secrets.known()}:
        return "same"
    is_bound = body.id in {binding.secret for binding in runtime.store.secret_bindings()}
    if body.document and not is_bound:  # older backups do not say for whom
        runtime.store.bind_secret(backup.noun_of(SecretBinding, {**body.document, "secret": body.id}))
    return "missing"


def _restore_service(runtime: Runtime, body: _Entry) -> schemas.RestoreOutcome:
    now = runtime.clock.now()
    found = backup.service_of(body.document, runtime.ids.token(2), now)
    name, (*earlier, current) = found.service.name, found.versions
    try:
        schemas.valid_name(name)
    except ValueError as error:
        raise Invalid(str(error)) from error
    event = Event(now, "service.restored", f"restored from a backup, at version {found.service.spec_version}")
    try:
        with kept_on(runtime, f"service {name} is restored"):
            runtime.store.create_service(found.service, current, (event,), earlier=earlier)
    except Exists:
        known = runtime.store.specs(name)
        return "same" if set(_digests(found.versions)) <= set(_digests(known)) else "kept"
    runtime.poke(name)
    return "restored"


def _restore_trust(runtime: Runtime, body: _Entry) -> schemas.RestoreOutcome:
    trust = backup.noun_of(Trust, body.document)
    try:
        runtime.store.create_trust(trust)
    except Exists:
        known = {one.id: one for one in runtime.store.trusts()}.get(trust.id)
        return _outcome(known, is_same=known == trust)
    return "restored"


def _restore_webhook(runtime: Runtime, body: _Entry) -> schemas.RestoreOutcome:
    """Its deliveries are signed with a secret that is derived anew here; the branch is looked at without waiting for one."""
    hook = backup.hook_of(body.document, runtime.clock.now())
    try:
        with kept_on_for_a_push(runtime):
            runtime.store.create_hook(hook)
    except Exists:
        known = runtime.store.hook(hook.id)
        return _outcome(known, is_same=known is not None and known.created_at == hook.created_at)
    return "restored"


_RESTORE: Mapping[str, Callable[[Runtime, _Entry], schemas.RestoreOutcome]] = {
    "admin_key": _restore_admin_key,
    "key": _restore_key,
    "secret": _restore_secret,
    "service": _restore_service,
    "trust": _restore_trust,
    "webhook": _restore_webhook,
}


def _digests(versions: tuple[Any, ...]) -> Iterator[str]:
    return (json.dumps(backup.of(version), sort_keys=True) for version in versions)
