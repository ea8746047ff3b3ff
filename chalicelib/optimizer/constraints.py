"""What a requirement admits, one named constraint at a time, so that a refusal can say which one it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.model import CapacityType, Offer, Requirement, ResourceRequest


@dataclass(frozen=True, slots=True)
class Constraint:
    """One thing a requirement may ask for. `wanted` words it; empty when the requirement asks for no such thing."""

    admits: Callable[[Requirement, Offer], bool]
    wanted: Callable[[Requirement], str]


def _place_admits(requirement: Requirement, offer: Offer) -> bool:
    place = offer.location
    return (
        requirement.provider in ("", place.provider)
        and requirement.region in ("", place.region)
        and requirement.zone in ("", place.zone)
    )


def _place_wanted(requirement: Requirement) -> str:
    parts = (requirement.provider, requirement.region, requirement.zone)
    return "/".join(part or "*" for part in parts) if any(parts) else ""


def _accelerator_admits(requirement: Requirement, offer: Offer) -> bool:
    if requirement.accelerators:
        return (offer.accelerator, offer.accelerator_count) in requirement.accelerators
    least, exact = requirement.accelerator_memory_min_gib, requirement.accelerator_memory_exact_gib
    if least or exact:
        return (
            offer.accelerator_count == requirement.accelerator_memory_count
            and offer.accelerator_memory_gib >= least
            and exact in (0, offer.accelerator_memory_gib)
        )
    # Who asks for no accelerator must not end up paying for one because the plain machines are sold out.
    return not offer.accelerator or bool(requirement.instance_type)


def _accelerator_wanted(requirement: Requirement) -> str:
    if requirement.accelerators:
        return " or ".join(f"{name}:{count}" for name, count in requirement.accelerators)
    least, exact = requirement.accelerator_memory_min_gib, requirement.accelerator_memory_exact_gib
    if least or exact:
        return f"{exact or least:g}GB{'+' * bool(least)}:{requirement.accelerator_memory_count}"
    return "no accelerator"


def _amount_admits(least: float, exact: float, amount: float) -> bool:
    return amount >= least and exact in (0, amount)


def _amount_wanted(least: float, exact: float, unit: str) -> str:
    if exact:
        return f"{exact:g} {unit}"
    return f"at least {least:g} {unit}" if least else ""


PRICE = Constraint(
    lambda requirement, offer: not 0 < requirement.max_usd_per_hour < offer.price_usd_per_hour,
    lambda requirement: f"at most ${requirement.max_usd_per_hour:g}/h" if requirement.max_usd_per_hour else "",
)
CAPACITY_TYPE = Constraint(
    lambda requirement, offer: requirement.use_spot == (offer.capacity_type is CapacityType.SPOT),
    lambda requirement: "spot" if requirement.use_spot else "on-demand",
)
PLACE = Constraint(_place_admits, _place_wanted)
INSTANCE_TYPE = Constraint(
    lambda requirement, offer: requirement.instance_type in ("", offer.instance_type),
    lambda requirement: requirement.instance_type,
)
ACCELERATOR = Constraint(_accelerator_admits, _accelerator_wanted)
VCPUS = Constraint(
    lambda requirement, offer: _amount_admits(requirement.vcpus_min, requirement.vcpus_exact, offer.vcpus),
    lambda requirement: _amount_wanted(requirement.vcpus_min, requirement.vcpus_exact, "vCPUs"),
)
MEMORY = Constraint(
    lambda requirement, offer: _amount_admits(
        requirement.memory_min_gib, requirement.memory_exact_gib, offer.memory_gib
    ),
    lambda requirement: _amount_wanted(requirement.memory_min_gib, requirement.memory_exact_gib, "GiB of memory"),
)

# In the order in which a person would narrow a market down; refusals name the first that is not met.
CONSTRAINTS = (ACCELERATOR, CAPACITY_TYPE, PLACE, INSTANCE_TYPE, VCPUS, MEMORY, PRICE)


def first_unmet(requirement: Requirement, offer: Offer) -> Constraint | None:
    """The first constraint that keeps `offer` out, or None when the requirement admits it."""
    return next((constraint for constraint in CONSTRAINTS if not constraint.admits(requirement, offer)), None)


def matching(resources: ResourceRequest, offer: Offer) -> tuple[int, Requirement] | None:
    """The most preferred group that admits `offer` (its index, 0 = first choice) and which of its requirements does."""
    return next(
        (
            (index, requirement)
            for index, group in enumerate(resources.groups)
            for requirement in group
            if first_unmet(requirement, offer) is None
        ),
        None,
    )
