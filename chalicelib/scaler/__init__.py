"""How many replicas? Pure: `decide(service, load, now) -> ScalingDecision`, on the load that `sample` makes of what was seen.

`bounds`, `best_first` and `capacity` are for whoever acts on a decision: which bounds hold now, who stays when fewer are
wanted, and what a replica can take.
"""

from __future__ import annotations

from chalicelib.scaler.autoscaler import ScalingDecision, decide
from chalicelib.scaler.capacity import best_first, capacity
from chalicelib.scaler.load import sample
from chalicelib.scaler.schedule import Bounds, bounds

__all__ = ["Bounds", "ScalingDecision", "best_first", "bounds", "capacity", "decide", "sample"]
