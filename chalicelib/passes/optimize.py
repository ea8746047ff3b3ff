"""Ask again for every launch without an outcome; find a place for every replica that is missing, and launch it there.

After `publish`, because a cloud may take a minute to answer and routers should not wait for it.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib import optimizer
from chalicelib.actions import Decision, Launch
from chalicelib.lifecycle import decide_launches, new_replica
from chalicelib.model import Observed, ReplicaStatus, State
from chalicelib.ports import Runtime


def decide(runtime: Runtime, state: State, _observed: Observed, now: float) -> Decision:
    """One `Launch` for each replica still PENDING and each slot to fill, each placed knowing where the earlier ones went."""
    service, spec = state.service, state.service.spec
    wanted = decide_launches(service, state.replicas, now)
    actions = [
        Launch(replica, f"{replica.id}: asking the cloud again, the last outcome is not known")
        for replica in state.replicas
        if replica.status is ReplicaStatus.PENDING
    ]
    if not wanted.slots:
        return Decision(tuple(actions), (wanted.why, *(action.why for action in actions)))
    providers = tuple(sorted(runtime.providers))
    request = optimizer.Request(
        resources=spec.resources,
        unavailable=tuple(one for one in runtime.store.unavailable(now) if one.fingerprint in ("", spec.fingerprint)),
        hosting=tuple(replica.offer.location for replica in state.replicas if replica.status.is_active),
        providers=providers,
    )
    market = runtime.market.offers(providers)
    for generation, slot in enumerate(wanted.slots, start=service.last_generation + 1):
        placement = optimizer.decide(request, market, now)
        offer = placement.chosen
        match = offer and optimizer.matching(spec.resources, offer)
        if not offer or not match:
            return Decision(tuple(actions), (wanted.why, f"slot {slot}: {placement.why}"))
        replica = new_replica(
            service,
            slot=slot,
            generation=generation,
            offer=offer,
            requirement=match[1],
            boot_nonce=runtime.ids.token(8),
            now=now,
        )
        actions.append(Launch(replica, f"{replica.id}: {placement.why}"))
        request = replace(request, hosting=(*request.hosting, offer.location))
    return Decision(tuple(actions), (wanted.why, *(action.why for action in actions)))
