"""Trusts: which CI jobs may deploy what without a key; and the exchange of a job's identity token for one of 15 minutes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from operator import attrgetter
from typing import TYPE_CHECKING

from chalice.app import Blueprint

from chalicelib import identity
from chalicelib.api import paging, schemas, views
from chalicelib.api.admin_keys import issued
from chalicelib.api.auth import Caller, forbidden
from chalicelib.api.problems import Refused
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Invalid
from chalicelib.hooks import issuers, pins
from chalicelib.model import AdminKey, OidcIssuer, Scope, Trust
from chalicelib.ports import Runtime
from chalicelib.writes import made_once, until_unchallenged

if TYPE_CHECKING:
    from chalicelib.hooks.oidc import Claimed, Job

# A deployment takes a minute; a job that takes longer asks for another.
KEY_LIFETIME_S = 900.0
_NAME_CHARACTERS = 64

log = logging.getLogger(__name__)


def trusts(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for trusts, and the jobs'."""
    exchange = partial(
        Route,
        "POST",
        answer=schemas.NewAdminKey,
        status=HTTPStatus.CREATED,
        caller=Caller.ANYONE,
        body=schemas.IdentityToken,
        errors=(401, 403),
        max_body_bytes=20 * 1024,
    )
    return blueprint(
        __name__,
        runtime,
        (
            Route(
                "POST",
                "/v1/trusts",
                create_trust,
                "Let a repository's CI jobs deploy services without a key",
                schemas.Trust,
                status=HTTPStatus.CREATED,
                body=schemas.CreateTrust,
            ),
            Route("GET", "/v1/trusts", list_trusts, "Trusts by id", schemas.Trusts, query=schemas.PageQuery),
            Route("DELETE", "/v1/trusts/{trust_id}", remove_trust, "Remove a trust", schemas.Removed, errors=(404,)),
            exchange(
                "/v1/auth/github", exchange_github, "Exchange a GitHub Actions identity token for a short-lived key"
            ),
            exchange("/v1/auth/gitlab", exchange_gitlab, "Exchange a GitLab CI identity token for a short-lived key"),
        ),
    )


def create_trust(runtime: Runtime, body: schemas.CreateTrust) -> schemas.Trust:
    """Services need not exist yet."""
    if len(runtime.store.trusts()) >= schemas.MOST_TRUSTS:
        raise Invalid(f"There are {schemas.MOST_TRUSTS} trusts, as many as there may be. Remove some first.")
    if not runtime.settings.control_url:
        raise Invalid("SAILPLANE_CONTROL_URL is not set: identity tokens are made out to it.")
    wanted = Trust(
        id=runtime.ids.token(identity.KEY_ID_BYTES),
        kind=body.kind,
        issuer=body.issuer or issuers.DEFAULT[body.kind],
        repository=body.repository,
        services=tuple(dict.fromkeys(body.services)),
        created_at=runtime.clock.now(),
        ref=body.ref,
        environment=body.environment,
        repository_id=body.repository_id,
    )
    pinned = _pinned(runtime, wanted)
    made = made_once(partial(runtime.store.create_trust, pinned), partial(_known, runtime, pinned))
    return views.trust(made, runtime.settings.control_url)


def _pinned(runtime: Runtime, wanted: Trust) -> Trust:
    """With the number that its repository's name is known by. Raises `Invalid` when that is not the one it is to have."""
    namesakes = pins.namesakes(wanted, runtime.store.trusts(), runtime.store.hooks())
    number = wanted.repository_id or pins.number(namesakes)
    if others := pins.others(number, namesakes):
        raise Invalid(f"{pins.refusal(wanted.repository, number, others)}. Nothing was made.")
    return replace(wanted, repository_id=number)


def _known(runtime: Runtime, wanted: Trust) -> Trust | None:
    """The trust of this id, if it was made by an attempt before."""
    same = (one for one in runtime.store.trusts() if replace(one, created_at=wanted.created_at) == wanted)
    return next(same, None)


def list_trusts(runtime: Runtime, query: schemas.PageQuery) -> schemas.Trusts:
    """Which jobs may deploy what."""
    trusts, following = paging.page(runtime.store.trusts(), attrgetter("id"), query.cursor, query.limit)
    audience = runtime.settings.control_url
    return schemas.Trusts(trusts=tuple(views.trust(one, audience) for one in trusts), next=following)


