"""Spot replicas and those that stand in for them: the shipped passes end to end, in virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import passes
from chalicelib.lifecycle import service_status
from chalicelib.model import (
    RISK_AWARE,
    SPOTHEDGE,
    CapacityType,
    InterruptionNotice,
    Location,
    NoticeKind,
    Reason,
    Replica,
    ReplicaStatus,
    ServiceSpec,
    ServiceStatus,
)
from tests.fakes import FakeClock, FakeCloud, World, on_spot, spec, spot_offers

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
READY = ReplicaStatus.READY
ZONES = ("a", "b", "c", "d")
EVERYWHERE = frozenset(Location("local", "here", zone) for zone in ZONES)


def hedged(replicas: int = 3, extra: int = 0, *, fingerprint: str = "v1", **policy: Any) -> ServiceSpec:
    """SpotHedge over a fixed number of replicas."""
    bounds = {"min_replicas": replicas, "max_replicas": replicas}
    ours = {"placer": SPOTHEDGE, "dynamic_ondemand_fallback": True, "num_overprovision": extra, **policy}
    return on_spot(spec(fingerprint, **bounds), **ours)


def world(wanted: ServiceSpec | None = None, *, ticks: int = 6, **cloud: Any) -> World:
    made = World(cloud=FakeCloud(FakeClock(), **cloud), market=spot_offers(*ZONES))
    made.create(wanted=wanted or hedged())
    made.tick(ticks)
    return made


def kinds(w: World, status: ReplicaStatus = READY) -> dict[CapacityType, int]:
    return dict(Counter(replica.offer.capacity_type for replica in w.replicas(status)))


def spot_in(w: World, zone: str) -> Replica:
    return next(r for r in w.replicas() if r.offer.location.zone == zone and r.offer.capacity_type is SPOT)


def preempting(w: World) -> set[str]:
    return {one.place.zone for one in w.state().service.zones if one.is_preempting}


def test_stand_ins_bridge_the_start_and_go() -> None:
    """While no spot replica is ready, as many on demand are asked for; once they are, none is left and none served for long."""
    w = world(ready_at_once=False, ticks=2)
    assert Counter(r.offer.capacity_type for r in w.replicas()) == {SPOT: 3, ON_DEMAND: 3}
    assert {r.offer.location.zone for r in w.replicas() if r.offer.capacity_type is SPOT} == {"a", "b", "c"}
    for machine in w.cloud.machines.values():
        machine.ready = True
    w.tick(3)
    assert kinds(w) == {SPOT: 3}
    w.tick(40)
    assert len(w.cloud.machines) == 3
    assert w.routed() == sorted(w.cloud.machines)


def test_a_preempted_replica_is_bridged_and_replaced_elsewhere() -> None:
    """The zone is preempting in the store, an on-demand replica stands in until the spot one, elsewhere, is ready."""
    w = world(ticks=40)
    w.cloud.ready_at_once = False
    del w.cloud.machines[spot_in(w, "a").id]
    w.tick(2)
    assert preempting(w) == {"a"}
    (replacement,) = [
        r for r in w.replicas() if r.offer.capacity_type is SPOT and r.status is not READY and not r.reason
    ]
    assert replacement.offer.location.zone == "d"
    (stand_in,) = [r for r in w.replicas() if r.offer.capacity_type is ON_DEMAND]
    w.cloud.machines[stand_in.id].ready = True
    w.tick()
    assert kinds(w) == {SPOT: 2, ON_DEMAND: 1}
    w.cloud.machines[replacement.id].ready = True
    w.tick(2)
    assert kinds(w) == {SPOT: 3}
    w.tick(40)
    assert len(w.cloud.machines) == 3
    assert preempting(w) == {"a"}  # nobody has been ready there since


def test_a_ready_replica_brings_its_zone_back() -> None:
    """With two zones left of four the third loss brings all back, and the first ready replica ends a zone's bad name."""
    w = world(ticks=40, sold_out={Location("local", "here", "d")})
    w.cloud.sold_out.clear()
    for zone in ("a", "b"):
        del w.cloud.machines[spot_in(w, zone).id]
        w.tick(40)
    assert kinds(w) == {SPOT: 3}
    zones = w.state().service.zones
    assert {one.place.zone for one in zones if one.failures == 0} <= {
        one.place.zone for one in zones if not one.is_preempting
    }
    assert preempting(w) <= {"a", "b"}


def test_without_spot_anywhere_on_demand_serves() -> None:
    """The target is served on demand and the service is READY; spot is asked for at SkyServe's pace, and taken when it is back."""
    w = world(hedged(extra=1), sold_out={*EVERYWHERE}, ticks=6)
    assert kinds(w) == {ON_DEMAND: 3}
    assert service_status(w.state().service, w.state().replicas, w.clock.now())[0] is ServiceStatus.READY
    before = w.state().service.last_generation
    w.tick(300)
    asked = w.state().service.last_generation - before
    assert 2 * 300 / 20 <= asked <= 4 * (300 / 20 + 1)  # two zones at the least are active, four at most
    w.cloud.sold_out.clear()
    w.tick(60)
    assert kinds(w) == {SPOT: 4}
    assert len(w.cloud.machines) == 4


