"""What a service file would lead to, before anything is done: places, prices, and what is not acted on. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chalicelib import optimizer
from chalicelib.errors import Invalid, NoFeasibleOffer, SpecError
from chalicelib.lifecycle import budget
from chalicelib.model import CapacityType, Mix, Offer, Rejected, ResourceRequest, ScalingSpec, ServiceSpec
from chalicelib.spec import Parsed, require_reachable_workdir

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
    stand_ins: tuple[
        Offer, ...
    ]  # on-demand offers beside spot ones, best first; empty when none is wanted, or to be had
    prices_as_of: str
    prices_age_s: float

    @property
    def chosen(self) -> Offer:
        return self.candidates[0]

    @property
    def worst_usd_per_hour(self) -> float:
        """The most replicas of both kinds, none of the spot ones ready, each bought when everything cheaper is sold out."""
        wanted = optimizer.largest_mix(self.spec)
        return self._usd_per_hour(
            wanted, max(map(_price, self.candidates)), max(map(_price, self.stand_ins), default=0.0)
        )

    @property
    def budget(self) -> str:
        """What the service's budget means at these prices, in a sentence; empty when it has none."""
        limit, least = self.spec.budget, self.usd_per_hour(self.spec.scaling.min_replicas)
        told = []
        if limit.max_usd_per_hour is not None:
            fit = int(limit.max_usd_per_hour / _price(self.chosen)) if _price(self.chosen) else "all"
            told.append(f"${limit.max_usd_per_hour:,.2f} an hour, which {fit} of the chosen machines fit")
        if limit.max_usd_per_month is not None:
            days = limit.max_usd_per_month / least / 24 if least else math.inf
            lasts = "the least replicas fit" if days >= 31 else f"the least replicas use up in {days:.1f} days"
            told.append(f"${limit.max_usd_per_month:,.2f} a month, which {lasts}")
        return "; ".join(told)

    @property
    def providers(self) -> frozenset[str]:
        """Where the service may be placed."""
        return frozenset(offer.location.provider for offer in self.candidates)

    @property
    def best_of_each(self) -> tuple[Offer, ...]:
        """The best place only for each machine type and way of buying it."""
        best: dict[tuple[str, str, str, CapacityType], Offer] = {}
        for offer in self.candidates:
            best.setdefault(
                (offer.location.provider, offer.instance_type, offer.accelerators, offer.capacity_type), offer
            )
        return tuple(best.values())

    def usd_per_hour(self, target: int) -> float:
        """What the machines cost at a target while all is well: every replica ready, at the best offer of its kind."""
        wanted = optimizer.mix(self.spec, target, ready=target + self.spec.spot.num_overprovision)
        return self._usd_per_hour(wanted, _price(self.chosen), _price(self.stand_ins[0]) if self.stand_ins else 0.0)

    def _usd_per_hour(self, wanted: Mix, own_usd: float, stand_in_usd: float) -> float:
        return self.spec.engine.num_nodes * (wanted.own * own_usd + wanted.fallback * stand_in_usd)


def _price(offer: Offer) -> float:
    return offer.price_usd_per_hour


def make(parsed: Parsed, market: Sequence[Offer], providers: Sequence[str], prices_as_of: str, now: float) -> Plan:
    """Plan the service on the market of the enabled `providers`.

    Args:
        parsed: the service file.
        market: offers; those of providers that are not enabled serve for suggestions only.
        providers: the enabled ones.
        prices_as_of: ISO 8601 date or instant of the oldest price in `market`, empty when none has one.
        now: epoch seconds.

    Raises:
        NoFeasibleOffer: with the wish that cannot be met and the nearest that can.
        Invalid: one machine alone would be above the service's hourly budget.
    """
    resources, spot = parsed.spec.resources, parsed.spec.spot
    request = optimizer.Request(resources, tuple(providers), spot=spot)
    placement = optimizer.decide(request, market, now)
    if not placement.ranked:
        infeasible = optimizer.nothing_to_buy(request, market)
        raise NoFeasibleOffer(infeasible.message, infeasible.suggestions)
    if refused := budget.too_dear(parsed.spec.budget, placement.ranked[0]):
        raise Invalid(refused)
    stand_ins, unmet = _stand_ins(parsed.spec, market, providers, now)
    return Plan(
        name=parsed.name,
        spec=parsed.spec,
        candidates=placement.ranked,
        why=placement.why,
        left_out=(*placement.rejected, *unmet, *_lacking(resources, market, providers)),
        not_acted_on=(*parsed.not_acted_on, *_workdir(parsed.spec, placement.ranked)),
        stand_ins=stand_ins,
        prices_as_of=prices_as_of,
        prices_age_s=max(0.0, now - _epoch_s(prices_as_of)) if prices_as_of else 0.0,
    )


