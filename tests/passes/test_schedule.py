"""The schedule is on while there is anything to wake for: whoever dies, whoever meets whom, no service sleeps for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib import lifecycle, passes, schedule
from chalicelib.errors import LeaseHeld, Unreachable
from chalicelib.hooks import following
from chalicelib.model import Hook, HookKind, Instance, InstanceStatus, Push, SpecVersion
from chalicelib.ports import Asked, Commit, Runtime
from tests.fakes import FakeCloud, FakeSchedule, Interposed, Machine, World, spec

MINUTE = 60.0
INSTANCE = Instance("local", "i-1", "svc-u1d0-0-1", "svc", InstanceStatus.STOPPING, 0.0)


class Scheduled(World):
    """A control plane that is woken by a schedule, which is off at first."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = FakeSchedule()
        self.runtime = replace(self.runtime, schedule=self.schedule)

    def minutes(self, count: int) -> None:
        """The schedule's ticks, while it is on."""
        for _ in range(count):
            self.clock.advance(MINUTE)
            if self.schedule.is_on:
                passes.tick(self.runtime)

    def add(self, runtime: Runtime | None = None, pause: Callable[[float], None] = lambda _s: None) -> None:
        """Create a service as the API does."""
        runtime = runtime or self.runtime
        now = self.clock.now()
        with schedule.kept_on(runtime, "svc is created", pause):
            service = lifecycle.new_service("svc", "u1d0", spec(), now)
            runtime.store.create_service(service, SpecVersion("svc", 1, spec(), "source", now))


@pytest.fixture
def w() -> Scheduled:
    return Scheduled()


def _said(w: World) -> list[str]:
    return [event.kind for event in w.store.events(schedule.NAME)]


def test_it_is_on_for_a_service_and_off_after_the_last(w: Scheduled) -> None:
    """Off only when the machines are gone too, and for a while: what a cloud lists late is removed before nobody looks."""
    w.add()
    w.minutes(3)
    assert len(w.cloud.machines) == 2
    w.delete()
    w.minutes(12)
    assert not w.schedule.is_on
    assert (len(w.cloud.machines), w.store.service_names()) == (0, ())
    assert _said(w) == ["schedule.on", "schedule.idle", "schedule.off"]


def test_it_stays_on_for_a_machine_without_a_service(w: Scheduled) -> None:
    """One that shows late in the cloud's list, and then cannot be removed at once, is removed before nobody looks any more."""
    w.cloud.listing_lag_s = 300.0
    w.add()
    w.minutes(2)
    late = next(iter(w.cloud.machines.values()))
    w.delete()
    while w.store.service_names():
        w.minutes(1)
    w.minutes(4)
    w.cloud.machines[late.instance.replica_id] = late
    w.cloud.down = True
    w.minutes(10)
    w.cloud.down = False
    w.minutes(12)
    assert (w.schedule.is_on, len(w.cloud.machines)) == (False, 0)


class Stuck(FakeCloud):
    """Its machines do not go when they are told to."""

    def terminate(self, replica_id: str, instance_id: str) -> None:
        """Heard, and no more."""


def test_it_stays_on_for_a_machine_that_is_not_gone_yet(w: Scheduled) -> None:
    """One on its way out is billed, and may stay: it is asked to go until it is gone."""
    w.cloud.machines["r"] = Machine(replace(INSTANCE, created_at=w.clock.now()), "")
    w.schedule.is_on = True
    stuck = Stuck(w.clock, machines=w.cloud.machines)
    w.runtime = replace(w.runtime, providers={"local": stuck})
    w.minutes(10)
    assert w.schedule.is_on
    stuck.machines.clear()
    w.minutes(5)
    assert not w.schedule.is_on


def test_a_list_from_before_the_function_was_frozen_turns_nothing_off(w: Scheduled) -> None:
    """Lambda stops threads between two calls: the answer that such a one brings along says what was true then."""
    w.schedule.is_on = True
    w.minutes(1)
    then = w.clock.now()
    w.clock.advance(3600)
    w.cloud.down = True
    frozen: Future[tuple[Instance, ...]] = Future()
    frozen.set_result(())
    w.runtime.asked["local"] = Asked(then, frozen)
    w.tick()
    assert w.schedule.is_on
    w.cloud.down = False
    w.tick()
    assert not w.schedule.is_on


