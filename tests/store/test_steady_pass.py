"""What a look at a service costs when nothing has changed."""

from __future__ import annotations

import pytest

from chalicelib import passes
from chalicelib.model import ReplicaStatus
from tests.fakes import FakeClock, World, spec
from tests.store.conftest import Database, new_database


@pytest.fixture
def database(request: pytest.FixtureRequest, clock: FakeClock) -> Database:
    return new_database(request.getfixturevalue("ministack_url"), clock)


def test_a_steady_pass_over_30_replicas_reads_and_writes_nothing(database: Database, clock: FakeClock) -> None:
    """At most 4 DynamoDB requests, all of them reads, for a tick over a service with 30 ready replicas."""
    world = World(clock=clock, store=database.store)
    world.create(wanted=spec(min_replicas=30, max_replicas=30))
    world.tick(3)
    assert len(world.replicas(ReplicaStatus.READY)) == 30
    database.requests.clear()
    reports = world.tick()
    assert [(report.acted, report.failures) for report in reports] == [(False, ())]
    assert set(database.requests) <= {"Query", "GetItem"}
    assert database.requests.total() <= 4


def test_load_that_asks_for_nothing_new_writes_nothing(database: Database, clock: FakeClock) -> None:
    """Under steady traffic below the target the passes still only read."""
    world = World(clock=clock, store=database.store)
    world.create(wanted=spec(min_replicas=1, max_replicas=3, target_qps_per_replica=10))
    world.tick(3)
    world.store.record_load("svc", "edge", 1, ((int(clock.now()), 5),), clock.now())
    world.tick()
    database.requests.clear()
    for report in passes.tick(world.runtime):
        assert not report.acted
    assert set(database.requests) <= {"Query", "GetItem"}
