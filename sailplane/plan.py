"""What a service file would lead to, before anything is done: places, prices, and what is not acted on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib import optimizer
from chalicelib.errors import NoFeasibleOffer
from chalicelib.model import CapacityType, Offer, Rejected, ResourceRequest, ScalingSpec, ServiceSpec
from chalicelib.spec import Parsed

HOURS_PER_MONTH = 730  # 365 * 24 / 12


@dataclass(frozen=True, slots=True)
class Plan:
    """Every feasible offer, best first (the first is the chosen one), and all that the user should know beside it."""

    name: str
    spec: ServiceSpec
    candidates: tuple[Offer, ...]
    why: str
    left_out: tuple[Rejected, ...]
    not_acted_on: tuple[str, ...]
    prices_as_of: str

    @property
    def chosen(self) -> Offer:
        return self.candidates[0]

    @property
    def best_of_each(self) -> tuple[Offer, ...]:
        """The best place only for each machine type and way of buying it."""
        best: dict[tuple[str, str, str, CapacityType], Offer] = {}
        for offer in self.candidates:
            best.setdefault(
                (offer.location.provider, offer.instance_type, offer.accelerators, offer.capacity_type), offer
            )
        return tuple(best.values())

    def usd_per_hour(self, replicas: int) -> float:
        """What so many replicas cost at the chosen offer."""
        return replicas * self.spec.engine.num_nodes * self.chosen.price_usd_per_hour


def make(parsed: Parsed, market: Sequence[Offer], providers: Sequence[str], prices_as_of: str, now: float) -> Plan:
    """Plan the service on the market of the enabled `providers`.

    Args:
        parsed: the service file.
        market: offers; those of providers that are not enabled serve for suggestions only.
        providers: the enabled ones.
        prices_as_of: ISO date of the oldest price in `market`.
        now: epoch seconds.

    Raises:
        NoFeasibleOffer: with the wish that cannot be met and the nearest that can.
    """
    resources = parsed.spec.resources
    placement = optimizer.decide(optimizer.Request(resources, tuple(providers)), market, now)
    if not placement.ranked:
        infeasible = optimizer.explain(resources, market, providers)
        raise NoFeasibleOffer(infeasible.message, infeasible.suggestions)
    return Plan(
        name=parsed.name,
        spec=parsed.spec,
        candidates=placement.ranked,
        why=placement.why,
        left_out=placement.rejected,
        not_acted_on=parsed.not_acted_on,
        prices_as_of=prices_as_of,
    )


def accelerators(resources: ResourceRequest) -> frozenset[str] | None:
    """Which accelerators could serve `resources` (`""`: machines without any); None when their names do not decide it."""
    wishes = [wish for group in resources.groups for wish in group]
    if any(
        not wish.accelerators
        and (wish.accelerator_memory_min_gib or wish.accelerator_memory_exact_gib or wish.instance_type)
        for wish in wishes
    ):
        return None
    return frozenset(name for wish in wishes for name, _ in wish.accelerators or (("", 0),))


def shown_path(path: str) -> str:
    """The probe's path without its query, which may hold a key that a variable brought in."""
    return path.partition("?")[0]


def document(plan: Plan, *, everything: bool = False) -> dict[str, Any]:
    """The plan as one JSON object. Candidates are the best place of each machine type, or `everything`."""
    probe, scaling = plan.spec.probe, plan.spec.scaling
    most = plan.usd_per_hour(scaling.max_replicas)
    return {
        "name": plan.name,
        "probe_method": probe.method,
        "probe_path": shown_path(probe.path),
        "initial_delay_s": probe.initial_delay_s,
        "replica_policy": policy(scaling),
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "target_qps_per_replica": scaling.target_qps_per_replica,
        "load_balancing_policy": plan.spec.routing.policy,
        "candidates": [
            {
                "provider": offer.location.provider,
                "region": offer.location.region,
                "zone": offer.location.zone,
                "instance_type": offer.instance_type,
                "accelerators": offer.accelerators,
                "vcpus": offer.vcpus,
                "memory_gib": offer.memory_gib,
                "capacity_type": offer.capacity_type.value,
                "price_usd_per_hour": offer.price_usd_per_hour,
                "chosen": offer is plan.chosen,
            }
            for offer in (plan.candidates if everything else plan.best_of_each)
        ],
        "why": plan.why,
        "left_out": [{"what": rejected.what, "why": rejected.why} for rejected in plan.left_out],
        "not_acted_on": list(plan.not_acted_on),
        "min_usd_per_hour": round(plan.usd_per_hour(scaling.min_replicas), 6),
        "worst_case_usd_per_hour": round(most, 6),
        "worst_case_usd_per_month": round(most * HOURS_PER_MONTH, 2),
        "prices_as_of": plan.prices_as_of,
    }


def policy(scaling: ScalingSpec) -> str:
    """How many replicas, in a few words."""
    if scaling.min_replicas == scaling.max_replicas:
        return f"Fixed {scaling.min_replicas} replica{'s' * (scaling.min_replicas != 1)}"
    targets = [f"{qps:g} on {name}" for name, qps in scaling.target_qps_by_accelerator]
    per_replica = f"{scaling.target_qps_per_replica:g}" if scaling.target_qps_per_replica else ", ".join(targets)
    return f"{scaling.min_replicas} to {scaling.max_replicas} replicas, requests/s per replica: {per_replica}"
