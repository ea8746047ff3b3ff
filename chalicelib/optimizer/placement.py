"""The decision: every feasible offer, best first, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from chalicelib.model import (
    RISK_AWARE,
    CapacityType,
    Location,
    Offer,
    Placement,
    Reason,
    Rejected,
    Requirement,
    ResourceRequest,
    SpotSpec,
    Unavailable,
    ZoneMemory,
)
from chalicelib.optimizer import constraints, placers, zones
from chalicelib.optimizer.infeasible import Infeasible, explain
from chalicelib.words import lasting

# Clouds list the same machine at prices that differ in the sixth digit (AWS p4d: 2e-6 between regions). That is no reason
# to put every replica into one region.
PRICE_TOLERANCE = 1e-4
# The price cap of `risk_aware`, unless another is asked for: a tenth is too little for a machine that may go at any time.
_MOST_AT_RISK = 0.9

# How a placement begins to say that there are feasible offers and their clouds refuse them all.
NOTHING_LEFT = "nothing is left to ask"


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted, and what is known that bears on it.

    `hosting` is where the service's active replicas of this kind are, one entry each. `providers` are the clouds that may
    be used. `known` is what the service remembers of zones, `last` the zone that it tried last; `crowding_usd` is what
    a zone of its own is worth to a replica, an hour.
    """

    resources: ResourceRequest
    providers: tuple[str, ...]
    unavailable: tuple[Unavailable, ...] = ()
    hosting: tuple[Location, ...] = ()
    spot: SpotSpec = field(default_factory=SpotSpec)
    known: tuple[ZoneMemory, ...] = ()
    last: Location | None = None
    crowding_usd: float = 0.0


def decide(request: Request, market: Sequence[Offer], now: float) -> Placement:
    """Rank every feasible offer of `market`.

    Preference group first, then price; offers within a relative 1e-4 of the cheapest among them are equals, and of equals
    the one wins whose region, then zone, hosts fewer of our replicas, then the first by name. The service's spot policy may
    put something else before the price (see `placers`). The order of `market` never matters. `now` (epoch seconds) tells which
    refusals still hold.
    """
    fitting = _fitting(request, market)
    refusals = sorted(_refusals(request), key=lambda one: (-one.until, one.reason, one.message))
    groups: dict[int, list[Offer]] = {}
    refused: list[tuple[Offer, Unavailable]] = []
    for index, offer in fitting.offers:
        if refusal := next((one for one in refusals if one.blocks(offer, now)), None):
            refused.append((offer, refusal))
        else:
            groups.setdefault(index, []).append(offer)
    by_price = [(index, offer) for index in sorted(groups) for offer in _ranked(groups[index], request.hosting)]
    feasible = [*(offer for _, offer in by_price), *(offer for offer, _ in refused)]
    ranked = _by_policy(by_price, _spot_zones(feasible), request, now)
    if ranked:
        index = next(index for index, offer in by_price if offer is ranked[0])
        why = _why(ranked[0], index, groups[index], request)
    elif refused:
        why = f"{NOTHING_LEFT}: {len(refused)} feasible offers were refused by their clouds a short while ago"
    elif fitting.are_dear:
        why = _none_below_cap(request.spot)
    else:
        why = explain(request.resources, market, request.providers).message
    return Placement(ranked, (*_refused(refused, now), *fitting.rejected), why)


def nothing_to_buy(request: Request, market: Sequence[Offer]) -> Infeasible:
    """Why no offer is feasible, refusals aside: the cap on spot prices, or the wish that none meets, with the nearest."""
    if _fitting(request, market).are_dear:
        return Infeasible(f"{_none_below_cap(request.spot)}. Raise service.replica_policy.max_spot_price_ratio.", ())
    return explain(request.resources, market, request.providers)


def _none_below_cap(spot: SpotSpec) -> str:
    return f"no spot offer is below {_cap(spot):g} of the on-demand price"


def open_offers(request: Request, market: Sequence[Offer], now: float) -> tuple[Offer, ...]:
    """The offers that `decide` ranks, in no order, at a tenth of the time."""
    refusals = [one for one in _refusals(request) if now < one.until]
    feasible = (offer for _, offer in _fitting(request, market).offers)
    return tuple(offer for offer in feasible if not any(one.covers(offer) for one in refusals))


def spot_zones(request: Request, market: Sequence[Offer]) -> tuple[Location, ...]:
    """Z: the zones of all feasible spot offers, those included that were refused a short while ago, sorted."""
    return _spot_zones(offer for _, offer in _fitting(request, market).offers)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """What a market has that a request admits: offers with the index of their group. And why it admits no others."""

    offers: tuple[tuple[int, Offer], ...]
    are_dear: bool  # whether the spot policy's price is all that keeps some out
    rejected: tuple[Rejected, ...]


