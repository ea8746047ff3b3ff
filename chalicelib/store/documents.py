"""What all stores share: documents, keys that sort, how long things are kept, how counts add up."""

from __future__ import annotations

import base64
import hashlib
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from chalicelib.errors import Exists
from chalicelib.model import (
    AdminKey,
    AuditEntry,
    Claim,
    EndpointKey,
    Event,
    Lease,
    Replica,
    ReplicaStatus,
    RouterLoad,
    Unavailable,
)
from chalicelib.ports import Commit

T = TypeVar("T")

HISTORY_KEPT_S = 86_400.0  # a TERMINATED replica
REFUSALS_KEPT_S = 3_600.0  # after its end: one that follows within this time counts as the next in a row
EVENTS_KEPT_S = 7 * 86_400.0
AUDIT_KEPT_S = 90 * 86_400.0
BOOTS_KEPT_S = 86_400.0  # which machine was the first to boot as a replica
KEYS_KEPT_S = 7 * 86_400.0  # an endpoint key after it has expired, so that its owner sees why a client is refused
KEY_USE_EVERY_S = 60.0  # "last used" is written this often at the most
ADMIN_KEY_USE_EVERY_S = 3_600.0  # the same of an admin key, which a program may show every second
LOAD_KEPT_S = 600.0  # a router's counts, and the row of a router that went away
LOAD_HEARTBEAT_S = 20.0  # "no requests" is written this often; after 60 s a router counts as silent
COMMIT_MAX_ITEMS = 100  # DynamoDB's limit for one transaction; splitting one would give up "all or nothing"


