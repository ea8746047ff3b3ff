"""Follow the load."""

from __future__ import annotations

from dataclasses import replace

from chalicelib import scaler
from chalicelib.actions import Decision, SaveService
from chalicelib.model import Observed, State
from chalicelib.ports import Runtime


def decide(runtime: Runtime, state: State, observed: Observed, now: float) -> Decision:
    """Save the scaler's new state, if it has one."""
    service = state.service
    if service.deleting:
        return Decision(why=("the service is shutting down",))
    load = scaler.sample(state, observed, runtime.settings.limits, now)
    decision = scaler.decide(service, load, now)
    if decision.state == service.scaler:
        return Decision(why=(decision.why,))
    # From zero the service starts afresh: it is not scaled down again before a replica has been ready.
    woken = service.scaler.target == 0 and decision.state.target > 0
    scaled = replace(service, scaler=decision.state, was_ready=service.was_ready and not woken)
    return Decision((SaveService(scaled, decision.why),), (decision.why,))
