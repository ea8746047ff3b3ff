"""How a replica's agent and the control plane know each other."""

from __future__ import annotations

import hashlib
import hmac


def agent_token(agent_key: str, replica_id: str, boot_nonce: str) -> str:
    """The bearer token that commands one replica's agent, for one boot of one machine.

    Derived (HMAC-SHA256), so that it is stored nowhere and one replica's token says nothing about another's.
    """
    return _derived(agent_key, "sailplane-agent", replica_id, boot_nonce)


def boot_token(agent_key: str, replica_id: str, boot_nonce: str) -> str:
    """What a machine shows once to be told what to run as this replica. Derived like the agent's token, and not it."""
    return _derived(agent_key, "sailplane-boot", replica_id, boot_nonce)


def _derived(key: str, purpose: str, replica_id: str, boot_nonce: str) -> str:
    message = f"{purpose}\n{replica_id}\n{boot_nonce}".encode()
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()
