"""What the clouds charge: machine types and prices, good without a network.

`prices/` holds a packaged file for each cloud, made by `sailplane catalog import` (docs/catalog.md); nothing in it was typed by
hand. `sailplane catalog refresh` makes newer ones outside the package, which a `Catalog` is told of. The functions of this module
know the packaged ones only.
AWS zones are zone ids (the same place for every account). GCP bills host and accelerator separately; an offer holds their sum.
Accelerator memory is the nominal one (an A10G has 24).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from chalicelib.catalog import snapshot
from chalicelib.model import Location, Offer

PACKAGED = Path(__file__).with_name("prices")
# A name that is right though the packaged tables have no price for it: a plan says that nobody offers it, not that it is misspelt.
_WITHOUT_PRICE = frozenset({"L40S"})


@dataclass(frozen=True, slots=True)
class Catalog:
    """Packaged prices and, of the clouds that have newer ones in the directory `refreshed`, those.

    A file in `refreshed` that cannot be read counts as not there; `defects` names it.
    """

    refreshed: Path | None = None

    def offers(self, providers: Sequence[str], accelerators: frozenset[str] | None = None) -> tuple[Offer, ...]:
        """The offers of the named clouds, of certain accelerators only if wanted (`""`: machines without any)."""
        return tuple(offer for table in self.tables(providers) for offer in table.offers(accelerators))

    def accelerators(self) -> tuple[str, ...]:
        """Canonical names of all known accelerators, e.g. `A100-80GB`, sorted."""
        packaged = (_packaged(name).accelerators for name in _names())
        known = (table.accelerators for table in self.tables(_names()))
        return tuple(sorted(_WITHOUT_PRICE.union(*packaged, *known)))

    def as_of(self, providers: Sequence[str]) -> str:
        """When (ISO 8601) the oldest prices among the named clouds held; empty when none of them is known."""
        return min((table.as_of for table in self.tables(providers)), default="")

    def directory(self, provider: str) -> Path:
        """Where the cloud's snapshot lies that is in use."""
        table = self._refreshed(provider)
        return self.refreshed if self.refreshed and isinstance(table, snapshot.Table) else PACKAGED

    def defects(self) -> tuple[str, ...]:
        """What is wrong with refreshed files, and that they are not used."""
        return tuple(str(found) for name in _names() if isinstance(found := self._refreshed(name), snapshot.Corrupt))

    def tables(self, providers: Sequence[str]) -> list[snapshot.Table]:
        """Those in use, the same objects until a file is replaced."""
        known = [name for name in providers if name in _names()]
        return [
            table if isinstance(table := self._refreshed(name), snapshot.Table) else _packaged(name) for name in known
        ]

    def _refreshed(self, provider: str) -> snapshot.Table | snapshot.Corrupt | None:
        """The newer table, what is wrong with it, or None when there is none or the packaged one is newer."""
        if self.refreshed is None:
            return None
        try:
            changed_ns = snapshot.path(self.refreshed, provider).stat().st_mtime_ns
        except OSError:
            return None
        found = _table(self.refreshed, provider, changed_ns)
        if isinstance(found, snapshot.Table) and found.as_of < _packaged(provider).as_of:
            return None
        return found


def offers(providers: Sequence[str], accelerators: frozenset[str] | None = None) -> tuple[Offer, ...]:
    """As `Catalog.offers`, of the packaged prices."""
    return Catalog().offers(providers, accelerators)


def accelerators() -> tuple[str, ...]:
    """As `Catalog.accelerators`, of the packaged prices."""
    return Catalog().accelerators()


def providers() -> tuple[str, ...]:
    """The clouds that the catalog knows, sorted."""
    return _names()


def as_of(providers: Sequence[str]) -> str:
    """As `Catalog.as_of`, of the packaged prices."""
    return Catalog().as_of(providers)


@dataclass(frozen=True, slots=True)
class CatalogMarket:
    """The catalog as a `ports.Market`, beside the offers of providers that know their own (`local`)."""

    own: Mapping[str, Callable[[], Sequence[Offer]]]
    catalog: Catalog = Catalog()
    regions: Mapping[str, frozenset[str]] = field(default_factory=dict)  # of a provider that may use some only

    def offers(self, providers: Sequence[str]) -> Sequence[Offer]:
        """Every offer of the named providers: the same tuple until a price changes, so that it is looked through once."""
        own = tuple(offer for provider in providers if provider in self.own for offer in self.own[provider]())
        tables = self.catalog.tables([provider for provider in providers if provider not in self.own])
        return _joined(own, tuple(tables), tuple(sorted(self.regions.items())))


@lru_cache(maxsize=4)  # of the clouds together and, now and then, of the new prices
def _joined(
    own: tuple[Offer, ...], tables: tuple[snapshot.Table, ...], regions: tuple[tuple[str, frozenset[str]], ...]
) -> tuple[Offer, ...]:
    allowed = dict(regions)
    listed = (offer for table in tables for offer in table.offers())
    return (*own, *(offer for offer in listed if _is_allowed(offer.location, allowed)))


def _is_allowed(place: Location, allowed: Mapping[str, frozenset[str]]) -> bool:
    return place.provider not in allowed or place.region in allowed[place.provider]


@cache
def _names() -> tuple[str, ...]:
    return snapshot.providers(PACKAGED)


@cache
def _packaged(provider: str) -> snapshot.Table:
    return snapshot.table(PACKAGED, provider)


@lru_cache(maxsize=8)  # a control plane that lives on sees files replaced
def _table(directory: Path, provider: str, changed_ns: int) -> snapshot.Table | snapshot.Corrupt:
    del changed_ns  # a part of the cache's key
    try:
        return snapshot.checked_table(directory, provider)
    except snapshot.Corrupt as defect:
        return defect
