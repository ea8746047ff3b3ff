"""How many replicas of which kind? SkyServe's rule for spot replicas with on-demand ones beside them."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.model import RISK_AWARE, CapacityType, Mix, Replica, ResourceRequest, ServiceSpec
from chalicelib.optimizer import fleet


def mix(spec: ServiceSpec, target: int, ready: int) -> Mix:
    """What is wanted while `ready` of the spot replicas are ready.

    Spot: target + num_overprovision - base. On demand: the base and, with dynamic_ondemand_fallback, one for each spot
    replica that is not ready, but never more than the target: what is beyond it is insurance and needs none itself
    (SkyServe 0.14.1, `FallbackRequestRateAutoscaler`). Unlike there, a service scaled to zero keeps nothing.
    """
    if target == 0:
        return Mix(0)
    wanted = target + spec.spot.num_overprovision
    if not is_spot(spec.resources):
        return Mix(wanted)
    base = spec.spot.base_ondemand_fallback_replicas
    own = max(0, wanted - base)
    missing = max(0, own - ready) if spec.spot.dynamic_ondemand_fallback else 0
    return Mix(own, min(target, base + missing))


def largest_mix(spec: ServiceSpec) -> Mix:
    """The most that may be wanted: at the largest target, with no spot replica ready."""
    spot = spec.spot
    if spot.placer == RISK_AWARE:
        spot = replace(spot, num_overprovision=max(fleet.MOST_EXTRA, spot.num_overprovision))
    return mix(replace(spec, spot=spot), spec.scaling.most_replicas, ready=0)


def ceiling(spec: ServiceSpec) -> int:
    """The most machines that the service may be billed for at once: the largest mix, in a roll-out.

    Machines that the cloud is taking back are not among these.
    """
    return largest_mix(spec).total + spec.max_surge


def is_spot(resources: ResourceRequest) -> bool:
    """Whether nothing but spot machines is asked for, so that an on-demand one can only be a fallback."""
    return all(requirement.use_spot for group in resources.groups for requirement in group)


def is_fallback(spec: ServiceSpec, replica: Replica) -> bool:
    """Whether the replica stands in for a spot one."""
    return replica.offer.capacity_type is CapacityType.ON_DEMAND and is_spot(spec.resources)


def on_demand(resources: ResourceRequest) -> ResourceRequest:
    """The same wishes, `max_hourly_cost` included, bought on demand."""
    return ResourceRequest(
        tuple(tuple(replace(requirement, use_spot=False) for requirement in group) for group in resources.groups)
    )
