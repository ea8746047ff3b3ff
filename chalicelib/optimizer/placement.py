"""The decision: every feasible offer, best first, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chalicelib.model import Location, Offer, Placement, Rejected, Requirement, ResourceRequest, Unavailable
from chalicelib.optimizer import constraints
from chalicelib.optimizer.infeasible import explain

# Clouds list the same machine at prices that differ in the sixth digit (AWS p4d: 2e-6 between regions). That is no reason
# to put every replica into one region.
PRICE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted, and what is known that bears on it.

    `hosting` is where the service's active replicas are, one entry each. `providers` are the clouds that may be used.
    """

    resources: ResourceRequest
    providers: tuple[str, ...]
    unavailable: tuple[Unavailable, ...] = ()
    hosting: tuple[Location, ...] = ()


def decide(request: Request, market: Sequence[Offer], now: float) -> Placement:
    """Rank every feasible offer of `market`.

    Preference group first, then price; offers within a relative 1e-4 of the cheapest among them are equals, and of equals
    the one wins whose region, then zone, hosts fewer of our replicas, then the first by name. The order of `market` never
    matters. `now` (epoch seconds) tells which refusals still hold.
    """
    enabled = [offer for offer in dict.fromkeys(market) if offer.location.provider in request.providers]
    refusals = sorted(request.unavailable, key=lambda one: (-one.until, one.reason, one.message))
    groups: dict[int, list[Offer]] = {}
    refused: list[tuple[Offer, Unavailable]] = []
    unfit: list[Offer] = []
    for offer in enabled:
        match = constraints.matching(request.resources, offer)
        if match is None:
            unfit.append(offer)
        elif refusal := next((one for one in refusals if one.blocks(offer, now)), None):
            refused.append((offer, refusal))
        else:
            groups.setdefault(match[0], []).append(offer)
    ranked = tuple(offer for index in sorted(groups) for offer in _ranked(groups[index], request.hosting))
    rejected = (*_refused(refused, now), *_not_offered(request.resources, enabled), *_unfit(request.resources, unfit))
    if ranked:
        why = _why(ranked[0], min(groups), groups[min(groups)], request)
    elif refused:
        why = f"nothing is left to ask: {len(refused)} feasible offers were refused by their clouds a short while ago"
    else:
        why = explain(request.resources, market, request.providers).message
    return Placement(ranked, rejected, why)


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
    equals = next(_equally_priced(rivals))
    text = f"{describe(best)}: the cheapest of {len(rivals)} feasible offers"
    if len(rivals) == 1:
        text = f"{describe(best)}: the only feasible offer"
    elif len(equals) > 1:
        text += f", one of {len(equals)} at that price"
    if len(equals) > 1 and request.hosting:
        ours = sum((place.provider, place.region) == _region(best) for place in request.hosting)
        text += f"; its region hosts {ours} of our replicas and no other's fewer"
    if preference > 0:
        text += f"; choice {preference + 1} of {len(request.resources.groups)}, as nothing preferred to it is feasible"
    return text


def describe(offer: Offer) -> str:
    """One offer in a few words, e.g. `aws/us-east-1/use1-az1 g5.48xlarge (A10G:8) spot at $4.54/h`."""
    accelerators = f" ({offer.accelerators})" if offer.accelerators else ""
    kind = offer.capacity_type.value.lower().replace("_", "-")
    return f"{offer.location} {offer.instance_type}{accelerators} {kind} at ${offer.price_usd_per_hour:.4g}/h"


def _refused(refused: Iterable[tuple[Offer, Unavailable]], now: float) -> Iterator[Rejected]:
    for offer, refusal in sorted(refused, key=lambda pair: (pair[0].price_usd_per_hour, _name(pair[0]))):
        yield Rejected(
            describe(offer), f"{refusal.reason}: {refusal.message}; not asked again for {refusal.until - now:.0f} s"
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
