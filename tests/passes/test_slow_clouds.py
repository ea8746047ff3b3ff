"""A cloud that is slow holds up nobody but those who wait for it. With real threads, and events instead of the clock.

Whatever blocks here goes on only when something else has happened meanwhile that must not wait for it; `PATIENCE_S` is how
long it blocks before the test has failed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from chalicelib import passes
from chalicelib.bootstrap import Threads
from chalicelib.model import Instance, LaunchRequest, Limits, Reason, ReplicaStatus
from tests.fakes import FakeClock, FakeCloud, FakeMarket, FakeProber, Interposed, World, offer, spec
from tests.waiting import until

PATIENCE_S = 10.0
ONE = spec(min_replicas=1, max_replicas=1)


@dataclass
class SlowCloud(FakeCloud):
    """Each of its calls asks `wait` first, which may take its time."""

    wait: Callable[[str], None] = lambda _call: None
    lists: int = 0

    def list_instances(self) -> tuple[Instance, ...]:
        self.lists += 1
        listed = super().list_instances()
        self.wait("list")
        return listed

    def launch(self, request: LaunchRequest) -> Instance:
        self.wait("launch")
        return super().launch(request)

    def terminate(self, replica_id: str, instance_id: str) -> None:
        self.wait("terminate")
        super().terminate(replica_id, instance_id)


@dataclass
class Gate:
    """Holds a call of one kind until it is opened. `held` counts those that came."""

    kind: str
    held: int = 0
    overdue: list[str] = field(default_factory=list)
    _open: threading.Event = field(default_factory=threading.Event)

    def __call__(self, call: str) -> None:
        if call == self.kind:
            self.held += 1
            if not self._open.wait(PATIENCE_S):
                self.overdue.append(call)

    def open(self) -> None:
        self._open.set()


class Clouds(World):
    """A service on each of two clouds, one of them slow, and real threads."""

    def __init__(self) -> None:
        clock = FakeClock()
        super().__init__(clock=clock)
        self.slow, self.fast = SlowCloud(clock, "slow"), SlowCloud(clock, "fast")
        clouds = {cloud.name: cloud for cloud in (self.slow, self.fast)}
        self.runtime = replace(
            self.runtime,
            providers=clouds,
            market=FakeMarket((offer("slow"), offer("fast"))),
            prober=FakeProber(clouds, clock),
            spawn=Threads(),
            settings=replace(self.runtime.settings, listing_patience_s=PATIENCE_S),
        )

    def serve(self, *names: str) -> None:
        """A service for each name, with one ready replica on the cloud of that name."""
        for name in names:
            market, self.runtime = self.runtime.market, replace(self.runtime, market=FakeMarket((offer(name),)))
            self.create(name, ONE)
            self.tick(3)
            self.runtime = replace(self.runtime, market=market)
            assert len(self.routed(name)) == 1

    def tick_until_told(self, name: str, gate: Gate) -> None:
        """One tick, and `gate` is opened when the service's report is there."""
        self.clock.advance(1)
        passes.tick(self.runtime, None, lambda report: gate.open() if report.service == name else None)


@pytest.fixture
def w() -> Clouds:
    return Clouds()


def test_a_list_that_does_not_come_delays_only_who_needs_it(w: Clouds) -> None:
    """The healthy service's pass, replacement of a dead machine and all, is done while the other one waits for its cloud."""
    w.serve("slow", "fast")
    w.slow.wait = gate = Gate("list")
    w.fast.machines.clear()
    w.tick_until_told("fast", gate)
    assert (gate.held, gate.overdue) == (1, [])
    assert sum(w.fast.started.values()) == 2


def test_a_launch_that_does_not_come_back_delays_only_its_service(w: Clouds) -> None:
    """Ten services that wait for the slow cloud's launches, one that does not."""
    w.serve("fast")
    w.runtime = replace(w.runtime, market=FakeMarket((offer("slow"),)))
    for number in range(10):
        w.create(f"slow-{number}", ONE)
    w.slow.wait = gate = Gate("launch")
    w.tick_until_told("fast", gate)
    assert gate.overdue == []
    assert sum(w.slow.started.values()) == 10


def test_a_launch_s_outcome_does_not_wait_for_another_s(w: Clouds) -> None:
    """Two launches of one decision: the healthy cloud's is recorded while the slow one's is under way."""
    w.runtime = replace(w.runtime, market=FakeMarket((offer("slow", "a"), offer("fast", "b", 1.00001))))
    w.create("svc")

    def wait(call: str) -> None:
        if call == "launch":
            until(lambda: w.replicas(ReplicaStatus.PROVISIONING), PATIENCE_S)

    w.slow.wait = wait
    (report,) = w.tick()
    assert report.failures == ()
    assert [len(cloud.started) for cloud in (w.slow, w.fast)] == [1, 1]


