"""What the probe pass asks of agents, and what it brings back."""

from __future__ import annotations

from chalicelib.model import Metric, ReplicaLoad, ReplicaStatus
from chalicelib.passes import probe
from tests.fakes import World, spec


def test_replicas_of_every_version_are_asked_what_the_newest_one_follows() -> None:
    """An update that changes the metric replaces no machine; what the old ones are loaded with counts at once."""
    world = World()
    world.create(wanted=spec(min_replicas=2, max_replicas=2))
    world.tick(4)
    for machine in world.cloud.machines.values():
        machine.load = ReplicaLoad(stable=3.0, panic=4.0)
    before = probe.observe(world.runtime, world.state())
    world.update(spec(min_replicas=2, max_replicas=2, metric=Metric.CONCURRENCY, target_per_replica=4))
    after = probe.observe(world.runtime, world.state())
    assert len(world.replicas(ReplicaStatus.READY)) == 2
    assert [result.load for result in before.values()] == [None, None]
    assert [result.load for result in after.values()] == [ReplicaLoad(3.0, 4.0)] * 2