@cache  # building one costs some 20 ms, so a function pays only for the nouns it meets
def _adapter(noun: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(noun)


def to_json(noun: object) -> str:
    """A noun of `model` as a JSON document.

    Defaults are written out: a default that changes in a later release must not change what is already stored.
    """
    return _adapter(type(noun)).dump_json(noun).decode()  # type: ignore[arg-type]  # mypy doubts that classes hash


def from_json(noun: type[T], document: str) -> T:
    """The opposite of `to_json`. Fields added since take their defaults, fields removed since are ignored."""
    found: T = _adapter(noun).validate_json(document)  # type: ignore[arg-type]  # as above
    return found


def revoked(noun_id: str) -> Exists:
    """What was taken back is not made again."""
    return Exists(f"What had the id {noun_id} was revoked or removed here, and stays so.")


def event_key(event: Event, commit: int, index: int) -> str:
    """Sorts by instant, then as written: by commit and by place within it.

    `commit` is a store's own rising number, so two stores may use the same one; the digest keeps their events apart.
    """
    digest = hashlib.blake2s(to_json(event).encode(), digest_size=4).hexdigest()
    return f"{_microseconds(event.at)}#{commit:017d}#{index:03d}#{digest}"


def event_key_after(instant: float) -> str:
    """Above every event's key at `instant`, below every later one's ('$' follows '#')."""
    return f"{_microseconds(max(instant, 0.0))}$"


def audit_key(entry: AuditEntry) -> str:
    """Sorts by instant; an entry written again, with what became of it, takes the place of the first."""
    return f"{_microseconds(entry.at)}#{entry.id}"


def may_take_over(standing: Claim, claim: Claim, now: float) -> bool:
    """Whether the holder of the claim that stands is taken for dead, and what it was at is what is asked now."""
    return not standing.answer and standing.held_until <= now and standing.request == claim.request


def _microseconds(instant: float) -> str:
    return f"{round(instant * 1_000_000):017d}"


def scope_key(refusal: Unavailable) -> str:
    """Two refusals of one scope replace each other."""
    return "#".join(refusal.scope)


def history_expires_at(replica: Replica) -> float:
    """When the record of a TERMINATED replica may be forgotten."""
    return replica.status_since + HISTORY_KEPT_S


def item_count(lease: Lease | None, commit: Commit) -> int:
    """How many items of one transaction a commit is.

    A replica that is new, or TERMINATED, is two: that it is not in the past already, or is no longer in the present, is
    another item's business.
    """
    twice = [
        replica for replica in commit.replicas if not replica.version or replica.status is ReplicaStatus.TERMINATED
    ]
    singles = sum(item is not None for item in (lease, commit.service, commit.table, commit.hook))
    scopes = {refusal.scope for refusal in (*commit.unavailable, *commit.disproved)}
    return singles + len(commit.replicas) + len(twice) + len(scopes) + len(commit.events)


def forget_key_at(key: EndpointKey) -> float | None:
    """When an endpoint key may be forgotten; None = never by itself."""
    return None if key.expires_at is None else key.expires_at + KEYS_KEPT_S


def used_since(key: EndpointKey, used_at: float, now: float) -> float | None:
    """The instant to write as a key's last use, None when what is written will do."""
    at = min(used_at, now)
    return at if key.last_used_at is None or at - key.last_used_at >= KEY_USE_EVERY_S else None


def oldest_first(keys: Iterable[EndpointKey], now: float) -> tuple[EndpointKey, ...]:
    """The keys that are kept at `now`, by creation; those of the same instant by id, so that every store agrees."""
    kept = [key for key in keys if (end := forget_key_at(key)) is None or end > now]
    return tuple(sorted(kept, key=lambda key: (key.created_at, key.id)))


def forget_admin_key_at(key: AdminKey) -> float | None:
    """When an admin key may be forgotten; None = never by itself.

    After its end it stays listed for as long as it was good, a week at the most: a key of a CI job's is good for minutes, and
    hundreds of them would bury the others.
    """
    return None if key.expires_at is None else key.expires_at + min(key.expires_at - key.created_at, KEYS_KEPT_S)


def admin_keys_kept(keys: Iterable[AdminKey], now: float) -> tuple[AdminKey, ...]:
    """Those that are not to be forgotten at `now`, oldest first; those of the same instant by id."""
    kept = [key for key in keys if (end := forget_admin_key_at(key)) is None or end > now]
    return tuple(sorted(kept, key=lambda key: (key.created_at, key.id)))


def is_use_news(key: AdminKey, now: float) -> bool:
    """Whether the use of a key at `now` is to be written."""
    return key.last_used_at is None or now - key.last_used_at >= ADMIN_KEY_USE_EVERY_S


def newest_first(replicas: Iterable[Replica]) -> tuple[Replica, ...]:
    """By creation; replicas of the same instant by id, so that every store agrees."""
    return tuple(sorted(replicas, key=lambda replica: (-replica.created_at, replica.id)))


def is_news(known: RouterLoad | None, seq: int, counts: Sequence[tuple[int, int]], now: float) -> bool:
    """Whether a router's report has to be written: not one recorded before, nor "still nothing" shortly after the last."""
    if known is None:
        return True
    return seq > known.seq and (any(count for _, count in counts) or now - known.reported_at >= LOAD_HEARTBEAT_S)


def packed(counts: Sequence[tuple[int, int]]) -> str:
    """What `add_counts` returns as text: the first second, then a number for each second up to the last, deflated; empty for none.

    A router that is asked all the time reports every 9 s, and each KB of what is written is billed: as pairs, ten minutes were
    10 KB, as numbers 1.2 to 1.8, and now are below 0.8 up to 50 requests a second.
    """
    if not counts:
        return ""
    by_second, first, last = dict(counts), counts[0][0], counts[-1][0]
    numbers = f"{first}:" + ",".join(str(by_second.get(second, "")) for second in range(first, last + 1))
    return base64.b85encode(zlib.compress(numbers.encode())).decode()


def unpacked(text: str) -> tuple[tuple[int, int], ...]:
    """The opposite of `packed`."""
    first, _, numbers = zlib.decompress(base64.b85decode(text)).decode().partition(":") if text else ("", "", "")
    found = enumerate(numbers.split(","), int(first)) if first else ()
    return tuple((second, int(number)) for second, number in found if number)


def add_counts(
    known: Sequence[tuple[int, int]], more: Sequence[tuple[int, int]], now: float
) -> tuple[tuple[int, int], ...]:
    """What was known and more (epoch second, requests), summed by second, oldest first, without what is older than 10 minutes.

    `known` is what this has returned before.
    """
    totals = dict(known[bisect_left(known, (now - LOAD_KEPT_S,)) :])  # sorted already, and 600 of them at every report
    for second, requests in more:
        if second >= now - LOAD_KEPT_S:
            totals[second] = totals.get(second, 0) + requests
    return tuple(sorted(totals.items()))
