"""Is a burst under way that must not wait? Panic mode as in Knative's pod autoscaler (KPA).

Two windows look at the same load. When that of the short one wants `panic_threshold` times the ready replicas (one at the least),
the service panics: it is scaled up at once, and not down before a whole stable window has passed without such a load.
Knative's figures are a panic window of a tenth of the stable one and a threshold of 2.
https://knative.dev/docs/serving/autoscaling/kpa-specific/
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.model import LoadSample, ScalerState, ScalingSpec


def follow(spec: ScalingSpec, state: ScalerState, load: LoadSample, urgent: int, now: float) -> ScalerState:
    """The state with panic begun, kept or ended; itself if that is no change.

    `urgent` is what the panic window wants, bounds aside. A load that is not known may begin a panic and never calms one.
    """
    if not spec.panic_window_s:
        return replace(state, panicking=False, calm_since=None) if state.panicking else state
    if urgent >= spec.panic_threshold * max(1, load.ready):
        is_known = state.panicking and state.calm_since is None
        return state if is_known else replace(state, panicking=True, calm_since=None)
    if not state.panicking or not load.valid:
        return state
    if state.calm_since is None:
        return replace(state, calm_since=now)
    if now - state.calm_since >= spec.qps_window_s:
        return replace(state, panicking=False, calm_since=None)
    return state
