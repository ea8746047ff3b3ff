"""Who asks, and what they may do: owners by their admin keys, routers by their token, replicas by a token of their own."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

from chalicelib import identity
from chalicelib.api.problems import Refused
from chalicelib.model import AdminKey, Scope
from chalicelib.ports import Runtime, Store

ROOT = "root"  # the id of the key that the deployment was made with


class Caller(Enum):
    """Whom a route is for. The value is the name of its OpenAPI security scheme."""

    ANYONE = ""
    ADMIN = "admin_key"
    ROUTER = "router_token"
    AGENT = "agent_token"  # each replica's is another: the handler is given it and judges it
    SENDER = "webhook_signature"  # of the body as it came: the handler is given both and judges them


class Reach(Enum):
    """What of the deployment a route touches, by which a key that is limited to some services is held."""

    DEPLOYMENT = "all of it: closed to limited keys"
    SERVICE = "the service that the path, or else the body, names as `name`"
    OWN = "what is the principal's: the handler is given it, as `principal`, and keeps to its services"
    NOTHING = "nothing of any service"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `services` are names, or `*` for all; None in `expires_at` = its key never ends."""

    id: str
    name: str = ""
    scopes: frozenset[Scope] = frozenset()
    services: tuple[str, ...] = ("*",)
    expires_at: float | None = None

    def may(self, scope: Scope) -> bool:
        """Whether one of its scopes covers `scope`."""
        return any(held.covers(scope) for held in self.scopes)

    def reaches(self, services: Iterable[str]) -> bool:
        """Whether it is for all of `services`, of which `*` means all that ever are."""
        return "*" in self.services or set(services) <= set(self.services)

    def require(self, *scopes: Scope) -> None:
        """Raise a 403 `Refused` unless one of `scopes` is covered."""
        if not any(map(self.may, scopes)):
            wanted = " or ".join(f"`{scope}`" for scope in scopes)
            held = ", ".join(sorted(self.scopes)) or "none"
            raise forbidden(f"This needs a key with the scope {wanted}; yours has {held}.")

    def require_reach(self, services: Iterable[str]) -> None:
        """Raise a 403 `Refused` unless it is for all of `services`."""
        if not self.reaches(services):
            raise forbidden(f"Your key is for {_listed(self.services)} only, and this is about {_listed(services)}.")


def authenticate(caller: Caller, authorization: str, runtime: Runtime) -> Principal:
    """Who shows this Authorization header on a route for `caller`. Raises a 401 `Refused` unless it is for them.

    A key that was never configured lets nobody in. The root key costs no request to the store; every other admin key one,
    and a write an hour.
    """
    shown = bearer(authorization)
    if caller is Caller.ADMIN:
        return _administrator(shown, runtime)
    if caller is Caller.ROUTER and not _is_one_of(shown, runtime.settings.router_tokens):
        raise unauthorized()
    return Principal(caller.name.lower())


def bearer(authorization: str) -> str:
    """The key in an Authorization header, empty when there is none."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def unauthorized() -> Refused:
    """The answer to a missing, wrong, expired or revoked key; it does not tell which."""
    detail = "The key is missing, wrong, revoked or expired: send `Authorization: Bearer <key>`."
    return Refused(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer realm="sailplane"'})


def forbidden(detail: str) -> Refused:
    """The answer to a good key that is not good for this."""
    return Refused(HTTPStatus.FORBIDDEN, detail)


def _administrator(shown: str, runtime: Runtime) -> Principal:
    if _is_one_of(shown, (runtime.settings.admin_key,)):
        return Principal(ROOT, ROOT, frozenset({Scope.ADMIN}))
    now = runtime.clock.now()
    key = _kept(shown, runtime.store)
    if key is None or not key.is_valid(now):
        raise unauthorized()
    runtime.store.record_admin_key_used(key, now)
    return Principal(key.id, key.name, key.scopes, key.services, key.expires_at)


def _kept(shown: str, store: Store) -> AdminKey | None:
    """The key with this text. Found by its id, which is no secret, and known by the hash of the whole."""
    key_id = identity.admin_key_id(shown)
    key = store.admin_key(key_id) if key_id else None
    return key if key and hmac.compare_digest(identity.admin_key_hash(shown), key.hash) else None


def _is_one_of(shown: str, keys: Iterable[str]) -> bool:
    """Compared by their hashes, which are of one length, and with every one of them: the time it takes tells nothing."""
    digest = identity.admin_key_hash(shown)
    matches = [hmac.compare_digest(digest, identity.admin_key_hash(key)) for key in keys if key]
    return any(matches)


def _listed(services: Iterable[str]) -> str:
    return ", ".join("all services" if name == "*" else repr(name) for name in services)
