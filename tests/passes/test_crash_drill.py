"""The protocol that loses nothing: killed at every line, raced by itself, cut off in the middle.

A crash here is an exception that nothing catches, raised by a trace function before a given line of the shell runs:
what that process had not written by then is not written, its lease stays taken until it expires. The judge is the
cloud's own book of machines, never the code's records.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import chalicelib.executor
import chalicelib.passes.listing
import chalicelib.passes.runner
from chalicelib import passes
from chalicelib.model import SPOTHEDGE, CapacityType, Instance, LaunchRequest, Location, ReplicaStatus
from tests import fakes
from tests.fakes import World, on_spot, spec, spot_offers

# Where intent, cloud call and outcome are written down: the shell, and the cloud's own side of the call.
SHELL = (chalicelib.executor, chalicelib.passes.runner, chalicelib.passes.listing, fakes)
DRILLED = {str(Path(module.__file__ or "")) for module in SHELL}
DRILLED_FAKES = {"launch", "_start", "terminate"}
MARKET = spot_offers("a", "b", "c", "d")


class Crash(BaseException):
    """The process is gone."""


def at_each_line(happens: Callable[[str], None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that tells where it is before each of the drilled files' lines."""

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        code = frame.f_code
        if code.co_filename not in DRILLED:
            return None
        if code.co_filename == fakes.__file__ and code.co_name not in DRILLED_FAKES:
            return None
        if event == "line":
            happens(f"{code.co_filename}:{frame.f_lineno}")
        return trace

    return trace


def traced_tick(world: World, happens: Callable[[str], None]) -> None:
    """Run one tick, with something happening before each drilled line."""
    world.clock.advance(1)
    before = sys.gettrace()  # a coverage tool's
    sys.settrace(at_each_line(happens))
    try:
        passes.tick(world.runtime)
    finally:
        sys.settrace(before)


def deaths(prepare: Callable[[World], None]) -> list[int]:
    """The lines, counted as they run, before which to die: the first one of all that would leave the same behind.

    A death leaves what is in the store and in the cloud, and nothing else. Between two writes it does not matter when, except
    on the cloud's side, where a call has been made by then.
    """
    world = World(market=MARKET)
    prepare(world)
    left: list[str] = []
    chosen: list[int] = []

    def look(where: str) -> None:
        behind = f"{vars(world.store)} {world.cloud}"
        if not left or behind != left[-1] or where.startswith(fakes.__file__):
            chosen.append(len(left))
        left.append(behind)

    traced_tick(world, look)
    assert len(left) > 40, "the drill met hardly any line: is the trace function still looking at the right files?"
    return chosen


def crashed_tick(world: World, line: int) -> None:
    """Run one tick that dies before its drilled line number `line`."""
    lines = count()

    def die(where: str) -> None:
        if next(lines) == line:
            raise Crash(where)

    with pytest.raises(Crash):
        traced_tick(world, die)


def launch(world: World) -> None:
    world.create()


def lose_a_machine(world: World) -> None:
    world.create()
    world.tick(4)
    del world.cloud.machines[world.replicas()[0].id]


def scale_down(world: World) -> None:
    world.create(wanted=spec(min_replicas=3, max_replicas=3))
    world.tick(4)
    world.update(spec())


def drain_ends(world: World) -> None:
    scale_down(world)
    world.tick(6)


def interrupt(world: World) -> None:
    world.create()
    world.tick(4)
    world.cloud.interrupt(world.replicas()[0].id, 120)


def roll_out(world: World) -> None:
    world.create()
    world.tick(4)
    world.update(spec(fingerprint="v2"))


def shut_down(world: World) -> None:
    world.create()
    world.tick(4)
    world.delete()


def shutdown_ends(world: World) -> None:
    shut_down(world)
    world.tick(6)


def answers_get_lost(world: World) -> None:
    world.cloud.lose_answers = 1
    world.create()


