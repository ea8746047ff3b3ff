"""The table that is left for routers which start while no control plane answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib import passes
from chalicelib.errors import Unreachable
from chalicelib.model import EndpointKey, RoutingSpec
from tests.fakes import World, spec
from tests.sealed import opened

TOKEN, NEXT_TOKEN = "router-token-of-the-tests", "the-next-router-token"


class Snapshots:
    """`ports.Snapshots` in memory, which counts its writes and fails when told to."""

    def __init__(self) -> None:
        self.text = ""
        self.writes = 0
        self.fails = False

    def read(self) -> str:
        return self.text

    def write(self, text: str) -> None:
        if self.fails:
            raise Unreachable("the bucket does not answer")
        self.text, self.writes = text, self.writes + 1


def _world() -> tuple[World, Snapshots]:
    world, snapshots = World(), Snapshots()
    settings = replace(world.runtime.settings, router_tokens=(TOKEN,))
    world.runtime = replace(world.runtime, snapshots=snapshots, settings=settings)
    return world, snapshots


def _left(snapshots: Snapshots, token: str = TOKEN) -> dict[str, Any]:
    return opened(snapshots.text, token)


def _routed(snapshots: Snapshots, name: str = "svc") -> list[str]:
    return [replica["id"] for replica in _left(snapshots)["services"][name]["replicas"]]


def test_the_snapshot_follows_the_members() -> None:
    """What routers are told is what lies there, in the same pass; sealed as their own tables are."""
    world, snapshots = _world()
    world.create()
    world.tick(4)
    assert _routed(snapshots) == world.routed()
    assert len(world.routed()) == 2
    world.cloud.machines.pop(world.routed()[0])
    world.tick()
    assert _routed(snapshots) == world.routed()
    assert len(world.routed()) == 1
    assert _left(snapshots)["issued_at"] == world.clock.now()


def test_a_pass_over_one_service_leaves_it_too() -> None:
    """A poke's pass need not wait for the tick: what it changed for routers is there when it ends."""
    world, snapshots = _world()
    world.create()
    for _ in range(4):
        world.clock.advance(1)
        passes.tick(world.runtime, frozenset({"svc"}))
    assert _routed(snapshots) == world.routed()
    assert len(world.routed()) == 2


def test_load_alone_writes_no_snapshot() -> None:
    """Requests in flight are left at 0, so that probes cost nothing there."""
    world, snapshots = _world()
    world.create()
    world.tick(4)
    before = snapshots.writes
    for in_flight in (3, 5, 1):
        for replica_id in world.routed():
            world.cloud.machines[replica_id].in_flight = in_flight
        world.tick()
        table = world.store.table("svc")
        assert table is not None
        assert [route.in_flight for route in table.routes] == [in_flight] * 2
    assert snapshots.writes == before
    assert [one["in_flight"] for one in _left(snapshots)["services"]["svc"]["replicas"]] == [0, 0]


@pytest.mark.parametrize("change", ["key", "routing", "deletion"])
def test_whatever_else_changes_is_there_after_the_next_tick(change: str) -> None:
    """Keys made behind our back, the owner's word on routing, a service that is gone."""
    world, snapshots = _world()
    world.create()
    world.tick(4)
    match change:
        case "key":
            world.store.create_key(EndpointKey("0123456789", "", "hash", ("svc",), 0.0))
            world.tick()
            assert list(_left(snapshots)["keys"]) == ["0123456789"]
        case "routing":
            world.update(replace(spec(), routing=RoutingSpec(access="open")))
            world.tick()
            assert _left(snapshots)["services"]["svc"]["access"] == "open"
        case "deletion":
            world.delete()
            world.tick(60)
            assert _left(snapshots)["services"] == {}


@pytest.mark.parametrize("lies_there", ["", "rubbish", "sailplane-table 1 00000000 00\n{}", "another token's"])
def test_what_is_not_ours_is_replaced(lies_there: str) -> None:
    """An empty bucket, a stranger's text, a table that was sealed with a token that is used no more."""
    world, snapshots = _world()
    world.create()
    world.tick(4)
    if lies_there == "another token's":
        settings = replace(world.runtime.settings, router_tokens=(NEXT_TOKEN, TOKEN))
        world.runtime = replace(world.runtime, settings=settings)
        world.tick()
        assert _left(snapshots, NEXT_TOKEN)["services"].keys() == {"svc"}
    else:
        snapshots.text = lies_there
        world.tick()
        assert _routed(snapshots) == world.routed()


def test_a_snapshot_that_cannot_be_written_is_reported_and_mended() -> None:
    """Replicas come and go as ever; the failure is named, and the first tick that can writes what is missing."""
    world, snapshots = _world()
    world.create()
    snapshots.fails = True
    reports = world.tick(4)
    assert len(world.routed()) == 2
    failures = [failure for report in reports for failure in report.failures]
    assert failures == ["the snapshot of the routing table is out of date: the bucket does not answer"]
    snapshots.fails = False
    assert all(not report.failures for report in world.tick())
    assert _routed(snapshots) == world.routed()


def test_the_last_of_two_writers_has_the_latest() -> None:
    """One that read before the other's change, and writes after it, looks again and mends what it did."""
    world, _ = _world()
    world.create()
    world.tick(4)

    class Slow(Snapshots):
        def write(self, text: str) -> None:
            if not self.writes:
                self.writes = 1
                world.store.create_key(EndpointKey("0123456789", "", "hash", ("svc",), 0.0))
                assert passes.leave_snapshot(world.runtime) == ""
            super().write(text)

    slow = Slow()
    world.runtime = replace(world.runtime, snapshots=slow)
    assert passes.leave_snapshot(world.runtime) == ""
    assert list(_left(slow)["keys"]) == ["0123456789"]


def test_nothing_is_left_where_nobody_asked_for_it() -> None:
    """Without a place, or a token to seal with, no pass knows of snapshots."""
    world, snapshots = _world()
    world.create()
    world.runtime = replace(world.runtime, settings=replace(world.runtime.settings, router_tokens=()))
    world.tick(4)
    assert snapshots.text == ""
    world.runtime = replace(world.runtime, snapshots=None)
    assert all(not report.failures for report in world.tick())
