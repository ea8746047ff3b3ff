"""Our side of the comparison: the shipped scaler, asked at the instants at which SkyServe's looked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.skyserve.accelerators import Rows
from benchmarks.skyserve.traces import TICK_S, Trace
from chalicelib import lifecycle, scaler
from chalicelib.model import (
    CapacityType,
    EngineSpec,
    Limits,
    Location,
    Observed,
    Offer,
    ProbeSpec,
    Replica,
    ReplicaStatus,
    ResourceRequest,
    RouterLoad,
    RoutingSpec,
    ScalerState,
    ScalingSpec,
    Service,
    ServiceSpec,
    State,
)

START = 1_700_000_000  # as in peer.py
# SkyServe counts looks, the first one included: its 300 s are fifteen looks and over 280 s after the first of them. Ours
# are 300 s after it. Setting our delays one look shorter makes everything else comparable.
FIRST_LOOK_S = TICK_S
# SkyServe's word for a replica's status, ours for it.
STATUSES = {
    "PROVISIONING": ReplicaStatus.PROVISIONING,
    "READY": ReplicaStatus.READY,
    "SHUTTING_DOWN": ReplicaStatus.TERMINATING,
}


@dataclass
class Clocked:
    """A service under a trace's load, and what deciding for it has cost so far."""

    service: Service
    seconds: float = 0.0

    def look(self, counts: Sequence[int], at: int, rows: Rows = ()) -> int:
        """The target after a look at second `at`; `rows` are SkyServe's replicas."""
        self.service, seconds = _decided(self.service, counts, at, rows)
        self.seconds += seconds
        return self.service.scaler.target

    def wanted(self, counts: Sequence[int], at: int, rows: Rows) -> int:
        """What is wanted at this moment, whatever was before: a service at zero follows at once."""
        scaling = replace(self.service.spec.scaling, min_replicas=0)
        asleep = replace(self.service, spec=replace(self.service.spec, scaling=scaling), scaler=ScalerState(0))
        decided, seconds = _decided(asleep, counts, at, rows)
        self.seconds += seconds
        wanted = decided.scaler.target
        return max(wanted, self.service.spec.scaling.min_replicas)

    def agree(self, at: int, target: int, up: int, down: int) -> None:
        """Take over SkyServe's target and the looks that it has counted, so that the next difference stands for itself."""
        direction, looks = (1, up) if up else (-1, down)
        state = ScalerState(target, since=START + at)
        if looks:
            state = replace(state, direction=direction, since=state.since - (looks - 1) * TICK_S)
        self.service = replace(self.service, scaler=state)


def begin(trace: Trace, first_look_s: float = FIRST_LOOK_S) -> Clocked:
    """A service that starts with SkyServe's number of replicas: ours would have one, at a minimum of zero."""
    by_accelerator = trace.target_qps if isinstance(trace.target_qps, Mapping) else {"": trace.target_qps}
    scaling = ScalingSpec(
        min_replicas=trace.min_replicas,
        max_replicas=trace.max_replicas,
        target_qps_per_replica=min(by_accelerator.values()),
        target_qps_by_accelerator=tuple((gpu, target) for gpu, target in by_accelerator.items() if gpu),
        upscale_delay_s=trace.upscale_delay_s - first_look_s,
        downscale_delay_s=trace.downscale_delay_s - first_look_s,
    )
    spec = ServiceSpec(ProbeSpec(), scaling, RoutingSpec(), ResourceRequest(), EngineSpec(port=8080))
    service = lifecycle.new_service("service", "u1d0", spec, START)
    return Clocked(replace(service, scaler=ScalerState(trace.min_replicas, since=START), was_ready=True))


def _decided(service: Service, counts: Sequence[int], at: int, rows: Rows) -> tuple[Service, float]:
    """The service after one decision of the shipped scaler, and the seconds that it took."""
    now = START + at
    first = max(0, at - round(service.spec.scaling.qps_window_s) - 5)
    counted = tuple((START + first + i, count) for i, count in enumerate(counts[first:at]) if count)
    replicas = tuple(_replica(slot, gpu, status) for slot, (gpu, status) in enumerate(rows))
    state = State(service, replicas, (RouterLoad("router", at, now, counted),))
    started = time.perf_counter()
    load = scaler.sample(state, Observed(), Limits(), now)
    decided = replace(service, scaler=scaler.decide(service, load, now).state)
    return decided, time.perf_counter() - started


def _replica(slot: int, gpu: str, status: str) -> Replica:
    offer = Offer(Location("aws", "us-east-1", "a"), gpu, 4, 16, CapacityType.ON_DEMAND, 1.0, gpu, 1, 24)
    ours = STATUSES[status]
    return Replica("service", f"service-u1d0-{slot}-1", slot, slot, 1, "", offer, "", ours, START, START)