def remove_trust(runtime: Runtime, trust_id: str) -> schemas.Removed:
    """Keys that it was exchanged for end within 15 minutes; `sailplane admin-keys revoke` ends them at once."""
    runtime.store.delete_trust(trust_id)
    return schemas.Removed(id=trust_id)


def exchange_github(runtime: Runtime, body: schemas.IdentityToken) -> schemas.NewAdminKey:
    """See `_exchanged`."""
    return until_unchallenged(partial(_exchanged, runtime, OidcIssuer.GITHUB, body.token))


def exchange_gitlab(runtime: Runtime, body: schemas.IdentityToken) -> schemas.NewAdminKey:
    """See `_exchanged`."""
    return until_unchallenged(partial(_exchanged, runtime, OidcIssuer.GITLAB, body.token))


def _exchanged(runtime: Runtime, kind: OidcIssuer, token: str) -> schemas.NewAdminKey:
    """A key that deploys the services of all trusts that cover the token's job. A token is good for one key.

    A token that proves nothing is answered with 401, without a word about what is wrong with it; one that proves a job whom
    nobody trusts, with 403 and what that job is.
    """
    # Imports cryptography, 70 ms, which only this needs.
    from chalicelib.hooks import oidc  # noqa: PLC0415

    audience, now = runtime.settings.control_url, runtime.clock.now()
    try:
        claimed = oidc.claimed(token, audience, now)
        trusted = tuple(trust for trust in runtime.store.trusts() if trust.kind is kind)
        key = _key(runtime, kind, claimed, trusted)
        proof = oidc.proven(kind, token, key, issuer=claimed.issuer, audience=audience, now=now)
    except oidc.NotProven as reason:
        log.info("an identity token of %s was refused: %s", kind, reason)
        raise _unproven(audience) from reason
    job = proof.job
    covering = oidc.covering(trusted, proof)
    if refusal := _refusal(runtime, covering, job):
        log.warning("a job was refused: %s", refusal)
        raise forbidden(refusal)
    _pin(runtime, [trust for trust in trusted if pins.are_namesakes(trust, covering[0])], job)
    if not runtime.store.remember_delivery(f"oidc {proof.issuer}", proof.id, proof.expires_at):
        raise _unproven(audience)
    wanted = AdminKey(
        id="",
        name=f"{job.repository}@{job.ref}"[:_NAME_CHARACTERS],
        hash="",
        scopes=frozenset({Scope.DEPLOY}),
        services=tuple(sorted({name for trust in covering for name in trust.services})),
        created_at=now,
        expires_at=now + KEY_LIFETIME_S,
        created_by=f"trust {covering[0].id}",
    )
    text, made = issued(runtime.ids, wanted)
    return views.new_admin_key(runtime.store.create_admin_key(made), text, now)


def _refusal(runtime: Runtime, covering: Sequence[Trust], job: Job) -> str:
    """Why such a job gets no key; empty when it does."""
    if not covering:
        where = f" in the environment {job.environment}" if job.environment else ""
        return f"No trust covers {job.repository} at {job.ref}{where}. `sailplane trust create` makes one."
    namesakes = pins.namesakes(covering[0], runtime.store.trusts(), runtime.store.hooks())
    others = pins.others(job.repository_id, namesakes)
    return f"{pins.refusal(job.repository, job.repository_id, others)}." if others else ""


def _pin(runtime: Runtime, namesakes: Sequence[Trust], job: Job) -> None:
    """The first job tells its repository's number to all trusts of its name; a later repository of that name is not meant.

    Raises `Conflict` when another job was faster: the token is still good then, and is judged by what that one has told.
    """
    for trust in namesakes:
        if job.repository_id and not trust.repository_id:
            runtime.store.change_trust(trust, replace(trust, repository_id=job.repository_id))


def _key(runtime: Runtime, kind: OidcIssuer, claimed: Claimed, trusted: Sequence[Trust]) -> Mapping[str, str]:
    """The issuer's key, empty when there is none. Whom to ask for keys is ours to say, and not the token's."""
    if runtime.issuer_keys is None or claimed.issuer not in {trust.issuer for trust in trusted}:
        return {}
    return runtime.issuer_keys.find(claimed.issuer + issuers.JWKS_PATH[kind], claimed.key_id) or {}


def _unproven(audience: str) -> Refused:
    detail = f"The token proves nothing here. Ask for a new one, for the audience {audience}, and exchange it once."
    return Refused(HTTPStatus.UNAUTHORIZED, detail)
