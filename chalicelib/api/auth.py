"""Who may call: the owner's admin key, the routers' token, a replica's own token."""

from __future__ import annotations

import hmac
from enum import Enum
from http import HTTPStatus

from chalicelib.api.problems import Refused
from chalicelib.ports import Settings


class Caller(Enum):
    """Whom a route is for. The value is the name of its OpenAPI security scheme."""

    ANYONE = ""
    ADMIN = "admin_key"
    ROUTER = "router_token"
    AGENT = "agent_token"  # each replica's is another: the handler is given it and judges it


def authorize(caller: Caller, authorization: str, settings: Settings) -> None:
    """Raise a 401 `Refused` unless the Authorization header carries the owner's or the routers' key, as the route demands.

    A key that was never configured lets nobody in.
    """
    if caller in (Caller.ANYONE, Caller.AGENT):
        return
    expected = (settings.admin_key,) if caller is Caller.ADMIN else settings.router_tokens
    shown = bearer(authorization).encode()
    matches = [hmac.compare_digest(shown, key.encode()) for key in expected if key]
    if not any(matches):
        raise unauthorized()


def bearer(authorization: str) -> str:
    """The key in an Authorization header, empty when there is none."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def unauthorized() -> Refused:
    """The answer to a missing or a wrong key."""
    detail = "The key is missing or wrong: send `Authorization: Bearer <key>`."
    return Refused(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer realm="sailplane"'})
