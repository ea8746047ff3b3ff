"""The RequestRate autoscaler: as many replicas as the requests per second need, after a delay in either direction.

Same rule and constants as SkyServe's `RequestRateAutoscaler` (0.14.1): wanted = ceil(qps / target_qps_per_replica)
within min and max; a rise is followed after `upscale_delay_s`, a fall after `downscale_delay_s`; from zero at once.

One thing differs. SkyServe counts ticks above the target and forgets all of them at the first tick that is not above,
so that a load of 160 s on and 40 s off at twice the capacity never scales up. Here the time above fills a bucket that
drains at the same rate while the load is not above: an interruption costs what it lasted, not everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chalicelib.model import LoadSample, ScalerState, ScalingSpec, Service


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The scaler's next state. It equals the current one as long as there is nothing worth remembering."""

    state: ScalerState
    why: str


def decide(service: Service, load: LoadSample, now: float) -> ScalingDecision:
    """The number of replicas that `service` should have at `now` (epoch seconds), and why.

    An invalid `load` (nobody knows) keeps the target and forgets what had built up: the time that nobody knows about speaks
    neither for more replicas nor for fewer. A service that is still on its way up from zero, or that has
    never been ready, is not taken down again before it had a chance to serve.
    """
    spec, state = service.spec.scaling, service.scaler
    bounded = min(max(state.target, spec.min_replicas), spec.max_replicas)
    if bounded != state.target:
        return _move(bounded, now, f"target {state.target} lies outside {spec.min_replicas}..{spec.max_replicas}")
    if spec.target_qps_per_replica is None:
        return ScalingDecision(state, f"fixed at {state.target}")
    if not load.valid:
        return _hold(state, now, f"the load is not known: keeping {state.target}")
    wanted = min(max(math.ceil(load.qps / spec.target_qps_per_replica), spec.min_replicas), spec.max_replicas)
    figures = f"{load.qps:.2f} qps at {spec.target_qps_per_replica:g} per replica wants {wanted}"
    if state.target == 0 and wanted > 0:
        return _move(wanted, now, f"{figures}: waking from zero")
    if wanted < state.target and not service.was_ready and not service.backoff.failures:
        return _hold(state, now, f"{figures}: keeping {state.target} until a replica has been ready")
    return _follow(spec, state, wanted, figures, now)


def _hold(state: ScalerState, now: float, why: str) -> ScalingDecision:
    return ScalingDecision(ScalerState(state.target, since=now) if state.direction else state, why)


def _follow(spec: ScalingSpec, state: ScalerState, wanted: int, figures: str, now: float) -> ScalingDecision:
    """Move to `wanted` when its bucket is full, else remember which way the load pulls and since when."""
    up_s, down_s = pressure(state, now)
    direction = (wanted > state.target) - (wanted < state.target)
    passed_s, delay_s, word = (
        (up_s, spec.upscale_delay_s, "up") if direction > 0 else (down_s, spec.downscale_delay_s, "down")
    )
    if direction and passed_s >= delay_s:
        return _move(wanted, now, f"{figures}, target {state.target} for {passed_s:.0f} s: scaling {word}")
    if direction != state.direction:
        state = replace(state, direction=direction, since=now, up_s=up_s, down_s=down_s)
    if not direction:
        return ScalingDecision(state, f"{figures}: as it is")
    waited = f"{passed_s:.0f} of {delay_s:g} s"
    return ScalingDecision(state, f"{figures}, target {state.target}: waiting to scale {word}, {waited}")


def pressure(state: ScalerState, now: float) -> tuple[float, float]:
    """How full the (up, down) buckets are at `now`, in seconds: each fills in its direction and drains otherwise."""
    passed_s = max(0.0, now - state.since)
    up_s = state.up_s + (passed_s if state.direction > 0 else -passed_s)
    down_s = state.down_s + (passed_s if state.direction < 0 else -passed_s)
    return max(0.0, up_s), max(0.0, down_s)


def _move(target: int, now: float, why: str) -> ScalingDecision:
    return ScalingDecision(ScalerState(target=target, since=now), why)
