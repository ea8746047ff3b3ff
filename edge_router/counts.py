"""Requests counted until the control plane has acknowledged them: none lost, none twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

# The control plane ignores anything older, and it bounds the memory of a router that nobody listens to.
KEEP_S = 600
# Scalers average over a minute, and the store has a write to do for every service that is reported: three times as many, with
# every exchange of a function, made routers the greater part of a busy control plane's bill (docs/cost.md).
REPORT_S = 9.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Counts that are on their way.

    A batch never changes: after a lost answer it goes out again as it was, under the same `seq`, so that the control
    plane can tell whether it has it already.
    """

    seq: int
    frozen_at: float
    requests: Mapping[str, tuple[tuple[int, int], ...]]  # service -> (epoch second, requests), oldest first
    used: Mapping[str, int]  # key id -> epoch second of its last use


class Counts:
    """The ledger of one router. Not thread-safe; the router locks."""

    def __init__(self, first_seq: int) -> None:
        self._next_seq = first_seq
        self._counting: dict[str, dict[int, int]] = {}
        self._used: dict[str, int] = {}
        self._reported: dict[str, tuple[float, int]] = {}  # service -> when last, and how many requests it was
        self._batch: Batch | None = None

    def add(self, service: str, now: float) -> None:
        """Count one request."""
        seconds = self._counting.setdefault(service, {})
        second = int(now)
        seconds[second] = seconds.get(second, 0) + 1

    def use(self, key_id: str, now: float) -> None:
        """Remember that a key was used."""
        self._used[key_id] = int(now)

    def freeze(self, services: Iterable[str], now: float) -> Batch:
        """The batch to hand over: the unacknowledged one until it is too old, else what is due of all that was counted.

        Of `services`, and of those that were asked, each is due `REPORT_S` after its last report, and before that as soon as
        more has come than in all of that one: the first request at once, a load that grows the sooner the more it does. An
        idle service is due with no counts: silence would not tell idle from unknown.
        """
        if self._batch is None or not self._batch.requests or now - self._batch.frozen_at > KEEP_S:
            known = dict.fromkeys([*services, *self._counting])
            due = [name for name in known if self._is_due(name, now)]
            requests = {name: tuple(sorted(self._counting.pop(name, {}).items())) for name in due}
            reported = {name: (now, sum(count for _, count in counts)) for name, counts in requests.items()}
            self._reported = {name: last for name, last in self._reported.items() if name in known} | reported
            self._batch = Batch(self._next_seq, now, requests, self._used if due else {})
            self._next_seq += 1
            if due:
                self._used = {}
        return self._batch

    def hurry(self) -> None:
        """The next new batch holds everything."""
        self._reported = {}

    def acknowledge(self, batch: Batch) -> None:
        """The control plane has recorded `batch`. An acknowledgement that comes twice changes nothing."""
        if self._batch is batch:
            self._batch = None

    def _is_due(self, service: str, now: float) -> bool:
        reported_at, requests = self._reported.get(service, (-inf, 0))
        is_fresh = 0 <= now - reported_at < REPORT_S  # not when the clock was set back
        return not is_fresh or sum(self._counting.get(service, {}).values()) > requests
