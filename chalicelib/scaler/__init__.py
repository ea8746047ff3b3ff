"""How many replicas? Pure: `decide(service, load, now) -> ScalingDecision`."""

from __future__ import annotations

from chalicelib.scaler.load import sample
from chalicelib.scaler.request_rate import ScalingDecision, decide

__all__ = ["ScalingDecision", "decide", "sample"]