def _fitting(request: Request, market: Sequence[Offer]) -> _Fitting:
    return _shop(_Same(tuple(market)))(request.resources, request.providers, _cap(request.spot))


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A market that is told from others by identity: to hash 8,000 offers takes as long as to look through them."""

    offers: tuple[Offer, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.offers is other.offers

    def __hash__(self) -> int:
        return id(self.offers)


@lru_cache(maxsize=4)  # prices change now and then, and a market without the zones of a replica at risk is another one
def _shop(market: _Same) -> Callable[[ResourceRequest, tuple[str, ...], float | None], _Fitting]:
    """Looks a request up in a market: 20 ms the first time, for 8,000 offers, and nothing from then on."""
    return lru_cache(maxsize=1024)(partial(_look_through, market.offers))


def _look_through(
    market: tuple[Offer, ...], resources: ResourceRequest, providers: tuple[str, ...], cap: float | None
) -> _Fitting:
    enabled = [offer for offer in dict.fromkeys(market) if offer.location.provider in providers]
    is_dear = _dear(cap, enabled)
    fitting: list[tuple[int, Offer]] = []
    unfit: list[Offer] = []
    dear = 0
    for offer in enabled:
        match = constraints.matching(resources, offer)
        if match is None:
            unfit.append(offer)
        elif is_dear(offer):
            dear += 1
        else:
            fitting.append((match[0], offer))
    rejected = (*_too_dear(dear, cap), *_not_offered(resources, enabled), *_unfit(resources, unfit))
    return _Fitting(tuple(fitting), bool(dear), rejected)


def _spot_zones(feasible: Iterable[Offer]) -> tuple[Location, ...]:
    return tuple(sorted({offer.location for offer in feasible if offer.capacity_type is CapacityType.SPOT}))


def _refusals(request: Request) -> Iterator[Unavailable]:
    yield from zones.refusals(request.known, request.spot)
    yield from filter(partial(_holds, request), request.unavailable)


def _holds(request: Request, refusal: Unavailable) -> bool:
    """Whether the service's policy heeds the refusal. SkyServe's remembers zones, which are told otherwise."""
    is_of_zone = refusal.reason in (Reason.NO_CAPACITY, Reason.PREEMPTED, Reason.INTERRUPTED)
    return request.spot.backs_off or not is_of_zone or refusal.capacity_type != CapacityType.SPOT


def _dear(ratio: float | None, enabled: Sequence[Offer]) -> Callable[[Offer], bool]:
    """Whether a spot offer costs more than its share of the same machine on demand, there or where that is cheapest.

    Without an on-demand price nothing can be said, and the offer is kept.
    """
    if ratio is None:
        return lambda _offer: False
    prices: dict[tuple[str, ...], float] = {}
    for offer in enabled:
        if offer.capacity_type is CapacityType.ON_DEMAND:
            for scope in _scopes(offer):
                prices[scope] = min(offer.price_usd_per_hour, prices.get(scope, offer.price_usd_per_hour))

    def is_dear(offer: Offer) -> bool:
        price = next((prices[scope] for scope in _scopes(offer) if scope in prices), None)
        is_spot = offer.capacity_type is CapacityType.SPOT
        return is_spot and price is not None and offer.price_usd_per_hour > ratio * price

    return is_dear


def _cap(spot: SpotSpec) -> float | None:
    return spot.max_spot_price_ratio or (_MOST_AT_RISK if spot.placer == RISK_AWARE else None)


def _scopes(offer: Offer) -> tuple[tuple[str, ...], ...]:
    """Where the same machine is looked for: in the region, then anywhere in the cloud."""
    kind = (offer.location.provider, offer.instance_type, offer.accelerators)
    return (*kind, offer.location.region), kind


def _by_policy(
    by_price: Sequence[tuple[int, Offer]], of_spot: Sequence[Location], request: Request, now: float
) -> tuple[Offer, ...]:
    """`by_price` holds offers with the index of their group; `of_spot` is Z."""
    avoided = zones.preempting(request.known, of_spot, request.spot, now)
    seen = placers.Seen(of_spot, avoided, request.hosting, request.last, request.crowding_usd)
    key = placers.key(request.spot, seen)
    return tuple(offer for index, offer in sorted(by_price, key=lambda pair: key(pair[1], pair[0])))


def _ranked(offers: Iterable[Offer], hosting: Sequence[Location]) -> Iterator[Offer]:
    regions = Counter((place.provider, place.region) for place in hosting)
    places = Counter(hosting)

    def among_equals(offer: Offer) -> tuple[int, int, tuple[object, ...]]:
        return regions[_region(offer)], places[offer.location], _name(offer)

    for equals in _equally_priced(offers):
        yield from sorted(equals, key=among_equals)


def _equally_priced(offers: Iterable[Offer]) -> Iterator[list[Offer]]:
    """Runs of offers within the tolerance of the run's cheapest, cheapest run first."""
    run: list[Offer] = []
    for offer in sorted(offers, key=lambda offer: offer.price_usd_per_hour):
        if run and offer.price_usd_per_hour > run[0].price_usd_per_hour * (1 + PRICE_TOLERANCE):
            yield run
            run = []
        run.append(offer)
    if run:
        yield run


