"""What is measured of a service. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib import lifecycle
from chalicelib.lifecycle import budget
from chalicelib.model import Reason, ReplicaStatus, RouteTable, ServiceStatus, State

_WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class Measures:
    """One service at one instant. What ends in `_total` only rises, as long as the service lives."""

    service: str
    status: ServiceStatus
    target: int
    replicas: Mapping[ReplicaStatus, int]  # of each status but TERMINATED, zeros included
    requests_per_s: float  # over the last minute, as routers have reported
    in_flight: int  # requests inside ready replicas, as of their last probes
    price_usd_per_hour: float
    cost_usd_total: float
    ended_total: Mapping[Reason, int]  # machines, by why they were given up

    @property
    def ready(self) -> int:
        return self.replicas[ReplicaStatus.READY]

    @property
    def preemptions_total(self) -> int:
        """Machines that their cloud has taken, with notice or without."""
        return self.ended_total.get(Reason.INTERRUPTED, 0) + self.ended_total.get(Reason.PREEMPTED, 0)


def measure(state: State, table: RouteTable | None, now: float) -> Measures:
    """What is known of the service at `now` (epoch seconds), nobody being asked anew."""
    service, replicas = state.service, state.replicas
    counted = Counter(replica.status for replica in replicas)
    recent = [count for router in state.load for second, count in router.counts if now - _WINDOW_S <= second < now]
    return Measures(
        service=service.name,
        status=lifecycle.service_status(service, replicas, now)[0],
        target=service.scaler.target,
        replicas={status: counted[status] for status in ReplicaStatus if status is not ReplicaStatus.TERMINATED},
        requests_per_s=sum(recent) / _WINDOW_S,
        in_flight=sum(route.in_flight for route in table.routes) if table else 0,
        price_usd_per_hour=budget.usd_per_hour(replicas),
        cost_usd_total=budget.usd_ever(service, replicas, now),
        ended_total=dict(service.ended),
    )
