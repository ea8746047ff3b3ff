"""What is derived of the deployment's secrets: known answers, because the routers derive the same by themselves."""

from __future__ import annotations

import hashlib
import hmac
import re

from hypothesis import given
from hypothesis import strategies as st

from chalicelib import identity

TOKEN = "router-token-of-the-tests-0123456789"


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def test_a_grant_key_is_what_the_router_derives() -> None:
    """Root of the token, then replica and boot; named by the digest of the root."""
    root = mac(TOKEN.encode(), b"sailplane-grants")
    name = hashlib.sha256(b"sailplane-kid" + root).hexdigest()[:8]
    assert identity.grant_keys([TOKEN], "svc-u1-0-1", "nonce") == {name: mac(root, b"svc-u1-0-1\nnonce").hex()}
    assert identity.key_id(TOKEN) == name


def test_known_answers() -> None:
    """Figures that no change of code may change: replicas that run have them."""
    assert identity.grant_keys([TOKEN], "svc-u1-0-1", "nonce") == {
        "fecf0078": "6d78fdd8d74706a208057bcdd3f0c646e23564a92dda0d81727b2b775023f906"
    }
    agent, boot = (make("key", "svc-u1-0-1", "nonce") for make in (identity.agent_token, identity.boot_token))
    assert agent == "576740b9046024a4982477894ee87e03bd8ddf7cd107356d96e5413b24f81a6a"
    assert boot == "afc9b51048d0453ad093608dbe4f74fb.b0598cd78daf7b25995fbe3f5e8faaf30fc3239acd32fc12914a55d057b7350d"


def test_every_accepted_token_has_a_grant_key() -> None:
    """While routers change from one token to the next, a replica honours the grants of both."""
    both = identity.grant_keys([TOKEN, TOKEN[::-1]], "r", "n")
    assert both == identity.grant_keys([TOKEN], "r", "n") | identity.grant_keys([TOKEN[::-1]], "r", "n")
    assert len(both) == 2


@given(st.text(), st.text(), st.text(), st.text())
def test_another_replica_or_boot_has_another_key(replica: str, nonce: str, other: str, other_nonce: str) -> None:
    """Property: replica ids and nonces hold no line feed, so no two pairs of them meet in one message."""
    pairs = [(a.replace("\n", ""), b.replace("\n", "")) for a, b in ((replica, nonce), (other, other_nonce))]
    keys = [identity.grant_keys([TOKEN], *pair) for pair in pairs]
    assert (keys[0] == keys[1]) == (pairs[0] == pairs[1])


def test_a_seal_covers_every_byte_of_the_table() -> None:
    """Header line with format, token and MAC; then the document as it is, line feeds and all."""
    document = '{"services": "ü\n"}'
    first, _, rest = identity.sealed(TOKEN, document).partition("\n")
    sealing_key = mac(TOKEN.encode(), b"sailplane-table")
    assert rest == document
    assert first == f"sailplane-table 1 {identity.key_id(TOKEN)} {mac(sealing_key, document.encode()).hex()}"


def test_an_endpoint_key_is_recognised_by_its_form() -> None:
    """`sp_`, its id, and 43 characters that a URL, a header and a shell take as they are."""
    text = identity.endpoint_key("0123456789", bytes(range(32)))
    assert re.fullmatch(r"sp_[0-9a-z]{10}_[A-Za-z0-9_-]{43}", text)
    assert identity.endpoint_key_hash(text) == hashlib.sha256(text.encode()).hexdigest()


def test_nothing_derived_serves_another_purpose() -> None:
    """The same secret and the same names, four purposes, four values."""
    of_boot = (TOKEN, "r", "n")
    derived = [identity.agent_token(*of_boot), identity.boot_token(*of_boot)]
    derived += identity.grant_keys([TOKEN], "r", "n").values()
    derived.append(identity.sealed(TOKEN, "r\nn").split()[3])
    assert len(set(derived)) == 4
