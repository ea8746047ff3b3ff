"""Where the next replica goes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from chalicelib import catalog
from chalicelib.model import (
    CapacityType,
    Location,
    Offer,
    Placement,
    Reason,
    Requirement,
    ResourceRequest,
    Unavailable,
)
from chalicelib.optimizer import Request, decide, explain, matching, open_offers
from chalicelib.optimizer.placement import PRICE_TOLERANCE

CLOUDS = ("aws", "azure", "gcp")
NOW = 1_800_000_000.0


def offer(price: float, region: str = "r1", zone: str = "", **changes: Any) -> Offer:
    plain = Offer(Location("aws", region, zone), "m", 4, 16, CapacityType.ON_DEMAND, price)
    return replace(plain, **changes)


def wanting(*groups: tuple[Requirement, ...], **rest: Any) -> Request:
    return Request(ResourceRequest(groups or ((Requirement(),),)), CLOUDS, **rest)


def one(**fields: Any) -> Request:
    return wanting((Requirement(**fields),))


def refusal(**changes: Any) -> Unavailable:
    base = Unavailable("aws", "r1", "", "", "", Reason.NO_CAPACITY, "sold out", NOW - 60, NOW + 120)
    return replace(base, **changes)


def prices(placement: Placement) -> list[float]:
    return [offer.price_usd_per_hour for offer in placement.ranked]


# --- promises, by example ---------------------------------------------------------------------------------------------


def test_preference_beats_price() -> None:
    """An ordered list is an order: the second choice is used only when nothing of the first is feasible."""
    first, second = Requirement(accelerators=(("H100", 1),)), Requirement(accelerators=(("L4", 1),))
    h100 = offer(9, accelerator="H100", accelerator_count=1)
    l4 = offer(1, accelerator="L4", accelerator_count=1)
    assert decide(wanting((first,), (second,)), [l4, h100], NOW).ranked == (h100, l4)
    fallback = decide(wanting((first,), (second,)), [l4], NOW)
    assert fallback.chosen == l4
    assert "choice 2 of 2" in fallback.why


def test_within_a_set_the_cheapest_wins_and_all_are_ranked() -> None:
    """A set or any_of means cheapest first, and every feasible offer stays as a way out."""
    alternatives = tuple(Requirement(accelerators=((name, 1),)) for name in ("A100", "L4"))
    market = [
        offer(price, accelerator=name, accelerator_count=1) for name, price in (("A100", 3), ("L4", 1), ("L4", 2))
    ]
    assert prices(decide(wanting(alternatives), market, NOW)) == [1, 2, 3]


def test_equal_prices_spread_over_regions_then_zones_then_names() -> None:
    """Prices that differ in the sixth digit are equal; then the place with fewer of our replicas wins."""
    a, b, c = offer(10.00001, "r1", "z1"), offer(10.0, "r1", "z2"), offer(10.00002, "r2", "z3")
    assert decide(one(), [c, b, a], NOW).ranked == (a, b, c)
    in_r1 = decide(wanting(hosting=(a.location,)), [a, b, c], NOW)
    assert in_r1.ranked == (c, b, a)
    assert "one of 3 at that price" in in_r1.why
    dearer = offer(10.01, "r3")
    assert decide(wanting(hosting=(a.location, c.location)), [a, b, c, dearer], NOW).ranked == (b, a, c, dearer)


def test_spot_and_on_demand_are_never_mixed_up() -> None:
    """`use_spot` buys spot only, its absence on-demand only."""
    spot, on_demand = offer(1, capacity_type=CapacityType.SPOT), offer(3)
    assert decide(one(use_spot=True), [spot, on_demand], NOW).ranked == (spot,)
    assert decide(one(), [spot, on_demand], NOW).ranked == (on_demand,)


def test_a_refused_offer_is_passed_over_until_its_time() -> None:
    """What a cloud has just refused is left out with its reason and remaining time, and comes back after it."""
    market = [offer(1, "r1"), offer(2, "r2")]
    request = wanting(unavailable=(refusal(),))
    placement = decide(request, market, NOW)
    assert prices(placement) == [2]
    assert placement.rejected[0].what.startswith("aws/r1 m")
    assert placement.rejected[0].why == "NO_CAPACITY: sold out; not asked again for 120 s"
    assert prices(decide(request, market, NOW + 120)) == [1, 2]


def test_when_all_is_refused_the_placement_says_so() -> None:
    """Refused is not infeasible: the explanation speaks of waiting, not of asking for something else."""
    placement = decide(wanting(unavailable=(refusal(region=""),)), [offer(1)], NOW)
    assert placement.chosen is None
    assert "1 feasible offers were refused" in placement.why


def test_a_service_without_accelerators_never_lands_on_one() -> None:
    """A CPU service does not end on a GPU machine because plain ones are refused, unless it names the machine type."""
    gpu = offer(50, accelerator="H100", accelerator_count=8, instance_type="p5")
    assert decide(one(), [gpu], NOW).chosen is None
    assert decide(one(instance_type="p5"), [gpu], NOW).chosen == gpu


@pytest.mark.parametrize(
    ("fields", "admitted"),
    [
        ({"provider": "aws", "region": "r1"}, True),
        ({"provider": "gcp"}, False),
        ({"region": "r2"}, False),
        ({"zone": "z9"}, False),
        ({"accelerators": (("L4", 8),)}, True),
        ({"accelerators": (("L4", 4),)}, False),
        ({"accelerators": (("A100", 8), ("L4", 8))}, True),
        ({"accelerators": (), "accelerator_memory_min_gib": 24.0, "accelerator_memory_count": 8}, True),
        ({"accelerators": (), "accelerator_memory_min_gib": 24.0}, False),
        ({"accelerators": (), "accelerator_memory_min_gib": 25.0, "accelerator_memory_count": 8}, False),
        ({"accelerators": (), "accelerator_memory_exact_gib": 24.0, "accelerator_memory_count": 8}, True),
        ({"accelerators": (), "accelerator_memory_exact_gib": 16.0, "accelerator_memory_count": 8}, False),
        ({"instance_type": "g"}, True),
        ({"instance_type": "m"}, False),
        ({"vcpus_min": 96.0}, True),
        ({"vcpus_min": 97.0}, False),
        ({"vcpus_exact": 95.0}, False),
        ({"memory_min_gib": 385.0}, False),
        ({"memory_exact_gib": 384.0}, True),
        ({"max_usd_per_hour": 7.98}, True),
        ({"max_usd_per_hour": 7.97}, False),
        ({"use_spot": True}, False),
    ],
)
def test_each_wish_of_a_requirement_is_honoured(fields: dict[str, object], admitted: bool) -> None:
    """Place, type, accelerator by name and memory, vCPUs, memory, price and capacity type each keep offers out."""
    machine = Offer(Location("aws", "r1"), "g", 96, 384, CapacityType.ON_DEMAND, 7.98, "L4", 8, 24)
    fields = {"accelerators": (("L4", 8),)} | fields
    assert (decide(one(**fields), [machine], NOW).chosen == machine) is admitted
    assert (matching(one(**fields).resources, machine) is not None) is admitted


def test_only_enabled_providers_are_used() -> None:
    """An offer of a cloud that is not enabled is not feasible, however cheap."""
    request = Request(ResourceRequest(), ("gcp",))
    assert decide(request, [offer(0.01)], NOW).chosen is None


def test_what_no_cloud_offers_is_named() -> None:
    """One accelerator of a set that nobody has is reported, though the others are feasible."""
    request = one(accelerators=(("L4", 8), ("A10", 8)))
    rejected = {item.what: item.why for item in decide(request, catalog.offers(CLOUDS), NOW).rejected}
    assert rejected["A10:8"] == "no enabled provider offers it; A10 comes in 1, 2"


def test_the_seed_table_comes_out() -> None:
    """SkyServe's documented Mixtral example: same winner, same order of the leading offers, same prices."""
    wanted = (("L4", 8), ("A10G", 8), ("A100", 4), ("A100", 8), ("A100-80GB", 2), ("A100-80GB", 4), ("A100-80GB", 8))
    ranked = decide(one(accelerators=wanted), catalog.offers(CLOUDS), NOW).ranked
    leading = list(dict.fromkeys((item.location.provider, item.instance_type) for item in ranked))
    assert leading[:5] == [
        ("azure", "Standard_NC48ads_A100_v4"),
        ("gcp", "g2-standard-96"),
        ("gcp", "a2-ultragpu-2g"),
        ("aws", "g6.48xlarge"),
        ("azure", "Standard_NC96ads_A100_v4"),
    ]
    assert [round(item.price_usd_per_hour, 2) for item in ranked[:2]] == [7.35, 7.35]


