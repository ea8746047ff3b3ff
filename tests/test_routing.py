"""What routers are told of a service's replicas."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.model import Observed, Replica, ReplicaStatus, RoutingSpec
from chalicelib.routing import at_rest, next_table
from tests.fakes import World, offer, spec


def _ready(world: World) -> list[Replica]:
    return world.replicas(ReplicaStatus.READY)


def test_a_route_tells_which_boot_and_where_and_since_when() -> None:
    """All that grants are bound to, and all that a choice among replicas may need."""
    world = World(market=(offer(zone="z"),))
    world.create()
    world.tick(4)
    table = world.store.table("svc")
    assert table is not None
    assert len(table.routes) == 2
    for route, replica in zip(table.routes, _ready(world), strict=True):
        assert (route.id, route.url, route.boot_nonce) == (replica.id, replica.url, replica.boot_nonce)
        assert (route.ready_at, route.weight) == (replica.ready_at, 1.0)
        assert route.location == f"local/{replica.offer.location.region}/z"


def test_a_replica_weighs_what_it_can_take() -> None:
    """The target of its accelerator, where targets differ by accelerator; the lowest one on a machine that none is given for."""
    world = World()
    world.create()
    world.tick(4)
    state = world.state()
    targets = (("A100", 8.0), ("L4", 2.5))
    scaling = spec(target_qps_per_replica=2.5, target_qps_by_accelerator=targets).scaling
    service = replace(state.service, spec=replace(state.service.spec, scaling=scaling))
    on = ("A100", "T4")
    replicas = tuple(
        replace(one, offer=replace(one.offer, accelerator=name)) for one, name in zip(_ready(world), on, strict=True)
    )
    table = next_table(replace(state, service=service, replicas=replicas), Observed(), None, world.clock.now())
    assert table is not None
    assert [route.weight for route in table.routes] == [8.0, 2.5]


def test_a_change_of_the_routing_alone_is_published() -> None:
    """Whom to let in, how long to hold: routers are told as soon as the owner says so."""
    world = World()
    world.create()
    world.tick(4)
    before = world.store.table("svc")
    assert before is not None
    world.update(replace(spec(), routing=RoutingSpec(access="open", wait_for_replica_s=20)))
    world.tick()
    after = world.store.table("svc")
    assert after is not None
    assert (after.version, after.routing.access, after.routing.wait_for_replica_s) == (before.version + 1, "open", 20)


def test_tables_at_rest_differ_by_more_than_load() -> None:
    """Requests in flight come and go; a replica that goes is another table."""
    world = World()
    world.create()
    world.tick(4)
    table = world.store.table("svc")
    assert table is not None
    busy = replace(table, routes=tuple(replace(route, in_flight=7) for route in table.routes))
    assert at_rest(busy) == at_rest(table)
    assert at_rest(replace(table, routes=table.routes[:1])) != at_rest(table)
