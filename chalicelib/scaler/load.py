"""From what the routers counted and the agents reported to the figures that the scaler can follow."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from chalicelib.model import (
    Limits,
    LoadSample,
    Metric,
    Observed,
    Replica,
    ReplicaLoad,
    ReplicaStatus,
    RouterLoad,
    ScalingSpec,
    State,
)
from chalicelib.optimizer import is_fallback, matching, on_demand
from chalicelib.scaler.capacity import best_first, capacity
from chalicelib.scaler.trend import cold_start_s, expected_qps

# What a function counted is handed over 9 s after its last report, by the first request that finds its table older than 3 s.
_FUNCTIONS_LAG_S = 12.0


def sample(state: State, observed: Observed, limits: Limits, now: float) -> LoadSample:
    """The load on a service at `now`, in the unit of its metric.

    Valid as long as every router that has had requests lately, and one at the least, has reported within
    `load_stale_after_s`, and, with a metric that replicas report, every ready replica has done so: silence means that nobody
    knows, which is not the same as no load. Without any ready replica nobody knows the load on replicas either.

    Only a function that is silent has no load: it hands over every request that finds its table older than some seconds, and
    ends unheard. That somebody has to be heard shows that functions can report at all.
    """
    spec = state.service.spec.scaling
    heard = [router for router in state.load if now - router.reported_at <= limits.load_stale_after_s]
    silent = [router for router in state.load if now - router.reported_at > limits.load_stale_after_s]
    busy = [router for router in silent if not router.on_demand and _qps([router], spec.qps_window_s, now)]
    counted = [*heard, *(router for router in silent if router.on_demand)]
    ready = [replica for replica in state.replicas if replica.status is ReplicaStatus.READY]
    loads = _loads(ready, observed)
    by_routers = spec.metric is Metric.QPS
    unheard = _unheard(heard, busy, limits)
    missing = unheard or ("" if by_routers else _untold(ready, loads, spec))
    return LoadSample(
        stable=_qps(counted, spec.qps_window_s, now)
        if by_routers
        else math.fsum(load.stable for load in loads.values()),
        panic=_qps(counted, spec.panic_window_s, now)
        if by_routers
        else math.fsum(load.panic for load in loads.values()),
        valid=not missing,
        expected=_expected(state, heard, now) if spec.look_ahead and not missing and by_routers else None,
        asked=any(count for one in state.load for _, count in _since(one, math.floor(now - spec.qps_window_s) + 1)),
        ready=len(ready),
        capacities=_capacities(state) if spec.target_qps_by_accelerator else (),
        missing=missing,
    )


def _unheard(heard: Sequence[RouterLoad], busy: Sequence[RouterLoad], limits: Limits) -> str:
    if not heard:
        return f"no router has reported for {limits.load_stale_after_s:g} s"
    if busy:
        names = ", ".join(sorted(router.router_id for router in busy))
        return f"a router that had requests has been silent for {limits.load_stale_after_s:g} s ({names})"
    return ""


def _untold(ready: Sequence[Replica], loads: Mapping[str, ReplicaLoad], spec: ScalingSpec) -> str:
    if not ready:
        return "no replica is ready to tell it"
    silent = sorted(replica.id for replica in ready if replica.id not in loads)
    others = f" (nor do {len(silent) - 1} more)" if silent[1:] else ""
    return f"{silent[0]} does not tell its {spec.unit}{others}" if silent else ""


def _qps(routers: Sequence[RouterLoad], window_s: float, now: float) -> float:
    """Requests per second of all of them, each over the last whole seconds before its own report.

    A report that is late is not a load that falls, unless it is a function's, and the second that a router is in the middle of would make it fall and rise.
    """
    seconds = math.ceil(window_s)
    if not seconds:
        return 0.0
    requests = 0
    for router in routers:
        end = _end(router, now)
        requests += sum(count for second, count in _since(router, end - seconds) if second < end)
    return requests / seconds


def _end(router: RouterLoad, now: float) -> int:
    """The second up to which a router's counts are all there."""
    return int(max(router.reported_at, now - _FUNCTIONS_LAG_S) if router.on_demand else router.reported_at)


def _since(router: RouterLoad, second: int) -> Sequence[tuple[int, int]]:
    """Counts of ten minutes are ten times those of a window, and every pass looks at them."""
    return router.counts[bisect_left(router.counts, (second,)) :]


def _loads(ready: Sequence[Replica], observed: Observed) -> Mapping[str, ReplicaLoad]:
    """By replica id, of those that told it."""
    probes = {replica.id: observed.probes.get(replica.id) for replica in ready}
    return {id_: probe.load for id_, probe in probes.items() if probe and probe.identified and probe.load is not None}


def _expected(state: State, heard: Sequence[RouterLoad], now: float) -> float | None:
    ahead_s = cold_start_s(state.replicas)
    if ahead_s is None:
        return None
    end = min(_end(router, now) for router in heard)
    return expected_qps(state.load, end, state.service.created_at, ahead_s + now - end)


def _capacities(state: State) -> tuple[float, ...]:
    """Of the live replicas, in the order in which they stay.

    First the base that is always on demand, last those that go when another is ready in their place, as long as that one may
    be such a machine: what stands in for a spot replica, what is at risk, and the old version in a roll-out. Without these
    a roll-out, or a market that takes all spot machines back, would look as if everything had to be bought anew at the
    lowest target.
    """
    spec = state.service.spec
    live = best_first(spec.scaling, [replica for replica in state.replicas if replica.status.is_active])
    base: list[Replica] = []
    own: list[Replica] = []
    replaced: list[Replica] = []
    for replica in live:
        if replica.fingerprint != spec.fingerprint:
            resources = on_demand(spec.resources) if is_fallback(spec, replica) else spec.resources
            if not matching(resources, replica.offer):
                continue
            group = replaced
        elif is_fallback(spec, replica):
            group = base if len(base) < spec.spot.base_ondemand_fallback_replicas else replaced
        else:
            group = replaced if replica.is_at_risk else own
        group.append(replica)
    return tuple(capacity(spec.scaling, replica.offer) for replica in [*base, *own, *replaced])
