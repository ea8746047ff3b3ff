"""Grants: the short-lived permission in a URL with which a router sends a client here, `/~<grant>/<path>`.

    <key's id>.<expires, epoch seconds>.<endpoint key's id>.<rate share, requests/1000 s>.<concurrency share>.<scope>.<mac>

A share or an endpoint key that there is none of is `-`. The scope is `x`, one method and path; `t`, the same, for a client that
came back once already; or `p`, whatever the client asks for. The mac is HMAC-SHA256 (base64url, no padding) of all
before it, the service, the method and the path, with a key that is this replica's and this boot's own: a grant for
another replica, or from before a reboot, is no grant here.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

_GRANT = re.compile(
    rb"([0-9a-f]{8})\.([0-9]{1,12})\.(-|[0-9a-z]{1,64})\.(-|[0-9]{1,12})\.(-|[0-9]{1,9})\.([xpt])\.([A-Za-z0-9_-]{43})"
)
_NONE = b"-"
_ANY_PATH = b"p"
_MARK = b"/~"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a router has signed."""

    text: bytes
    expires_at: int  # epoch seconds
    key_id: bytes  # of the endpoint key, `-` for a service that needs none
    rate_share: int | None  # this replica's share of the key's rate, in requests per 1,000 s; None = no limit
    concurrency_share: int | None  # None = no limit


class Grants:
    """Reads the grants of one replica of `service`; `keys` are secrets by the id that a grant names them by.

    The same grant may be used again until it expires: clients repeat requests, and a browser asks before it asks.
    """

    def __init__(self, keys: Mapping[str, bytes], service: str) -> None:
        self._keys = {name.encode(): key for name, key in keys.items()}
        self._service = service.encode()

    def read(self, text: bytes, method: bytes, path: bytes) -> Grant | None:
        """The grant, expired or not, if a router signed it for this request; `path` is as sent, without the query."""
        match = _GRANT.fullmatch(text)
        if match is None:
            return None
        key_name, expires_at, key_id, rate, concurrency, scope, mac = match.groups()
        key = self._keys.get(key_name)
        # The text is compared, not what it decodes to: 43 characters hold two bits more than 32 bytes do.
        if key is None or not hmac.compare_digest(self._mac(key, text[:-44], scope, method, path), mac):
            return None
        return Grant(text, int(expires_at), key_id, _share(rate), _share(concurrency))

    def moved(self, grant: Grant, method: bytes, path: bytes) -> bytes:
        """The grant's text for where the engine sends the client with a redirect. It is not valid for longer."""
        signed = grant.text[:-44]
        key = self._keys[signed.partition(b".")[0]]
        return signed + b"." + self._mac(key, signed, signed[-1:], method, path)

    def _mac(self, key: bytes, signed: bytes, scope: bytes, method: bytes, path: bytes) -> bytes:
        bound = (b"", b"") if scope == _ANY_PATH else (method, unquote_to_bytes(path))
        digest = hmac.digest(key, b"\n".join((signed, self._service, *bound)), "sha256")
        return base64.urlsafe_b64encode(digest)[:43]


def _share(text: bytes) -> int | None:
    return None if text == _NONE else int(text)


def split(target: bytes) -> tuple[bytes, bytes]:
    """The grant's text and the rest of a request target; the text is empty when it names no grant."""
    if not target.startswith(_MARK):
        return b"", target
    text, slash, rest = target[len(_MARK) :].partition(b"/")
    return text, slash + rest or b"/"


def join(text: bytes, target: bytes) -> bytes:
    """The request target that carries the grant."""
    return _MARK + text + target
