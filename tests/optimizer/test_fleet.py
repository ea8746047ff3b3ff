"""`risk_aware`: which mix is worth its price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.lifecycle import new_replica, new_service
from chalicelib.model import (
    RISK_AWARE,
    CapacityType,
    Location,
    Mix,
    Offer,
    Plan,
    Reason,
    Replica,
    ReplicaStatus,
    Requirement,
    ResourceRequest,
    ScalerState,
    Service,
    ZoneMemory,
)
from chalicelib.optimizer import Request, ceiling, decide, largest_mix, plan, zones
from tests.fakes import on_spot, spec

NOW = 1_800_000_000.0
DAY_S = 86_400.0
PLACES = [Location("aws", "r1", f"z{number}") for number in range(4)]
ON_SPOT = ResourceRequest(((Requirement(use_spot=True),),))
ON_DEMAND = Offer(PLACES[0], "m", 4, 16, CapacityType.ON_DEMAND, 10.0)


def offers(*prices: float) -> list[Offer]:
    """One zone each, at shares of the on-demand price."""
    return [
        replace(ON_DEMAND, location=place, capacity_type=CapacityType.SPOT, price_usd_per_hour=10 * price)
        for place, price in zip(PLACES, prices, strict=False)
    ]


def service(target: int = 3, known: tuple[ZoneMemory, ...] = (), **policy: object) -> Service:
    fields = {"placer": RISK_AWARE, "dynamic_ondemand_fallback": True, **policy}
    made = new_service("svc", "u", on_spot(spec(max_replicas=9), **fields), NOW)
    return replace(made, scaler=ScalerState(target), zones=known)


def replicas(*at: Offer, age_s: float = 0.0) -> list[Replica]:
    """Ready ones, three minutes after their launch or at once."""
    return [
        replace(
            new_replica(
                service(),
                slot=number,
                generation=number,
                offer=offer,
                requirement=Requirement(),
                boot_nonce="n",
                now=NOW - age_s,
            ),
            status=ReplicaStatus.READY,
            ready_at=NOW - age_s + 180,
        )
        for number, offer in enumerate(at)
    ]


def lost(zone: int, ago_s: float, losses: float = 1.0) -> ZoneMemory:
    return ZoneMemory(PLACES[zone], NOW - ago_s, Reason.PREEMPTED, losses=losses, lost_at=NOW - ago_s)


def test_extra_replicas_insure_what_is_young_or_volatile_and_go_when_it_is_quiet() -> None:
    """Three replicas in three zones at 0.3: insured at first, after two days of quiet no more, after a loss again."""
    market = offers(0.3, 0.3, 0.3, 0.3)
    assert plan(service(), [], market, [ON_DEMAND], NOW).mix.own > 3
    quiet = replicas(*market, age_s=2 * DAY_S)
    assert plan(service(), quiet, market, [ON_DEMAND], NOW).mix == Mix(3)
    shaken = tuple(lost(zone, 600, losses=3.0) for zone in range(3))
    assert plan(service(known=shaken), quiet, market, [ON_DEMAND], NOW).mix.total > 3


def quiet(hours: float, *zones: int) -> list[Replica]:
    """One ready spot replica in each of these zones, which have been quiet for so long."""
    return replicas(*(offers(0.3, 0.3, 0.3, 0.4)[zone] for zone in zones), age_s=3600 * hours)


@pytest.mark.parametrize(
    ("present", "known", "added", "left"),
    [
        ([], (), 4, ()),
        (quiet(20, 0, 1, 2), (), 1, ()),
        (quiet(40.5, 0, 1, 2), (), 0, ()),
        (quiet(40.5, 0, 1, 2, 3), (), 0, (3,)),
        (quiet(40.5, 0, 1), (lost(2, 0),), 2, ()),
    ],
)
def test_examples_worked_out_by_hand(
    present: list[Replica], known: tuple[ZoneMemory, ...], added: int, left: tuple[int, ...]
) -> None:
    """Target 3, four zones at 0.3, 0.3, 0.3 and 0.4: what is added to a fleet and what is given up."""
    market = [one for one in offers(0.3, 0.3, 0.3, 0.4) if one.location not in {zone.place for zone in known}]
    found = plan(service(known=known), present, market, [ON_DEMAND], NOW)
    assert found == Plan(3, Mix(len(present) + added - len(left)), tuple(PLACES[zone] for zone in left))


def test_a_plan_changes_at_whole_five_minutes() -> None:
    """A fleet whose insurance is just about to go keeps it until then, however many passes look."""
    market, present = offers(0.3, 0.3, 0.3, 0.4), quiet(40.5, 0, 1, 2, 3)
    plans = [plan(service(), present, market, [ON_DEMAND], NOW - 43_200 + at).mix.own for at in range(0, 3600, 10)]
    changes = [10 * at for at in range(1, len(plans)) if plans[at] != plans[at - 1]]
    assert (plans[0], plans[-1]) == (4, 3)
    assert len(changes) == 1
    assert changes[0] % 300 == 0


@pytest.mark.parametrize(("hours", "standing_in", "wanted"), [(2, 0, 1), (10.5, 1, 1), (12, 1, 0)])
def test_on_demand_insures_where_no_zone_may_be_asked(hours: float, standing_in: int, wanted: int) -> None:
    """Three spot replicas and no open zone: an on-demand one beside them until they have been quiet for about 11 hours."""
    present = [*quiet(hours, 0, 1, 2), *replicas(*[ON_DEMAND] * standing_in)]
    assert plan(service(), present, [], [ON_DEMAND], NOW).mix == Mix(3, wanted)


def test_dear_spot_is_left_for_on_demand() -> None:
    """At 0.85 of the on-demand price a young spot fleet with its insurance costs more than on demand, at 0.2 it does not."""
    assert plan(service(), [], offers(0.85, 0.85), [ON_DEMAND], NOW).mix.own == 0
    assert plan(service(), [], offers(0.2, 0.2), [ON_DEMAND], NOW).mix.own >= 3


@pytest.mark.parametrize("price", [0.05, 0.13, 0.25])
def test_cheap_spot_is_insured_for_as_long_as_dear_spot(price: float) -> None:
    """About two days: that a replica costs little is no reason to keep two where one would do."""
    market = offers(price, price, price, price)
    for hours, wanted in ((42, 4), (50, 3)):
        present = replicas(*market, age_s=3600.0 * hours)
        assert plan(service(), present, market, [ON_DEMAND], NOW).mix == Mix(wanted)


def test_no_zone_that_may_be_asked_is_on_demand() -> None:
    """With every zone held back, the fallback serves all; without the fallback what there is stays."""
    assert plan(service(), [], [], [ON_DEMAND], NOW).mix == Mix(0, 3)
    assert plan(service(dynamic_ondemand_fallback=False), replicas(*offers(0.3)), [], [ON_DEMAND], NOW).mix == Mix(1)
    assert plan(service(), [], offers(0.3), [], NOW).mix.own >= 3  # nothing on demand within max_hourly_cost


def test_a_higher_target_of_availability_pays_for_more() -> None:
    """The same quiet fleet at 0.9 and at 0.999: the second is insured."""
    market = offers(0.3, 0.3, 0.3)
    quiet = replicas(*market, age_s=2 * DAY_S)
    plans = [plan(service(availability_target=a), quiet, market, [ON_DEMAND], NOW).mix for a in (0.9, 0.999)]
    assert plans[0] == Mix(3)
    assert plans[1].total > 3


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.sampled_from([0.1, 0.3, 0.7, 0.95]), max_size=4),
    st.lists(st.integers(0, 3), max_size=6),
    st.integers(0, 3),
    st.sampled_from([0.0, 600.0, DAY_S]),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_a_plan_keeps_to_its_bounds(  # noqa: PLR0917 each is drawn
    target: int, prices: list[float], here: list[int], standing_in: int, age_s: float, base: int, extra: int
) -> None:
    """Never short while on demand can be had, never above the bounds that the ceiling is made of, and stable when done."""
    wanted = service(target, base_ondemand_fallback_replicas=base, num_overprovision=extra)
    market = offers(*prices)
    there = [replace(one, capacity_type=CapacityType.ON_DEMAND) for one in offers(*([1.0] * min(standing_in, target)))]
    own = [offer for number in here for offer in market[number : number + 1]][: target + 3]
    present = replicas(*own, *there, age_s=age_s)
    mix = plan(wanted, present, market, [ON_DEMAND], NOW).mix
    assert mix.total >= target
    assert min(target, base) <= mix.fallback <= target
    assert mix.own <= max(len(own), target + max(3, extra) - min(target, base))
    assert largest_mix(wanted.spec).total + wanted.spec.max_surge == ceiling(wanted.spec)


@given(
    st.integers(1, 4),
    st.lists(st.sampled_from([0.2, 0.5, 0.8]), min_size=1, max_size=3),
    st.sampled_from([0.0, 3600.0, 2 * DAY_S]),
)
def test_a_plan_that_is_carried_out_is_kept(target: int, prices: Sequence[float], age_s: float) -> None:
    """Once the fleet is what was planned, as old as before, nothing else is planned: no machine is bought to be sold."""
    market, own, standing_in = offers(*prices), list[Offer](), 0
    plans = []
    for _ in range(8):
        present = replicas(*own, *[ON_DEMAND] * standing_in, age_s=age_s)
        plans.append(plan(service(target), present, market, [ON_DEMAND], NOW))
        mix = plans[-1].mix
        for place in plans[-1].leaving:
            own.remove(next(offer for offer in own if offer.location == place))
        while len(own) < mix.own:
            hosting = tuple(offer.location for offer in own)
            request = Request(ON_SPOT, ("aws",), hosting=hosting, spot=service().spec.spot, crowding_usd=1.0)
            own.append(decide(request, market, NOW).ranked[0])
        standing_in = mix.fallback
    assert plans[-1] == plans[-2] == plans[-3]


# --- zones ------------------------------------------------------------------------------------------------------------


def test_losses_fade_and_those_of_one_event_are_one() -> None:
    """Two machines taken within 30 s count once; a loss a day later meets what is left of the first, 1/e."""
    spot = service().spec.spot
    known: tuple[ZoneMemory, ...] = ()
    for at in (0.0, 10.0, DAY_S):
        known = zones.lost(known, ZoneMemory(PLACES[0], NOW + at, Reason.PREEMPTED), PLACES, spot)
    assert known[0].losses == pytest.approx(1.3679, abs=1e-3)
    known = zones.lost(known, ZoneMemory(PLACES[0], NOW + 3 * DAY_S, Reason.NO_CAPACITY), PLACES, spot)
    assert known[0].losses == pytest.approx(1.3679, abs=1e-3)


def test_a_zone_that_refuses_is_asked_again_after_ever_longer_times() -> None:
    """60 s, 120 s, ... up to a quarter of an hour; a ready replica ends it. SkyServe's policy has no such thing."""
    spot = service().spec.spot
    held = []
    known: tuple[ZoneMemory, ...] = ()
    for number in range(8):
        known = zones.lost(known, ZoneMemory(PLACES[0], NOW + number, Reason.NO_CAPACITY), PLACES, spot)
        held += [refusal.until - refusal.since for refusal in zones.refusals(known, spot)]
    assert held == [60, 120, 240, 480, 900, 900, 900, 900]
    (latest,) = zones.refusals(known, spot)
    assert all(latest.blocks(one, NOW + 100) == (one.location == PLACES[0]) for one in offers(1, 1, 1))
    assert not latest.blocks(ON_DEMAND, NOW + 100)
    assert zones.refusals(zones.ready(known, PLACES[0]), spot) == ()
    assert zones.refusals(known, replace(spot, placer="dynamic_fallback")) == ()


def test_the_ceiling_of_risk_aware_has_room_for_its_insurance() -> None:
    """Three beyond the target, or as many as were asked for, and a stand-in for each replica of the target."""
    for extra, dynamic in product((0, 5), (False, True)):
        wanted = service(num_overprovision=extra, dynamic_ondemand_fallback=dynamic).spec
        assert ceiling(wanted) == 9 + max(3, extra) + 9 * dynamic + 1
