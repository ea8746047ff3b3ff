"""Where does the next replica go, and of which kind is it? Pure: time, the market and everything remembered are arguments.

Read `placement.decide` first; `constraints` says what a requirement admits, `infeasible` explains when nothing fits. `mix`
says how many spot and on-demand replicas are wanted, `zones` what is remembered of places that took spot machines back,
`placers` in what order they are tried.
"""

from __future__ import annotations

from chalicelib.optimizer.constraints import matching
from chalicelib.optimizer.infeasible import Infeasible, explain
from chalicelib.optimizer.mix import Mix, ceiling, is_fallback, largest_target, mix, on_demand
from chalicelib.optimizer.placement import Request, decide, spot_zones

__all__ = [
    "Infeasible",
    "Mix",
    "Request",
    "ceiling",
    "decide",
    "explain",
    "is_fallback",
    "largest_target",
    "matching",
    "mix",
    "on_demand",
    "spot_zones",
]
