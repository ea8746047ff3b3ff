"""Judges: they look at the cloud's machines and bill and at what routers are given, and never ask the code under test.

Its records are read to know what is claimed, and only where they prove it wrong: a record says who is known, how many are wanted
and why a machine went.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from chalicelib.model import (
    RISK_AWARE,
    BudgetSpec,
    Lease,
    Location,
    Reason,
    Replica,
    ReplicaStatus,
    ServiceSpec,
    ServiceStatus,
    State,
)
from chalicelib.ports import Commit

if TYPE_CHECKING:
    from sailplane.sim.cloud import Machine
    from sailplane.sim.world import Simulation

# A machine that costs money and that no record knows: an orphan is due after 60 s, a cloud may be down for another 60, and a pass
# that died holds its lease for as long.
UNKNOWN_MAX_S = 600.0
# What is left after `down`: a drain, a removal that nobody heard, a lease of somebody dead.
SHUT_DOWN_MAX_S = 900.0
# In this time a plane gets over a disturbance: a dead pass's lease lasts 60 s, another pass may have been held up for 80.
QUIET_S = 150.0
# A table naming a machine that is gone: a probe's interval when it is quiet.
STALE_TABLE_S = 15.0
STALE_TABLE_IN_A_STORM_S = 300.0
# Nobody ready though somebody is wanted and could be had. The launches' back-off ends at 600 s, a start that fails takes as long
# as its probe allows; and where spot machines were refused again and again, an hour goes by before they are asked for again.
UNREADY_MAX_S = 1800.0
REFUSED_AT_MOST_S = 3600.0
# How long after the last fault everything has to be exactly as it is wanted: as above, and a roll-out.
SETTLED_WITHIN_S = 1500.0
# A notice that was given so long before, to a plane that nobody disturbs, and still a client was sent there.
NOTICE_TAKEN_S = 20.0
# A version whose engine ends at once: a first round of all that are wanted, and others after 10, 20, 40, 80 and 160 s more; a
# crash may lose a failure's count, and weather take a machine that has not failed yet. 8 is the most in 261 worlds.
BROKEN_WITHIN_S = 600.0
BROKEN_LAUNCHES_MAX, BROKEN_RETRIES_MAX = 10, 7
# Calls for a machine that a zone may refuse in ten minutes. Who asks soonest, `dynamic_fallback` without back-off, asks every 20 s.
REFUSED_WITHIN_S = 600.0
REFUSALS_MAX = 60
# A launch without an answer is asked for again by the next pass, a second later.
PENDING_MAX_S = 5.0
# From the moment at which a pass looks at the load to the one at which it writes what follows from it.
SILENT_S = 5.0
# A pass that died before it shut a service down for its budget: its lease, and the next one's time.
LATE_S = 300.0
_CENT = 0.01
# A machine is booked from the intent to launch it until it is seen gone, which is longer than it is billed.
BOOKED_MORE = 1.1
SILENT_IN_A_STORM_S = 300.0
_FAULTS = (Reason.UNHEALTHY, Reason.ENGINE_EXITED, Reason.INITIAL_DELAY_EXCEEDED, Reason.PREEMPTED, Reason.LOST)


@dataclass
class Judges:
    """Verdicts go to the history."""

    world: Simulation
    started: Counter[str] = field(default_factory=Counter)  # machines, by replica id
    is_calm: bool = False  # the last fault is over and all has settled
    _bad_since: dict[tuple[str, str], float] = field(default_factory=dict)
    _ceiling: int = 0
    _token: int = 0  # of the lease that was taken last
    _leases: dict[int, int] = field(default_factory=dict)  # that passes under way have taken, by depth
    _last_routed: dict[str, float] = field(default_factory=dict)
    _broken_launches: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _refused: defaultdict[Location, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _accused: set[str] = field(default_factory=set)
    _is_auditing: bool = False
    _told: tuple[str, int] = ("", 0)  # uid and version of the service that the owner gave last
    _target: tuple[str, int, int] | None = None  # what the scaler wanted last: of which service, which version

    def verdict(self, text: str) -> None:
        """Say what is wrong, once."""
        if text not in self._accused:
            self._accused.add(text)
            self.world.note(f"VERDICT {text}")
            self.world.history.violations.append(f"{self.world.t:.1f} s: {text}")
            if self.world.scenario.ends_at_verdict:
                self.world.scheduler.end()

    # --- whenever anything has changed

    def look(self) -> None:
        """Compare what there is with what is claimed."""
        world = self.world
        state = world.state()
        replicas = state.replicas if state else ()
        known = {replica.id for replica in replicas}
        routed = {route.id: route.url for route in world.table.routes} if world.table else {}
        self._last_routed.update(dict.fromkeys(routed, world.t))
        if len({replica.slot for replica in replicas}) < len(replicas):
            self.verdict(f"two replicas in one slot: {sorted(known)}")
        for machine in world.machines:
            bad = machine.is_billed and machine.replica.id not in known
            self._must_end("unknown", machine.id, UNKNOWN_MAX_S, f"nobody knows {_named(machine)}", bad=bad)
            if bad:
                self._judge_unknown(machine)
            self._judge_boot(machine)
        self._judge_table(routed)
        self._judge_number(state)
        self._judge_target(state)
        if state and (state.service.uid, state.service.spec_version) < self._told:
            self.verdict(f"the owner's version {self._told[1]} is lost, there is {state.service.spec_version}")
        self._judge_readiness(state)

    def _judge_boot(self, machine: Machine) -> None:
        """Every state has a deadline: a machine whose agent never answers is not waited for."""
        limits = self.world.scenario.limits
        within_s = limits.pending_s + limits.provisioning_s + UNKNOWN_MAX_S
        bad = machine.is_alive and not machine.agent_up
        self._must_end("silent", machine.id, within_s, f"{_named(machine)} has never answered", bad=bad)

    def _judge_unknown(self, machine: Machine) -> None:
        """A replica is over only when its machine is."""
        record = self._record(machine.replica.id)
        if record and record.instance_id == machine.id and record.status is ReplicaStatus.TERMINATED:
            self.verdict(f"{_named(machine)} counts as gone and is not")

    def _must_end(self, what: str, who: str, within_s: float, text: str, *, bad: bool) -> None:
        """A state of affairs that may last for so long."""
        key = (what, who)
        if not bad:
            self._bad_since.pop(key, None)
        elif key not in self._bad_since:
            since = self._bad_since[key] = self.world.t
            self.world.at(since + within_s, partial(self._still, key, since, f"{text} for {within_s:g} s"))

    def _still(self, key: tuple[str, str], since: float, text: str) -> None:
        if self._bad_since.get(key) == since and (self._is_quiet or "quiet" not in key[0]):
            self.verdict(text)

    @property
    def _is_quiet(self) -> bool:
        return self.world.disturber.quiet_s > QUIET_S

    def _judge_table(self, routed: dict[str, str]) -> None:
        """A client must not be sent to a machine that is gone, whoever has its address now."""
        alive = {machine.replica.id: machine.url for machine in self.world.machines if machine.is_alive}
        for replica_id, url in routed.items():
            text, bad = f"routers are given {replica_id} at {url}, which is gone,", alive.get(replica_id) != url
            self._must_end("dead", replica_id, STALE_TABLE_IN_A_STORM_S, text, bad=bad)
            self._must_end("dead, it being quiet", replica_id, STALE_TABLE_S, text, bad=bad)
        for what, replica_id in [*self._bad_since]:
            if what.startswith("dead") and replica_id not in routed:
                del self._bad_since[what, replica_id]

    def _judge_number(self, state: State | None) -> None:
        """Machines that we pay for because we want to: not those that the cloud is taking."""
        known = {replica.id for replica in state.replicas} if state else set()
        owned = [
            machine
            for machine in self.world.machines
            if machine.is_billed and machine.replica.id in known and machine.interruption_at is None
        ]
        limit = _limit(state.service.spec) if state else 0
        # What was recorded before an update lowered the limit may still be carried out.
        self._ceiling = max(limit, min(self._ceiling, len(known)))
        if len(owned) > self._ceiling:
            self.verdict(f"{len(owned)} machines, {self._ceiling} allowed")

    def on_update(self, state: State) -> None:
        """The limit is about to change."""
        self._ceiling = max(self._ceiling, len(state.replicas))

    def on_version(self, uid: str, number: int) -> None:
        """The owner was told that this version of the service is stored."""
        self._told = uid, number

    def _judge_target(self, state: State | None) -> None:
        """Nobody reports, nobody knows: that is no reason to scale down, unless the bounds are others by now."""
        world, before = self.world, self._target
        service = state.service if state else None
        self._target = (service.uid, service.spec_version, service.scaler.target) if service else None
        if not (state and before and self._target and before[:2] == self._target[:2] and before[2] > self._target[2]):
            return
        silent_s = world.scheduler.time - world.reported_at
        patience_s = SILENT_S if world.disturber.quiet_s > SILENT_S else SILENT_IN_A_STORM_S
        if before[2] <= world.bounds(state)[1] and silent_s > world.scenario.limits.load_stale_after_s + patience_s:
            self.verdict(
                f"scaled down from {before[2]} to {self._target[2]}, routers being silent for {silent_s:.0f} s"
            )

    def _judge_readiness(self, state: State | None) -> None:
        is_judged = self.is_calm or not self.world.scenario.faults.is_storm
        should_serve = is_judged and state is not None and self._should_serve(state)
        bad = should_serve and not self.world.ready() and not (state and self._is_spent(state.service.spec))
        self._watch_readiness(bad=bad)

    def _should_serve(self, state: State) -> bool:
        """Whether somebody is wanted, of a version that works."""
        service = state.service
        is_wanted = not service.deleting and self.world.bounds(state)[0] > 0
        return (
            is_wanted
            and service.spec.fingerprint not in self.world.scenario.broken
            and not self._may_forbid(service.spec)
        )

    def _may_forbid(self, spec: ServiceSpec) -> bool:
        """Whether the file itself may forbid to buy what could be had."""
        per_hour = spec.budget.max_usd_per_hour
        too_little = per_hour is not None and per_hour < self.world.scenario.market.on_demand_usd_per_hour
        return too_little or spec.spot.max_spot_price_ratio is not None

    def _is_spent(self, spec: ServiceSpec) -> bool:
        """Whether the month's budget may keep a machine from being launched.

        It has no room then for an hour of all that runs and one more.
        """
        limit = spec.budget.max_usd_per_month
        if limit is None:
            return False
        billed = sum(one.offer.price_usd_per_hour for one in self.world.machines if one.is_billed)
        an_hour = billed + self.world.scenario.market.on_demand_usd_per_hour
        return self._usd_this_month() * BOOKED_MORE + an_hour > limit

    def _watch_readiness(self, *, bad: bool) -> None:
        key = ("unready", "")
        if not bad:
            self._bad_since.pop(key, None)
        elif key not in self._bad_since:
            self._bad_since[key] = self.world.t
            self.world.at(self.world.t + UNREADY_MAX_S, partial(self._still_unready, self.world.t))

    def _still_unready(self, since: float) -> None:
        """Nobody is ready. Was there a zone that could have held a machine all that time?"""
        now = self.world.t
        self._judge_readiness(self.world.state())  # the money may have come to its end meanwhile
        if self._bad_since.get(("unready", "")) != since:
            return
        if self._could_have(since, now, UNREADY_MAX_S):
            self.verdict(f"nobody has been ready for {now - since:.0f} s, and machines could be had")
        else:
            self.world.at(now + 600, partial(self._still_unready, since))

    def _could_have(self, since: float, now: float, enough_s: float) -> bool:
        spec = self.world.scenario.spec
        if not _is_spot(spec) or spec.spot.dynamic_ondemand_fallback or spec.spot.base_ondemand_fallback_replicas:
            return True
        longest = max(
            (_room_s(zone.capacity, zone.step_s, since, now) for zone in self.world.scenario.market.zones), default=0.0
        )
        return longest >= enough_s + REFUSED_AT_MOST_S

    # --- machines

    def on_start(self, machine: Machine) -> None:
        """A machine was started: for a replica that has none, and as its record says."""
        replica = machine.replica
        self.started[replica.id] += 1
        if self.started[replica.id] > 1:
            self.verdict(f"two machines for {replica.id}")
        record = self._record(replica.id)
        booked = record and (record.offer.location, record.offer.instance_type, record.offer.capacity_type)
        billed = (machine.offer.location, machine.offer.instance_type, machine.offer.capacity_type)
        if booked != billed:
            self.verdict(f"{_named(machine)} is billed as {billed} and booked as {booked}")
        if replica.fingerprint in self.world.scenario.broken:
            self._judge_broken(replica)
        self._judge_launch_paid(replica)

    def on_refusal(self, place: Location) -> None:
        """A zone that has nothing is left alone for a while, or clouds throttle who asks."""
        refused = self._refused[place]
        refused.append(self.world.t)
        while refused[0] <= self.world.t - REFUSED_WITHIN_S:
            refused.popleft()
        if len(refused) > REFUSALS_MAX:
            self.verdict(f"{place} has refused more than {REFUSALS_MAX} launches within {REFUSED_WITHIN_S:g} s")

    def _judge_broken(self, replica: Replica) -> None:
        launches = self._broken_launches[f"{replica.id.rsplit('-', 2)[0]} {replica.spec_version}"]
        launches.append(self.world.t)
        state = self.world.state()
        first_round = _limit(state.service.spec) if state else 0
        most = max(BROKEN_LAUNCHES_MAX, first_round + BROKEN_RETRIES_MAX)
        if sum(self.world.t - at < BROKEN_WITHIN_S for at in launches) > most:
            self.verdict("a broken version is launched again and again")

    def _judge_launch_paid(self, launched: Replica) -> None:
        """docs/service-yaml.md: nothing is launched beyond the hour's limit, or when the month's money is spent.

        What a pass launches that was held up for minutes, and what nobody knows any more, is an orphan and goes as one.
        """
        state = self.world.state()
        known = {replica.id for replica in state.replicas} if state else set()
        if state is None or launched.id not in known:
            return
        limit, billed = state.service.spec.budget, [one for one in self.world.machines if one.is_billed]
        usd_per_hour = sum(one.offer.price_usd_per_hour for one in billed if one.replica.id in known)
        if limit.max_usd_per_hour is not None and usd_per_hour > limit.max_usd_per_hour + _CENT:
            self.verdict(f"${usd_per_hour:.2f} an hour, of ${limit.max_usd_per_hour:.2f}")
        if limit.max_usd_per_month is not None and (spent := self._usd_this_month()) > limit.max_usd_per_month:
            self.verdict(f"a launch when ${spent:.2f} were spent, of ${limit.max_usd_per_month:.2f} a month")
        if limit.max_usd_per_month is not None and limit.shut_down and not self._is_auditing:
            self._is_auditing = True
            self._judge_month()

    def _judge_month(self) -> None:
        """Again every hour: a budget that shuts down is kept, but for what a disturbed plane takes to notice."""
        state = self.world.state()
        limit = state.service.spec.budget.max_usd_per_month if state else None
        late_usd = LATE_S / 3600 * sum(one.offer.price_usd_per_hour for one in self.world.machines if one.is_billed)
        if limit is not None and (spent := self._usd_this_month()) > limit + late_usd + _CENT:
            self.verdict(f"${spent:.2f} spent, of ${limit:.2f} a month")
        self.world.at(self.world.t + 3600, self._judge_month)

    def _usd_this_month(self) -> float:
        """All machines', at the price that each was started at."""
        now = self.world.scheduler.time
        month = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
        return sum(
            machine.offer.price_usd_per_hour
            * max(0.0, (machine.ended_at or now) - max(machine.started_at, month))
            / 3600
            for cloud in self.world.clouds.values()
            for machine in cloud.machines.values()
        )

    def _record(self, replica_id: str) -> Replica | None:
        history = self.world.store.history(replica_id.rsplit("-", 3)[0])
        return next((replica for replica in history if replica.id == replica_id), None)

    def on_removal(self, machine: Machine) -> None:
        """By us. A machine that is well goes only for a good reason, unrouted, and with its requests done."""
        world, replica_id = self.world, machine.replica.id
        record = self._record(replica_id)
        world.note(f"removed {replica_id} {record.status if record else ''} {record.reason if record else ''}")
        if machine.exit_code is not None or machine.interruption_at is not None:
            return
        is_at_fault = record is not None and record.reason in _FAULTS
        if is_at_fault and record and record.instance_id and not machine.is_hurt:
            self.verdict(f"{replica_id} was well and removed as {record.reason}")
        if not is_at_fault:
            self._judge_drain(machine)

    def _judge_drain(self, machine: Machine) -> None:
        world, replica_id = self.world, machine.replica.id
        if replica_id in {route.id for route in world.table.routes} if world.table else False:
            self.verdict(f"{replica_id} was removed while it was routed")
        unrouted_s = world.t - self._last_routed.get(replica_id, -math.inf)
        state = world.state()
        drain_s = state.service.spec.drain_timeout_s if state else math.inf
        in_flight = world.edge.in_flight(machine, world.scheduler.time)
        if in_flight and unrouted_s < drain_s - 5:
            self.verdict(f"{replica_id} was removed with requests in it, {unrouted_s:.0f} s after its last")

    # --- a pass

    def judged(self, look: Callable[[], None]) -> None:
        """Run a pass and compare what it found with what it leaves."""
        world = self.world
        began, before, acts, disturbances = world.t, world.state(), world.acts, world.disturber.disturbances
        changes = world.driver.changes
        look()
        if world.driver.changes == changes:
            return
        after = world.state()
        if before and after and world.acts == acts:
            self._judge_roll_out(before, after, began)
        if after and world.disturber.disturbances == disturbances and not world.disturber.depth:
            self._judge_undisturbed(after)

    def _judge_roll_out(self, before: State, after: State, began: float) -> None:
        """Whoever was READY and has to make room for a newer version leaves as many READY as are wanted, or as there were."""
        now_as = {replica.id: replica for replica in after.replicas}
        served = [now_as.get(replica.id) for replica in before.replicas if replica.status is ReplicaStatus.READY]
        ready = sum(replica.status is ReplicaStatus.READY for replica in after.replicas)
        hurt = {machine.replica.id for machine in self.world.machines if machine.is_hurt or machine.interruption_at}
        replaced = sum(one is not None and one.reason is Reason.REPLACED and one.id not in hurt for one in served)
        gone = len(served) - replaced - sum(one is not None and one.status is ReplicaStatus.READY for one in served)
        # Another pass in the middle of this one may have scaled down, and up again.
        meanwhile = (
            step.target for step in takewhile(lambda step: step.t >= began, reversed(self.world.history.steps))
        )
        enough = min(len(served), before.service.scaler.target, *meanwhile)
        if replaced and ready + gone < enough:
            self.verdict(f"a roll-out leaves {ready} of {enough} ready")

    def _judge_undisturbed(self, state: State) -> None:
        """What a pass that nobody interferes with leaves behind, unless another one's lease is still in its way."""
        world = self.world
        if world.store.is_leased(state.service.name):
            return
        ready = sorted(replica.id for replica in state.replicas if replica.status is ReplicaStatus.READY)
        routed = sorted(route.id for route in world.table.routes) if world.table else []
        if ready != routed:
            self.verdict(f"the table is {routed}, and ready are {ready}")
        for replica in state.replicas:
            waits_s = world.scheduler.time - replica.status_since
            if replica.status is ReplicaStatus.PENDING and waits_s > PENDING_MAX_S and self._is_quiet:
                self.verdict(f"{replica.id} has not been asked for in {waits_s:.0f} s")
        machines = {machine.replica.id: machine for machine in world.machines}
        for replica_id in routed:
            machine = machines.get(replica_id)
            if machine is None or not machine.serves:
                self.verdict(f"{replica_id} is routed and does not serve")
            elif machine.is_told_by_agent:
                self.verdict(f"{replica_id} is routed, and its agent says that it will be taken")

    def on_told(self, machine: Machine) -> None:
        """The plane has been told that this machine will be taken, by an event."""
        self.world.at(self.world.t + NOTICE_TAKEN_S, partial(self._judge_notice, machine))

    def _judge_notice(self, machine: Machine) -> None:
        routed = {route.id for route in self.world.table.routes} if self.world.table else set()
        if self._is_quiet and machine.replica.id in routed:
            self.verdict(f"{machine.replica.id} is routed {NOTICE_TAKEN_S:g} s after the cloud's notice")

    # --- writes

    def on_pass(self, depth: int) -> None:
        """A pass begins, between the calls of `depth` others."""
        self._leases.pop(depth, None)

    def on_lease(self, lease: Lease) -> None:
        """A lease was taken."""
        self._token = lease.token

    def on_call(self, call: str, depth: int) -> None:
        """A pass's call has come back with an answer."""
        if call == "acquire_lease":
            self._leases[depth] = self._token
        elif call == "commit" and self._leases.get(depth) != self._token and not _is_notice(self.world.last_commit):
            self.verdict("a pass wrote without a lease, or after its lease had been taken over")

    # --- the end

    def on_delete(self, uid: str) -> None:
        """The owner has shut the service down."""
        at = self.world.t
        self.world.at(at + SHUT_DOWN_MAX_S, partial(self._judge_shut_down, uid))

    def _judge_shut_down(self, uid: str) -> None:
        left = [_named(one) for one in self.world.machines if one.is_billed and f"-{uid}-" in one.replica.id]
        if left:
            self.verdict(f"{SHUT_DOWN_MAX_S:g} s after its service was shut down there is {', '.join(left)}")
        state = self.world.state()
        if state and state.service.uid == uid:
            replicas = [f"{replica.id} {replica.status}" for replica in state.replicas]
            self.verdict(f"{SHUT_DOWN_MAX_S:g} s after it was shut down there is the service, with {replicas}")

    def settle(self) -> None:
        """The last fault is over, and the owner's last word said: in a while everything has to be exactly as wanted."""
        self.world.at(self.world.t + settled_within_s(self.world.scenario.spec), self._judge_settled)

    def _judge_settled(self) -> None:
        self.is_calm = True
        if (trouble := self._unsettled()) != "":
            self.verdict(f"not as wanted: {trouble}")
        self.world.at(self.world.t + 60, partial(self._judge_rest, sorted(self._alive())))

    def _judge_rest(self, machines: list[str]) -> None:
        state = self.world.state()
        follows_the_market = state is not None and state.service.spec.spot.placer == RISK_AWARE
        if not follows_the_market and sorted(self._alive()) != machines:
            self.verdict(f"no rest: machines were {machines} and are {sorted(self._alive())}")
        if (trouble := self._unsettled()) != "":
            self.verdict(f"not as wanted any more: {trouble}")

    def _alive(self) -> list[str]:
        return [machine.id for machine in self.world.machines if machine.is_billed]

    def _unsettled(self) -> str:
        state = self.world.state()
        if state is None or state.service.deleting:
            return ""
        spec, target = state.service.spec, self.world.wanted_replicas(state)
        fewest, most = _mix(spec, target)
        ready = {machine.replica.id: machine.replica.fingerprint for machine in self.world.ready()}
        alive, known = len(self._alive()), len(state.replicas)
        if spec.budget != BudgetSpec():  # it may have room for nobody, or for no second one beside an old version
            return f"{most} wanted at most, {alive} billed" if alive > most else ""
        if not fewest <= len(ready) <= most or set(ready.values()) - {spec.fingerprint}:
            return f"{fewest} to {most} wanted, ready {ready}, {[f'{one.id} {one.status}' for one in state.replicas]}"
        if fewest == most and not known == alive == most:
            return f"{most} wanted, {known} recorded, {alive} billed"
        told = self.world.table.status if self.world.table else None
        if told is not (ServiceStatus.READY if target else ServiceStatus.IDLE):
            return f"{target} wanted and ready, and routers are told {told}"
        return ""


