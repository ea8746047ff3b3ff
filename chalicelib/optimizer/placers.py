"""In what order are spot offers tried? One policy a name (`SpotSpec.placer`).

Offers come ranked by price, and what a policy does not tell apart stays in that order. A preferred group of resources
comes before a zone's merits, except that any active zone comes before every preempting one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from chalicelib.model import SPOTHEDGE, Location, SpotSpec

EVEN_SPREAD = "even_spread"
ROUND_ROBIN = "round_robin"

Key = Callable[[Location, int], tuple[int, ...]]


def key(
    spot: SpotSpec,
    zones: Sequence[Location],
    preempting: frozenset[Location],
    hosting: Sequence[Location],
    last: Location | None,
) -> Key:
    """What to sort by: of a zone and the index of the group of resources that its offer belongs to.

    Args:
        spot: names the policy.
        zones: Z, sorted.
        preempting: those of Z to avoid.
        hosting: where the service's spot replicas are, one entry each.
        last: the zone that was tried last, or that took a machine back since.
    """
    hosted = Counter(hosting)

    def spothedge(zone: Location, group: int) -> tuple[int, ...]:
        return zone in preempting, group, hosted[zone] if spot.spread else zone in hosted

    def even_spread(zone: Location, group: int) -> tuple[int, ...]:
        return group, hosted[zone]

    def round_robin(zone: Location, group: int) -> tuple[int, ...]:
        turn = (zones.index(zone) - zones.index(last) - 1) % len(zones) if last in zones else 0
        return group, turn

    def cheapest(_zone: Location, group: int) -> tuple[int, ...]:
        return (group,)

    policies: dict[str, Key] = {SPOTHEDGE: spothedge, EVEN_SPREAD: even_spread, ROUND_ROBIN: round_robin}
    return policies.get(spot.placer, cheapest)
