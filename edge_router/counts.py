"""Requests counted until the control plane has acknowledged them: none lost, none twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# The control plane ignores anything older, and it bounds the memory of a router that nobody listens to.
KEEP_S = 600


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
        """The batch to hand over: the unacknowledged one until it is too old, else everything counted since.

        A new batch lists all `services`, the idle ones with no counts: silence would not tell idle from unknown.
        """
        if self._batch is None or now - self._batch.frozen_at > KEEP_S:
            requests: dict[str, tuple[tuple[int, int], ...]] = dict.fromkeys(services, ())
            requests.update((name, tuple(sorted(seconds.items()))) for name, seconds in self._counting.items())
            self._batch = Batch(self._next_seq, now, requests, self._used)
            self._next_seq += 1
            self._counting, self._used = {}, {}
        return self._batch

    def acknowledge(self, batch: Batch) -> None:
        """The control plane has recorded `batch`. An acknowledgement that comes twice changes nothing."""
        if self._batch is batch:
            self._batch = None
