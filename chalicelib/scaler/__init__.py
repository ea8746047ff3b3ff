"""How many replicas? Pure: `decide(service, load, now) -> ScalingDecision`, on the load that `sample` makes of what was seen.

`bounds` and `best_first` are for whoever acts on a decision: which bounds hold now, and who stays when fewer are wanted.
"""

from __future__ import annotations

from chalicelib.scaler.autoscaler import ScalingDecision, decide
from chalicelib.scaler.capacity import best_first
from chalicelib.scaler.load import sample
from chalicelib.scaler.schedule import Bounds, bounds

__all__ = ["Bounds", "ScalingDecision", "best_first", "bounds", "decide", "sample"]
