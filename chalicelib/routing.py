"""Which replicas do the routers send clients to? Pure."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.lifecycle import service_status
from chalicelib.model import Observed, ReplicaStatus, Route, RouteTable, State


def next_table(state: State, observed: Observed, published: RouteTable | None, now: float) -> RouteTable | None:
    """The table to publish, its version one above the published one's, or None when routers already have it.

    Requests in flight are as of this pass's probes. They matter to the least-load policies only; under round robin a
    change of nothing else publishes nothing.
    """
    status, _ = service_status(state.service, state.replicas, now)
    counts_load = state.service.spec.routing.policy != "round_robin"
    routes = tuple(
        Route(replica.id, replica.url, _in_flight(replica.id, observed) if counts_load else 0)
        for replica in sorted(state.replicas, key=lambda replica: replica.id)
        if replica.status is ReplicaStatus.READY and replica.url
    )
    version = published.version if published else 0
    table = RouteTable(state.service.name, state.service.spec.routing.policy, status, routes, version)
    return None if table == published else replace(table, version=version + 1)


def members(table: RouteTable | None) -> tuple[tuple[str, str], ...]:
    """Who is in a table, leaving aside how busy they are."""
    return tuple((route.id, route.url) for route in table.routes) if table else ()


def _in_flight(replica_id: str, observed: Observed) -> int:
    probe = observed.probes.get(replica_id)
    return probe.in_flight if probe and probe.identified else 0
