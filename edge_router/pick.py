"""Which replica gets the request: filter, choose, and let new ones off lightly. No clock and no I/O."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import NamedTuple

from edge_router.quotas import Share, shares
from edge_router.rendezvous import rendezvous, weights
from edge_router.table import Key, Replica, Service

# A replica may have a quarter more than its equal share before the next is taken in its place, and one request more,
# without which nobody could begin (Mirrokni, Thorup, Zadimoghaddam: "Consistent hashing with bounded loads", 2016).
_OVERLOAD = 1.25
# So many new replicas may be picked in vain for one request; the next one takes it, new or not.
_LET_OFF = 2
# Prompts' beginnings whose weights are kept: 12 kB each with 300 replicas.
_KNOWN_PREFIXES = 100
_WITHOUT_LIMITS: Mapping[str, Share] = {}
_NO_LIMIT = Share()


class Wish(NamedTuple):
    """What one request wants of its replica.

    Args:
        avoid: ids of replicas to leave out while there are others, the most important first.
        key: its endpoint key, whose limits say which replicas it may use; None for none.
        meet: requests with the same meet at the same replica; b"" for no such wish.
        at_any_cost: they do however much it has to do.
    """

    avoid: Sequence[str] = ()
    key: Key | None = None
    meet: bytes = b""
    at_any_cost: bool = False


class Memory(NamedTuple):
    """What outlives a table: when each replica was picked last, as a rising number, and the keys' shares in them."""

    turns: dict[str, int]
    shares: dict[Key, Mapping[str, Share]]


