"""Where does the next replica go? Pure: time, the market and everything remembered are arguments.

Read `placement.decide` first; `constraints` says what a requirement admits, `infeasible` explains when nothing fits.
"""

from __future__ import annotations

from chalicelib.optimizer.constraints import matching
from chalicelib.optimizer.infeasible import Infeasible, explain
from chalicelib.optimizer.placement import Request, decide

__all__ = ["Infeasible", "Request", "decide", "explain", "matching"]
