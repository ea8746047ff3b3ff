"""What a service remembers of zones, and in which one it buys the next spot machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import (
    SPOTHEDGE,
    CapacityType,
    Location,
    Offer,
    Reason,
    Requirement,
    ResourceRequest,
    SpotSpec,
    Unavailable,
    ZoneMemory,
)
from chalicelib.optimizer import Request, decide, on_demand, spot_zones, zones

NOW = 1_800_000_000.0
HEDGE = SpotSpec(placer=SPOTHEDGE)
A, B, C, D = PLACES = tuple(Location("aws", "r1", f"z{number}") for number in range(4))
ON_SPOT = ResourceRequest(((Requirement(use_spot=True),),))
KINDS = st.sampled_from([Reason.PREEMPTED, Reason.INTERRUPTED, Reason.NO_CAPACITY, Reason.LAUNCH_REFUSED])


def offer(place: Location, price: float, **changes: Any) -> Offer:
    return replace(Offer(place, "m", 4, 16, CapacityType.SPOT, price), **changes)


MARKET = tuple(offer(place, price) for place, price in zip(PLACES, (1.0, 1.2, 1.4, 1.6), strict=True))


def loss(place: Location, at: float = NOW, reason: Reason = Reason.PREEMPTED) -> ZoneMemory:
    return ZoneMemory(place, at, reason)


def after(*places: Location, among: Sequence[Location] = PLACES, spot: SpotSpec = HEDGE) -> tuple[ZoneMemory, ...]:
    """What is known after losses in `places`, a minute apart, the last one now."""
    known: tuple[ZoneMemory, ...] = ()
    for ago, place in zip(range(len(places) - 1, -1, -1), places, strict=True):
        known = zones.lost(known, loss(place, NOW - 60 * ago), among, spot)
    return known


def avoided(known: Sequence[ZoneMemory], spot: SpotSpec = HEDGE, now: float = NOW) -> set[Location]:
    return {*zones.preempting(known, PLACES, spot, now)}


def request(**changes: Any) -> Request:
    return replace(Request(ON_SPOT, ("aws", "gcp"), spot=HEDGE), **changes)


def chosen(**changes: Any) -> Location:
    found = decide(request(**changes), MARKET, NOW).chosen
    assert found is not None
    return found.location


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_loss_makes_a_zone_preempting_and_a_ready_replica_active() -> None:
    """Both events, and that each concerns its own zone only."""
    known = after(A, B)
    assert avoided(known) == {A, B}
    assert avoided(zones.ready(known, A)) == {B}
    assert avoided(zones.ready(known, C)) == {A, B}


def test_fewer_than_two_active_brings_all_back() -> None:
    """The third of four losses leaves one active zone: all are active again, and the next loss is the first."""
    known = after(A, B, C)
    assert avoided(known) == set()
    assert avoided(zones.lost(known, loss(D), PLACES, HEDGE)) == {D}


def test_memory_decays_only_when_asked_to() -> None:
    """SkyServe's holds for ever, as its process does; with `zone_memory_s` a loss is forgotten after that long."""
    known, forgetful = after(A), replace(HEDGE, zone_memory_s=3600.0)
    assert avoided(known, HEDGE, NOW + 1e7) == {A}
    assert avoided(known, forgetful, NOW + 3599) == {A}
    assert avoided(known, forgetful, NOW + 3600) == set()


