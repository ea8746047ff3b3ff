"""Our side of the comparison: the shipped scaler, asked at the instants at which SkyServe's looked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.skyserve.traces import TICK_S, Trace
from chalicelib import lifecycle, scaler
from chalicelib.model import (
    EngineSpec,
    Limits,
    Observed,
    ProbeSpec,
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
LOOK = 0.75  # as in peer.py; a request is counted in its whole second, so both windows hold the same sixty
# SkyServe counts looks, the first one included: its 300 s are fifteen looks and over 280 s after the first of them. Ours
# are 300 s after it. Setting our delays one look shorter makes everything else comparable.
FIRST_LOOK_S = TICK_S


@dataclass
class Clocked:
    """A service under a trace's load, and what deciding for it has cost so far."""

    service: Service
    decisions: int = 0
    seconds: float = 0.0

    def look(self, counts: Sequence[int], at: int) -> int:
        """The target after a look at second `at`."""
        window = self.service.spec.scaling.qps_window_s
        first = max(0, at - int(window) - 5)
        counted = tuple((START + first + i, count) for i, count in enumerate(counts[first : at + 1]) if count)
        now = START + at + LOOK
        router = RouterLoad("router", at, now, counted)
        started = time.perf_counter()
        load = scaler.sample(State(self.service, (), (router,)), Observed(), Limits(), now)
        self.service = replace(self.service, scaler=scaler.decide(self.service, load, now).state)
        self.seconds += time.perf_counter() - started
        self.decisions += 1
        return self.service.scaler.target

    def agree(self, at: int, target: int, up: int, down: int) -> None:
        """Take over SkyServe's target and the looks that it has counted, so that the next difference stands for itself."""
        direction, looks = (1, up) if up else (-1, down)
        state = ScalerState(target, since=START + at + LOOK)
        if looks:
            state = replace(state, direction=direction, since=state.since - (looks - 1) * TICK_S)
        self.service = replace(self.service, scaler=state)


def begin(trace: Trace, first_look_s: float = FIRST_LOOK_S) -> Clocked:
    """A service that starts with SkyServe's number of replicas: ours would have one, at a minimum of zero."""
    assert isinstance(trace.target_qps, float)
    scaling = ScalingSpec(
        min_replicas=trace.min_replicas,
        max_replicas=trace.max_replicas,
        target_qps_per_replica=trace.target_qps,
        upscale_delay_s=trace.upscale_delay_s - first_look_s,
        downscale_delay_s=trace.downscale_delay_s - first_look_s,
    )
    spec = ServiceSpec(ProbeSpec(), scaling, RoutingSpec(), ResourceRequest(), EngineSpec(port=8080))
    service = lifecycle.new_service("service", "u1d0", spec, START)
    return Clocked(replace(service, scaler=ScalerState(trace.min_replicas, since=START), was_ready=True))
