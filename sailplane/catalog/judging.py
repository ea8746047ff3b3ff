"""From a cloud's table, wherever it came from, to its next snapshot beside the former one. Pure but for `former`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chalicelib.catalog import snapshot as packaged
from chalicelib.catalog.snapshot import Price, Quarantined, Snapshot, Suspect
from chalicelib.errors import Invalid
from sailplane.catalog import facts, quarantine
from sailplane.catalog.quarantine import Key, Row, Verdict

MAX_DROP = 0.1  # of a cloud's offers, from one snapshot to the next
# Prices older than this say nothing about what is usual now: clouds change their lists some times a year.
PAST_COUNTS_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Table:
    """One cloud's prices as read, not yet believed. `as_of` is an ISO 8601 date or instant (UTC)."""

    provider: str
    as_of: str
    source: str
    digest: str
    rows: tuple[Row, ...]
    unreadable: tuple[Quarantined, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome for one cloud. `before` is the number of offers that it had, None when it had no snapshot."""

    snapshot: Snapshot
    before: int | None
    unchanged: bool = False

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many prices were quarantined for each reason."""
        return Counter(entry.reason for entry in self.snapshot.quarantined)


def judge(table: Table, former: Snapshot | None, *, fresh: bool = False) -> Judged:
    """Sift, sum and compare one cloud's table. `fresh` takes it without regard to the former snapshot.

    Raises:
        Invalid: no offer is of any use, or more than a tenth of the former offers would be lost.
    """
    sound, doubted = quarantine.sift(table.rows)
    offers = tuple(facts.with_hosts(sound)) if table.provider == "gcp" else sound
    now = _epoch_s(table.as_of)
    compared = former if former and not fresh and now - _epoch_s(former.as_of) <= PAST_COUNTS_S else None
    past = {_key(price): (price.on_demand, price.spot) for price in compared.prices} if compared else {}
    suspects = {suspect_key(one): one for one in compared.suspects} if compared else {}
    steady, flapping, still_suspect = quarantine.steady(offers, past, suspects, now)
    if not steady:
        raise Invalid("it holds no offer that could be used")
    made = Snapshot(
        provider=table.provider,
        as_of=table.as_of,
        source=table.source,
        digest=table.digest,
        prices=tuple(Price(facts.shape(row), row.region, row.zone, row.on_demand, row.spot) for row in steady),
        quarantined=(*table.unreadable, *(_entry(verdict) for verdict in (*doubted, *flapping))),
        suspects=still_suspect,
    )
    if former and not fresh and made.offers < former.offers * (1 - MAX_DROP):
        message = (
            f"of {former.offers} offers {made.offers} would be left, which is more likely a defect than the market"
        )
        raise Invalid(f"{message} (--fresh takes it nevertheless)")
    return Judged(made, former.offers if former else None)


def former(directory: Path, provider: str) -> Snapshot | None:
    """The snapshot that the directory has of a cloud."""
    return packaged.read(directory, provider) if packaged.path(directory, provider).exists() else None


def _epoch_s(as_of: str) -> float:
    instant = datetime.fromisoformat(as_of)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _key(price: Price) -> Key:
    """As `Row.key`."""
    shape = price.shape
    return (shape.instance_type, shape.accelerator, shape.accelerator_count), price.region, price.zone


def suspect_key(one: Suspect) -> tuple[Key, str]:
    """How `quarantine.steady` wants suspects to be found."""
    return ((one.instance_type, one.accelerator, one.accelerator_count), one.region, one.zone), one.price


def _entry(verdict: Verdict) -> Quarantined:
    return Quarantined(verdict.row.line, verdict.row.what, verdict.price, verdict.reason.value, verdict.detail)
