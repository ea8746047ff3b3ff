"""Policies to compare, by name: each makes of a service one that buys its machines in another way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from chalicelib.model import RISK_AWARE, SPOTHEDGE, Requirement, ResourceRequest, ServiceSpec, SpotSpec
from sailplane.sim.market import Market

# Spot replicas beyond the target where the service's file says nothing. With fewer the policies that fall back cannot
# hide a preemption, with more they all cost more.
OVERPROVISION = 1

Policy = Callable[[ServiceSpec], ServiceSpec]


def _spot(spec: ServiceSpec, spot: SpotSpec) -> ServiceSpec:
    return _bought(replace(spec, spot=spot), use_spot=True)


def _bought(spec: ServiceSpec, *, use_spot: bool) -> ServiceSpec:
    groups = tuple(tuple(replace(wish, use_spot=use_spot) for wish in group) for group in spec.resources.groups)
    return replace(spec, resources=ResourceRequest(groups))


def _extra(spec: ServiceSpec) -> int:
    return spec.spot.num_overprovision or OVERPROVISION


def _on_demand(spec: ServiceSpec) -> ServiceSpec:
    return _bought(replace(spec, spot=SpotSpec()), use_spot=False)


def _even_spread(spec: ServiceSpec) -> ServiceSpec:
    return _spot(spec, SpotSpec(placer="even_spread"))


def _round_robin(spec: ServiceSpec) -> ServiceSpec:
    return _spot(spec, SpotSpec(placer="round_robin"))


def _round_robin_fallback(spec: ServiceSpec) -> ServiceSpec:
    return _spot(spec, SpotSpec(_extra(spec), dynamic_ondemand_fallback=True, placer="round_robin"))


def _spothedge(spec: ServiceSpec) -> ServiceSpec:
    return _spot(spec, SpotSpec(_extra(spec), dynamic_ondemand_fallback=True, placer=SPOTHEDGE))


def _sailplane(spec: ServiceSpec) -> ServiceSpec:
    """It decides by itself how many extra replicas are worth their price."""
    return _spot(spec, SpotSpec(dynamic_ondemand_fallback=True, placer=RISK_AWARE))


def _as_written(spec: ServiceSpec) -> ServiceSpec:
    return spec


# In the order of the tables. Those of others that fall back have the same extra replicas, or it would be those that are compared.
POLICIES: Mapping[str, tuple[str, Policy]] = {
    "on_demand": ("on-demand machines only", _on_demand),
    "even_spread": ("spot only, as many in each zone", _even_spread),
    "round_robin": ("spot only, the zones in turn", _round_robin),
    "round_robin_fallback": (
        "the zones in turn, extra replicas, on-demand ones for those not ready",
        _round_robin_fallback,
    ),
    "spothedge": ("SkyServe's SpotHedge, with the same extra and fallback", _spothedge),
    "sailplane": ("ours: risk_aware, with as many extra replicas and on-demand ones as it thinks worth it", _sailplane),
    "as_written": ("what the service's file says", _as_written),
}


def on(market: Market, spec: ServiceSpec) -> ServiceSpec:
    """The service on the machines that the market is of, whatever its file asks for; on spot if that does anywhere."""
    use_spot = any(wish.use_spot for group in spec.resources.groups for wish in group)
    machine = Requirement(instance_type=market.instance_type, use_spot=use_spot)
    return replace(spec, resources=ResourceRequest(((machine,),)))