def lose_a_spot_machine(world: World) -> None:
    """Its zone is noted and so is the one that refuses; on demand stands in, and goes when the next spot one is ready."""
    world.create(wanted=on_spot(spec(), placer=SPOTHEDGE, dynamic_ondemand_fallback=True))
    world.tick(4)
    (lost,) = [
        one
        for one in world.replicas()
        if one.offer.location.zone == "a" and one.offer.capacity_type is CapacityType.SPOT
    ]
    del world.cloud.machines[lost.id]
    world.cloud.sold_out.add(Location("local", "here", "c"))


SCENARIOS = [
    (launch, 2),
    (answers_get_lost, 2),
    (lose_a_machine, 2),
    (interrupt, 2),
    (lose_a_spot_machine, 2),
    (scale_down, 2),
    (drain_ends, 2),
    (roll_out, 2),
    (shut_down, 0),
    (shutdown_ends, 0),
]


@pytest.mark.parametrize(("prepare", "wanted"), SCENARIOS, ids=lambda value: getattr(value, "__name__", ""))
def test_killed_at_every_line(prepare: Callable[[World], None], wanted: int) -> None:
    """Killed before any line: no id ever gets two machines, none is unknown, and it ends as if nothing had happened."""
    for line in deaths(prepare):
        world = World(market=MARKET)
        prepare(world)
        crashed_tick(world, line)
        world.clock.advance(world.runtime.settings.lease_ttl_s)
        world.tick(12, every_s=5)  # the drain of 30 s, twice over
        assert max(world.cloud.started.values()) == 1, f"line {line}: two machines for one id"
        assert len(world.cloud.machines) == wanted, f"line {line}"
        records = [replica.id for name in world.store.service_names() for replica in world.state(name).replicas]
        assert sorted(world.cloud.machines) == sorted(records), f"line {line}: unknown machines"
        assert world.routed() == sorted(records), f"line {line}: not all of them routed"
        noted = {one.place.zone for name in world.store.service_names() for one in world.state(name).service.zones}
        assert prepare is not lose_a_spot_machine or noted == {"a", "c"}, (
            f"line {line}: what the zones did is not known"
        )


def test_two_passes_after_a_crash_are_enough() -> None:
    """Killed at any line of a launch, two passes after the lease has expired the wanted machines exist, and no other."""
    for line in deaths(launch):
        world = World(market=MARKET)
        launch(world)
        crashed_tick(world, line)
        world.clock.advance(world.runtime.settings.lease_ttl_s)
        world.tick(2)
        assert len(world.cloud.machines) == 2, f"line {line}"
        assert set(world.cloud.started.values()) == {1}, f"line {line}"


def test_two_passes_at_the_same_moment_never_double() -> None:
    """Two ticks started at once, 1,000 times over: one machine an id, exactly as many as wanted."""
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # interleave as finely as the interpreter can
    try:
        for attempt in range(1_000):
            world = World()
            world.create()
            barrier = threading.Barrier(2)

            def race(world: World = world, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                passes.tick(world.runtime)

            racers = [threading.Thread(target=race) for _ in range(2)]
            for racer in racers:
                racer.start()
            for racer in racers:
                racer.join()
            assert len(world.cloud.machines) == 2, f"attempt {attempt}"
            assert set(world.cloud.started.values()) == {1}, f"attempt {attempt}"
    finally:
        sys.setswitchinterval(switch_s)


def test_a_pass_that_lost_its_lease_touches_nothing_more() -> None:
    """Taken over in the middle of its work, a pass is refused its next write and leaves."""
    world = World()
    world.create()
    launch_for_real = world.cloud.launch

    def slow_launch(request: LaunchRequest) -> Instance:
        instance = launch_for_real(request)
        world.clock.advance(world.runtime.settings.lease_ttl_s + 1)
        world.store.acquire_lease("svc", "successor", 30, world.clock.now())
        return instance

    world.cloud.launch = slow_launch  # type: ignore[method-assign]  # for this one launch
    world.tick()
    world.cloud.launch = launch_for_real  # type: ignore[method-assign]  # as it was
    assert {replica.status for replica in world.replicas()} == {ReplicaStatus.PENDING}
    world.clock.advance(31)
    world.tick(3)
    assert len(world.replicas(ReplicaStatus.READY)) == 2
    assert set(world.cloud.started.values()) == {1}