@given(
    st.integers(1, 7),
    st.lists(
        st.tuples(st.sampled_from(["lost", "ready"]), st.integers(0, 8), KINDS, st.integers(0, 100_000)), max_size=30
    ),
    st.sampled_from([0.0, 3600.0]),
)
def test_the_two_sets_partition_z(number: int, happened: list[tuple[str, int, Reason, int]], memory_s: float) -> None:
    """After any events, of zones that are no longer offered too: |active| >= 2 if |Z| >= 2, nothing else is remembered."""
    among = {Location("aws", "r1", str(index)) for index in range(number)}
    spot, now = replace(HEDGE, zone_memory_s=memory_s), NOW
    known: tuple[ZoneMemory, ...] = ()
    for what, index, reason, passed_s in happened:
        now += passed_s
        place = Location("aws", "r1", str(index))
        known = (
            zones.lost(known, loss(place, now, reason), among, spot) if what == "lost" else zones.ready(known, place)
        )
        preempting = zones.preempting(known, among, spot, now)
        active = among - preempting
        assert preempting <= among
        assert len(active) >= min(2, number)
        assert len({one.place for one in known}) == len(known) <= number
        if what == "ready":
            assert place not in preempting


class SkyServes:
    """What SkyServe 0.14.1's placer does, in other words: the reference to compare with."""

    def __init__(self, prices: dict[Location, float]) -> None:
        self.prices, self.active = prices, set(prices)

    def lost(self, place: Location) -> None:
        self.active -= {place}
        if len(self.active) < 2:
            self.active = set(self.prices)

    def ready(self, place: Location) -> None:
        self.active |= {place}

    def chosen(self, hosting: Sequence[Location]) -> Location:
        return min(self.active - {*hosting} or self.active, key=self.prices.__getitem__)


@given(st.lists(st.tuples(st.sampled_from(["lost", "ready", "host"]), st.integers(0, 3)), max_size=40))
def test_every_choice_is_skyserve_s(happened: list[tuple[str, int]]) -> None:
    """Over any history of losses, ready replicas and launches the chosen zone is the one that SkyServe would choose."""
    reference = SkyServes({one.location: one.price_usd_per_hour for one in MARKET})
    known: tuple[ZoneMemory, ...] = ()
    hosting: list[Location] = []
    for number, (what, index) in enumerate(happened):
        place = PLACES[index]
        if what == "host":
            hosting.append(reference.chosen(hosting))
        elif what == "lost":
            known = zones.lost(known, loss(place, NOW + number), PLACES, HEDGE)
            reference.lost(place)
            hosting = [one for one in hosting if one != place]
        else:
            known = zones.ready(known, place)
            reference.ready(place)
        assert chosen(known=known, hosting=tuple(hosting)) == reference.chosen(hosting)


# --- placers ----------------------------------------------------------------------------------------------------------


def test_spothedge_takes_the_cheapest_active_zone_that_hosts_none() -> None:
    """Preempting zones last, hosts next to last, then by price; when all active ones host, the cheapest again."""
    assert chosen() == A
    assert chosen(hosting=(A,)) == B
    assert chosen(hosting=(A,), known=after(B)) == C
    assert chosen(hosting=PLACES) == chosen(hosting=(*PLACES, A, A)) == A


def test_spreading_goes_on_when_every_active_zone_hosts() -> None:
    """With `spread` the active zone with the fewest replicas comes next, where SkyServe piles them up in the cheapest."""
    assert chosen(hosting=(*PLACES, A, B), spot=replace(HEDGE, spread=True)) == C


def test_even_spread_counts_and_forgets() -> None:
    """The zone with the fewest of our replicas, whatever happened there."""
    spread = SpotSpec(placer="even_spread")
    assert chosen(hosting=(A, A, B, C), known=after(D), spot=spread) == D
    assert chosen(spot=spread) == A


def test_round_robin_goes_round() -> None:
    """One zone after the other in the order of their names, from the one tried last on."""
    turns = [A]
    for _ in range(5):
        turns.append(chosen(last=turns[-1], spot=SpotSpec(placer="round_robin")))
    assert all(PLACES.index(following) == (PLACES.index(one) + 1) % 4 for one, following in pairwise(turns))