# --- explanations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message", "suggestion"),
    [
        ({"accelerators": (("L4", 3),)}, "offer with L4:3", "accelerators: L4:2"),
        ({"accelerators": (("L4", 8),), "max_usd_per_hour": 1.0}, "none meets: at most $1/h", "max_hourly_cost: 7.98"),
        ({"accelerators": (("L4", 8),), "memory_min_gib": 4000.0}, "at least 4000 GiB of memory", "memory: 768"),
        ({"accelerators": (("A10", 1),), "provider": "aws"}, "none meets: aws/*/*", "infra: azure/westus3"),
        ({"vcpus_min": 500.0}, "at least 500 vCPUs", "cpus: 32"),
        ({"instance_type": "foo"}, "none meets: foo", "instance_type: e2-standard-2"),
        ({"accelerator_memory_min_gib": 80.0, "accelerator_memory_count": 3}, "80GB+:3", "accelerators: A100-80GB:2"),
    ],
)
def test_infeasible_names_the_wish_and_the_nearest_that_can_be_met(
    fields: dict[str, object], message: str, suggestion: str
) -> None:
    """The explanation names what removed the last offers and suggests, in YAML terms, what would do."""
    found = explain(one(**fields).resources, catalog.offers(CLOUDS), CLOUDS)
    assert message in found.message
    assert suggestion in found.suggestions
    assert decide(one(**fields), catalog.offers(CLOUDS), NOW).why == found.message


