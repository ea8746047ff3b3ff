"""Opening what the control plane seals for routers, written against the contract and not with either side's code."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any


def opened(text: str, router_token: str) -> dict[str, Any]:
    """The table in a sealed text. The seal must be this token's and cover every byte."""
    head, _, document = text.partition("\n")
    kind, version, kid, seal = head.split(" ")
    grant_root = hmac.digest(router_token.encode(), b"sailplane-grants", "sha256")
    key = hmac.digest(router_token.encode(), b"sailplane-table", "sha256")
    assert (kind, version) == ("sailplane-table", "1")
    assert kid == hashlib.sha256(b"sailplane-kid" + grant_root).hexdigest()[:8]
    assert seal == hmac.digest(key, document.encode(), "sha256").hex()
    table: dict[str, Any] = json.loads(document)
    return table
