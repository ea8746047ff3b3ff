"""What the router token is used for: three things are derived from it, so that none of them says anything of another."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_router.table import TableRefused

_FORMAT = "sailplane-table"


@dataclass(frozen=True, slots=True)
class Secret:
    """One router token's: `kid` names it in public, `table_key` seals tables, grants' keys come from `grant_root`."""

    kid: str
    table_key: bytes = field(repr=False)
    grant_root: bytes = field(repr=False)


def secrets(token: str) -> tuple[Secret, ...]:
    """What follows from a router token, or from each of a list of them, separated by commas. The first one is in use.

    Raises:
        ValueError: there is none.
    """
    found = tuple(_secret(each) for each in token_list(token))
    if not found:
        raise ValueError("the router token is empty")
    return found


def token_list(token: str) -> list[str]:
    """The tokens of a list that is separated by commas."""
    return [each.strip() for each in token.split(",") if each.strip()]


def unseal(sealed: str, known: Sequence[Secret]) -> object:
    """The document of `sailplane-table 1 <kid> <hex HMAC-SHA256 of the JSON>`, newline, JSON; decoded.

    Raises:
        TableRefused: it was not sealed with one of the `known`, or holds no JSON.
    """
    head, newline, document = sealed.partition("\n")
    words = head.split(" ")
    if not newline or len(words) != 4 or words[:2] != [_FORMAT, "1"]:
        raise TableRefused("it is not a sealed table")
    secret = next((each for each in known if each.kid == words[2]), None)
    if secret is None:
        raise TableRefused("it is sealed with another router token")
    body = document.encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(_mac(secret.table_key, body).hex().encode(), words[3].encode("utf-8", "replace")):
        raise TableRefused("its seal is broken")
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise TableRefused("what is sealed is not JSON") from error


def _secret(token: str) -> Secret:
    key = token.encode()
    grant_root = _mac(key, b"sailplane-grants")
    kid = hashlib.sha256(b"sailplane-kid" + grant_root).hexdigest()[:8]
    return Secret(kid, _mac(key, _FORMAT.encode()), grant_root)


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