def test_a_zone_that_refused_is_asked_for_one_machine_at_a_time() -> None:
    """Every 20 s once for each zone, however many are missing; what one gives, the next pass asks for again. `why` tells."""
    w = World(cloud=FakeCloud(FakeClock(), sold_out={*EVERYWHERE}), market=spot_offers("a", "b"))
    w.create(wanted=hedged(5, dynamic_ondemand_fallback=False))
    w.tick()
    assert w.state().service.last_generation == 5  # nobody knew
    w.tick(200)
    assert 200 / 20 <= (w.state().service.last_generation - 5) / 2 <= 200 / 20 + 1
    w.clock.advance(20)
    assert "asked for one at a time" in "\n".join(passes.preview(w.runtime, "svc"))
    w.cloud.sold_out.clear()
    w.tick(4)
    assert len(w.cloud.machines) == 5


def test_a_service_of_its_own_making_s_failure_keeps_what_is_known_of_zones() -> None:
    """An engine that exits and a machine that is taken in one pass: the back-off is written, and so is the loss."""
    w = world(ticks=40)
    first, second = spot_in(w, "a"), spot_in(w, "b")
    del w.cloud.machines[first.id]
    w.cloud.machines[second.id].exit_code = 1
    w.tick()
    assert w.state().service.backoff.failures == 1
    assert preempting(w) == {"a"}


def test_a_base_is_always_on_demand() -> None:
    """One of three replicas on demand, the others on spot, and nothing else once all are ready."""
    w = world(hedged(base_ondemand_fallback_replicas=1), ticks=40)
    assert kinds(w) == {SPOT: 2, ON_DEMAND: 1}


def test_more_on_demand_takes_no_serving_replica_away_before_it_is_ready() -> None:
    """An update that raises the base: the spot replica goes when its on-demand successor serves."""
    w = world(ticks=40)
    w.cloud.ready_at_once = False
    w.update(hedged(base_ondemand_fallback_replicas=1))
    w.tick(5)
    assert kinds(w) == {SPOT: 3}
    for machine in w.cloud.machines.values():
        machine.ready = True
    w.tick(40)
    assert kinds(w) == {SPOT: 2, ON_DEMAND: 1}


def test_a_roll_out_does_not_wait_for_spot() -> None:
    """With a spot market that has nothing the new version replaces the old on demand, never below what is wanted."""
    w = world(ticks=40)
    w.cloud.sold_out |= EVERYWHERE
    w.update(hedged(fingerprint="v2"))
    most = 0
    for _ in range(120):
        w.tick()
        assert len(w.replicas(READY)) >= 3
        most = max(most, sum(replica.status.is_active for replica in w.replicas()))
    assert {(r.fingerprint, r.offer.capacity_type) for r in w.replicas(READY)} == {("v2", ON_DEMAND)}
    assert most == 4  # one at a time


def test_switching_the_fallback_off_keeps_who_serves_until_spot_is_ready() -> None:
    """The last ready capacity is never drained for the sake of a mix."""
    w = world(sold_out={*EVERYWHERE})
    w.update(hedged(dynamic_ondemand_fallback=False))
    w.tick(60)
    assert kinds(w) == {ON_DEMAND: 3}
    w.cloud.sold_out.clear()
    w.tick(120)
    assert kinds(w) == {SPOT: 3}


def test_scaled_to_zero_keeps_nothing() -> None:
    """Neither what is beyond the target nor a stand-in outlives the target."""
    w = world(ticks=40)
    parked = hedged(extra=2)
    w.update(replace(parked, scaling=replace(parked.scaling, min_replicas=0, max_replicas=0)))
    w.tick(60)
    assert not w.cloud.machines


def test_no_spot_and_no_fallback_is_told() -> None:
    """Without stand-ins the service waits; `why` says what was refused, and which zones are avoided since when."""
    w = world(hedged(dynamic_ondemand_fallback=False, zone_memory_s=600.0), sold_out={*EVERYWHERE}, ticks=3)
    assert not w.cloud.machines
    text = "\n".join(passes.preview(w.runtime, "svc"))
    assert "the next spot launch in" in text
    w = world(ticks=40)
    del w.cloud.machines[spot_in(w, "a").id]
    w.tick(7)
    assert f"preempting zones: local/here/a for 6 s ({Reason.PREEMPTED}" in "\n".join(passes.preview(w.runtime, "svc"))


def rebalance(w: World, replica: Replica) -> None:
    now = w.clock.now()
    passes.interrupt(w.runtime, (InterruptionNotice("local", NoticeKind.REBALANCE, now, replica_id=replica.id),))


