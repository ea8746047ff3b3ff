"""When nothing fits: which wish removed the last offers, and the nearest wishes that can be met."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from chalicelib.model import Offer, Requirement, ResourceRequest
from chalicelib.optimizer import constraints
from chalicelib.optimizer.constraints import CONSTRAINTS, Constraint

_MANY = 3  # suggestions of one kind


@dataclass(frozen=True, slots=True)
class Infeasible:
    """What to raise `errors.NoFeasibleOffer` with."""

    message: str
    suggestions: tuple[str, ...]


def explain(resources: ResourceRequest, market: Sequence[Offer], providers: Sequence[str]) -> Infeasible:
    """Say why none of the enabled providers' offers meets `resources`, and what nearby would."""
    enabled = [offer for offer in dict.fromkeys(market) if offer.location.provider in providers]
    requirements = [requirement for group in resources.groups for requirement in group]
    narrowed = [_narrow(requirement, enabled) for requirement in requirements]
    met, missing, left = max(narrowed, key=lambda attempt: (len(attempt[0]), attempt[2], attempt[1]))
    names = ", ".join(providers) or "none"
    if not met:
        wanted = " or ".join(dict.fromkeys(missing for _, missing, _ in narrowed))
        message = f"No enabled provider ({names}) has an offer with {wanted}."
    else:
        message = f"Of the {left} offers of {names} with {', '.join(met)}, none meets: {missing}."
    suggestions = [text for one in requirements for text in _suggestions(one, market, enabled)]
    return Infeasible(message, tuple(dict.fromkeys(suggestions)))


def _narrow(requirement: Requirement, offers: Sequence[Offer]) -> tuple[list[str], str, int]:
    """The wishes that some offer meets together, the next one, which none of those meets, and how many those were."""
    met: list[str] = []
    for constraint in CONSTRAINTS:
        remaining = [offer for offer in offers if constraint.admits(requirement, offer)]
        if not remaining:
            return met, constraint.wanted(requirement), len(offers)
        if wanted := constraint.wanted(requirement):
            met.append(wanted)
        offers = remaining
    return met, "", len(offers)


def _suggestions(requirement: Requirement, market: Iterable[Offer], enabled: Sequence[Offer]) -> list[str]:
    """What meets all wishes but one; when nothing does, the nearest accelerators whatever else they come with."""
    texts = [
        text
        for constraint, word in _WORDINGS
        if constraint.wanted(requirement)
        for text in word(requirement, _meeting_all_but(constraint, requirement, enabled))
    ]
    elsewhere = {offer.location.provider for offer in market if constraints.first_unmet(requirement, offer) is None}
    texts += [f"enable {provider}, which has it" for provider in sorted(elsewhere)]
    return texts or _accelerators(requirement, enabled)


def _meeting_all_but(left_out: Constraint, requirement: Requirement, offers: Iterable[Offer]) -> list[Offer]:
    others = [constraint for constraint in CONSTRAINTS if constraint is not left_out]
    return sorted(
        (offer for offer in offers if all(other.admits(requirement, offer) for other in others)),
        key=lambda offer: (offer.price_usd_per_hour, offer.location, offer.instance_type),
    )


def _accelerators(requirement: Requirement, offers: Iterable[Offer]) -> list[str]:
    """The same accelerator in the nearest numbers first, then others in the same number, cheapest first."""
    asked = requirement.accelerators or (("", requirement.accelerator_memory_count),)
    memory = requirement.accelerator_memory_exact_gib or requirement.accelerator_memory_min_gib
    nearest = sorted(
        offers,
        key=lambda offer: min(
            (
                not offer.accelerator,
                offer.accelerator_memory_gib < memory,
                offer.accelerator != name,
                abs(offer.accelerator_count - count),
                offer.price_usd_per_hour,
                offer.accelerator,
            )
            for name, count in asked
        ),
    )
    return [
        f"accelerators: {choice}" if choice else "no accelerators"
        for choice in list(dict.fromkeys(offer.accelerators for offer in nearest))[:_MANY]
    ]


def _places(_: Requirement, offers: Iterable[Offer]) -> list[str]:
    return [f"infra: {place}" for place in list(dict.fromkeys(offer.location for offer in offers))[:_MANY]]


def _instance_types(_: Requirement, offers: Iterable[Offer]) -> list[str]:
    return [f"instance_type: {name}" for name in list(dict.fromkeys(offer.instance_type for offer in offers))[:_MANY]]


def _capacity_type(requirement: Requirement, offers: Sequence[Offer]) -> list[str]:
    return [f"use_spot: {str(not requirement.use_spot).lower()}"] if offers else []


def _vcpus(requirement: Requirement, offers: Iterable[Offer]) -> list[str]:
    return _amounts("cpus", requirement.vcpus_exact or requirement.vcpus_min, {offer.vcpus for offer in offers})


def _memory(requirement: Requirement, offers: Iterable[Offer]) -> list[str]:
    return _amounts(
        "memory", requirement.memory_exact_gib or requirement.memory_min_gib, {offer.memory_gib for offer in offers}
    )


def _amounts(field: str, asked: float, available: Iterable[float]) -> list[str]:
    return [
        f"{field}: {amount:g}" for amount in sorted(available, key=lambda amount: (abs(amount - asked), amount))[:1]
    ]


def _price(_: Requirement, offers: Sequence[Offer]) -> list[str]:
    return [f"max_hourly_cost: {math.ceil(offers[0].price_usd_per_hour * 100) / 100:g}"] if offers else []


# How to word what would do if one wish were dropped, in the spelling of the service YAML.
_WORDINGS: tuple[tuple[Constraint, Callable[[Requirement, list[Offer]], list[str]]], ...] = (
    (constraints.ACCELERATOR, _accelerators),
    (constraints.CAPACITY_TYPE, _capacity_type),
    (constraints.PLACE, _places),
    (constraints.INSTANCE_TYPE, _instance_types),
    (constraints.VCPUS, _vcpus),
    (constraints.MEMORY, _memory),
    (constraints.PRICE, _price),
)
