"""As many replicas as the load needs, after a delay in either direction.

With the defaults this is SkyServe's `RequestRateAutoscaler` (0.14.1), rule and constants: wanted = ceil(qps /
target_qps_per_replica) within min and max; a rise is followed after `upscale_delay_s`, a fall after
`downscale_delay_s`; from zero at once. What differs by default: an interruption of the pull on the target costs what it
lasted and not everything (`pressure`), and a load that is not known is not one that has fallen (`load`). All else is asked
for by a field of its own; docs/scaling.md has the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chalicelib.model import LoadSample, ScalerState, ScalingSpec, Service
from chalicelib.scaler import panic
from chalicelib.scaler.capacity import replicas_for
from chalicelib.scaler.pressure import lean, pressure
from chalicelib.scaler.schedule import Bounds, bounds


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The scaler's next state. It equals the current one as long as there is nothing worth remembering."""

    state: ScalerState
    why: str


def decide(service: Service, load: LoadSample, now: float) -> ScalingDecision:
    """The number of replicas that `service` should have at `now` (epoch seconds), and why.

    Whatever the load, the target is within the bounds in force. A service at zero wakes at once for any request. Nothing is
    scaled down on a load that is not known, during a panic, or before a service on its way up, from its start or from zero,
    has had a chance to serve.
    """
    spec, state = service.spec.scaling, service.scaler
    limits = bounds(spec, now)
    if limits.clamp(state.target) != state.target:
        return _move(state, limits.clamp(state.target), now, f"target {state.target} lies outside {limits}")
    if spec.target is None:
        return ScalingDecision(state, f"fixed at {state.target}")
    urgent = replicas_for(load.panic, spec, load.capacities)
    state = panic.follow(spec, state, load, urgent, now)
    needed = _needed(spec, load, urgent if state.panicking else 0)
    wanted = limits.clamp(needed)
    figures = _figures(spec, load, needed, limits)
    if state.target == 0 and wanted > 0:
        return _move(state, wanted, now, f"{figures}: waking from zero")
    if state.panicking and wanted > state.target:
        return _move(state, wanted, now, f"{figures}, target {state.target}: a burst, scaling up at once")
    if wanted < state.target and (unless := _why_not_down(service, load, state)):
        return ScalingDecision(lean(state, 0, now), f"{figures}: keeping {state.target}, {unless}")
    return _follow(spec, state, wanted, figures, now)


def _needed(spec: ScalingSpec, load: LoadSample, urgent: int) -> int:
    """Replicas for the load, bounds aside. Somebody who asks is worth one, also when the metric is 0 as that of an empty queue."""
    for_load = replicas_for(max(load.stable, load.expected or 0.0), spec, load.capacities)
    return max(for_load, urgent, int(load.asked))


def _why_not_down(service: Service, load: LoadSample, state: ScalerState) -> str:
    if not load.valid:
        return f"because {load.missing}"
    if state.panicking:
        return "because a burst has just been"
    if not service.was_ready and not service.backoff.failures:
        return "until a replica has been ready"
    return ""


def _follow(spec: ScalingSpec, state: ScalerState, wanted: int, figures: str, now: float) -> ScalingDecision:
    """Move to `wanted` when its bucket is full, else remember which way the load pulls and since when."""
    up_s, down_s = pressure(state, now)
    direction = (wanted > state.target) - (wanted < state.target)
    passed_s, delay_s, word = (
        (up_s, spec.upscale_delay_s, "up") if direction > 0 else (down_s, spec.downscale_delay_s, "down")
    )
    if direction and passed_s >= delay_s:
        return _move(state, wanted, now, f"{figures}, target {state.target} for {passed_s:.0f} s: scaling {word}")
    state = lean(state, direction, now)
    if not direction:
        return ScalingDecision(state, f"{figures}: as it is")
    waited = f"{passed_s:.0f} of {delay_s:g} s"
    return ScalingDecision(state, f"{figures}, target {state.target}: waiting to scale {word}, {waited}")


def _move(state: ScalerState, target: int, now: float, why: str) -> ScalingDecision:
    moved = replace(state, target=target, direction=0, since=now, up_s=0.0, down_s=0.0)
    return ScalingDecision(moved, why)


def _figures(spec: ScalingSpec, load: LoadSample, needed: int, limits: Bounds) -> str:
    """`12.00 requests/s at 2.5 per replica want 5`, and what else played a part."""
    asked = ", yet requests come in," if load.asked and not load.stable else ""
    known = "" if load.valid else " that are known"
    ahead = "" if load.expected is None else f" ({_shown(load.expected)} expected when a new replica would be ready)"
    burst = f" ({_shown(load.panic)} in the last {spec.panic_window_s:g} s)" if spec.panic_window_s else ""
    by_accelerator = ", ".join(f"{target:g} on {name}" for name, target in spec.target_qps_by_accelerator)
    at = by_accelerator or f"{spec.target:g} per replica"
    end = ""
    if limits.clamp(needed) != needed:
        end = f", {'above the maximum' if needed > limits.max_replicas else 'below the minimum'} of {limits}"
    return f"{_shown(load.stable)} {spec.unit}{known}{burst}{ahead}{asked} at {at} want {needed}{end}"


def _shown(load: float) -> str:
    """Two digits behind the point, and never 0.00 for what is a load."""
    return f"{load:.2f}" if load >= 0.01 or not load else f"{load:.1g}"
