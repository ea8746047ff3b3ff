"""A replica's side of a grant: what its agent does with it, with the keys that the control plane gives the agent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chalicelib.identity import grant_keys
from replica_agent.grants import Grants


@dataclass(frozen=True)
class Verifier:
    """One boot of one replica of one service."""

    token: str  # of the routers
    service: str
    replica_id: str
    boot: str

    def honours(self, grant: bytes, method: bytes, path: bytes, now: float) -> bool:
        """Whether a request with this grant would be served: `path` is what follows the grant, without the query."""
        keys = grant_keys([self.token], self.replica_id, self.boot)
        agent = Grants({kid: bytes.fromhex(key) for kid, key in keys.items()}, self.service)
        found = agent.read(grant, method, path)
        return found is not None and now < found.expires_at


def of_location(location: bytes) -> tuple[bytes, bytes]:
    """The grant in a redirect to a replica, and the path behind it without the query."""
    match = re.fullmatch(rb"https?://[^/]+(?:/(?!~)[^/?]*)*/~([^/]*)(/[^?]*)(?:\?.*)?", location)
    assert match, location
    return match[1], match[2]
