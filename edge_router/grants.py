"""Grants: what lets a redirected client in at one replica, for a minute. The edge writes them, replicas check them.

    <kid>.<expires>.<key id>.<rate share>.<concurrency share>.<scope>.<mac>

`mac` is HMAC-SHA256, in base64url without padding, over the text before it, the service, the method and the decoded
path, each on a line, with a key that is derived for one replica and one boot of its machine. Clients drop
`Authorization` when a redirect leads to another host, so the grant stands in the path, which all of them keep.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_router.address import Ticket
from edge_router.quotas import Share
from edge_router.sealing import Secret
from edge_router.table import Replica

# As long as a grant may wait for its use. A request that has begun is not cut short by it.
TTL_S = 60
# How late a client may come back with a grant that has expired.
TICKET_S = 600
# Instead of a key's id, where a service asks for none.
NO_KEY = "-"

# What a grant is good for: one request, any request (`resolve`), or one request on a ticket, which is no ticket again.
ONE, ANY, RENEWED = b"x", b"p", b"t"


@dataclass(frozen=True, slots=True)
class Use:
    """What a grant is to be used for."""

    service: str
    method: bytes
    path: bytes  # decoded


class Grants:
    """Writes grants and knows its own again. Keys of replicas are derived once each."""

    def __init__(self, known: Sequence[Secret]) -> None:
        self._known = known
        self._keys: dict[tuple[str, str], bytes] = {}

    def issue(self, replica: Replica, use: Use, *, key_id: str, share: Share, scope: bytes, now: float) -> bytes:
        """A grant for `replica`, good for a minute. With the scope `ANY`, method and path do not matter."""
        rate = b"-" if share.rate_milli is None else b"%d" % share.rate_milli
        concurrency = b"-" if share.concurrency is None else b"%d" % share.concurrency
        kid, expires = self._known[0].kid.encode(), int(now) + TTL_S
        text = b"%b.%d.%b.%b.%b.%b" % (kid, expires, key_id.encode(), rate, concurrency, scope)
        of = (replica.id, replica.boot)
        key = self._keys.get(of) or self._keys.setdefault(of, _derived(self._known[0], *of))
        return text + b"." + _mac(key, text, use)

    def key_id_of(self, ticket: Ticket, use: Use, now: float) -> str | None:
        """The key id in a grant of ours that was good for this until 10 minutes ago at most; None if it was not."""
        text, _, mac = ticket.grant.rpartition(b".")
        fields = text.split(b".")
        secret = next((each for each in self._known if each.kid.encode() == fields[0]), None)
        if secret is None:
            return None
        expected = _mac(_derived(secret, ticket.replica_id, ticket.boot_nonce), text, use)
        if not hmac.compare_digest(mac, expected):
            return None
        _, expires, key_id, _, _, scope = fields
        return key_id.decode() if scope != RENEWED and now <= int(expires) + TICKET_S else None

    def keep(self, replicas: Iterable[Replica]) -> None:
        """Forget the keys of all other replicas."""
        wanted = {(replica.id, replica.boot) for replica in replicas}
        self._keys = {of: key for of, key in self._keys.items() if of in wanted}


def _derived(secret: Secret, replica_id: str, boot_nonce: str) -> bytes:
    return hmac.digest(secret.grant_root, f"{replica_id}\n{boot_nonce}".encode(), "sha256")


def _mac(key: bytes, text: bytes, use: Use) -> bytes:
    bound = (b"", b"") if text.endswith(b"." + ANY) else (use.method, use.path)
    message = b"\n".join((text, use.service.encode(), *bound))
    return urlsafe_b64encode(hmac.digest(key, message, "sha256")).rstrip(b"=")
