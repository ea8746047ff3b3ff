"""Where does the next replica go, and of which kind is it? Pure: time, the market and everything remembered are arguments.

Read `placement.decide` first; `constraints` says what a requirement admits, `infeasible` explains when nothing fits. `mix`
says how many spot and on-demand replicas are wanted, `zones` what is remembered of places that took spot machines back,
`placers` in what order they are tried.
"""

from __future__ import annotations

from chalicelib.optimizer.constraints import matching
from chalicelib.optimizer.fleet import crowding_usd, plan
from chalicelib.optimizer.infeasible import Infeasible, explain
from chalicelib.optimizer.mix import ceiling, is_fallback, largest_mix, mix, on_demand
from chalicelib.optimizer.placement import NOTHING_LEFT, Request, decide, nothing_to_buy, open_offers, spot_zones

__all__ = [
    "NOTHING_LEFT",
    "Infeasible",
    "Request",
    "ceiling",
    "crowding_usd",
    "decide",
    "explain",
    "is_fallback",
    "largest_mix",
    "matching",
    "mix",
    "nothing_to_buy",
    "on_demand",
    "open_offers",
    "plan",
    "spot_zones",
]
