"""Endpoint keys: who asks, and how often they may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from edge_router.messages import Refusal
from edge_router.table import Key

PREFIX = b"sp_"  # of every endpoint key


def presented(headers: Mapping[bytes, bytes]) -> bytes:
    """The key that a request shows: a bearer token, as OpenAI's clients send theirs, or `X-Api-Key`; b"" if none."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token:
        return token.strip()
    return headers.get(b"x-api-key", b"").strip()


def check(by_hash: Mapping[str, Key], text: bytes, now: float) -> Key | None:
    """The key that `text` is, None if it is none or has expired.

    Every wrong text takes the same time, however right it is in part, as it is looked up by its hash: that of a text with
    one character wrong has nothing in common with the right one. A plain hash is enough: there are 256 random bits in a
    key, which no dictionary holds.
    """
    key = by_hash.get(sha256(text).hexdigest())
    return key if key and now < key.expires_at else None


def by_hash(keys: Iterable[Key], now: float) -> Mapping[str, Key]:
    """For `check`. Without those that have expired, so that these take no other time than what never was a key."""
    return {key.hash: key for key in keys if now < key.expires_at}


def unauthorized() -> Refusal:
    """401, the same for no key, a wrong one, an expired one, and whether or not the service exists."""
    detail = "This needs an endpoint key, as Authorization: Bearer <key> or as X-Api-Key, and shows no valid one."
    return Refusal(401, "Unauthorized", detail, ((b"www-authenticate", b"Bearer"),))


class Buckets:
    """A token bucket for each key, as deep as one second's requests, at least one. Not thread-safe; the router locks."""

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}  # tokens, and when

    def take(self, key: Key, now: float) -> float:
        """0 if the request is within the key's rate, and otherwise seconds until one will be."""
        if key.rate_per_s is None:
            return 0.0
        depth = max(1.0, key.rate_per_s)
        tokens, at = self._levels.get(key.id, (depth, now))
        tokens = min(depth, tokens + max(0.0, now - at) * key.rate_per_s)
        is_within = tokens >= 1.0
        self._levels[key.id] = (tokens - is_within, now)
        return 0.0 if is_within else (1.0 - tokens) / key.rate_per_s

    def keep(self, keys: Mapping[str, Key]) -> None:
        """Forget all others'."""
        self._levels = {key_id: level for key_id, level in self._levels.items() if key_id in keys}
