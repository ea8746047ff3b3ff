"""A replica's side of a grant, written from the wire format and not with the router's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

FORM = re.compile(
    rb"([0-9a-f]{8})\.([0-9]+)\.(-|[0-9a-z]+)\.(-|[0-9]+)\.(-|[0-9]+)\.([xpt])\.([A-Za-z0-9_-]{43})", re.ASCII
)


@dataclass(frozen=True)
class Verifier:
    """One boot of one replica of one service."""

    token: str
    service: str
    replica_id: str
    boot: str

    def honours(self, grant: bytes, method: bytes, path: bytes, now: float) -> bool:
        """Whether a request with this grant would be served: `path` is what follows the grant, without the query."""
        match = FORM.fullmatch(grant)
        if match is None:
            return False
        kid, expires, *_, scope, mac = match.groups()
        root = hmac.new(self.token.encode(), b"sailplane-grants", hashlib.sha256).digest()
        if kid.decode() != hashlib.sha256(b"sailplane-kid" + root).hexdigest()[:8]:
            return False
        key = hmac.new(root, f"{self.replica_id}\n{self.boot}".encode(), hashlib.sha256).digest()
        request = [b"", b""] if scope == b"p" else [method, unquote_to_bytes(path)]
        message = b"\n".join([grant[:-44], self.service.encode(), *request])
        expected = base64.urlsafe_b64encode(hmac.new(key, message, hashlib.sha256).digest()).rstrip(b"=")
        return hmac.compare_digest(mac, expected) and now < int(expires)


def of_location(location: bytes) -> tuple[bytes, bytes]:
    """The grant in a redirect to a replica, and the path behind it without the query."""
    match = re.fullmatch(rb"https?://[^/]+(?:/(?!~)[^/?]*)*/~([^/]*)(/[^?]*)(?:\?.*)?", location)
    assert match, location
    return match[1], match[2]
