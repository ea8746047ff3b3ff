"""Ask again for every launch without an outcome; find a place for every replica that is missing, and launch it there.

After `publish`, because a cloud may take a minute to answer and routers should not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from chalicelib import optimizer
from chalicelib.actions import Decision, Launch
from chalicelib.lifecycle import budget, decide_launches, new_replica
from chalicelib.model import (
    CapacityType,
    Location,
    Observed,
    Offer,
    Replica,
    ReplicaStatus,
    Service,
    SpotSpec,
    State,
    Unavailable,
)
from chalicelib.optimizer import Request, zones
from chalicelib.ports import Runtime


def decide(runtime: Runtime, state: State, _observed: Observed, now: float) -> Decision:
    """One `Launch` for each replica still PENDING and each slot to fill, each placed knowing where the earlier ones went."""
    service = state.service
    wanted = decide_launches(service, state.replicas, now)
    why = [wanted.why, *_avoided(service, now)]
    launches = [
        Launch(replica, f"{replica.id}: asking the cloud again, the last outcome is not known")
        for replica in state.replicas
        if replica.status is ReplicaStatus.PENDING
    ]
    if wanted.slots or wanted.fallback:
        placing = _Placing(runtime, state, now)
        launches += placing.launches(placing.on_demand, wanted.fallback, why)
        launches += placing.launches(placing.own, _unpaused(service, wanted.slots, now, why), why)
    actions, held = budget.affordable(state, launches, now)
    return Decision(tuple(actions), (*why, *filter(None, [held]), *(action.why for action in actions)))


def _avoided(service: Service, now: float) -> Iterable[str]:
    if avoided := zones.described(service.zones, service.spec.spot, now):
        yield f"preempting zones: {avoided}; all others are active"


def _unpaused(service: Service, slots: Sequence[int], now: float, why: list[str]) -> Sequence[int]:
    """No slots while zones are given a moment before they are asked again."""
    paused_s = zones.paused_until(service.zones, service.spec.spot) - now
    if not slots or paused_s <= 0:
        return slots
    why.append(f"a zone has just refused: the next spot launch in {paused_s:.0f} s")
    return ()


class _Placing:
    """Finds places for one service's replicas, one after the other."""

    def __init__(self, runtime: Runtime, state: State, now: float) -> None:
        self._runtime, self._service, self._now = runtime, state.service, now
        self._generation = state.service.last_generation
        providers = tuple(sorted(runtime.providers))
        self._market: Sequence[Offer] = runtime.market.offers(providers)
        spec = state.service.spec
        active = [replica for replica in state.replicas if replica.status.is_active]
        own = [replica for replica in active if not optimizer.is_fallback(spec, replica)]
        unavailable: tuple[Unavailable, ...] = tuple(
            one for one in runtime.store.unavailable(now) if one.fingerprint in ("", spec.fingerprint)
        )
        self.own = Request(
            resources=spec.resources,
            providers=providers,
            unavailable=unavailable,
            hosting=_places(own),
            spot=spec.spot,
            known=state.service.zones,
            last=_last_tried(state),
        )
        self.on_demand = Request(
            optimizer.on_demand(spec.resources), providers, unavailable, _places(active), SpotSpec()
        )

    def launches(self, request: Request, slots: Iterable[int], why: list[str]) -> list[Launch]:
        """One for each slot, up to the first for which there is no place; `why` then says so."""
        launches = []
        for slot in slots:
            placement = optimizer.decide(request, self._market, self._now)
            offer = placement.chosen
            match = offer and optimizer.matching(request.resources, offer)
            if not offer or not match:
                why.append(f"slot {slot}: {placement.why}")
                break
            self._generation += 1
            replica = new_replica(
                self._service,
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


def _places(replicas: Iterable[Replica]) -> tuple[Location, ...]:
    return tuple(replica.offer.location for replica in replicas)


def _last_tried(state: State) -> Location | None:
    """Where the newest spot replica was asked for, or a zone has taken or refused one since."""
    tried = [
        (replica.created_at, replica.generation, replica.offer.location)
        for replica in state.replicas
        if replica.offer.capacity_type is CapacityType.SPOT
    ]
    tried += [(zone.since, state.service.last_generation, zone.place) for zone in state.service.zones]
    return max(tried)[2] if tried else None
