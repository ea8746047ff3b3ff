"""What the clouds charge, packaged: machine types and prices, good without a network.

`prices/` holds a file for each cloud, made by `sailplane catalog import` (docs/catalog.md); nothing in it was typed by hand.
AWS zones are zone ids (the same place for every account). GCP bills host and accelerator separately; an offer holds their sum.
Accelerator memory is the nominal one (an A10G has 24).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chalicelib.catalog import snapshot
from chalicelib.model import Offer

PACKAGED = Path(__file__).with_name("prices")


def offers(providers: Sequence[str], accelerators: frozenset[str] | None = None) -> tuple[Offer, ...]:
    """The packaged offers of the named clouds, of certain accelerators only if wanted (`""`: machines without any)."""
    return tuple(offer for name in providers if name in _names() for offer in _table(name).offers(accelerators))


def accelerators() -> tuple[str, ...]:
    """Canonical names of all known accelerators, e.g. `A100-80GB`, sorted."""
    return tuple(sorted(frozenset[str]().union(*(_table(name).accelerators for name in _names()))))


def providers() -> tuple[str, ...]:
    """The clouds that the catalog knows, sorted."""
    return _names()


def as_of(providers: Sequence[str]) -> str:
    """The date (ISO 8601) of the oldest prices among the named clouds; empty when the catalog knows none of them."""
    return min((_table(name).as_of for name in providers if name in _names()), default="")


@dataclass(frozen=True, slots=True)
class CatalogMarket:
    """The catalog as a `ports.Market`, beside the offers of providers that know their own (`local`)."""

    own: Mapping[str, Callable[[], Sequence[Offer]]]

    def offers(self, providers: Sequence[str]) -> Sequence[Offer]:
        """Every offer of the named providers."""
        own = [offer for provider in providers if provider in self.own for offer in self.own[provider]()]
        return (*own, *offers([provider for provider in providers if provider not in self.own]))


@cache
def _names() -> tuple[str, ...]:
    return snapshot.providers(PACKAGED)


@cache
def _table(provider: str) -> snapshot.Table:
    return snapshot.table(PACKAGED, provider)