@pytest.mark.parametrize("placer", ["", SPOTHEDGE, RISK_AWARE])
def test_a_replica_at_risk_is_replaced_before_it_goes(placer: str) -> None:
    """With `replace_on_rebalance`: another zone's replica first, at no time fewer ready, and the one at risk drained at the end."""
    w = world(hedged(placer=placer, replace_on_rebalance=True), ticks=40)
    at_risk, number = w.replicas()[0], len(w.replicas())
    w.cloud.ready_at_once = False
    rebalance(w, at_risk)
    rebalance(w, at_risk)
    w.tick(3)
    assert len(w.replicas(READY)) == number
    successors = [r for r in w.replicas() if r.status is not READY]
    assert successors
    assert at_risk.offer.location not in {r.offer.location for r in successors}
    for successor in successors:
        w.cloud.machines[successor.id].ready = True
    for _ in range(40):
        w.tick()
        assert len(w.replicas(READY)) >= 3
    assert at_risk.id not in w.cloud.machines
    assert placer == RISK_AWARE or len(w.cloud.machines) == number == 3


def test_a_replica_at_risk_stays_unless_asked_for() -> None:
    """Without the field a rebalance recommendation is an event and no more."""
    w = world(ticks=40)
    rebalance(w, w.replicas()[0])
    w.tick(5)
    assert w.state().service.last_generation == 6
    assert any("may soon take its machine; it stays" in event.message for event in w.store.events("svc"))


# --- risk_aware -------------------------------------------------------------------------------------------------------


def test_a_warning_of_an_on_demand_machine_starts_nothing() -> None:
    """It was counted as a spot machine to be replaced, and each replacement as one too many: a launch every few seconds."""
    w = world(hedged(base_ondemand_fallback_replicas=1, replace_on_rebalance=True), ticks=40)
    rebalance(w, next(r for r in w.replicas() if r.offer.capacity_type is ON_DEMAND))
    started = w.cloud.started.total()
    w.tick(60)
    assert w.cloud.started.total() == started
    assert kinds(w) == {SPOT: 2, ON_DEMAND: 1}


def careful(replicas: int = 3, **policy: Any) -> ServiceSpec:
    return hedged(replicas, placer=RISK_AWARE, **policy)


def slow_world() -> World:
    """Replicas take 50 s to become ready, which makes their loss worth insuring."""
    w = world(careful(), ready_at_once=False, ticks=2)
    become_ready(w)
    return w


def become_ready(w: World) -> None:
    """All that is on its way, 50 s from now."""
    w.tick(10, every_s=5)
    for machine in w.cloud.machines.values():
        machine.ready = True
    w.tick(2)


def test_risk_aware_starts_insured_and_gives_the_insurance_up_when_it_has_been_quiet() -> None:
    """More than the target at first, in zones of their own; two days later, with nothing lost, the target and no more."""
    w = slow_world()
    w.tick(40)
    assert len(w.replicas(READY)) > 3
    assert {r.offer.location.zone for r in w.replicas() if r.offer.capacity_type is SPOT} == {*ZONES}
    w.clock.advance(2 * 86_400)
    w.tick(60)
    assert kinds(w) == {SPOT: 3}
    assert len(w.cloud.machines) == 3


def test_risk_aware_never_drains_what_it_still_needs() -> None:
    """A loss at rest: replaced and insured, and nobody serving goes before all that is planned is ready."""
    w = slow_world()
    w.clock.advance(2 * 86_400)
    w.tick(60)
    del w.cloud.machines[w.replicas()[0].id]
    for _ in range(5):
        w.tick()
        assert len(w.replicas(READY)) == 2
    assert len(w.state().replicas) > 3
    become_ready(w)
    w.tick(60)
    assert len(w.replicas(READY)) >= 3
    assert len(w.state().replicas) == len(w.cloud.machines) == len(w.replicas(READY))


def test_risk_aware_leaves_zones_that_refuse_alone() -> None:
    """A market that has nothing is asked again after 60 s, then 120 s...: 7 times an hour and not 180; on demand serves."""
    w = world(careful(), sold_out={*EVERYWHERE}, ticks=10)
    assert kinds(w) == {ON_DEMAND: 3}
    before = w.state().service.last_generation
    w.tick(720, every_s=5)
    assert w.state().service.last_generation - before <= 4 * 7
    w.cloud.sold_out.clear()
    w.tick(480, every_s=5)
    assert kinds(w).get(SPOT, 0) >= 3


def test_risk_aware_at_rest_writes_nothing() -> None:
    """Once its plan is carried out a pass writes nothing, though it looks at the market."""
    w = world(careful(), ticks=60)
    before = (w.state(), w.store.events("svc"))
    w.tick(5)
    assert (w.state(), w.store.events("svc")) == before


def test_risk_aware_rolls_out_and_scales() -> None:
    """A new version replaces the old without a replica missing; a lower target is followed."""
    w = world(careful(), ticks=40)
    w.update(careful(fingerprint="v2"))
    for _ in range(120):
        w.tick()
        assert len(w.replicas(READY)) >= 3
    assert {r.fingerprint for r in w.replicas()} == {"v2"}
    w.update(careful(1, fingerprint="v2"))
    w.tick(60)
    assert 1 <= len(w.replicas(READY)) <= 4
    assert len(w.cloud.machines) == len(w.replicas(READY))