def _region(offer: Offer) -> tuple[str, str]:
    return offer.location.provider, offer.location.region


def _name(offer: Offer) -> tuple[object, ...]:
    """A total order over offers that differ in anything."""
    return (
        offer.location,
        offer.instance_type,
        offer.accelerators,
        offer.price_usd_per_hour,
        offer.vcpus,
        offer.memory_gib,
        offer.accelerator_memory_gib,
        offer.capacity_type,
    )


def _why(best: Offer, preference: int, rivals: Sequence[Offer], request: Request) -> str:
    if best.capacity_type is CapacityType.SPOT and request.spot.placer:
        hosted = request.hosting.count(best.location)
        text = f"{describe(best)}: {request.spot.placer} among {len(rivals)} feasible offers; its zone hosts {hosted} of our replicas"
        return text + _preference(preference, request)
    equals = next(_equally_priced(rivals))
    text = f"{describe(best)}: the cheapest of {len(rivals)} feasible offers"
    if len(rivals) == 1:
        text = f"{describe(best)}: the only feasible offer"
    elif len(equals) > 1:
        text += f", one of {len(equals)} at that price"
    if len(equals) > 1 and request.hosting:
        ours = sum((place.provider, place.region) == _region(best) for place in request.hosting)
        text += f"; its region hosts {ours} of our replicas and no other's fewer"
    return text + _preference(preference, request)


def _preference(index: int, request: Request) -> str:
    if index == 0:
        return ""
    return f"; choice {index + 1} of {len(request.resources.groups)}, as nothing preferred to it is to be had now"


def describe(offer: Offer) -> str:
    """One offer in a few words, e.g. `aws/us-east-1/use1-az1 g5.48xlarge (A10G:8) spot at $4.54/h`."""
    accelerators = f" ({offer.accelerators})" if offer.accelerators else ""
    kind = offer.capacity_type.value.lower().replace("_", "-")
    return f"{offer.location} {offer.instance_type}{accelerators} {kind} at ${offer.price_usd_per_hour:.4g}/h"


def _refused(refused: Iterable[tuple[Offer, Unavailable]], now: float) -> Iterator[Rejected]:
    for offer, refusal in sorted(refused, key=lambda pair: (pair[0].price_usd_per_hour, _name(pair[0]))):
        yield Rejected(
            describe(offer), f"{refusal.reason}: {refusal.message}; not asked again for {lasting(refusal.until - now)}"
        )


def _too_dear(count: int, cap: float | None) -> Iterator[Rejected]:
    if count:
        yield Rejected(
            f"{count} spot offer{'s' * (count > 1)}", f"at most {cap:g} of the on-demand price is paid for spot"
        )


def _not_offered(resources: ResourceRequest, enabled: Sequence[Offer]) -> Iterator[Rejected]:
    """Accelerators asked for by name that no enabled cloud has at all."""
    offered = {(offer.accelerator, offer.accelerator_count) for offer in enabled}
    wanted = [pair for group in resources.groups for one in group for pair in one.accelerators]
    for name, count in dict.fromkeys(wanted):
        if (name, count) not in offered:
            counts = sorted({number for other, number in offered if other == name})
            has = f"{name} comes in {', '.join(map(str, counts))}" if counts else f"nor any other {name}"
            yield Rejected(f"{name}:{count}", f"no enabled provider offers it; {has}")


def _unfit(resources: ResourceRequest, unfit: Iterable[Offer]) -> Iterator[Rejected]:
    """How many offers each constraint kept out, judged by the requirement that each offer came nearest to meeting."""
    requirements = [requirement for group in resources.groups for requirement in group]
    counts = Counter(_nearest_miss(requirements, offer) for offer in unfit)
    for wanted, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        yield Rejected(f"{count} offer{'s' * (count > 1)}", f"{wanted} was asked for")


def _nearest_miss(requirements: Sequence[Requirement], offer: Offer) -> str:
    """What the offer lacks, worded; by far the most offers have simply another accelerator."""
    misses = [(constraints.first_unmet(requirement, offer), requirement) for requirement in requirements]
    depth, wanted = max(
        (constraints.CONSTRAINTS.index(constraint), constraint.wanted(requirement))
        for constraint, requirement in misses
        if constraint is not None
    )
    return "another accelerator" if depth == 0 and len(requirements) > 1 else wanted
