"""load → decide → execute. One module a pass; `run` runs them over a service, `tick` over all, `interrupt` on a cloud's notice."""

from __future__ import annotations

from chalicelib.passes.interrupt import interrupt
from chalicelib.passes.listing import not_enabled
from chalicelib.passes.runner import Report, preview, run, tick
from chalicelib.passes.snapshot import leave_snapshot

__all__ = ["Report", "interrupt", "leave_snapshot", "not_enabled", "preview", "run", "tick"]
