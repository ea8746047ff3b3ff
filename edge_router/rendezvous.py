"""Rendezvous hashing: everybody who asks with the same key meets at the same replica, as long as it is there. Pure.

Highest random weight (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): when a replica
goes, only its own keys move, to all others alike; when one comes, it takes its part from all alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from edge_router.table import Replica


def rendezvous(key: bytes, replicas: Sequence[Replica]) -> Replica:
    """The replica with the highest weight for `key`. `replicas` has at least one."""
    ours = weights(key, replicas)
    return replicas[ours.index(max(ours))]


def weights(key: bytes, replicas: Sequence[Replica]) -> list[int]:
    """The weight that each replica has for `key`.

    It is Python's hash of a pair of integers, xxHash's rounds without a salt, so that routers agree: 300 take 23 us, and
    SHA-256 would take 200. That hash mixes well only what differs in both places, hence the exclusive or.
    """
    number = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
    return [hash((number ^ replica.seed, number)) for replica in replicas]