def test_a_cloud_that_lets_itself_not_be_asked_keeps_it_on_for_a_day_only(w: Scheduled) -> None:
    """Credentials that have expired would be paid for every month; what nobody could see is said, with what to do."""
    w.add()
    w.delete()
    while w.store.service_names():
        w.minutes(1)
    w.cloud.down = True
    w.minutes(1)
    for _ in range(23):
        w.clock.advance(3600 - MINUTE)
        w.minutes(1)
        assert w.schedule.is_on
    w.clock.advance(3600)
    w.minutes(1)
    assert not w.schedule.is_on
    idle, off = w.store.events(schedule.NAME)[-2:]
    assert "local cannot be asked for machines" in idle.message
    assert "mend the credentials, then look with `sailplane doctor`" in off.message


def _left_behind(w: Scheduled) -> Stuck:
    """Only a machine that does not go is left of the control plane's services."""
    w.cloud.machines["r"] = Machine(replace(INSTANCE, created_at=w.clock.now()), "")
    w.schedule.is_on = True
    stuck = Stuck(w.clock, machines=w.cloud.machines)
    w.runtime = replace(w.runtime, providers={"local": stuck})
    return stuck


def test_the_silent_day_begins_anew_when_a_machine_was_seen(w: Scheduled) -> None:
    """Silence, half an hour in which the machine is seen, silence: it stays on however long, and off soon after it is gone."""
    stuck = _left_behind(w)
    stuck.down = True
    w.minutes(10)
    stuck.down = False
    w.minutes(30)
    stuck.down = True
    for _ in range(240):  # ten days; events are kept for seven
        w.clock.advance(3600 - MINUTE)
        w.minutes(1)
        assert w.schedule.is_on
    assert "the last that local said is that it has machines of ours" in w.store.events(schedule.NAME)[-1].message
    assert len(w.store.events(schedule.NAME)) <= 9
    stuck.down = False
    stuck.machines.clear()
    w.minutes(5)
    assert not w.schedule.is_on


def test_a_machine_that_was_seen_outlasts_services_elsewhere(w: Scheduled) -> None:
    """What was made and ended meanwhile says nothing of it; a cloud that is no longer asked for machines is waited for no more."""
    stuck = _left_behind(w)
    w.minutes(2)
    stuck.down = True
    elsewhere = FakeCloud(w.clock)
    w.runtime = replace(w.runtime, providers={"local": stuck, "other": elsewhere})
    schedule.close(w.runtime)
    schedule.reopen(w.runtime)
    for _ in range(60):
        w.clock.advance(3600 - MINUTE)
        w.minutes(1)
        assert w.schedule.is_on
    w.runtime = replace(w.runtime, providers={"other": elsewhere})
    w.minutes(5)
    assert not w.schedule.is_on


def test_one_that_was_left_on_is_turned_off_again(w: Scheduled) -> None:
    """By a creator that died before its service was written, or by somebody in the cloud's console."""
    w.schedule.is_on = True
    w.minutes(5)
    assert not w.schedule.is_on
    w.schedule.is_on = True
    w.minutes(1)
    assert not w.schedule.is_on


def test_what_cannot_be_turned_on_is_not_written(w: Scheduled) -> None:
    """The caller is told; a service that nobody wakes for would be worse."""

    class Broken(FakeSchedule):
        def on(self) -> None:
            raise Unreachable("events of AWS does not answer")

    w.runtime = replace(w.runtime, schedule=Broken())
    with pytest.raises(Unreachable):
        w.add()
    assert w.store.service_names() == ()


def test_what_cannot_be_turned_off_is_a_failure_of_the_tick(w: Scheduled) -> None:
    """It is told, costs a cent, and is tried again in a minute."""

    class Broken(FakeSchedule):
        def off(self) -> None:
            raise Unreachable("events of AWS does not answer")

    w.runtime = replace(w.runtime, schedule=Broken())
    w.tick(2, MINUTE)
    (report,) = w.tick(1, MINUTE)
    assert report.failures == ("the schedule stays on: events of AWS does not answer",)


def test_creators_wait_for_each_other_and_not_for_ever(w: Scheduled) -> None:
    """One that holds the schedule and died keeps others waiting for seconds, then they are told; after 90 s it is forgotten."""
    w.store.acquire_lease(schedule.NAME, "died", 90.0, w.clock.now())
    waited: list[float] = []
    with pytest.raises(LeaseHeld, match="Another service is being created"):
        w.add(pause=waited.append)
    assert 4 <= sum(waited) <= 6
    assert w.store.service_names() == ()
    w.clock.advance(90)
    w.add()
    assert w.schedule.is_on