class Picker:
    """Picks the replicas of one service, on one table. Not thread-safe; the router locks.

    Args:
        service: its policy and its ready replicas.
        before: the one on the table before.
        location: of this router, `cloud/region/zone`; "" if that is not known.
        random: uniform in [0, 1).
    """

    def __init__(self, service: Service, before: Picker | None, location: str, random: Callable[[], float]) -> None:
        self.service = service
        self._random = random
        self._choose = {
            "round_robin": self._longest_waiting,
            "least_load": self._better_of_two,
            "instance_aware_least_load": self._better_of_two_by_weight,
            "prefix_aware": self._better_of_two,  # for what has no prompt
        }[service.policy]
        # Requests in flight when published, plus those sent since. What has ended meanwhile, the next table tells.
        self._loads = {replica.id: replica.in_flight for replica in service.replicas}
        self._load = sum(self._loads.values())
        no_turns = dict.fromkeys(self._loads, 0)
        self.memory: Memory = _kept(before.memory, no_turns.keys()) if before else Memory(no_turns, {})
        self._picks = max(self.memory.turns.values(), default=0)
        self._oldest = min((replica.ready_at for replica in service.replicas), default=0.0)
        self._distance = {replica.id: _distance(location, replica.location) for replica in service.replicas}
        self._replicas = service.replicas
        if service.prefer_near:
            self._replicas = tuple(sorted(service.replicas, key=self._distance_of))
        self._weights: dict[bytes, list[int]] = {}  # by what brings requests together

    def pick(self, wish: Wish, now: float) -> Replica | None:
        """The replica for one request, which is then counted as sent there; None when there is none."""
        candidates = eligible(self._usable(wish.key), wish.avoid)
        if not candidates:
            return None
        if self.service.prefer_near:
            candidates = self._near(candidates)
        replica = self._pick_warm(candidates, wish, now)
        self._loads[replica.id] += 1
        self._load += 1
        return replica

    def share(self, key: Key | None, replica: Replica) -> Share:
        """What `replica` may give `key` of its limits."""
        return _NO_LIMIT if key is None else self._limits(key).get(replica.id, _NO_LIMIT)

    def _usable(self, key: Key | None) -> Sequence[Replica]:
        limits = _WITHOUT_LIMITS if key is None else self._limits(key)
        return [replica for replica in self._replicas if replica.id in limits] if limits else self._replicas

    def _limits(self, key: Key) -> Mapping[str, Share]:
        """Reckoned once for each key and set of replicas: 300 replicas take 300 us."""
        if key.rate_per_s is None and key.concurrency is None:
            return _WITHOUT_LIMITS
        known = self.memory.shares
        if key not in known:
            known[key] = shares(key, list(self._loads))
        return known[key]

    def _near(self, candidates: Sequence[Replica]) -> Sequence[Replica]:
        """The nearest of those that are not overloaded. `candidates` are sorted by distance."""
        loads, bound = self._loads, self._bound()
        free = [replica for replica in candidates if loads[replica.id] <= bound] or candidates
        nearest = self._distance_of(free[0])
        return free[: bisect(free, nearest, key=self._distance_of)]

    def _distance_of(self, replica: Replica) -> int:
        return self._distance[replica.id]

    def _pick_warm(self, candidates: Sequence[Replica], wish: Wish, now: float) -> Replica:
        """A new replica takes its turn with a probability that grows over the slow start, and lets it pass otherwise."""
        for _ in range(_LET_OFF):
            replica = self._pick_one(candidates, wish)
            others = [each for each in candidates if each is not replica] if self._is_cold(replica, now) else ()
            if not others:
                return replica
            candidates = others
        return self._pick_one(candidates, wish)

    def _is_cold(self, replica: Replica, now: float) -> bool:
        """By chance, and measured against the oldest: where all are new, nobody is there to take it for them."""
        warm_s = min(self.service.slow_start_s, now - self._oldest)
        return warm_s > 0 and now - replica.ready_at < warm_s * self._random()

    def _pick_one(self, candidates: Sequence[Replica], wish: Wish) -> Replica:
        if not wish.meet:
            replica = self._choose(candidates)
        elif wish.at_any_cost:
            replica = rendezvous(wish.meet, candidates)
        else:
            replica = self._meeting_within_bounds(candidates, wish.meet)
        self._picks += 1
        self.memory.turns[replica.id] = self._picks
        return replica

    def _meeting_within_bounds(self, candidates: Sequence[Replica], meet: bytes) -> Replica:
        """The first one in the order of rendezvous that is not overloaded."""
        ours = self._weights_of(meet, candidates)
        first = candidates[ours.index(max(ours))]
        loads, bound = self._loads, self._bound()
        if loads[first.id] <= bound:
            return first
        free = [weight for weight, each in zip(ours, candidates, strict=True) if loads[each.id] <= bound]
        return candidates[ours.index(max(free))] if free else first

    def _weights_of(self, meet: bytes, candidates: Sequence[Replica]) -> list[int]:
        """Kept for the beginnings that come again and again, as they do where this policy makes sense."""
        if candidates is not self._replicas:
            return weights(meet, candidates)
        if meet not in self._weights:
            if len(self._weights) >= _KNOWN_PREFIXES:
                self._weights.clear()
            self._weights[meet] = weights(meet, candidates)
        return self._weights[meet]

    def _bound(self) -> float:
        return _OVERLOAD * self._load / len(self._loads) + 1

    def _longest_waiting(self, candidates: Sequence[Replica]) -> Replica:
        """Unlike a position in a ring, this stays fair when a candidate is left out."""
        known = self.memory.turns
        turns = [known[replica.id] for replica in candidates]
        longest = min(turns)
        if longest:  # turns are unique, but for those that had none
            return candidates[turns.index(longest)]
        new = [replica for replica, turn in zip(candidates, turns, strict=True) if turn == 0]
        return new[int(self._random() * len(new))]

    def _better_of_two(self, candidates: Sequence[Replica]) -> Replica:
        """The less loaded of two at random: nearly as even as the least loaded of all, and routers that know the same
        do not all run to the same one (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
        """  # noqa: D205 the sentence is the summary
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first = int(self._random() * count)
        second = (first + 1 + int(self._random() * (count - 1))) % count
        one, other = candidates[first], candidates[second]
        return other if self._loads[other.id] < self._loads[one.id] else one

    def _better_of_two_by_weight(self, candidates: Sequence[Replica]) -> Replica:
        """Two at random, each as probable as it is strong; the one that has less to do for its strength."""
        reach = list(accumulate(replica.weight for replica in candidates))
        last = len(candidates) - 1
        one, other = (candidates[min(bisect(reach, self._random() * reach[-1]), last)] for _ in range(2))
        return other if self._strain(other) < self._strain(one) else one

    def _strain(self, replica: Replica) -> float:
        return (self._loads[replica.id] + 1) / replica.weight


def eligible(replicas: Sequence[Replica], avoid: Sequence[str]) -> Sequence[Replica]:
    """Everything but `avoid`; a replica to be avoided is still better than none."""
    while avoid:
        if left := [replica for replica in replicas if replica.id not in avoid]:
            return left
        avoid = avoid[:-1]
    return replicas


def _kept(memory: Memory, ids: AbstractSet[str]) -> Memory:
    """Of replicas that are still there; shares only if all are still there, and no other."""
    turns = {replica_id: memory.turns.get(replica_id, 0) for replica_id in ids}
    return Memory(turns, memory.shares if memory.turns.keys() == ids else {})


def _distance(one: str, other: str) -> int:
    """0 in the same zone, 1 in the same region, 2 in the same cloud, 3 anywhere else."""
    for distance in range(3):
        if one.split("/")[: 3 - distance] == other.split("/")[: 3 - distance]:
            return distance
    return 3
