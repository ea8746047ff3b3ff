"""Who may call: the owner's admin key, the routers' token."""

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


def authorize(caller: Caller, authorization: str, settings: Settings) -> None:
    """Raise a 401 `Refused` unless the Authorization header carries the caller's key.

    A key that was never configured lets nobody in.
    """
    if caller is Caller.ANYONE:
        return
    scheme, _, key = authorization.partition(" ")
    expected = settings.admin_key if caller is Caller.ADMIN else settings.router_token
    matches = hmac.compare_digest(key.strip().encode(), expected.encode())
    if not (expected and matches and scheme.lower() == "bearer"):
        detail = "The key is missing or wrong: send `Authorization: Bearer <key>`."
        raise Refused(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": 'Bearer realm="sailplane"'})
