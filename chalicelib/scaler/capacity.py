"""How much can a replica take, how many are needed for a load, and who stays when fewer are wanted?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from chalicelib.model import Offer, Replica, ReplicaStatus, ScalingSpec

# The more a replica is worth to a client, the later it is given up.
_WORTH = (
    ReplicaStatus.PENDING,
    ReplicaStatus.PROVISIONING,
    ReplicaStatus.STARTING,
    ReplicaStatus.NOT_READY,
    ReplicaStatus.READY,
)
# Sums of targets such as 0.1 miss the load that they just cover by some 1e-16 of it.
_ROUNDING = 1e-9
# No service may have more (spec.values.Count), and a quotient that is infinite has no ceiling.
_MOST = 10_000


def capacity(spec: ScalingSpec, offer: Offer) -> float:
    """What one replica on this machine can take: the target of `L4:8`, else that of `L4`, else the lowest of all.

    A target is one of a replica: `L4` holds for a machine with eight of them as it stands, unless `L4:8` is given too. 0 where
    there is no target.
    """
    targets = dict(spec.target_qps_by_accelerator)
    named = targets.get(offer.accelerators, targets.get(offer.accelerator))
    return named if named is not None else spec.target or 0.0


def best_first(spec: ScalingSpec, replicas: Sequence[Replica]) -> list[Replica]:
    """In the order in which replicas stay when fewer are wanted.

    Who serves before who does not, then who can take more, who costs less, and who is older. The scaler counts on this order,
    so whoever gives replicas up has to keep to it.
    """

    def rank(replica: Replica) -> tuple[float, ...]:
        offer = replica.offer
        worth, able = _WORTH.index(replica.status), capacity(spec, offer)
        return (-worth, -able, offer.price_usd_per_hour, replica.generation)

    return sorted(replicas, key=rank)


def replicas_for(total: float, spec: ScalingSpec, capacities: Sequence[float]) -> int:
    """How many replicas carry `total`: of those that exist the ones that would stay, and new ones for what is left.

    `capacities` are those of the replicas that exist, best first. A new one is counted with the lowest target, because where it
    will go is not known yet: that scales up early rather than late, and as soon as it is placed it counts for what it is.
    (SkyServe counts new ones with the highest target, and waits out the delay again when they turn out smaller.) Without
    targets by accelerator this is SkyServe's ceil(total / target). It never falls as `total` rises.
    """
    if spec.target is None:
        return 0
    if not spec.target_qps_by_accelerator:
        return _new_ones(total, spec.target)
    carried, needed = 0.0, total * (1 - _ROUNDING)
    for count, able in enumerate(capacities):
        if carried >= needed:
            return count
        carried += able
    return len(capacities) + _new_ones(max(0.0, needed - carried), spec.target)


def _new_ones(total: float, target: float) -> int:
    return math.ceil(min(total / target, _MOST))
