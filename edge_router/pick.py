"""Which replica gets the request: filter, score, pick. Pure; the lowest score wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_router.table import Replica, Service


def pick(
    service: Service, *, sent: Mapping[str, int], turns: Mapping[str, int], avoid: Sequence[str], random: float
) -> Replica | None:
    """The replica for one request, or None when there is none.

    Args:
        service: its policy and its ready replicas.
        sent: requests sent by this router since it got the table, by replica id.
        turns: when each replica was picked last, as a number that rises with every pick, by replica id.
        avoid: ids of replicas to leave out while there are others, the most important first.
        random: in [0, 1), decides between equals.
    """
    candidates = eligible(service.replicas, avoid)
    if not candidates:
        return None
    scores = _SCORES[service.policy](candidates, sent, turns)
    lowest = min(scores)
    best = [replica for replica, score in zip(candidates, scores, strict=True) if score == lowest]
    return best[int(random * len(best))]


def eligible(replicas: Sequence[Replica], avoid: Sequence[str]) -> Sequence[Replica]:
    """Everything but `avoid`; a replica to be avoided is still better than none."""
    for count in range(len(avoid), 0, -1):
        if left := [replica for replica in replicas if replica.id not in avoid[:count]]:
            return left
    return replicas


def _round_robin(candidates: Sequence[Replica], _: Mapping[str, int], turns: Mapping[str, int]) -> list[int]:
    """The one that waited longest. Unlike a position in a ring, this stays fair when a candidate is left out."""
    return [turns.get(replica.id, 0) for replica in candidates]


def _least_load(candidates: Sequence[Replica], sent: Mapping[str, int], _: Mapping[str, int]) -> list[int]:
    """Requests in flight when published, plus those sent since. What has finished meanwhile, the next table tells."""
    return [replica.in_flight + sent.get(replica.id, 0) for replica in candidates]


_SCORES = {"round_robin": _round_robin, "least_load": _least_load}