def test_removals_go_side_by_side(w: Clouds) -> None:
    """Three machines are asked to go at once: the last request has begun before the first one ends."""
    w.runtime = replace(w.runtime, market=FakeMarket((offer("fast"),)))
    w.create("svc", spec(min_replicas=3, max_replicas=3))
    w.fast.ready_at_once = False
    w.tick(3)
    w.delete()
    together = threading.Barrier(3, timeout=PATIENCE_S)

    def wait(call: str) -> None:
        if call == "terminate":
            together.wait()

    w.fast.wait = wait
    (report,) = w.tick()
    assert report.failures == ()
    assert w.fast.machines == {}


def test_a_list_is_asked_for_once_and_taken_when_it_comes(w: Clouds) -> None:
    """A cloud that still owes the last list is neither asked nor waited for; what it says late is good for the next tick."""
    w.serve("slow")
    w.runtime = replace(w.runtime, settings=replace(w.runtime.settings, listing_patience_s=0.01))
    w.slow.wait = gate = Gate("list")
    w.slow.lists = 0
    for seconds in (0, 1, 2):
        reports = w.tick()
        (owed,) = [failure for report in reports for failure in report.failures]
        assert owed == f"slow: still not answering the list asked for {seconds} s ago"
        assert len(w.routed("slow")) == 1
    assert (w.slow.lists, gate.overdue) == (1, [])
    gate.open()
    until(w.runtime.asked["slow"].answer.done)
    (report,) = w.tick()
    assert (report.failures, w.slow.lists) == ((), 1)
    w.runtime = replace(w.runtime, settings=replace(w.runtime.settings, listing_patience_s=PATIENCE_S))
    w.tick()
    assert w.slow.lists == 2


def test_a_late_list_is_as_old_as_its_question(w: Clouds) -> None:
    """A machine launched while the list was under way is not missing from it, though its agent is still silent."""
    w.serve("slow")
    w.runtime = replace(
        w.runtime,
        market=FakeMarket((offer("slow"),)),
        settings=replace(w.runtime.settings, listing_patience_s=0.01),
    )
    w.slow.wait = gate = Gate("list")
    w.tick()
    w.slow.ready_at_once = False
    w.update(spec(min_replicas=2, max_replicas=2), "slow")
    w.tick()
    (young,) = [one for one in w.state("slow").replicas if one.status is ReplicaStatus.PROVISIONING]
    w.slow.machines[young.id].answers = False
    gate.open()
    until(w.runtime.asked["slow"].answer.done)
    w.tick()
    assert young.id in {one.id for one in w.state("slow").replicas if one.status is ReplicaStatus.PROVISIONING}
    w.runtime = replace(w.runtime, settings=replace(w.runtime.settings, listing_patience_s=PATIENCE_S))
    del w.slow.machines[young.id]
    w.tick()
    assert {one.reason for one in w.store.history("slow")} == {None, Reason.LOST}, "a list of its own time is believed"


def test_a_machine_younger_than_the_state_is_nobody_s_orphan(w: Clouds) -> None:
    """The list comes after state was read and holds a machine of a later record: seen again under the lease, it is known."""
    w.serve("slow")
    limits = replace(Limits(), orphan_grace_s=0.0)
    w.runtime = replace(w.runtime, settings=replace(w.runtime.settings, limits=limits))
    read = Gate("list")
    others = replace(w.runtime, market=FakeMarket((offer("slow"),)), asked={})

    def list_late(call: str) -> None:
        if call == "before probe":
            w.update(spec(min_replicas=2, max_replicas=2), "slow")
            passes.tick(others)
            w.clock.advance(1)
            read.open()

    class ListsWhenStateIsRead(SlowCloud):
        def list_instances(self) -> tuple[Instance, ...]:
            read("list")
            return super().list_instances()

    late = ListsWhenStateIsRead(w.clock, "slow", machines=w.slow.machines, started=w.slow.started)
    providers = {**w.runtime.providers, "slow": late}
    w.runtime = replace(w.runtime, providers=providers, prober=Interposed(w.runtime.prober, list_late))
    w.tick()
    assert (read.held, read.overdue) == (1, [])
    assert len(w.slow.machines) == 2
    assert w.store.events("slow", kind="orphan") == ()


def test_one_lane_s_waiting_is_not_another_s() -> None:
    """However many calls of one cloud hang, another cloud's call begins at once."""
    spawn, gate = Threads(), Gate("hang")
    hanging = [spawn("slow", lambda: gate("hang")) for _ in range(100)]
    assert spawn("fast", lambda: "done").result(PATIENCE_S) == "done"
    assert not any(call.done() for call in hanging)
    gate.open()
    for call in hanging:
        call.result(PATIENCE_S)