def test_infeasible_suggests_spot_and_other_providers() -> None:
    """When the other way of buying, or a cloud that is not enabled, has it, that is suggested."""
    spot = offer(1, capacity_type=CapacityType.SPOT)
    assert explain(one().resources, [spot], ("aws",)).suggestions == ("use_spot: true",)
    assert explain(one().resources, [offer(1)], ("gcp",)).suggestions == ("enable aws, which has it",)


def test_infeasible_without_any_market() -> None:
    """No provider and no offers still end in a sentence."""
    found = explain(one().resources, [], ())
    assert found.message == "No enabled provider (none) has an offer with no accelerator."
    assert found.suggestions == ()


# --- promises, by property --------------------------------------------------------------------------------------------

NAMES = ("", "L4", "A100")
offers = st.builds(
    lambda provider, region, zone, vcpus, memory, kind, cents, name, count: Offer(
        Location(provider, region, zone),
        f"m{vcpus}",
        vcpus,
        memory,
        kind,
        cents / 100,
        name,
        count if name else 0,
        24.0 if name else 0.0,
    ),
    st.sampled_from(CLOUDS),
    st.sampled_from(("r1", "r2")),
    st.sampled_from(("", "z1")),
    st.sampled_from((2.0, 4.0)),
    st.sampled_from((8.0, 16.0)),
    st.sampled_from(CapacityType),
    st.integers(1, 5),
    st.sampled_from(NAMES),
    st.integers(1, 2),
)
ANY_ACCELERATOR = tuple((name, count) for name in NAMES[1:] for count in (1, 2))
# Mostly without a wish, for else hardly two offers of a market meet them all and there is nothing to choose from.
requirements = st.builds(
    Requirement,
    provider=st.sampled_from(("", "", "", "", *CLOUDS)),
    region=st.sampled_from(("", "", "", "r1")),
    accelerators=st.sampled_from(((), ANY_ACCELERATOR, ANY_ACCELERATOR[:2], ANY_ACCELERATOR[3:])),
    vcpus_min=st.sampled_from((0.0, 0.0, 4.0)),
    memory_exact_gib=st.sampled_from((0.0, 0.0, 0.0, 16.0)),
    use_spot=st.booleans(),
    max_usd_per_hour=st.sampled_from((0.0, 0.0, 0.03)),
)
requests = st.builds(
    Request,
    st.lists(st.lists(requirements, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)
    .map(tuple)
    .map(ResourceRequest),
    st.sampled_from((*[CLOUDS] * 6, CLOUDS[:2], CLOUDS[2:], ())),
    st.sampled_from((0, 0, 0, 2)).flatmap(
        lambda most: st.lists(
            st.builds(refusal, provider=st.sampled_from(CLOUDS), region=st.sampled_from(("", "r1"))), max_size=most
        ).map(tuple)
    ),
    st.lists(st.builds(Location, st.sampled_from(CLOUDS), st.sampled_from(("r1", "r2")))).map(tuple),
)
markets = st.sampled_from((0, 8, 8, 8)).flatmap(lambda least: st.lists(offers, min_size=least, max_size=12))


@given(requests, markets, st.randoms())
def test_the_order_of_the_market_never_matters(request: Request, market: list[Offer], shuffler: random.Random) -> None:
    """The same offers in another order, or listed twice, give the same placement to the last word."""
    shuffled = [*market, *market[:3]]
    shuffler.shuffle(shuffled)
    assert decide(request, shuffled, NOW) == decide(request, market, NOW)


@given(requests, markets)
def test_a_dominated_offer_never_wins(request: Request, market: list[Offer]) -> None:
    """Nothing feasible of the same or a better preference is cheaper than the winner by more than the tolerance."""
    placement = decide(request, market, NOW)
    if placement.chosen is None:
        return
    rank = {item: matching(request.resources, item) for item in placement.ranked}
    best = rank[placement.chosen]
    assert best is not None
    for item, match in rank.items():
        assert match is not None
        assert match[0] >= best[0]
        if match[0] == best[0]:
            assert placement.chosen.price_usd_per_hour <= item.price_usd_per_hour * (1 + PRICE_TOLERANCE)


@given(requests, markets)
def test_every_offer_is_ranked_or_accounted_for(request: Request, market: list[Offer]) -> None:
    """What is enabled is either ranked or counted among the rejected; whoever finds nothing gets a reason."""
    placement = decide(request, market, NOW)
    enabled = {item for item in market if item.location.provider in request.providers}
    counted = sum(int(item.what.split()[0]) for item in placement.rejected if item.what.split()[0].isdigit())
    refused = sum("not asked again" in item.why for item in placement.rejected)
    assert len(placement.ranked) + counted + refused == len(enabled)
    assert placement.why


@given(requests, markets)
def test_open_offers_are_those_that_would_be_ranked(request: Request, market: list[Offer]) -> None:
    """In no order; and a market that has changed in place is looked at anew."""
    for shown in (market, market[1:]):
        market[:] = shown
        found = open_offers(request, market, NOW)
        assert sorted(found, key=str) == sorted(decide(request, market, NOW).ranked, key=str)
        assert {(one.location, one.price_usd_per_hour) for one in found} <= {
            (one.location, one.price_usd_per_hour) for one in market
        }


def brute_force(request: Request, market: list[Offer]) -> Offer | None:
    """The winner, found the slow and obvious way: group by group, requirement by requirement."""
    for group in request.resources.groups:
        feasible = [
            item
            for item in market
            if item.location.provider in request.providers
            and not any(one.blocks(item, NOW) for one in request.unavailable)
            and any(
                wish.provider in ("", item.location.provider)
                and wish.region in ("", item.location.region)
                and (
                    (item.accelerator, item.accelerator_count) in wish.accelerators
                    or not (wish.accelerators or item.accelerator)
                )
                and item.vcpus >= wish.vcpus_min
                and wish.memory_exact_gib in (0, item.memory_gib)
                and wish.use_spot is (item.capacity_type is CapacityType.SPOT)
                and (wish.max_usd_per_hour == 0 or item.price_usd_per_hour <= wish.max_usd_per_hour)
                for wish in group
            )
        ]
        if feasible:
            return min(
                feasible,
                key=lambda item: (
                    item.price_usd_per_hour,
                    sum(
                        (at.provider, at.region) == (item.location.provider, item.location.region)
                        for at in request.hosting
                    ),
                    sum(at == item.location for at in request.hosting),
                    item.location,
                    item.instance_type,
                    item.accelerators,
                    item.vcpus,
                    item.memory_gib,
                    item.capacity_type,
                ),
            )
    return None


@settings(max_examples=400)
@given(requests, markets)
def test_the_winner_is_the_one_that_brute_force_finds(request: Request, market: list[Offer]) -> None:
    """On 1,000 random small markets (prices in whole cents) the decision equals the obvious search."""
    event(f"{min(len(decide(request, market, NOW).ranked), 3)} feasible offers or more")
    assert decide(request, market, NOW).chosen == brute_force(request, market)
