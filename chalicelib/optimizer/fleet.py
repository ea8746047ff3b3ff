"""How many spot and on-demand replicas, weighing what they cost against the time that they leave a service short?

The policy `risk_aware`. Of the fleets that are a few launches or removals away it takes the one with the least

    price an hour + worth x losses an hour that would leave the service short

in units of the on-demand price. The risk of a zone falls with the time that it has left us alone and rises with
what it took in the last day, so that replicas beyond the target are bought while a market is volatile and given up when it
has been quiet. A stand-in stays until the spot replica that replaces it has proved itself, without a timer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from chalicelib.model import CapacityType, Location, Mix, Offer, Plan, Replica, Service, ZoneMemory

MOST_EXTRA = 3  # replicas beyond the target; three zones lost at once are not insured against
# A loss that leaves the service short is worth four hours of an on-demand machine, where 0.99 of the time is aimed at, and
# twice as many where half as much may be missed. Recorded markets: 3 h saves another 1.6 % and costs 0.06 points, 5 h the reverse.
_WORTH_S = 4 * 3600.0
# And no more than 15 hours of the cheapest spot machine: where that costs an eighth, insurance for 4 h made a fleet dearer by a
# seventh, and better by 0.1 points, than for 2 h.
_WORTH_ON_SPOT_S = 15 * 3600.0
_AVAILABILITY = 0.99
# A new zone takes a machine within the hour, on average (recorded runs fit 20 to 60 min), and one that has been quiet for a
# while stays so for as long again; each loss in the last day makes the next a quarter more likely.
_FIRST_S = 3_600.0
_PER_LOSS = 0.25
LOSSES_FADE_S = 24 * 3600.0
# How seldom one event takes more than the replicas of one zone, of those whose loss leaves enough.
_BEYOND_SLACK = 0.15
# A second replica in a zone is worth this much less than one in a zone of its own. At 0.15 replicas went to zones dearer by a
# third: on seven H100 zones that cost 8 % more, and made nothing better.
_CROWDING = 0.1
# Risks change over hours: a plan is made anew when something happens, and at whole five minutes.
PLANNED_EVERY_S = 300.0
_SHORT = 1_000.0  # a fleet below the target is taken only when no other can be had


@dataclass(frozen=True, slots=True)
class ZoneNow:
    """A zone as the plan sees it. `price` is a share of the on-demand price; `risk` is of a loss, per second."""

    place: Location
    price: float
    hosted: int
    risk: float
    is_open: bool  # may be launched into


@dataclass(frozen=True, slots=True)
class Terms:
    """What a fleet is weighed by. `stand_ins` are the least and the most on-demand replicas."""

    target: int
    extra: int
    stand_ins: tuple[int, int]
    worth_s: float  # of a loss that leaves the service short, in time of an on-demand machine


def plan(
    service: Service, replicas: Sequence[Replica], offers: Sequence[Offer], stand_ins: Sequence[Offer], now: float
) -> Plan:
    """What to have, for a target of one at least.

    Args:
        service: its spot policy bounds the plan, what it remembers of zones says what they are worth.
        replicas: the active ones, all of its version.
        offers: spot offers that may be bought now, in zones that have not just refused.
        stand_ins: the same on demand.
        now: epoch seconds.
    """
    now -= now % PLANNED_EVERY_S
    spot, target = service.spec.spot, service.scaler.target
    own = [replica for replica in replicas if replica.offer.capacity_type is CapacityType.SPOT]
    unit = _unit(stand_ins, [*offers, *(replica.offer for replica in own)])
    room = target + max(MOST_EXTRA, spot.num_overprovision)
    zones = _best(_zones(own, offers, {one.place: one for one in service.zones}, unit, now), room)
    least = min(target, spot.base_ondemand_fallback_replicas)
    most = target if spot.dynamic_ondemand_fallback and stand_ins else least
    worth_s = min([_WORTH_S, *(zone.price * _WORTH_ON_SPOT_S for zone in zones)])
    worth_s *= (1 - _AVAILABILITY) / (1 - (spot.availability_target or _AVAILABILITY))
    terms = Terms(target, spot.num_overprovision, (least, most), worth_s)
    present = Mix(len(own), len(replicas) - len(own))
    candidates = [
        (round(cost(terms, fleet, mix.fallback), 9), mix != present, mix.own, mix.fallback, fleet)
        for fleet in _fleets(zones, room - least)
        for mix in _mixes(terms, sum(zone.hosted for zone in fleet))
    ]
    *_, spot_replicas, standing_in, fleet = min(candidates, key=lambda one: one[:-1])
    leaving = [one.place for one, kept in zip(zones, fleet, strict=True) for _ in range(one.hosted - kept.hosted)]
    return Plan(target, Mix(spot_replicas, standing_in), tuple(leaving))


def crowding_usd(stand_ins: Sequence[Offer]) -> float:
    """What a zone of its own is worth to a replica, an hour; see `plan`."""
    return _CROWDING * _unit(stand_ins, ())


def cost(terms: Terms, fleet: Sequence[ZoneNow], stand_ins: int) -> float:
    """Price and expected outage of a fleet: of the zones whose loss, each by itself, would leave too few."""
    slack = sum(zone.hosted for zone in fleet) + stand_ins - terms.target
    price = stand_ins + sum(zone.hosted * zone.price for zone in fleet)
    at_risk = sum(zone.risk for zone in fleet if zone.hosted > max(0, slack))
    return (
        price + terms.worth_s * at_risk * (_BEYOND_SLACK if slack > 0 else 1.0) + _SHORT * max(0, terms.extra - slack)
    )


def _mixes(terms: Terms, own: int) -> Iterable[Mix]:
    least, most = terms.stand_ins
    first = min(most, max(least, terms.target - own))
    return (Mix(own, stand_ins) for stand_ins in range(first, min(most, first + MOST_EXTRA) + 1))


def _fleets(zones: Sequence[ZoneNow], room: int) -> Iterable[Sequence[ZoneNow]]:
    """The present one; those that grow from it, a zone at a time, up to `room`; those that shrink from it to nothing.

    What is added first is given up last, so that nothing is bought to be sold: were a zone's risk weighed here too, the young
    replica that a loss has called for would be the first to go.
    """
    yield zones
    grown = zones
    while sum(zone.hosted for zone in grown) < room and any(zone.is_open for zone in grown):
        grown = _changed(grown, min((zone for zone in grown if zone.is_open), key=_burden), 1)
        yield grown
    shrunk = zones
    while any(zone.hosted for zone in shrunk):
        # As it would be without one of the replicas: the burden that it was chosen for.
        less = [replace(zone, hosted=zone.hosted - 1) for zone in shrunk]
        worst = max((zone for zone in less if zone.hosted >= 0), key=_burden)
        shrunk = _changed(shrunk, shrunk[less.index(worst)], -1)
        yield shrunk


def _burden(zone: ZoneNow) -> tuple[float, int, float, Location]:
    """What another replica would cost there, the crowd in the zone included; as `placers` has it, which chooses the zone."""
    return round(zone.price + _CROWDING * zone.hosted, 9), zone.hosted, zone.risk, zone.place


def _changed(fleet: Sequence[ZoneNow], zone: ZoneNow, by: int) -> Sequence[ZoneNow]:
    return [replace(one, hosted=one.hosted + by) if one is zone else one for one in fleet]


def _best(zones: Iterable[ZoneNow], count: int) -> list[ZoneNow]:
    """Those that host, and the `count` best of those that do not: never are more of them entered."""
    known = sorted(zones, key=_burden)
    empty = [zone for zone in known if not zone.hosted][:count]
    return sorted((*(zone for zone in known if zone.hosted), *empty), key=lambda zone: zone.place)


def _zones(
    own: Sequence[Replica], offers: Sequence[Offer], known: dict[Location, ZoneMemory], unit: float, now: float
) -> Iterable[ZoneNow]:
    hosting: dict[Location, list[Replica]] = {}
    for replica in own:
        hosting.setdefault(replica.offer.location, []).append(replica)
    prices: dict[Location, float] = {}
    for offer in offers:
        prices[offer.location] = min(offer.price_usd_per_hour, prices.get(offer.location, math.inf))
    for place in {*hosting, *prices}:
        here = hosting.get(place, [])
        booked = min((replica.offer.price_usd_per_hour for replica in here), default=0.0)
        oldest = min((replica.created_at for replica in here), default=now)
        risk = _risk(known[place], oldest, now) if place in known else 1 / (_FIRST_S + max(0.0, now - oldest))
        yield ZoneNow(place, prices.get(place, booked) / unit, len(here), risk, place in prices)


def _risk(memory: ZoneMemory, oldest: float, now: float) -> float:
    """Of a loss in the next second, in a zone that we have been in since `oldest`, or are to enter now."""
    losses = memory.losses * math.exp(-(now - memory.lost_at) / LOSSES_FADE_S)
    return (1 + _PER_LOSS * losses) / (_FIRST_S + max(0.0, now - max(memory.lost_at, oldest)))


def _unit(stand_ins: Sequence[Offer], spot: Sequence[Offer]) -> float:
    """The price that others are shares of: the cheapest on-demand one, or where there is none the dearest spot one."""
    if stand_ins:
        return min(offer.price_usd_per_hour for offer in stand_ins) or 1.0
    return max((offer.price_usd_per_hour for offer in spot), default=0.0) or 1.0
