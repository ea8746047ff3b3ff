"""How a replica's agent and the control plane know each other."""

from __future__ import annotations

import hashlib
import hmac


def agent_token(agent_key: str, replica_id: str, boot_nonce: str) -> str:
    """The bearer token that commands one replica's agent, for one boot of one machine.

    Derived (HMAC-SHA256), so that it is stored nowhere and one replica's token says nothing about another's.
    """
    message = f"sailplane-agent\n{replica_id}\n{boot_nonce}".encode()
    return hmac.new(agent_key.encode(), message, hashlib.sha256).hexdigest()
