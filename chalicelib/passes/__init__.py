"""load → decide → execute. One module a pass; `run` runs them over a service, `tick` over all, `interrupt` on a cloud's notice."""

from __future__ import annotations

from chalicelib.passes.cadence import TICK_S, Round, delay_s, next_round
from chalicelib.passes.interrupt import interrupt, is_news, noted
from chalicelib.passes.listing import not_enabled
from chalicelib.passes.pushes import deploy_pushes
from chalicelib.passes.report import Report
from chalicelib.passes.runner import preview, run, tick
from chalicelib.passes.snapshot import leave_snapshot

__all__ = [
    "TICK_S",
    "Report",
    "Round",
    "delay_s",
    "deploy_pushes",
    "interrupt",
    "is_news",
    "leave_snapshot",
    "next_round",
    "not_enabled",
    "noted",
    "preview",
    "run",
    "tick",
]
