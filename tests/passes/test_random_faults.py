"""Hundreds of ticks under random faults, in virtual time; the judges are the cloud's own machines and the routing table.

A storm interferes before and after every single call of a port: the process dies, the answer is lost, time passes, another
pass or the owner comes between. Meanwhile machines die, hang, exit, are interrupted, and the cloud refuses or is down. Then
the weather clears, and everything has to come to exactly what is wanted, and after `delete` to nothing.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import pytest

from chalicelib import lifecycle, passes
from chalicelib.errors import Conflict, LeaseHeld, NoCapacity, QuotaExceeded, Unauthorized, Unreachable
from chalicelib.model import (
    RISK_AWARE,
    SPOTHEDGE,
    CapacityType,
    Instance,
    InstanceStatus,
    InterruptionNotice,
    LaunchRequest,
    Limits,
    Location,
    NoticeKind,
    Reason,
    Replica,
    ReplicaStatus,
    ServiceSpec,
    ServiceStatus,
    SpecVersion,
    State,
)
from chalicelib.ports import Commit
from tests.fakes import FakeClock, FakeCloud, Interposed, Machine, World, on_spot, spec, spot_offers

SEEDS = 150
STORM_TICKS = 150
# In clear weather: a lease (30 s), a back-off at its cap (600 s), a drain (30 s), a start that fails (60 s), and some more.
SETTLED_WITHIN_S = 1_200.0
# In a storm; an orphan is due after 60 s.
UNKNOWN_MAX_S = 400.0
FAULTS = (Reason.UNHEALTHY, Reason.ENGINE_EXITED, Reason.INITIAL_DELAY_EXCEEDED, Reason.PREEMPTED, Reason.LOST)
BROKEN = "broken"
ZONES = ("a", "b", "c")
LIMITS = Limits(pending_s=60, provisioning_s=90)


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Cloud(FakeCloud):
    """Lists late, and knows the ids it has served before as EC2 knows a client token."""

    launched: Callable[[Replica, Machine], None] = lambda _replica, _machine: None
    removed: Callable[[Machine], None] = lambda _machine: None
    ended: dict[str, Instance] = field(default_factory=dict)

    def list_instances(self) -> tuple[Instance, ...]:
        return tuple(instance for instance in super().list_instances() if self.is_listed(instance))

    def launch(self, request: LaunchRequest) -> Instance:
        ended = self.ended.get(request.replica.id)
        if ended and not self.down:
            return replace(ended, status=InstanceStatus.GONE)
        return super().launch(request)

    def _start(self, replica: Replica) -> None:
        super()._start(replica)
        self.launched(replica, self.machines[replica.id])

    def terminate(self, replica_id: str, instance_id: str) -> None:
        machine = self.machines.get(replica_id)
        if machine and not self.down:
            if not instance_id and not self.is_listed(machine.instance):
                return  # looked for by its tag, which is found as late as it is listed
            self.removed(machine)
            self.ended[replica_id] = machine.instance
        super().terminate(replica_id, instance_id)

    def take(self, replica_id: str) -> None:
        """Without a word."""
        self.ended[replica_id] = self.machines.pop(replica_id).instance

    def is_listed(self, instance: Instance) -> bool:
        return self.clock.now() - instance.created_at >= self.listing_lag_s


class Storm:
    """One seed's world and all that happens to it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.clock = FakeClock()
        lag_s = self.random.choice((0.0, 0.0, 15.0))
        self.cloud = Cloud(self.clock, listing_lag_s=lag_s, launched=self.on_launch, removed=self.judge_removal)
        self.world = World(cloud=self.cloud, market=spot_offers(*ZONES))
        real = self.world.runtime
        self.runtime = replace(
            real,
            settings=replace(real.settings, limits=LIMITS),
            store=Interposed(self.world.store, self.interfere),
            providers={self.cloud.name: Interposed(self.cloud, self.interfere)},
            prober=Interposed(self.world.runtime.prober, self.interfere),
        )
        self.strength = self.random.choice((0.2, 1.0, 3.0))
        self.is_raging = True
        self.depth = self.acts = self.disturbances = 0
        self.diary: deque[str] = deque(maxlen=60)
        self.created = 0
        self.seq = 0
        self.reported_until = int(self.clock.now())
        self.qps = 0
        self.hurt: set[str] = set()  # replica ids whose machine the storm has touched
        self.unknown_since: dict[str, float] = {}
        self.last_routed: dict[str, float] = {}
        self.silent_until: dict[str, float] = {}
        self.boots_until: dict[str, float] = {}
        self.launches_of_broken: list[tuple[int, float]] = []  # spec version, instant
        self.cleared_at = math.inf
        self.down_until = 0.0
        self.refused_until = 0.0
        self.unreported_until = 0.0
        self.ceiling = 0
        self.verdicts: list[str] = []
        self.owner_acts()

    # --- what happens ---

    def note(self, text: str) -> None:
        self.diary.append(f"{self.clock.now() - 1_800_000_000:8.1f} {'  ' * self.depth}{text}")

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability * self.strength

    def interfere(self, call: str) -> None:
        """Around every call that a pass makes."""
        if not self.is_raging or self.depth > 2:
            return
        moment, port_call = call.split()
        long_one = port_call in ("launch", "probe", "acquire_lease", "terminate")
        if self.chance(0.002):
            self.disturb(f"CRASH {call}")
            raise Crash(call)
        if self.chance(0.004) and port_call not in ("probe", "drain"):
            self.disturb(f"no answer {call}")
            raise Unreachable(call)
        if self.chance(0.05 if long_one else 0.005):
            # A process that stops for long between draining and publishing is none of the faults that we stand up to.
            seconds = self.random.choice(
                (0.1, 1.0) if port_call in ("commit", "table", "refusals") else (0.1, 1.0, 6.0, 40.0)
            )
            self.disturb(f"{seconds:g} s pass {call}")
            self.pass_time(seconds)
        if self.chance(0.02 if long_one and moment == "before" else 0.002):
            self.disturb(f"another pass {call}")
            self.tick()
        if self.chance(0.001):
            self.disturb(f"the owner comes {call}")
            self.owner_acts()

    def disturb(self, text: str) -> None:
        self.disturbances += 1
        self.note(text)

    def tick(self) -> None:
        """One pass of some process, which may die."""
        self.depth += 1
        try:
            reports = passes.tick(self.runtime)
        except Crash:
            return
        finally:
            self.depth -= 1
        self.verdicts += [failure for report in reports for failure in report.failures if "Traceback" in failure]

    def pass_time(self, seconds: float) -> None:
        """Clients, routers and the cloud go on."""
        self.clock.advance(seconds)
        now = self.clock.now()
        for replica_id, machine in [*self.cloud.machines.items()]:
            notice = machine.instance.interruption_at
            if notice is not None and notice <= now:
                self.note(f"taken {replica_id}")
                self.cloud.take(replica_id)
        for replica_id, until in self.boots_until.items():
            if until <= now and replica_id in self.cloud.machines and replica_id not in self.silent_until:
                self.cloud.machines[replica_id].answers = True
        for replica_id, until in [*self.silent_until.items()]:
            if until <= now:
                del self.silent_until[replica_id]
                if healed := self.cloud.machines.get(replica_id):
                    healed.answers = healed.ready = True
        self.cloud.down = now < self.down_until
        if now >= self.refused_until:
            self.cloud.refusal = None
        routed = self.world.routed()
        self.last_routed.update(dict.fromkeys(routed, now))
        for replica_id, machine in self.cloud.machines.items():
            reached = now - self.last_routed.get(replica_id, -math.inf) < 3  # routers are late
            if reached:
                machine.in_flight = self.random.randint(0, 3) if self.is_raging else 0
            elif self.random.random() < 0.2:
                machine.in_flight = 0
        self.report_load()

    def on_launch(self, replica: Replica, machine: Machine) -> None:
        """Machines need a while to boot, some for ever. A broken version's engine ends at once."""
        now = self.clock.now()
        boot_s = self.random.choice((0, 0, 5, 20, 200 if self.is_raging else 0))
        machine.answers = not boot_s
        self.boots_until[replica.id] = now + boot_s
        if boot_s == 200 or not machine.ready:
            self.hurt.add(replica.id)
        if replica.fingerprint == BROKEN:
            machine.exit_code = 1
            self.launches_of_broken.append((replica.spec_version, now))

    def report_load(self) -> None:
        """One router counts `qps` requests in every second, and hands them over unless it is cut off."""
        if self.clock.now() < self.unreported_until:
            return
        seconds = range(self.reported_until + 1, int(self.clock.now()) + 1)
        self.reported_until = max(self.reported_until, int(self.clock.now()))
        self.seq += 1
        counts = [(second, self.qps) for second in seconds]
        self.world.store.record_load("svc", "edge", self.seq, counts, self.clock.now())

    def misfortune(self) -> None:
        """Between two ticks."""
        now = self.clock.now()
        notices = []
        for replica_id, machine in [*self.cloud.machines.items()]:
            if not self.chance(0.01):
                continue
            fault = self.random.choice(("die", "notice", "exit", "silence", "unready"))
            self.note(f"{fault} {replica_id}")
            self.hurt.add(replica_id)
            if fault == "die":
                self.cloud.take(replica_id)
            elif fault == "notice":
                notice_s = self.random.choice((5, 30, 120))
                self.cloud.interrupt(replica_id, notice_s)
                told = partial(InterruptionNotice, "local", NoticeKind.INTERRUPTION, now + notice_s)
                either = (told(instance_id=machine.instance.id), told(replica_id=replica_id))
                notices += [self.random.choice(either)] * self.random.choice((0, 1, 2))
            elif fault == "exit":
                machine.exit_code = 1
            else:
                machine.answers = fault != "silence"
                machine.ready = False
                self.silent_until[replica_id] = now + self.random.choice((3, 15, 60, math.inf))
        for notice in notices:
            self.tell(notice)
        self.misrule(now)
        for replica_id, machine in self.cloud.machines.items():
            if not machine.ready:
                self.hurt.add(replica_id)
                machine.ready = machine.answers and self.random.random() < 0.1

    def tell(self, notice: InterruptionNotice) -> None:
        """As the cloud's event bus or an agent would; a notice that is not taken is not repeated."""
        self.note(f"told {notice}")
        with suppress(Crash, Conflict, Unreachable):
            passes.interrupt(self.runtime, (notice,), self.pass_time)

    def misrule(self, now: float) -> None:
        """What befalls the whole cloud, and the clients' whims."""
        if self.chance(0.01):
            self.down_until = now + self.random.choice((2, 20, 60))
        if self.chance(0.01):
            self.cloud.refusal = self.random.choice((NoCapacity("none"), QuotaExceeded("0"), Unauthorized("who?")))
            self.refused_until = now + self.random.choice((2, 20, 60))
        if self.chance(0.03):
            self.cloud.sold_out ^= {Location("local", "here", self.random.choice(ZONES))}
        if self.chance(0.02):
            self.cloud.lose_answers = self.random.randint(1, 3)
        if self.chance(0.01):
            self.unreported_until = now + self.random.choice((10, 100))
        if self.chance(0.03):
            self.qps = self.random.choice((0, 0, 1, 2, 5, 9))
        if self.chance(0.01):
            self.cloud.ready_at_once = not self.cloud.ready_at_once

    # --- the owner ---

    def owner_acts(self) -> None:
        """Creates, updates, drains or deletes, as the API does: under versions, without a lease."""
        self.acts += 1
        state = self.world.store.load("svc")
        if state is None:
            self.create()
            return
        with suppress(Conflict):
            act = self.random.choice(("update", "update", "update", "drain", "delete"))
            if act == "delete" and not state.service.deleting:
                self.note("owner deletes")
                self.world.delete()
            # Not in the middle of a pass: one that then stops for 40 s before it publishes is the fault named in `interfere`.
            elif act == "drain" and self.depth == 0 and (active := [r for r in state.replicas if r.status.is_active]):
                self.drain(self.random.choice(active))
            elif act == "update" and not state.service.deleting:
                self.update(state, self.draw_spec())

    def draw_spec(self) -> ServiceSpec:
        low = self.random.choice((0, 1, 2))
        scaling: dict[str, float] = {"min_replicas": low, "max_replicas": max(1, low) + self.random.choice((0, 1, 2))}
        if scaling["max_replicas"] > low:
            scaling |= {"target_qps_per_replica": 2, "qps_window_s": 5, "upscale_delay_s": 5, "downscale_delay_s": 10}
        fingerprint = self.random.choice(("v1", "v2", "v3", BROKEN))
        wanted = spec(fingerprint, max_surge=self.random.choice((1, 1, 2)), **scaling)
        if self.seed % 2:
            return wanted
        # Another kind of machine is another fingerprint, as `spec.translate` makes it.
        return on_spot(
            replace(wanted, fingerprint=fingerprint if fingerprint == BROKEN else f"{fingerprint}-spot"),
            placer=self.random.choice((SPOTHEDGE, RISK_AWARE, RISK_AWARE, "", "round_robin", "even_spread")),
            num_overprovision=self.random.choice((0, 0, 1, 2)),
            dynamic_ondemand_fallback=self.random.random() < 0.7,
            base_ondemand_fallback_replicas=self.random.choice((0, 0, 1)),
            zone_backoff=self.random.random() < 0.5,
            zone_memory_s=self.random.choice((0.0, 60.0)),
        )

    def create(self) -> None:
        wanted, now = self.draw_spec(), self.clock.now()
        self.created += 1
        self.note(f"owner creates {wanted.fingerprint} {wanted.scaling}")
        service = lifecycle.new_service("svc", f"u{self.created:03d}", wanted, now)
        self.world.store.create_service(service, SpecVersion("svc", 1, wanted, "source", now))

    def update(self, state: State, wanted: ServiceSpec) -> None:
        self.note(f"owner updates to {wanted.fingerprint} {wanted.scaling}")
        self.ceiling = max(self.ceiling, len(state.replicas))
        self.world.update(wanted)

    def drain(self, replica: Replica) -> None:
        self.note(f"owner drains {replica.id}")
        draining = lifecycle.moved(replica, ReplicaStatus.DRAINING, self.clock.now(), reason=Reason.USER)
        self.world.store.commit("svc", None, Commit(replicas=(draining,)))

    # --- the judges ---

    def story(self, verdict: str) -> str:
        replay = f"pytest 'tests/passes/test_random_faults.py::test_nothing_is_lost_doubled_or_leaked[{self.seed}]'"
        return "\n".join([verdict, *self.diary, self.look(), f"seed {self.seed}; replay with: {replay}"])

    def owned(self, state: State | None) -> list[str]:
        """Machines with a record that we pay for because we want to: not those the cloud is taking."""
        known = {replica.id for replica in state.replicas} if state else set()
        return [
            replica_id
            for replica_id, machine in self.cloud.machines.items()
            if replica_id in known and machine.instance.interruption_at is None
        ]

    def judge_removal(self, machine: Machine) -> None:
        """By us. A machine that is well goes only for a good reason, unrouted, and with its requests done."""
        replica_id, now = machine.instance.replica_id, self.clock.now()
        record = next((r for r in self.world.store.history("svc") if r.id == replica_id), None)
        self.note(f"removed {replica_id} {record.status if record else ''} {record.reason if record else ''}")
        if machine.exit_code is not None or machine.instance.interruption_at is not None:
            return
        is_at_fault = record is not None and record.reason in FAULTS
        if is_at_fault and record and record.instance_id and replica_id not in self.hurt:
            self.verdicts.append(f"{replica_id} was well and removed as {record.reason}")
        if record and record.status is not ReplicaStatus.TERMINATED and not is_at_fault:
            if replica_id in self.world.routed():
                self.verdicts.append(f"{replica_id} was removed while it was routed")
            unrouted_s = now - self.last_routed.get(replica_id, -math.inf)
            if machine.in_flight and unrouted_s < 25:
                self.verdicts.append(f"{replica_id} was removed with requests in it, {unrouted_s:.0f} s after its last")

    def judged_tick(self) -> None:
        before, acts, disturbances = self.world.store.load("svc"), self.acts, self.disturbances
        self.tick()
        assert not self.verdicts, self.story("; ".join(self.verdicts))
        self.judge_machines()
        after = self.world.store.load("svc")
        if before and after and self.acts == acts:
            self.judge_roll_out(before, after)
        if after and self.disturbances == disturbances:
            self.judge_undisturbed(after)

    def judge_undisturbed(self, state: State) -> None:
        """What one pass that nobody interferes with leaves behind, unless another one's lease is still in its way."""
        now = self.clock.now()
        with suppress(LeaseHeld):
            self.world.store.release_lease(self.world.store.acquire_lease("svc", "judge", 1, now))
            ready = sorted(replica.id for replica in state.replicas if replica.status is ReplicaStatus.READY)
            assert self.world.routed() == ready, self.story("the table is not who is ready")
            for replica_id in ready:
                machine = self.cloud.machines.get(replica_id)
                is_well = machine and machine.answers and machine.ready and machine.exit_code is None
                assert is_well, self.story(f"{replica_id} is routed and does not serve")
                is_noticed = machine and machine.instance.interruption_at is not None
                can_be_known = machine and not self.cloud.down and self.cloud.is_listed(machine.instance)
                assert not (is_noticed and can_be_known), self.story(f"{replica_id} is routed and about to be taken")
        for replica in state.replicas:
            if replica.status is ReplicaStatus.PENDING and self.cleared_at < now:
                waits_s = now - max(self.cleared_at, replica.status_since)
                assert waits_s <= 45, self.story(f"{replica.id} is not asked for")

    def judge_roll_out(self, before: State, after: State) -> None:
        """Whoever was READY and has to make room for a newer version leaves as many READY as are wanted, or as there were."""
        now_as = {replica.id: replica for replica in after.replicas}
        served = [now_as.get(r.id) for r in before.replicas if r.status is ReplicaStatus.READY]
        ready = sum(replica.status is ReplicaStatus.READY for replica in after.replicas)
        replaced = sum(r is not None and r.reason is Reason.REPLACED and r.id not in self.hurt for r in served)
        gone = len(served) - replaced - sum(r is not None and r.status is ReplicaStatus.READY for r in served)
        enough = min(len(served), before.service.scaler.target, after.service.scaler.target)
        assert not replaced or ready + gone >= enough, self.story(f"{replaced} replaced, {ready} of {enough} left")

    def judge_machines(self) -> None:
        state, now = self.world.store.load("svc"), self.clock.now()
        assert max(self.cloud.started.values(), default=1) == 1, self.story("two machines for one id")
        replicas = state.replicas if state else ()
        known = {replica.id for replica in replicas}
        assert len({replica.slot for replica in replicas}) == len(replicas), self.story("two replicas in one slot")
        for replica in self.world.store.history("svc"):
            is_over = replica.status is ReplicaStatus.TERMINATED and replica.instance_id
            assert not (is_over and replica.id in self.cloud.machines), self.story(f"{replica.id} is not gone")
        recently = Counter(version for version, at in self.launches_of_broken if now - at < 60)
        # A first round, of stand-ins too, then one after 10 and one after 30 s; a crash may lose a failure's count.
        assert max(recently.values(), default=0) <= (6 if self.seed % 2 else 6 + 6), self.story(
            "a broken version is launched again and again"
        )
        owned = len(self.owned(state))
        limit = self.limit(state.service.spec) if state else 0
        recorded = len(known)  # a launch recorded before an update lowered the limit may still be carried out
        self.ceiling = max(limit, min(self.ceiling, recorded))
        assert owned <= self.ceiling, self.story(f"{owned} machines, {self.ceiling} allowed")
        for replica_id in self.unknown_since.keys() - (self.cloud.machines.keys() - known):
            del self.unknown_since[replica_id]
        for replica_id in self.cloud.machines.keys() - known:
            since = self.unknown_since.setdefault(replica_id, now)
            assert now - since <= UNKNOWN_MAX_S, self.story(f"nobody knows machine {replica_id}")

    @staticmethod
    def limit(wanted: ServiceSpec) -> int:
        """How many machines a service may ever cost at once: in words of its file, not of the code's."""
        stand_ins = wanted.scaling.max_replicas - wanted.spot.base_ondemand_fallback_replicas
        extra = max(wanted.spot.num_overprovision, 3 if wanted.spot.placer == RISK_AWARE else 0)
        extra += max(0, stand_ins) if wanted.spot.dynamic_ondemand_fallback else 0
        return wanted.scaling.max_replicas + wanted.max_surge + extra

    # --- the weather ---

    def rage(self) -> None:
        for _ in range(STORM_TICKS):
            self.pass_time(self.random.choice((0.2, 1.0, 1.0, 2.0, 5.0, 10.0)))
            self.misfortune()
            if self.chance(0.02):
                self.owner_acts()
            self.judged_tick()

    def clear_up(self) -> None:
        """No more faults but two last ones. What is broken stays broken, yet the owner's last word is a service that works."""
        self.is_raging, self.cleared_at = False, self.clock.now()
        self.down_until = self.refused_until = self.unreported_until = 0.0
        self.cloud.sold_out.clear()
        self.cloud.lose_answers = 1
        self.cloud.ready_at_once = True
        for replica_id in [*self.cloud.machines][:1]:
            self.note(f"silence for ever {replica_id}")
            self.hurt.add(replica_id)
            self.cloud.machines[replica_id].answers = False
            self.silent_until[replica_id] = math.inf
        self.qps = self.random.choice((0, 1, 3, 9))
        if (state := self.world.store.load("svc")) and state.service.deleting:
            self.settle("shut down", self.is_nothing_left)
        if (state := self.world.store.load("svc")) and state.service.spec.fingerprint != BROKEN and self.seed % 2:
            return
        if state:
            self.update(state, replace(self.draw_spec(), fingerprint=self.random.choice(("v1", "v2", "v4"))))
        else:
            self.create()
            self.update(self.world.state(), replace(self.draw_spec(), fingerprint="v2"))

    def settle(self, what: str, is_done: Callable[[], bool]) -> None:
        """Done, and still done with the same machines 20 ticks later."""
        deadline = self.clock.now() + SETTLED_WITHIN_S
        machines, ticks_done = set(self.cloud.machines), 0
        while ticks_done < 20:
            assert self.clock.now() < deadline, self.story(f"not {what} after {SETTLED_WITHIN_S:g} s")
            is_same = machines == self.cloud.machines.keys()
            machines = set(self.cloud.machines)
            ticks_done = ticks_done + 1 if is_done() and is_same else 0
            self.pass_time(2.0)
            self.judged_tick()

    def look(self) -> str:
        state = self.world.store.load("svc")
        replicas = [f"{r.id}={r.fingerprint} {r.status} {r.reason}" for r in state.replicas] if state else []
        scaler = state.service.scaler if state else None
        return f"{replicas}, {scaler}, machines {sorted(self.cloud.machines)}, routed {self.world.routed()}"

    def is_as_wanted(self) -> bool:
        state = self.world.state()
        scaling = state.service.spec.scaling
        wanted = scaling.min_replicas
        if scaling.target_qps_per_replica is not None:
            wanted = max(math.ceil(self.qps / scaling.target_qps_per_replica), scaling.min_replicas)
        wanted = min(wanted, scaling.max_replicas)
        ready = {replica.id: replica.fingerprint for replica in state.replicas if replica.status is ReplicaStatus.READY}
        return (
            len(ready) == len(state.replicas)
            and self.is_right_mix(state, wanted)
            and set(ready.values()) <= {state.service.spec.fingerprint}
            and self.cloud.machines.keys() == ready.keys()
            and self.world.routed() == sorted(ready)
            and lifecycle.service_status(state.service, state.replicas, self.world.clock.now())[0]
            is (ServiceStatus.READY if ready else ServiceStatus.IDLE)
        )

    def is_right_mix(self, state: State, wanted: int) -> bool:
        spot, number = state.service.spec.spot, len(state.replicas)
        if spot.placer == RISK_AWARE:  # as many as it finds worth their price, which is not this judge's business
            return wanted <= number <= self.limit(state.service.spec) - 1 if wanted else not number
        on_demand = sum(replica.offer.capacity_type is CapacityType.ON_DEMAND for replica in state.replicas)
        is_mixed = self.seed % 2 or on_demand == min(wanted, spot.base_ondemand_fallback_replicas)
        return number == wanted + (spot.num_overprovision if wanted else 0) and bool(is_mixed)

    def is_nothing_left(self) -> bool:
        return not (self.cloud.machines or self.world.store.service_names() or self.world.store.tables())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_doubled_or_leaked(seed: int) -> None:
    """Whatever happened: what is wanted comes to be, stays as it is, and goes when it is told to; see the judges."""
    storm = Storm(seed)
    storm.rage()
    storm.clear_up()
    storm.settle("as wanted", storm.is_as_wanted)
    storm.world.delete()
    storm.settle("shut down", storm.is_nothing_left)
