"""What happens to each replica next? Pure: state, observations and `now` in, a `Decision` out."""

from __future__ import annotations

from chalicelib.lifecycle import budget
from chalicelib.lifecycle.launches import Launches, decide_launches, is_planned, wanted_mix
from chalicelib.lifecycle.readiness import decide_readiness
from chalicelib.lifecycle.reconcile import decide_reconcile, is_orphan
from chalicelib.lifecycle.records import moved, new_replica, new_service, with_spec
from chalicelib.lifecycle.refusals import disproved, is_worth_avoiding, refusal
from chalicelib.lifecycle.status import rollout, service_status

__all__ = [
    "Launches",
    "budget",
    "decide_launches",
    "decide_readiness",
    "decide_reconcile",
    "disproved",
    "is_orphan",
    "is_planned",
    "is_worth_avoiding",
    "moved",
    "new_replica",
    "new_service",
    "refusal",
    "rollout",
    "service_status",
    "wanted_mix",
    "with_spec",
]
