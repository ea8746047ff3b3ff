"""How the parts of one deployment know each other: what is derived from its three secrets, and what an endpoint key is.

Everything is HMAC-SHA256 under a purpose of its own, so that what is derived is stored nowhere and says nothing about
anything else that is. The routers derive the same from their token by themselves (`edge_router.sealing`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

# 256 random bits: hashed without salt or stretching, because nobody can guess one.
ENDPOINT_KEY_BYTES = 32
ADMIN_KEY_BYTES = 32
KEY_ID_BYTES = 5  # 40 random bits name a key; a store refuses an id that it has
ADMIN_KEY_ID = r"[0-9a-f]{10}"
_ADMIN_KEY = re.compile(rf"sa_({ADMIN_KEY_ID})_[A-Za-z0-9_-]{{43}}")
_ANY_KEY = re.compile(r"(s[ap]_[0-9a-z]{10}_)[A-Za-z0-9_-]+")


def agent_token(agent_key: str, replica_id: str, boot_nonce: str) -> str:
    """The token by which one replica's agent is commanded, for one boot of one machine.

    Derived (HMAC-SHA256), so that it is stored nowhere and one replica's token says nothing about another's.
    """
    return _derived(agent_key, "sailplane-agent", replica_id, boot_nonce)


def boot_token(agent_key: str, replica_id: str, boot_nonce: str) -> str:
    """What a machine shows once to be told what to run as this replica. Derived like the agent's token, and not it.

    Its first part hangs on the replica's id alone: whoever has none of ours is known before any record is read.
    """
    return f"{_boot_token_for(agent_key, replica_id)}.{_derived(agent_key, 'sailplane-boot', replica_id, boot_nonce)}"


def is_boot_token_for(agent_key: str, replica_id: str, shown: str) -> bool:
    """Whether it was made for some boot of this replica; which one takes the replica's record to know."""
    expected = _boot_token_for(agent_key, replica_id)
    return hmac.compare_digest(shown.partition(".")[0].encode(), expected.encode())


def _boot_token_for(agent_key: str, replica_id: str) -> str:
    return _derived(agent_key, "sailplane-boot-of", replica_id, "")[:32]


def grant_keys(router_tokens: Sequence[str], replica_id: str, boot_nonce: str) -> dict[str, str]:
    """The keys (hexadecimal) of the grants that one boot of a replica honours, by the id of the router token behind each.

    All tokens that are accepted have theirs, so that routers may change from one to the next while the replica runs.
    """
    message = f"{replica_id}\n{boot_nonce}".encode()
    return {key_id(token): _hmac(_grant_root(token), message).hex() for token in router_tokens}


def key_id(router_token: str) -> str:
    """Eight hexadecimal characters that name a router token in seals and grants without telling anything of it."""
    return hashlib.sha256(b"sailplane-kid" + _grant_root(router_token)).hexdigest()[:8]


def sealed(router_token: str, document: str) -> str:
    """The routing table, a JSON text, as routers take it from wherever it lies: they know who made it, and that it is whole."""
    mac = _hmac(_hmac(router_token.encode(), b"sailplane-table"), document.encode()).hex()
    return f"sailplane-table 1 {key_id(router_token)} {mac}\n{document}"


def endpoint_key(key_id: str, secret: bytes) -> str:
    """The text that a client shows: `sp_<id>_<43 characters>`, of `ENDPOINT_KEY_BYTES` random bytes."""
    return _key_text("sp", key_id, secret)


def endpoint_key_hash(text: str) -> str:
    """What is kept of an endpoint key, and published to the routers."""
    return hashlib.sha256(text.encode()).hexdigest()


def admin_key(key_id: str, secret: bytes) -> str:
    """The text that shows who asks the control API: `sa_<id>_<43 characters>`, of `ADMIN_KEY_BYTES` random bytes."""
    return _key_text("sa", key_id, secret)


def admin_key_id(text: str) -> str:
    """The id in an admin key's text, empty when the text is none."""
    match = _ADMIN_KEY.fullmatch(text)
    return match[1] if match else ""


def admin_key_hash(text: str) -> str:
    """What is kept of an admin key, and what two are compared by: as long for every text, so that comparing tells nothing."""
    return hashlib.sha256(text.encode()).hexdigest()


def once_key(agent_key: str, purpose: str, idempotency_key: str, seed: str) -> bytes:
    """32 bytes for one write that is done once: from what the table holds of it alone nobody derives them."""
    return bytes.fromhex(_derived(agent_key, f"sailplane-once-{purpose}", idempotency_key, seed))


def request_digest(agent_key: str, asked: bytes) -> str:
    """What is kept of a request to know it again: without the key nobody can guess what was asked."""
    return _hmac(agent_key.encode(), b"sailplane-once-request\n" + asked).hex()


def redacted(text: str) -> str:
    """The text with the secret part of every key of ours in it left out."""
    return _ANY_KEY.sub(r"\1…", text)


def _key_text(kind: str, key_id: str, secret: bytes) -> str:
    return f"{kind}_{key_id}_{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"


def webhook_secret(agent_key: str, hook_id: str, generation: int) -> str:
    """What a webhook's deliveries are signed with: `whsec_` and 32 bytes in base64, as Standard Webhooks has it.

    GitHub takes any text as a secret, and GitLab this one both as secret and as signing token.
    """
    secret = _hmac(agent_key.encode(), f"sailplane-webhook\n{hook_id}\n{generation}".encode())
    return f"whsec_{base64.b64encode(secret).decode()}"


def _grant_root(router_token: str) -> bytes:
    return _hmac(router_token.encode(), b"sailplane-grants")


def _derived(key: str, purpose: str, replica_id: str, boot_nonce: str) -> str:
    return _hmac(key.encode(), f"{purpose}\n{replica_id}\n{boot_nonce}".encode()).hex()


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
