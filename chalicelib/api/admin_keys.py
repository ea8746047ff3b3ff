"""Admin keys: who may ask this API, and for what. Only a hash of each is kept, so its text is told once, when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from chalice.app import Blueprint

from chalicelib import identity
from chalicelib.api import paging, schemas, views
from chalicelib.api.auth import ROOT, Principal, Reach, forbidden
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Invalid, NotFound
from chalicelib.model import AdminKey
from chalicelib.ports import Ids, Runtime
from chalicelib.words import lasting
from chalicelib.writes import made_once


def admin_keys(runtime: Callable[[], Runtime]) -> Blueprint:
    """The routes for admin keys, themselves for keys with the scope ADMIN."""
    route = partial(Route, reach=Reach.OWN)
    return blueprint(
        __name__,
        runtime,
        (
            route(
                "POST",
                "/v1/admin-keys",
                create_admin_key,
                "Make an admin key; its text is told in this answer only",
                schemas.NewAdminKey,
                status=HTTPStatus.CREATED,
                body=schemas.CreateAdminKey,
            ),
            route(
                "GET",
                "/v1/admin-keys",
                list_admin_keys,
                "Admin keys but the root one, without their texts, oldest first",
                schemas.AdminKeys,
                query=schemas.PageQuery,
            ),
            route(
                "DELETE",
                "/v1/admin-keys/{key_id}",
                revoke_admin_key,
                "Revoke an admin key",
                schemas.Revoked,
                errors=(404, 422),
            ),
        ),
    )


def create_admin_key(runtime: Runtime, body: schemas.CreateAdminKey, principal: Principal) -> schemas.NewAdminKey:
    """One with no more rights than its maker's, for no longer. Raises a 403 `Refused` where more is asked for."""
    for scope in body.scopes:
        principal.require(scope)
    principal.require_reach(body.services)
    if len(runtime.store.admin_keys()) >= schemas.MOST_ADMIN_KEYS:
        raise Invalid(f"There are {schemas.MOST_ADMIN_KEYS:,} admin keys. Revoke those that nobody uses first.")
    now = runtime.clock.now()
    wanted = AdminKey(
        id="",
        name=body.name,
        hash="",
        scopes=frozenset(body.scopes),
        services=tuple(dict.fromkeys(body.services)),
        created_at=now,
        expires_at=_end(body, principal, now),
        created_by=principal.id,
    )
    text, key = issued(runtime.ids, wanted)
    made = made_once(partial(runtime.store.create_admin_key, key), partial(_known, runtime, key))
    return views.new_admin_key(made, text, now)


def list_admin_keys(runtime: Runtime, query: schemas.PageQuery, principal: Principal) -> schemas.AdminKeys:
    """Those that are for nothing but what the principal is for."""
    now = runtime.clock.now()
    shown, following = paging.page(_visible(runtime, principal), paging.by_age, query.cursor, query.limit)
    return schemas.AdminKeys(keys=tuple(views.admin_key(key, now) for key in shown), next=following)


def revoke_admin_key(runtime: Runtime, key_id: str, principal: Principal) -> schemas.Revoked:
    """Refused from the next request on; what it made stays."""
    if key_id == ROOT:
        raise Invalid("The root key belongs to the deployment. It is changed where it is configured, not here.")
    known = next((key for key in _visible(runtime, principal) if key.id == key_id), None)
    if known is None:
        raise NotFound(f"There is no admin key with the id {key_id!r}. `sailplane admin-keys list` shows them.")
    runtime.store.revoke_admin_key(key_id)
    return schemas.Revoked(id=key_id, name=known.name)


def issued(ids: Ids, key: AdminKey) -> tuple[str, AdminKey]:
    """A text that nobody can guess, and `key` as it is kept of it, with an id."""
    key_id = ids.token(identity.KEY_ID_BYTES)
    text = identity.admin_key(key_id, bytes.fromhex(ids.token(identity.ADMIN_KEY_BYTES)))
    return text, replace(key, id=key_id, hash=identity.admin_key_hash(text))


def _known(runtime: Runtime, key: AdminKey) -> AdminKey | None:
    """The key with this very text, if there is one."""
    found = runtime.store.admin_key(key.id)
    return found if found and found.hash == key.hash else None


def _visible(runtime: Runtime, principal: Principal) -> list[AdminKey]:
    return [key for key in runtime.store.admin_keys() if principal.reaches(key.services)]


def _end(body: schemas.CreateAdminKey, principal: Principal, now: float) -> float | None:
    if body.expires_in_s is None:
        return principal.expires_at
    end = now + body.expires_in_s
    if principal.expires_at is not None and end > principal.expires_at:
        left = lasting(principal.expires_at - now)
        raise forbidden(f"Your own key ends in {left}, and no key outlives the one it was made with.")
    return end