def _stand_ins(
    service: ServiceSpec, market: Sequence[Offer], providers: Sequence[str], now: float
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """On-demand offers for a service that may need them; or why there is none, which is no reason to refuse its spot replicas."""
    if not optimizer.largest_mix(service).fallback:
        return (), ()
    request = optimizer.Request(optimizer.on_demand(service.resources), tuple(providers))
    placement = optimizer.decide(request, market, now)
    return placement.ranked, () if placement.ranked else (
        Rejected("on-demand replicas beside spot ones", placement.why),
    )


def _lacking(resources: ResourceRequest, market: Sequence[Offer], providers: Sequence[str]) -> Iterator[Rejected]:
    """Accelerators asked for by name that some of the clouds in question have, and others do not."""
    wishes = [(pair, wish.provider) for group in resources.groups for wish in group for pair in wish.accelerators]
    having: dict[tuple[str, int], set[str]] = {}
    for offer in market:
        having.setdefault((offer.accelerator, offer.accelerator_count), set()).add(offer.location.provider)
    for pair in dict.fromkeys(pair for pair, _ in wishes):
        named = {provider for wanted, provider in wishes if wanted == pair}
        asked = {name for name in providers if name != "local" and ("" in named or name in named)}
        if asked & having.get(pair, set()) and (without := sorted(asked - having[pair])):
            yield Rejected(f"{pair[0]}:{pair[1]}", f"the catalog has none of {', '.join(without)}")


def _workdir(service: ServiceSpec, candidates: Sequence[Offer]) -> Iterator[str]:
    try:
        require_reachable_workdir(service, {offer.location.provider for offer in candidates})
    except SpecError as refusal:
        yield from (f"{problem}; `up` refuses it" for problem in refusal.problems)


def _epoch_s(as_of: str) -> float:
    instant = datetime.fromisoformat(as_of)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


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
    most, worst = plan.usd_per_hour(scaling.most_replicas), plan.worst_usd_per_hour
    return {
        "name": plan.name,
        "probe_method": probe.method,
        "probe_path": shown_path(probe.path),
        "initial_delay_s": probe.initial_delay_s,
        "replica_policy": policy(scaling),
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "target_qps_per_replica": scaling.target_qps_per_replica,
        "spot_policy": spot_policy(plan.spec),
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
        "min_usd_per_hour": round(plan.usd_per_hour(scaling.fewest_replicas), 6),
        "max_usd_per_hour": round(most, 6),
        "max_usd_per_month": round(most * HOURS_PER_MONTH, 2),
        "worst_case_usd_per_hour": round(worst, 6),
        "worst_case_usd_per_month": round(worst * HOURS_PER_MONTH, 2),
        "costs_include": "machines",
        "budget": plan.budget,
        "secrets": [{"variable": variable, "name": name} for variable, name in plan.spec.engine.secrets],
        "prices_as_of": plan.prices_as_of,
    }


def spot_policy(spec: ServiceSpec) -> str:
    """What is bought beside one machine for each replica that is wanted, and where; empty when nothing is said of it."""
    spot, told = spec.spot, []
    if spot.num_overprovision:
        told.append(f"{spot.num_overprovision} beyond the target")
    if spot.base_ondemand_fallback_replicas:
        told.append(f"{spot.base_ondemand_fallback_replicas} always on demand")
    if spot.dynamic_ondemand_fallback:
        told.append("on-demand ones while spot ones are not ready")
    if spot.placer:
        told.append(f"placed by {spot.placer}")
    return ", ".join(told)


def policy(scaling: ScalingSpec) -> str:
    """How many replicas, in a few words."""
    fewest, most = scaling.fewest_replicas, scaling.most_replicas
    if fewest == most:
        return f"Fixed {fewest} replica{'s' * (fewest != 1)}"
    bounds = f"{fewest} to {most} replicas" + (", by schedule" if scaling.schedule else "")
    if scaling.target is None:
        return bounds
    targets = [f"{qps:g} on {name}" for name, qps in scaling.target_qps_by_accelerator]
    return f"{bounds}, {scaling.unit} per replica: {', '.join(targets) or f'{scaling.target:g}'}"
