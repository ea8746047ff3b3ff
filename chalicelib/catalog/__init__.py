"""What the clouds charge, packaged: a small table of machine types and prices, good without a network.

`offers.csv` restates facts from the clouds' public price lists, a row for each machine type in a place, each with the date
on which it is known to have held. AWS zones are zone ids (the same place for every account). GCP bills host and
accelerator separately; a row holds their sum. AWS spot prices of the types whose zone price is not public are the list
price less the saving that AWS's Spot Instance Advisor names. Accelerator memory is the nominal one (an A10G has 24).
Left out on purpose: on-demand prices below the same place's own spot price, and spot prices equal to on-demand, both of
which public tables contain.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chalicelib.model import CapacityType, Location, Offer


def offers(providers: Sequence[str]) -> tuple[Offer, ...]:
    """The packaged offers of the named clouds."""
    return tuple(offer for offer in _packaged().offers if offer.location.provider in providers)


def accelerators() -> tuple[str, ...]:
    """Canonical names of all known accelerators, e.g. `A100-80GB`, sorted."""
    return tuple(sorted({offer.accelerator for offer in _packaged().offers if offer.accelerator}))


def providers() -> tuple[str, ...]:
    """The clouds that the catalog knows, sorted."""
    return tuple(sorted({offer.location.provider for offer in _packaged().offers}))


def as_of() -> str:
    """The date (ISO 8601) of the oldest price in the catalog."""
    return _packaged().as_of


@dataclass(frozen=True, slots=True)
class CatalogMarket:
    """The catalog as a `ports.Market`, beside the offers of providers that know their own (`local`)."""

    own: Mapping[str, Callable[[], Sequence[Offer]]]

    def offers(self, providers: Sequence[str]) -> Sequence[Offer]:
        """Every offer of the named providers."""
        own = [offer for provider in providers if provider in self.own for offer in self.own[provider]()]
        return (*own, *offers([provider for provider in providers if provider not in self.own]))


@dataclass(frozen=True, slots=True)
class Table:
    """A price table as read."""

    offers: tuple[Offer, ...]
    as_of: str


def read(lines: Iterable[str]) -> Table:
    """Read a price table. Raises `ValueError`, naming the line, when a price cannot be right."""
    found: list[Offer] = []
    dates = set()
    for number, row in enumerate(csv.DictReader(lines), start=2):
        try:
            found += _offers(row)
        except ValueError as error:
            raise ValueError(f"line {number} of the price table: {error}") from error
        dates.add(row["as_of"])
    return Table(tuple(found), min(dates, default=""))


@cache
def _packaged() -> Table:
    with Path(__file__).with_name("offers.csv").open(encoding="utf-8") as lines:
        return read(lines)


def _offers(row: Mapping[str, str]) -> list[Offer]:
    on_demand, spot = float(row["on_demand_usd_per_hour"]), row["spot_usd_per_hour"]
    prices = {CapacityType.ON_DEMAND: on_demand} | ({CapacityType.SPOT: float(spot)} if spot else {})
    if not all(0 < price < 1000 for price in prices.values()):
        raise ValueError(f"a price is not between $0 and $1000 an hour: {row}")
    if spot and not prices[CapacityType.SPOT] < on_demand:
        raise ValueError(f"spot is not cheaper than on-demand: {row}")
    return [
        Offer(
            location=Location(row["provider"], row["region"], row["zone"]),
            instance_type=row["instance_type"],
            vcpus=_positive(row, "vcpus"),
            memory_gib=_positive(row, "memory_gib"),
            capacity_type=capacity_type,
            price_usd_per_hour=price,
            accelerator=row["accelerator"],
            accelerator_count=int(_positive(row, "accelerator_count")) if row["accelerator"] else 0,
            accelerator_memory_gib=_positive(row, "accelerator_memory_gib") if row["accelerator"] else 0.0,
        )
        for capacity_type, price in prices.items()
    ]


def _positive(row: Mapping[str, str], column: str) -> float:
    value = float(row[column])
    if not value > 0:
        raise ValueError(f"{column} is not positive: {row}")
    return value
