"""Endpoint keys: what clients show at the edge. Only a hash of each is kept, so its text is told once, when it is made."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from chalice.app import Blueprint

from chalicelib import identity, passes
from chalicelib.api import paging, schemas, views
from chalicelib.api.auth import Principal, Reach
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Invalid, NotFound
from chalicelib.model import EndpointKey, Scope
from chalicelib.ports import Ids, Runtime
from chalicelib.writes import made_once, until_unchallenged

log = logging.getLogger(__name__)


def keys(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for endpoint keys."""
    route = partial(Route, scope=Scope.KEYS, reach=Reach.OWN)
    made = partial(route, "POST", answer=schemas.NewKey, status=HTTPStatus.CREATED)
    return blueprint(
        __name__,
        runtime,
        (
            made(
                "/v1/keys",
                create_key,
                "Make an endpoint key; its text is told in this answer only",
                body=schemas.CreateKey,
            ),
            route(
                "GET",
                "/v1/keys",
                list_keys,
                "Endpoint keys without their texts, oldest first",
                schemas.Keys,
                query=schemas.PageQuery,
            ),
            route("DELETE", "/v1/keys/{key_id}", revoke_key, "Revoke a key", schemas.Revoked, errors=(404,)),
            made(
                "/v1/keys/{key_id}/rotate",
                rotate_key,
                "Make a key with the same rights; the old one goes on for a while",
                body=schemas.RotateKey,
                errors=(404, 412),
            ),
        ),
    )


def create_key(runtime: Runtime, body: schemas.CreateKey, principal: Principal) -> schemas.NewKey:
    """Services need not exist yet, so that a client can be set up before what it calls."""
    principal.require_reach(body.services)
    _require_room(runtime)
    now = runtime.clock.now()
    key_id, text = _drawn(runtime.ids)
    key = EndpointKey(
        id=key_id,
        name=body.name,
        hash=identity.endpoint_key_hash(text),
        services=tuple(dict.fromkeys(body.services)),
        created_at=now,
        expires_at=None if body.expires_in_s is None else now + body.expires_in_s,
        rate_per_s=body.rate_per_s,
        concurrency=body.concurrency,
    )
    made = made_once(partial(runtime.store.create_key, key), partial(_known, runtime, key))
    _tell_routers_to_come(runtime)
    return views.new_key(made, text, now)


def list_keys(runtime: Runtime, query: schemas.PageQuery, principal: Principal) -> schemas.Keys:
    """The keys that are kept and open nothing but what the principal is for."""
    now = runtime.clock.now()
    shown, following = paging.page(_visible(runtime, principal), paging.by_age, query.cursor, query.limit)
    return schemas.Keys(keys=tuple(views.key(key, now) for key in shown), next=following)


def revoke_key(runtime: Runtime, key_id: str, principal: Principal) -> schemas.Revoked:
    """Forget it. Routers take the next table within seconds; what it has begun goes on."""
    known = _find(runtime, key_id, principal)
    runtime.store.revoke_key(key_id)
    _tell_routers_to_come(runtime)
    return schemas.Revoked(id=key_id, name=known.name)


def rotate_key(runtime: Runtime, key_id: str, body: schemas.RotateKey, principal: Principal) -> schemas.NewKey:
    """The new key lives as long from now on as the old one was made for."""
    _require_room(runtime)
    # Drawn once, so that an attempt after a crash draws the same however often this one has to begin anew.
    successor_id, text = _drawn(runtime.ids)
    named = successor_id, identity.endpoint_key_hash(text)
    new = until_unchallenged(partial(_rotate, runtime, key_id, body.overlap_s, principal, named))
    _tell_routers_to_come(runtime)
    return views.new_key(new, text, runtime.clock.now())


def _rotate(
    runtime: Runtime, key_id: str, overlap_s: float, principal: Principal, named: tuple[str, str]
) -> EndpointKey:
    old, now = _find(runtime, key_id, principal), runtime.clock.now()
    new = replace(old, id=named[0], hash=named[1], created_at=now, last_used_at=None, version=0)
    if (made_before := _known(runtime, new)) is not None:
        return made_before
    if not old.is_valid(now):
        raise Invalid(f"Key {key_id} has expired: make a new one instead.")
    if old.expires_at is not None:
        new = replace(new, expires_at=now + old.expires_at - old.created_at)
    ends_at = now + overlap_s if old.expires_at is None else min(old.expires_at, now + overlap_s)
    return runtime.store.replace_key(replace(old, expires_at=ends_at), new)


def _tell_routers_to_come(runtime: Runtime) -> None:
    """Those that run have asked by then; those that start while nobody answers read the snapshot. A tick mends what fails."""
    if failure := passes.leave_snapshot(runtime):
        log.warning("%s", failure)


def _drawn(ids: Ids) -> tuple[str, str]:
    """The id of a new key, and a text that nobody can guess."""
    key_id = ids.token(identity.KEY_ID_BYTES)
    return key_id, identity.endpoint_key(key_id, bytes.fromhex(ids.token(identity.ENDPOINT_KEY_BYTES)))


def _known(runtime: Runtime, key: EndpointKey) -> EndpointKey | None:
    """The key with this very text, if there is one."""
    return next((one for one in runtime.store.endpoint_keys() if one.hash == key.hash), None)


def _require_room(runtime: Runtime) -> None:
    """Expired keys count: they are kept, and listed, for a week."""
    if len(runtime.store.endpoint_keys()) >= schemas.MOST_KEYS:
        raise Invalid(f"There are {schemas.MOST_KEYS:,} keys, as many as routers are told of. Revoke some first.")


def _visible(runtime: Runtime, principal: Principal) -> list[EndpointKey]:
    return [key for key in runtime.store.endpoint_keys() if principal.reaches(key.services)]


def _find(runtime: Runtime, key_id: str, principal: Principal) -> EndpointKey:
    known = {key.id: key for key in _visible(runtime, principal)}
    if key_id not in known:
        nearest = difflib.get_close_matches(key_id, known, n=3)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise NotFound(f"There is no key with the id {key_id!r}.{hint}")
    return known[key_id]
