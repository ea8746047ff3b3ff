"""How many new replicas may be launched now, and into which slots?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.model import RISK_AWARE, Mix, Plan, Reason, Replica, ReplicaStatus, Service
from chalicelib.optimizer import ceiling, is_fallback, mix

# A machine that the cloud took is not one we pay for while it leaves the books.
_TAKEN = (Reason.PREEMPTED, Reason.LOST, Reason.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Launches:
    """Slots to fill, one new replica each, and why these many: with what the service's file asks for, or on demand instead."""

    slots: tuple[int, ...]
    why: str
    fallback: tuple[int, ...] = ()


def decide_launches(service: Service, replicas: Sequence[Replica], now: float, wanted: Mix | None = None) -> Launches:
    """Fill up to the mix that is `wanted` (by default as `wanted_mix` has it).

    During a roll-out up to max_surge more, old and new together.

    Machines on their way out count as long as they are billed: never more than `ceiling` of these. When there is not room
    for all, on-demand replicas come first: they are wanted because spot ones are missing. After a failure of the
    service's own making one replica at a time is tried, when its back-off is over.
    """
    active = [replica for replica in replicas if replica.status.is_active]
    current, stale = current_and_stale(service, active)
    wanted, surge = wanted or wanted_mix(service, replicas), service.spec.max_surge
    fallback = sum(is_fallback(service.spec, replica) for replica in current)
    # Replaced before they go. Whoever stands in is no spot machine, and is missed on demand when it has gone.
    at_risk = sum(replica.is_at_risk and not is_fallback(service.spec, replica) for replica in current)
    missing = Mix(max(0, wanted.own - (len(current) - fallback - at_risk)), max(0, wanted.fallback - fallback))
    if service.deleting or not missing.total:
        return Launches((), f"{len(current)} of {wanted} replicas exist")
    if now < service.backoff.retry_at:
        return Launches((), f"{missing.total} missing; backing off for {service.backoff.retry_at - now:.0f} s more")
    billed = [replica for replica in replicas if not _is_taken(replica)]
    ready = any(replica.status is ReplicaStatus.READY for replica in current)
    room = min(
        wanted.total + surge - len(active) if stale else missing.total,
        ceiling(service.spec) - len(billed),
        1 - len(current) if service.backoff.failures and not ready else missing.total,
    )
    count = max(0, min(missing.total, room))
    if not count:
        return Launches((), f"{missing.total} missing; waiting for what is under way")
    slots, first = _free_slots(replicas, count), min(missing.fallback, count)
    return Launches(slots[first:], f"{missing} missing of {wanted}: launching {count}", slots[:first])


def wanted_mix(service: Service, replicas: Sequence[Replica]) -> Mix:
    """How many replicas are wanted of each kind, seeing who is ready.

    During a roll-out the old ones that serve stand in too, all but the max_surge that are to be replaced next: neither
    is the whole service bought on demand, nor does the roll-out wait for a spot market that has nothing.
    """
    if is_planned(service, replicas):
        if plan := valid_plan(service):
            return plan.mix
        active = [replica for replica in replicas if replica.status.is_active]  # until there is a plan, as it is
        fallback = sum(is_fallback(service.spec, replica) for replica in active)
        return Mix(len(active) - fallback, fallback)
    ready = [replica for replica in replicas if replica.status is ReplicaStatus.READY]
    current, stale = current_and_stale(service, ready)
    own = sum(not is_fallback(service.spec, replica) for replica in current)
    return mix(service.spec, service.scaler.target, own + max(0, len(stale) - service.spec.max_surge))


def valid_plan(service: Service) -> Plan | None:
    """The plan, if it is one for what is wanted now."""
    return service.plan if service.plan and service.plan.target == service.scaler.target else None


def is_planned(service: Service, replicas: Sequence[Replica]) -> bool:
    """Whether the mix is a matter of the market, as `optimizer.plan` sees it. Neither during a roll-out nor for nobody."""
    active = [replica for replica in replicas if replica.status.is_active]
    _, stale = current_and_stale(service, active)
    return service.spec.spot.placer == RISK_AWARE and service.scaler.target > 0 and not stale


def current_and_stale(service: Service, active: Sequence[Replica]) -> tuple[list[Replica], list[Replica]]:
    """Active replicas that match the newest version in all that a machine depends on, and those that do not."""
    current = [replica for replica in active if replica.fingerprint == service.spec.fingerprint]
    stale = [replica for replica in active if replica.fingerprint != service.spec.fingerprint]
    return current, stale


def _is_taken(replica: Replica) -> bool:
    # A machine whose launch was never answered may yet be there.
    return not replica.status.is_active and replica.reason in _TAKEN and bool(replica.instance_id)


def _free_slots(replicas: Sequence[Replica], count: int) -> tuple[int, ...]:
    taken = {replica.slot for replica in replicas}
    return tuple(slot for slot in range(len(taken) + count) if slot not in taken)[:count]
