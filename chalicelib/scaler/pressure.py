"""How long has the load pulled at the target? Buckets that drain, not counters that reset (ADR 3).

The time in which more replicas are wanted than the target fills one bucket, that in which fewer are wanted another; any
other time drains both at the same rate, also time in which nobody knows the load. So an interruption costs what it
lasted, not everything.
"""

from __future__ import annotations

from dataclasses import replace

from chalicelib.model import ScalerState


def pressure(state: ScalerState, now: float) -> tuple[float, float]:
    """How full the (up, down) buckets are at `now`, in seconds."""
    passed_s = max(0.0, now - state.since)
    up_s = state.up_s + (passed_s if state.direction > 0 else -passed_s)
    down_s = state.down_s + (passed_s if state.direction < 0 else -passed_s)
    return max(0.0, up_s), max(0.0, down_s)


def lean(state: ScalerState, direction: int, now: float) -> ScalerState:
    """The state with the load pulling in `direction` (1, 0 or -1) from now on; itself if that is no change."""
    if direction == state.direction:
        return state
    up_s, down_s = pressure(state, now)
    return replace(state, direction=direction, since=now, up_s=up_s, down_s=down_s)
