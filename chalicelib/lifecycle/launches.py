"""How many new replicas may be launched now, and into which slots?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.model import Reason, Replica, ReplicaStatus, Service
from chalicelib.scaler import bounds

# A machine that the cloud took is not one we pay for while it leaves the books.
_TAKEN = (Reason.PREEMPTED, Reason.LOST, Reason.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Launches:
    """`slots` to fill, one new replica each, and why these many."""

    slots: tuple[int, ...]
    why: str


def decide_launches(service: Service, replicas: Sequence[Replica], now: float) -> Launches:
    """Fill up to the target; during a roll-out up to target + max_surge, old and new together.

    Machines on their way out count as long as they are billed: never more than max_replicas + max_surge of these.
    After a failure of the service's own making one replica at a time is tried, when its back-off is over.
    """
    active = [replica for replica in replicas if replica.status.is_active]
    current, stale = current_and_stale(service, active)
    target, surge = service.scaler.target, service.spec.max_surge
    missing = target - len(current)
    if service.deleting or missing <= 0:
        return Launches((), f"{len(current)} of {target} replicas exist")
    if now < service.backoff.retry_at:
        return Launches((), f"{missing} missing; backing off for {service.backoff.retry_at - now:.0f} s more")
    billed = [replica for replica in replicas if not _is_taken(replica)]
    ready = any(replica.status is ReplicaStatus.READY for replica in current)
    room = min(
        target + (surge if stale else 0) - len(active),
        max(bounds(service.spec.scaling, now).max_replicas, target) + surge - len(billed),
        1 - len(current) if service.backoff.failures and not ready else missing,
    )
    count = max(0, min(missing, room))
    if not count:
        return Launches((), f"{missing} missing; waiting for what is under way")
    return Launches(_free_slots(replicas, count), f"{missing} missing of {target}: launching {count}")


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
