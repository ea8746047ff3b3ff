"""In what order are spot offers tried? One policy a name (`SpotSpec.placer`).

Offers come ranked by price, and what a policy does not tell apart stays in that order. A preferred group of resources
comes before a zone's merits, except that any active zone comes before every preempting one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chalicelib.model import RISK_AWARE, SPOTHEDGE, Location, Offer, SpotSpec

EVEN_SPREAD = "even_spread"
ROUND_ROBIN = "round_robin"

Key = Callable[[Offer, int], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy may look at.

    `zones` is Z, sorted; `preempting` those of it to avoid; `hosting` where the service's spot replicas are, one entry each;
    `last` the zone that was tried last, or that took a machine back since. `crowding_usd` is how much a zone of its own is
    worth to a replica, an hour.
    """

    zones: Sequence[Location]
    preempting: frozenset[Location]
    hosting: Sequence[Location]
    last: Location | None
    crowding_usd: float


def key(spot: SpotSpec, seen: Seen) -> Key:
    """What to sort by: of an offer and the index of the group of resources that it belongs to."""
    hosted = Counter(seen.hosting)

    def spothedge(offer: Offer, group: int) -> tuple[float, ...]:
        zone = offer.location
        return zone in seen.preempting, group, hosted[zone] if spot.spread else zone in hosted

    def even_spread(offer: Offer, group: int) -> tuple[float, ...]:
        return group, hosted[offer.location]

    def round_robin(offer: Offer, group: int) -> tuple[float, ...]:
        zones, last = seen.zones, seen.last
        turn = (zones.index(offer.location) - zones.index(last) - 1) % len(zones) if last in zones else 0
        return group, turn

    def risk_aware(offer: Offer, group: int) -> tuple[float, ...]:
        here = hosted[offer.location]
        return group, round(offer.price_usd_per_hour + seen.crowding_usd * here, 9), here

    def cheapest(_offer: Offer, group: int) -> tuple[float, ...]:
        return (group,)

    policies: dict[str, Key] = {
        SPOTHEDGE: spothedge,
        RISK_AWARE: risk_aware,
        EVEN_SPREAD: even_spread,
        ROUND_ROBIN: round_robin,
    }
    return policies.get(spot.placer, cheapest)