class Killed(BaseException):
    """The function is gone: whatever it would have called next is not called."""


class Actor:
    """Work on a thread of its own that stops before each call of a port until it is told to go on."""

    def __init__(self, runtime: Runtime, work: Callable[[Runtime], object], dies_at: int) -> None:
        ports = {"store": Interposed(runtime.store, self._step), "schedule": Interposed(runtime.schedule, self._step)}
        self._runtime = replace(runtime, **ports)  # type: ignore[arg-type]  # they stand before ports
        self._work, self._dies_at, self._steps = work, dies_at, 0
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._done = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._stopped.acquire()

    def step(self) -> None:
        """Let it come to its next call, or to its end."""
        if not self._done:
            self._go.release()
            self._stopped.acquire()

    def finish(self) -> None:
        """All the rest."""
        while not self._done:
            self.step()
        self._thread.join()

    def _run(self) -> None:
        with suppress(Killed, LeaseHeld):
            self._work(self._runtime)
        self._done = True
        self._stopped.release()

    def _step(self, what: str) -> None:
        if not what.startswith("before"):
            return
        self._stopped.release()
        self._go.acquire()
        self._steps += 1
        if self._steps >= self._dies_at:
            raise Killed


_death = st.just(99) | st.integers(1, 9)


@settings(max_examples=200)
@given(turns=st.lists(st.integers(0, 8), max_size=6), creator_dies=_death, tick_dies=_death)
def test_no_order_and_no_death_loses_a_service(turns: Sequence[int], creator_dies: int, tick_dies: int) -> None:
    """The tick that would turn the schedule off and a creator take turns, of so many calls each, and die at any call or at none.

    Afterwards a service that was written is woken for; one that was not costs nothing for long.
    """
    w = Scheduled()
    w.schedule.is_on = True
    w.minutes(1)  # the first that finds nothing
    w.clock.advance(MINUTE)
    actors = (Actor(w.runtime, passes.tick, tick_dies), Actor(w.runtime, w.add, creator_dies))
    for turn, calls in enumerate(turns):
        for _ in range(calls):
            actors[turn % 2].step()
    for actor in actors:
        actor.finish()
    if w.store.service_names():
        assert w.schedule.is_on
    else:
        w.minutes(5)
        assert not w.schedule.is_on


def _push(w: Scheduled, hook: Hook) -> None:
    pushed = following.pushed(hook, Push("a" * 40, w.clock.now()), w.clock.now())
    assert pushed
    with schedule.kept_on_for_a_push(w.runtime, lambda _s: None):
        w.store.record_push(pushed, ["d1"], w.clock.now() + 1000)


def test_it_is_on_for_a_push_until_that_is_acted_on(w: Scheduled) -> None:
    """The first push makes a service where there is none: it is neither lost nor waited for when nobody can act on it."""
    hook = w.store.create_hook(Hook("0123456789", HookKind.GITHUB, "svc", w.clock.now(), "acme/app", "main"))
    _push(w, hook)
    assert w.schedule.is_on
    w.minutes(10)
    assert w.schedule.is_on
    written = w.store.hook(hook.id)
    assert written
    for _ in range(24):
        w.store.commit("svc", None, Commit(hook=following.put_off(written, "down", w.clock.now())))
        written = w.store.hook(hook.id)
        assert written
    w.minutes(5)
    assert not w.schedule.is_on


def test_a_push_is_written_though_another_died_at_the_schedule(w: Scheduled) -> None:
    """Its lease is held for a minute and more, and no forge sends again what was refused: it is turned on without."""
    hook = w.store.create_hook(Hook("0123456789", HookKind.GITHUB, "svc", w.clock.now(), "acme/app", "main"))
    w.store.acquire_lease(schedule.NAME, "dead", 90, w.clock.now())
    _push(w, hook)
    assert w.schedule.is_on
    assert schedule.pushes_wait(w.runtime)


def test_a_push_to_a_running_service_does_not_wait_for_the_schedule(w: Scheduled) -> None:
    """It is on; who turns it on or off meanwhile holds up no delivery."""
    w.add()
    w.schedule.said.clear()
    w.store.acquire_lease(schedule.NAME, "other", 90, w.clock.now())
    _push(w, w.store.create_hook(Hook("0123456789", HookKind.GITHUB, "svc", w.clock.now(), "acme/app", "main")))
    assert w.schedule.said == []
