"""Which replicas do the routers send clients to? Pure."""

from __future__ import annotations

from dataclasses import replace

from chalicelib import scaler
from chalicelib.lifecycle import service_status
from chalicelib.model import Observed, Replica, ReplicaStatus, Route, RouteTable, ScalingSpec, State


def next_table(state: State, observed: Observed, published: RouteTable | None, now: float) -> RouteTable | None:
    """The table to publish, its version one above the published one's, or None when routers already have it.

    Requests in flight are as of this pass's probes. They matter to the policies that follow load only; under round robin a
    change of nothing else publishes nothing.
    """
    status, _ = service_status(state.service, state.replicas, now)
    spec = state.service.spec
    counts_load = spec.routing.policy != "round_robin"
    routes = tuple(
        _route(replica, spec.scaling, _in_flight(replica.id, observed) if counts_load else 0)
        for replica in sorted(state.replicas, key=lambda replica: replica.id)
        if replica.status is ReplicaStatus.READY and replica.url
    )
    version = published.version if published else 0
    table = RouteTable(state.service.name, status, spec.routing, routes, version)
    return None if table == published else replace(table, version=version + 1)


def at_rest(table: RouteTable) -> RouteTable:
    """A table leaving aside how busy its replicas are."""
    return replace(table, routes=tuple(replace(route, in_flight=0) for route in table.routes))


def members(table: RouteTable | None) -> tuple[tuple[str, str], ...]:
    """Who is in a table, leaving aside how busy they are."""
    return tuple((route.id, route.url) for route in table.routes) if table else ()


def _route(replica: Replica, scaling: ScalingSpec, in_flight: int) -> Route:
    return Route(
        id=replica.id,
        url=replica.url,
        in_flight=in_flight,
        boot_nonce=replica.boot_nonce,
        weight=scaler.capacity(scaling, replica.offer) if scaling.target_qps_by_accelerator else 1.0,
        ready_at=replica.ready_at or replica.status_since,
        location=str(replica.offer.location),
    )


def _in_flight(replica_id: str, observed: Observed) -> int:
    probe = observed.probes.get(replica_id)
    return probe.in_flight if probe and probe.identified else 0
