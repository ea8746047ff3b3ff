"""Ask again for every launch without an outcome; find a place for every replica that is missing, and launch it there.

After `publish`, because a cloud may take a minute to answer and routers should not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from chalicelib import optimizer
from chalicelib.actions import Decision, Launch, SaveService
from chalicelib.lifecycle import budget, decide_launches, is_planned, new_replica
from chalicelib.model import (
    RISK_AWARE,
    CapacityType,
    Location,
    Observed,
    Offer,
    Plan,
    Replica,
    ReplicaStatus,
    Service,
    State,
    Unavailable,
)
from chalicelib.optimizer import Request, zones
from chalicelib.ports import Runtime


def decide(runtime: Runtime, state: State, _observed: Observed, now: float) -> Decision:
    """One `Launch` for each replica still PENDING and each slot to fill, each placed knowing where the earlier ones went."""
    service = state.service
    market = _Market(runtime, state, now)
    plan = _plan(market, state, now)
    wanted = decide_launches(service, state.replicas, now, plan.mix if plan else None)
    why = [wanted.why, *_avoided(service, now)]
    launches = [
        Launch(replica, f"{replica.id}: asking the cloud again, the last outcome is not known")
        for replica in state.replicas
        if replica.status is ReplicaStatus.PENDING
    ]
    if wanted.fallback:
        launches += market.launches(market.on_demand(), wanted.fallback, why)
    if slots := _unpaused(service, wanted.slots, now, why):
        launches += market.launches(market.own(), slots, why)
    # Each of the two writes the whole service, the second what the first has changed as well.
    planned = replace(state, service=replace(service, plan=plan)) if plan else state
    actions, held = budget.affordable(planned, launches, now)
    reasons = (*why, *filter(None, [held]), *(action.why for action in actions))
    return Decision((*_changed(service, plan), *actions), reasons)


def _plan(market: _Market, state: State, now: float) -> Plan | None:
    """What `risk_aware` makes of the market, at every pass; None where the market has no say in how many."""
    if state.service.deleting or not is_planned(state.service, state.replicas):
        return None
    staying = [replica for replica in _active(state) if not replica.is_at_risk]
    return optimizer.plan(state.service, staying, market.to_be_had(market.own()), market.stand_ins, now)


def _changed(service: Service, plan: Plan | None) -> Iterator[SaveService]:
    """A plan that is new, for `reconcile` to scale down to."""
    if plan and plan != service.plan:
        yield SaveService(replace(service, plan=plan), f"{plan.mix} planned, for {plan.target} wanted")


def _avoided(service: Service, now: float) -> Iterator[str]:
    if avoided := zones.described(service.zones, service.spec.spot, now):
        yield f"preempting zones: {avoided}; all others are active"


def _unpaused(service: Service, slots: Sequence[int], now: float, why: list[str]) -> Sequence[int]:
    """No slots while zones are given a moment before they are asked again."""
    paused_s = zones.paused_until(service.zones, service.spec.spot) - now
    if not slots or paused_s <= 0:
        return slots
    why.append(f"a zone has just refused: the next spot launch in {paused_s:.0f} s")
    return ()


class _Market:
    """What may be bought for one service now; nothing is read before it is asked for."""

    def __init__(self, runtime: Runtime, state: State, now: float) -> None:
        self._runtime, self._state, self._now = runtime, state, now
        self._providers = tuple(sorted(runtime.providers))
        self._generation = state.service.last_generation

    def own(self) -> Request:
        """What the service's file asks for, as its spot policy has it."""
        service = self._state.service
        own = [replica for replica in _active(self._state) if not optimizer.is_fallback(service.spec, replica)]
        return replace(
            self._request(own),
            spot=service.spec.spot,
            known=service.zones,
            last=_last_tried(self._state),
            crowding_usd=optimizer.crowding_usd(self.stand_ins) if service.spec.spot.placer == RISK_AWARE else 0.0,
        )

    def on_demand(self) -> Request:
        """What stands in for it."""
        request = self._request(_active(self._state))
        return replace(request, resources=optimizer.on_demand(request.resources))

    def _request(self, hosting: Iterable[Replica]) -> Request:
        return Request(
            resources=self._state.service.spec.resources,
            providers=self._providers,
            unavailable=self._unavailable,
            hosting=tuple(replica.offer.location for replica in hosting),
        )

    def to_be_had(self, request: Request) -> Sequence[Offer]:
        """Offers that nobody has refused lately."""
        return optimizer.open_offers(request, self._offers, self._now)

    @cached_property
    def _unavailable(self) -> tuple[Unavailable, ...]:
        fingerprints = ("", self._state.service.spec.fingerprint)
        known = self._runtime.store.unavailable(self._now)
        return tuple(one for one in known if one.fingerprint in fingerprints)

    @cached_property
    def _offers(self) -> Sequence[Offer]:
        """The market without spot machines where one of the service's own is at risk: its successor goes elsewhere."""
        at_risk = {replica.offer.location for replica in self._state.replicas if replica.is_at_risk}
        offers = self._runtime.market.offers(self._providers)
        if not at_risk:
            return offers
        return [one for one in offers if one.location not in at_risk or one.capacity_type is CapacityType.ON_DEMAND]

    @cached_property
    def stand_ins(self) -> Sequence[Offer]:
        """The same on demand."""
        return self.to_be_had(self.on_demand())

    def launches(self, request: Request, slots: Iterable[int], why: list[str]) -> list[Launch]:
        """One for each slot, up to the first for which there is no place; `why` then says so."""
        launches: list[Launch] = []
        doubted = zones.doubted(request.known, request.spot)
        for slot in slots:
            placement = optimizer.decide(request, self._offers, self._now)
            offer = placement.chosen
            match = offer and optimizer.matching(request.resources, offer)
            if not offer or not match:
                why.append(f"slot {slot}: {placement.why}")
                break
            if offer.location in doubted and any(one.replica.offer.location == offer.location for one in launches):
                why.append(f"slot {slot}: {offer.location} has refused the last one, and is asked for one at a time")
                break
            self._generation += 1
            replica = new_replica(
                self._state.service,
                slot=slot,
                generation=self._generation,
                offer=offer,
                requirement=match[1],
                boot_nonce=self._runtime.ids.token(8),
                now=self._now,
            )
            launches.append(Launch(replica, f"{replica.id}: {placement.why}"))
            request = replace(request, hosting=(*request.hosting, offer.location), last=offer.location)
        return launches


def _active(state: State) -> list[Replica]:
    return [replica for replica in state.replicas if replica.status.is_active]


def _last_tried(state: State) -> Location | None:
    """Where the newest spot replica was asked for, or a zone has taken or refused one since."""
    tried = [
        (replica.created_at, replica.generation, replica.offer.location)
        for replica in state.replicas
        if replica.offer.capacity_type is CapacityType.SPOT
    ]
    tried += [(zone.since, state.service.last_generation, zone.place) for zone in state.service.zones]
    return max(tried)[2] if tried else None