def test_preferred_resources_come_before_a_better_zone_but_not_before_an_active_one() -> None:
    """A second choice is taken for the sake of an active zone, not to spread."""
    first, second = Requirement(use_spot=True, accelerators=(("H100", 1),)), Requirement(use_spot=True)
    h100 = offer(A, 9, accelerator="H100", accelerator_count=1)
    wanted = request(resources=ResourceRequest(((first,), (second,))))
    market = [h100, *MARKET]
    assert decide(replace(wanted, hosting=(A,)), market, NOW).chosen == h100
    other = decide(replace(wanted, known=after(A)), market, NOW)
    assert other.chosen == MARKET[1]
    assert "choice 2 of 2" in other.why


def test_refusals_hold_under_every_policy_but_skyserve_s() -> None:
    """SkyServe's asks again what has just refused, unless `zone_backoff` is on; no policy asks a cloud that knows us not."""
    sold_out = Unavailable("aws", "r1", A.zone, "m", "SPOT", Reason.NO_CAPACITY, "none", NOW - 5, NOW + 55)
    assert chosen(unavailable=(sold_out,)) == A
    for spot in (replace(HEDGE, zone_backoff=True), SpotSpec(), SpotSpec(placer="even_spread")):
        assert chosen(unavailable=(sold_out,), spot=spot) == B
    refused = replace(sold_out, region="", zone="", instance_type="", capacity_type="", reason=Reason.LAUNCH_REFUSED)
    assert decide(request(unavailable=(refused,)), MARKET, NOW).chosen is None


def test_who_asks_again_at_once_is_held_to_skyserve_s_pace() -> None:
    """After a refusal 20 s pass before the next spot launch; after a preemption none do, nor where zones back off."""
    refused, taken = [(loss(A, NOW, reason),) for reason in (Reason.NO_CAPACITY, Reason.PREEMPTED)]
    assert zones.paused_until(refused, HEDGE) == NOW + 20
    assert zones.paused_until(taken, HEDGE) == 0
    assert zones.paused_until(refused, replace(HEDGE, zone_backoff=True)) == 0


# --- prices -----------------------------------------------------------------------------------------------------------


def test_spot_near_the_on_demand_price_is_left_out() -> None:
    """Compared with the same machine on demand in its region, else where that is cheapest; without one it is kept."""
    here, there = offer(A, 2.0, capacity_type=CapacityType.ON_DEMAND), Location("aws", "r2", "y")
    elsewhere = offer(Location("aws", "r3", "x"), 4.0, capacity_type=CapacityType.ON_DEMAND)
    unknown = offer(Location("gcp", "r1", "w"), 50.0)
    market = [*MARKET, offer(there, 2.5), offer(there, 0.9, instance_type="other"), unknown, here, elsewhere]
    capped = request(spot=SpotSpec(max_spot_price_ratio=0.65))
    found = decide(capped, market, NOW)
    assert [one.price_usd_per_hour for one in found.ranked] == [0.9, 1.0, 1.2, 50.0]
    assert any(one.what == "3 spot offers" and "0.65" in one.why for one in found.rejected)
    assert spot_zones(capped, market) == (A, B, there, unknown.location)
    assert (
        "0.1 of the on-demand price"
        in decide(request(spot=SpotSpec(max_spot_price_ratio=0.1)), [*MARKET, here], NOW).why
    )


def test_a_stand_in_is_bought_where_it_is_cheapest() -> None:
    """On demand, within max_hourly_cost: what the owner would not pay for a replica is not paid for a stand-in."""
    on_offer = [offer(place, price, capacity_type=CapacityType.ON_DEMAND) for place, price in ((A, 3.0), (B, 2.5))]
    for most, expected in ((0.0, B), (2.7, B), (2.0, None)):
        wanted = ResourceRequest(((Requirement(use_spot=True, max_usd_per_hour=most),),))
        found = decide(Request(on_demand(wanted), ("aws",)), [*MARKET, *on_offer], NOW)
        assert (found.chosen.location if found.chosen else None) == expected
        assert found.chosen or "at most $2/h" in found.why
