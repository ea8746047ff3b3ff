"""Random faults over one boxed cloud: two control planes with the shipped provider, one store, one owner, virtual time.

The judge is the cloud's own book. While the storm lasts no replica may have two machines at once, and none that is well may
be given up; when the weather has cleared, machines, records, routes and what is wanted come to the same, and after `delete` to
nothing.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any, cast

from chalicelib import lifecycle, passes
from chalicelib.errors import Conflict, LaunchError, Unreachable
from chalicelib.model import (
    Instance,
    LaunchRequest,
    LeftoverKind,
    ProbeResult,
    ProbeSpec,
    Reason,
    Replica,
    ReplicaStatus,
    ScalingSpec,
    SpecVersion,
)
from chalicelib.ports import Janitor, Provider, Runtime, Store
from tests.clouds.box import Booked, Fault
from tests.clouds.plane import BoxProber, CloudPlane, unrecorded
from tests.clouds.providers import provider_of
from tests.fakes import START, FakeIds, Interposed

TICKS = 40
# After the storm: a drain or a failed start, the grace of an orphan, and what lists lag behind, each a few times over.
SETTLED_WITHIN_S = 300.0
FAULTS = (Fault.THROTTLED, Fault.SERVER_ERROR, Fault.LOST_RESPONSE, Fault.DUPLICATED)
CALLS = ("launch", "list", "terminate")
SHARED = (LeftoverKind.NETWORK, LeftoverKind.FIREWALL)


class Crash(BaseException):
    """The process is gone."""


class Storm:
    """One seed's weather over `plane`, whose box and store must be new."""

    def __init__(self, plane: CloudPlane, seed: int) -> None:
        self.plane, self.random, self.clock, self.box = plane, Random(f"{plane.name} {seed}"), plane.clock, plane.box
        self.lag_s = self.random.choice((0.0, 0.0, 5.0, plane.provider.listing_lag_s))
        self.box.faults.list_lag_s = self.lag_s
        self.box.faults.operation_s = self.random.choice((0.0, 0.0, 2.0, 8.0, 20.0))
        self.strength = self.random.choice((0.5, 1.0, 2.0))
        self.prober = StormProber(BoxProber(self.box, self.clock), self)
        self.asked_for: list[LaunchRequest] = []
        self.planes = [self._process(number) for number in range(2)]
        self.is_raging, self.depth, self.created = True, 0, 0
        self.hurt: set[str] = set()  # replica ids whose machine something happened to
        self.taken_at: dict[str, float] = {}  # by replica, as its agent knows it
        self.silent_until: dict[str, float] = {}
        self.down_until = 0.0
        self.diary: deque[str] = deque(maxlen=400)
        self.create()
        # There was such a service once: its machines are ours to remove.
        plane.store.release_lease(plane.store.acquire_lease("gone", "a pass of its day", 1, self.clock.now()))

    def _process(self, number: int) -> Runtime:
        provider = _Remembering(provider_of(self.box, self.clock, regions=self.plane.regions), self.asked_for)
        interposed: Any = Interposed(provider, self.interfere)
        interposed.name, interposed.listing_lag_s = provider.name, provider.listing_lag_s
        ids = FakeIds()
        ids.drawn = (number + 1) * 1_000_000
        return replace(
            self.plane.runtime,
            ids=ids,
            asked={},
            providers={provider.name: interposed},
            prober=self.prober,
            store=cast("Store", Interposed(self.plane.store, self.interfere)),
        )

    # --- what happens

    def note(self, text: str) -> None:
        self.diary.append(f"{self.clock.now() - START:8.1f} {'  ' * self.depth}{text}")

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability * self.strength

    def interfere(self, call: str) -> None:
        """Around every call of a provider or the store."""
        moment, name = call.split()
        of_cloud = name in ("launch", "list_instances", "terminate")
        if of_cloud or name == "commit":
            self.note(call)
        if not self.is_raging or self.depth > 2 or name in ("name", "listing_lag_s"):
            return
        if self.chance(0.03 if of_cloud else 0.003):
            self.note(f"CRASH {call}")
            raise Crash(call)
        if self.chance(0.06 if of_cloud else 0.005):
            self.pass_time(self.random.choice((1.0, 6.0, 40.0)))
        if moment == "before" and self.chance(0.1 if of_cloud else 0.005):
            self.note(f"another process {call}")
            self.tick()
        if self.chance(0.01 if of_cloud else 0.001):
            self.owner_acts()

    def tick(self) -> None:
        """One pass of either process, which may die."""
        number = self.random.randrange(2)
        self.depth += 1
        self.note(f"tick of {number}")
        try:
            reports = passes.tick(self.planes[number])
        except Crash:
            runtime = self.planes[number]
            runtime.asked.clear()
            return
        finally:
            self.depth -= 1
        for failure in [failure for report in reports for failure in report.failures]:
            self.note(f"failure {failure[:200]}")
            assert "Traceback" not in failure, self.story(failure)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.box.faults.down = self.clock.now() < self.down_until
        self.box.advance()

    def weather(self) -> None:
        """Between two ticks."""
        faults, now = self.box.faults, self.clock.now()
        for call in CALLS:
            if self.chance(0.06):
                fault = self.random.choice(FAULTS)
                self.note(f"{call}: {fault.name}")
                faults.once(call, fault, self.random.choice((1, 1, 3)))
        if self.chance(0.03):
            self.down_until = now + self.random.choice((2.0, 20.0, 90.0))
            self.note(f"down until {self.down_until - START:.0f}")
        for limits, places in ((faults.capacity, self.plane.zones), (faults.quota, self.plane.regions)):
            if self.chance(0.03):
                limits[self.random.choice((*places, ""))] = self.random.choice((0, 1, 2))
                self.note(f"room {limits}")
            elif self.chance(0.1):
                limits.clear()
        for machine in self.plane.running():
            is_known = machine.replica_id in self.plane.recorded()
            if self.chance(0.03 if is_known else 0.3):
                self.befall(machine)
        if self.asked_for and self.chance(0.15):
            self.come_late(self.random.choice(self.asked_for))
        if self.chance(0.02):
            self.start_stray()

    def silence_the_young(self) -> None:
        """One probe of a machine that has just come to serve gets no answer."""
        now = self.clock.now()
        for replica in self.plane.store.history("svc"):
            is_young = replica.status is ReplicaStatus.READY and now - replica.status_since < 20
            if is_young and self.chance(0.1):
                self.note(f"silence of {replica.id}")
                self.silent_until[replica.id] = now + 0.5

    def come_late(self, request: LaunchRequest) -> None:
        """A process that was frozen in the middle of a pass goes on."""
        self.note(f"late launch of {request.replica.id}")
        with suppress(Unreachable, LaunchError):
            self.plane.provider.launch(request)

    def start_stray(self) -> None:
        """A machine with our tags that no record ever knew: of a restored database, or somebody's own hand."""
        replica_id = f"{self.random.choice(('svc', 'gone'))}-stray-0-{self.random.randrange(10**6)}"
        self.note(f"stray {replica_id}")
        with suppress(Unreachable, LaunchError):
            self.plane.provider.launch(unrecorded(self.box.name, replica_id))

    def befall(self, machine: Booked) -> None:
        now, name = self.clock.now(), machine.replica_id
        what = self.random.choice(("preempt", "kill", "silence", "silence"))
        self.note(f"{what} {name}")
        if what == "silence":
            self.silent_until[name] = now + 2.0  # one probe's worth, which condemns nobody
            return
        self.hurt.add(name)
        if what == "kill":
            self.box.kill(machine.id)
            return
        notice_s = self.random.choice((0.0, 2.0, 30.0, 120.0))
        self.box.preempt(machine.id, notice_s)
        if self.random.random() < 0.7:
            self.taken_at[name] = now + notice_s

    def owner_acts(self) -> None:
        state = self.plane.store.load("svc")
        if state is None:
            self.create()
            return
        if state.service.deleting:
            return
        act = self.random.choice(("update", "scale", "scale", "delete"))
        count = self.random.choice((1, 2, 3))
        fingerprint = self.random.choice(("v1", "v2", "v3")) if act == "update" else state.service.spec.fingerprint
        self.note(f"owner: {act} {fingerprint} {count}")
        with suppress(Conflict):
            if act == "delete":
                self.plane.delete()
            else:
                self.plane.update(self.plane.spec(fingerprint=fingerprint, min_replicas=count, max_replicas=count))

    def create(self) -> None:
        self.created += 1
        now, count = self.clock.now(), self.random.choice((1, 2, 3))
        self.note(f"owner: create {count}")
        wanted = self.plane.spec(min_replicas=count, max_replicas=count)
        service = lifecycle.new_service("svc", f"u{self.created:03d}", wanted, now)
        self.plane.store.create_service(service, SpecVersion("svc", 1, wanted, "source", now))

    # --- the judges

    def judge(self) -> None:
        running = Counter(machine.replica_id for machine in self.plane.running())
        twice = [name for name, count in running.items() if count > 1]
        assert not twice, self.story(f"two machines at once for {twice}")
        if self.box.name != "azure":  # where a name is free again once its machine is gone
            assert self.plane.doubles() == [], self.story(f"two machines for {self.plane.doubles()}")
        for replica in self.plane.store.history("svc"):
            lost = replica.reason in (Reason.LOST, Reason.PREEMPTED, Reason.UNHEALTHY, Reason.INTERRUPTED)
            is_wrong = lost and replica.instance_id and replica.id not in self.hurt
            assert not is_wrong, self.story(f"{replica.id} was well and is given up as {replica.reason}")

    def story(self, verdict: str) -> str:
        state = self.plane.store.load("svc")
        replicas = [f"{r.id} {r.status} {r.reason} {r.error[:100]}" for r in state.replicas] if state else []
        machines = [each for each in self.box.machines() if each.running]
        return "\n".join(
            [verdict, *self.diary, *map(str, replicas), *map(str, machines), f"routed {self.plane.routed()}"]
        )

    # --- the course of it

    def live_through(self) -> None:
        self.rage()
        self.clear_up()
        self.settle("as wanted", self.is_as_wanted)
        self.note("owner: delete")
        self.plane.delete()
        self.settle("gone", self.is_nothing_left)

    def rage(self) -> None:
        for _ in range(TICKS):
            self.pass_time(self.random.choice((0.5, 1.0, 2.0, 5.0, 15.0)))
            self.weather()
            if self.chance(0.04):
                self.owner_acts()
            self.silence_the_young()
            self.tick()
            self.judge()

    def clear_up(self) -> None:
        """No more faults. What is remembered of refusals and failures runs out first, so that it hides nothing."""
        self.note("clear")
        self.is_raging, self.down_until = False, 0.0
        faults = self.box.faults
        while any(faults.take(call) for call in CALLS):
            pass
        faults.capacity.clear()
        faults.quota.clear()
        self.silent_until.clear()
        self.pass_time(0)
        if self.plane.store.load("svc") is None:
            self.create()
        elif self.plane.state().service.deleting:
            self.settle("gone", self.is_nothing_left)
            self.create()
        for _ in range(10):
            self.pass_time(3.0)
            self.tick()
            self.judge()
        remembered = [one.until for one in self.plane.store.refusals(self.clock.now())]
        waits_until = max([*remembered, self.plane.state().service.backoff.retry_at, self.clock.now()])
        self.pass_time(waits_until - self.clock.now())

    def settle(self, what: str, is_done: Callable[[], bool]) -> None:
        """Done soon, and three ticks later it still is, with the same machines."""
        began, quiet = self.clock.now(), 0
        before: list[str] = []
        while quiet < 3:
            took_s = self.clock.now() - began
            assert took_s < SETTLED_WITHIN_S + 3 * self.lag_s, self.story(f"not {what} after {took_s:.0f} s")
            self.pass_time(3.0 if took_s < 200 else 10.0)
            self.tick()
            self.judge()
            machines = sorted(machine.id for machine in self.plane.running())
            quiet = quiet + 1 if is_done() and machines == before else 0
            before = machines

    def is_as_wanted(self) -> bool:
        state = self.plane.state()
        running = sorted(machine.replica_id for machine in self.plane.running())
        ready = sorted(replica.id for replica in state.replicas if replica.status is ReplicaStatus.READY)
        current = {replica.fingerprint for replica in state.replicas} <= {state.service.spec.fingerprint}
        wanted = state.service.spec.scaling.min_replicas
        same = running == ready == sorted(self.plane.recorded()) == self.plane.routed()
        return same and current and len(ready) == wanted and self.left(frozenset(ready)) == []

    def is_nothing_left(self) -> bool:
        return not self.plane.running() and not self.plane.store.service_names() and self.left(frozenset()) == []

    def left(self, live: frozenset[str]) -> list[str]:
        """Machines, disks, addresses that the provider itself would call left over."""
        provider = self.plane.provider
        assert isinstance(provider, Janitor)
        return [each.id for each in provider.leftovers(live) if each.kind not in SHARED]


class _Remembering:
    """A provider, and what was asked of it."""

    def __init__(self, provider: Provider, asked_for: list[LaunchRequest]) -> None:
        self._provider, self._asked_for = provider, asked_for

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def launch(self, request: LaunchRequest) -> Instance:
        self._asked_for.append(request)
        return self._provider.launch(request)


class StormProber:
    """The agents, some of which are silent for a moment or know that their machine is being taken."""

    def __init__(self, agents: BoxProber, storm: Storm) -> None:
        self._agents, self._storm = agents, storm

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        return {name: self._heard(name, answer) for name, answer in self._agents.probe(targets, scaling).items()}

    def _heard(self, name: str, answer: ProbeResult) -> ProbeResult:
        if self._storm.clock.now() < self._storm.silent_until.get(name, -math.inf):
            return ProbeResult(name, answer.at, identified=False, detail="timed out")
        return replace(answer, interruption_at=self._storm.taken_at.get(name) if answer.identified else None)

    def drain(self, replica: Replica) -> None:
        """Nothing to tell."""

    def read_log(self, replica: Replica, tail: int) -> str | None:
        del replica, tail
        return None