def _is_notice(commit: Commit) -> bool:
    """What a cloud says of a machine is written down by whoever hears it."""
    of_service = commit.service is not None or commit.table is not None or bool(commit.unavailable)
    return not of_service and all(one.interruption_at is not None or one.is_at_risk for one in commit.replicas)


def settled_within_s(spec: ServiceSpec) -> float:
    """How long after the last fault everything has to be exactly as it is wanted."""
    return SETTLED_WITHIN_S + (REFUSED_AT_MOST_S if _is_spot(spec) else 0.0)


def _is_spot(spec: ServiceSpec) -> bool:
    return any(requirement.use_spot for group in spec.resources.groups for requirement in group)


def _named(machine: Machine) -> str:
    return f"machine {machine.id} of {machine.replica.id}"


def _mix(spec: ServiceSpec, target: int) -> tuple[int, int]:
    """The fewest and the most replicas when all that is spot is ready: the table of docs/spot.md.

    `risk_aware` has up to three beyond the target and, with the fallback, up to the target on demand.
    """
    spot = spec.spot
    if target == 0:
        return 0, 0
    if not _is_spot(spec):
        return target + spot.num_overprovision, target + spot.num_overprovision
    base = spot.base_ondemand_fallback_replicas
    fewest = max(0, target + spot.num_overprovision - base) + min(target, base)
    if spot.placer != RISK_AWARE:
        return fewest, fewest
    beyond = max(3, spot.num_overprovision) - spot.num_overprovision
    return target + spot.num_overprovision, fewest + beyond + (target if spot.dynamic_ondemand_fallback else 0)


def _limit(spec: ServiceSpec) -> int:
    """The most machines that we may pay for: the table of docs/spot.md with nobody ready at the largest target, and the surge."""
    spot, scaling = spec.spot, spec.scaling
    target = max([scaling.max_replicas, *(entry.max_replicas or 0 for entry in scaling.schedule)])
    if not _is_spot(spec):
        return target + spot.num_overprovision + spec.max_surge
    base = spot.base_ondemand_fallback_replicas
    extra = max(3, spot.num_overprovision) if spot.placer == RISK_AWARE else spot.num_overprovision
    own = max(0, target + extra - base)
    return own + min(target, base + (own if spot.dynamic_ondemand_fallback else 0)) + spec.max_surge


def _room_s(capacity: tuple[int, ...], step_s: float, since: float, now: float) -> float:
    """The longest time between two instants, the later one included, for which a zone could hold a machine without a break."""
    longest = current = 0.0
    t = since
    while t < now:
        end = min(now, (1 + t // step_s) * step_s)
        free = capacity[min(int(t // step_s), len(capacity) - 1)] > 0
        current = current + end - t if free else 0.0
        longest, t = max(longest, current), end
    return longest
