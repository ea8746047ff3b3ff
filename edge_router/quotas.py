"""What each replica may give a key of its limits, so that replicas that never talk to each other keep them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edge_router.table import Key


class Share(NamedTuple):
    """One replica's part of a key's limits; None where the key has no such limit."""

    rate_milli: int | None = None  # thousandths of requests per second
    concurrency: int | None = None


def shares(key: Key, replica_ids: Sequence[str]) -> Mapping[str, Share]:
    """By replica id, the parts of `key`'s limits. They add up to the limits exactly.

    A replica that would get nothing is left out: requests with this key do not go there. Who gets what remains of a
    division is decided by rendezvous of key and replica, so that every router decides alike and keys differ.
    """
    concurrency = key.concurrency
    rate_milli = None if key.rate_per_s is None else max(1, round(key.rate_per_s * 1000))
    parties = min(len(replica_ids), *(limit for limit in (concurrency, rate_milli) if limit is not None), 1 << 30)
    ranked = sorted(replica_ids, key=lambda replica_id: hashlib.sha256(f"{key.id}\n{replica_id}".encode()).digest())
    return {
        replica_id: Share(_part(rate_milli, parties, rank), _part(concurrency, parties, rank))
        for rank, replica_id in enumerate(ranked[:parties])
    }


def _part(total: int | None, parties: int, rank: int) -> int | None:
    return None if total is None else total // parties + (rank < total % parties)
