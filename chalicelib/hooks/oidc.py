"""What a CI job's identity token proves, and which trusts cover that.

GitHub: https://docs.github.com/en/actions/reference/security/oidc
GitLab: https://docs.gitlab.com/ci/secrets/id_token_authentication/
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from chalicelib.errors import SailplaneError
from chalicelib.model import OidcIssuer, Trust

# The one that both forges sign with. Who may name another one in the token could name `none`, or HMAC with the public key.
_ALGORITHM = "RS256"
_REQUIRED = ["iss", "aud", "sub", "exp", "iat", "jti"]
_CLOCKS_DIFFER_S = 60.0
# A stranger's pull request runs a workflow too, and `pull_request_target` even runs it as if on the base branch.
_STRANGERS_EVENTS = frozenset({"pull_request", "pull_request_target", "merge_request_event"})
# Reviews of a pull request, and pipelines that one for a merge request has started, are events of other names.
_STRANGERS_REFS = ("refs/pull/", "refs/merge-requests/")
# A key id is looked up among the issuer's keys, and said in a log.
_KEY_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")


class NotProven(SailplaneError):
    """The token proves nothing; its holder is told no more than that, the reason is for the log."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The issuer that a token names, and the id of its key there."""

    issuer: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Job:
    """Where a job runs and for what, as its token's claims have it."""

    repository: str
    repository_id: str
    ref: str
    environment: str
    event: str
    subject: str  # what `sub` has to begin with, as a pattern


@dataclass(frozen=True, slots=True)
class Proof:
    """A job that was proven to run. `id` is a digest of the token's name."""

    issuer: str
    id: str
    expires_at: float
    job: Job


def _github(claims: Mapping[str, Any]) -> Job:
    """A repository made or renamed since July 2026 has numbers beside the names in its subject: `repo:acme@1/app@2:…`."""
    name = _text(claims, "repository")
    owner, _, short = name.partition("/")
    return Job(
        repository=name,
        repository_id=_text(claims, "repository_id"),
        ref=_text(claims, "ref"),
        environment=_text(claims, "environment"),
        event=_text(claims, "event_name"),
        subject=rf"repo:{re.escape(owner)}(@[0-9]+)?/{re.escape(short)}(@[0-9]+)?:",
    )


def _gitlab(claims: Mapping[str, Any]) -> Job:
    """`ref` is a merge request's branch too, which in a fork may be called `main`; `ref_path`, of GitLab 16, tells them apart."""
    name = _text(claims, "project_path")
    kind = {"branch": "refs/heads", "tag": "refs/tags"}.get(_text(claims, "ref_type"), "")
    return Job(
        repository=name,
        repository_id=_text(claims, "project_id"),
        ref=_text(claims, "ref_path") or (f"{kind}/{_text(claims, 'ref')}" if kind else ""),
        environment=_text(claims, "environment"),
        event=_text(claims, "pipeline_source"),
        subject=rf"project_path:{re.escape(name)}:",
    )


_JOBS: Mapping[OidcIssuer, Callable[[Mapping[str, Any]], Job]] = {
    OidcIssuer.GITHUB: _github,
    OidcIssuer.GITLAB: _gitlab,
}


def claimed(token: str, audience: str, now: float) -> Claimed:
    """Whose token it says it is. Nothing of it is proven yet, and what could not be is refused before anything is looked up.

    Raises `NotProven`.
    """
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise NotProven(f"no token: {error}") from error
    key_id, issuer = header.get("kid"), claims.get("iss")
    if header.get("alg") != _ALGORITHM or not isinstance(issuer, str):
        raise NotProven("not signed with RS256, or by nobody")
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise NotProven("names no key")
    if audience not in _audiences(claims) or not _instant(claims, "exp") > now:
        raise NotProven("made out to somebody else, or expired")
    return Claimed(issuer, key_id)


def _audiences(claims: Mapping[str, Any]) -> tuple[Any, ...]:
    said = claims.get("aud")
    return tuple(said) if isinstance(said, list) else (said,)


def proven(kind: OidcIssuer, token: str, key: Mapping[str, str], *, issuer: str, audience: str, now: float) -> Proof:
    """What a token proves that was signed with the issuer's `key` (a JSON Web Key) for `audience`.

    Raises `NotProven`; also where key or audience are empty.
    """
    if not (key and audience):
        raise NotProven("nobody trusts its issuer, or the issuer has no such key")
    try:
        claims = jwt.decode(
            token,
            jwt.PyJWK.from_dict(dict(key), algorithm=_ALGORITHM),
            algorithms=[_ALGORITHM],
            audience=audience,
            issuer=issuer,
            # Instants are compared below, with the clock that everything here goes by.
            options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.PyJWTError as error:
        raise NotProven(str(error)) from error
    expires_at = _instant(claims, "exp")
    if not (now < expires_at and max(_instant(claims, "iat"), _instant(claims, "nbf", 0.0)) <= now + _CLOCKS_DIFFER_S):
        raise NotProven("expired, or not valid yet")
    job = _JOBS[kind](claims)
    if not (job.repository and re.match(job.subject, _text(claims, "sub"), re.IGNORECASE)):
        raise NotProven("its subject and its repository do not agree")
    name = _text(claims, "jti")
    if not name:
        raise NotProven("it has no name, by which to know it again")
    if job.event in _STRANGERS_EVENTS or job.ref.startswith(_STRANGERS_REFS):
        raise NotProven("made for a pull request, whose code may be a stranger's")
    return Proof(issuer, hashlib.sha256(name.encode()).hexdigest(), expires_at, job)


def covering(trusts: Iterable[Trust], proof: Proof) -> tuple[Trust, ...]:
    """The trusts that such a job falls under, if its repository is the one that is meant: see `pins`."""
    return tuple(trust for trust in trusts if trust.issuer == proof.issuer and _covers(trust, proof.job))


def _covers(trust: Trust, job: Job) -> bool:
    return (
        trust.repository.lower() == job.repository.lower()
        and trust.environment in ("", job.environment)
        and (trust.ref in ("", job.ref) or (trust.ref.endswith("*") and job.ref.startswith(trust.ref[:-1])))
        and bool(trust.ref or trust.environment)
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _instant(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NotProven(f"{name} is no instant")
    return float(value)
