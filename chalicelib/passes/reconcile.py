"""Make what exists agree with what is wanted: interruptions, deaths, deadlines, scale-down, roll-out, shutdown, orphans."""

from __future__ import annotations

from chalicelib.actions import Decision
from chalicelib.lifecycle import decide_reconcile
from chalicelib.model import Observed, ReplicaStatus, State
from chalicelib.passes.specs import specs_of
from chalicelib.ports import Runtime
from chalicelib.routing import members


def decide(runtime: Runtime, state: State, observed: Observed, now: float) -> Decision:
    drains = any(replica.status is ReplicaStatus.DRAINING for replica in state.replicas)
    published = runtime.store.table(state.service.name) if drains else None
    routed = dict(members(published))
    return decide_reconcile(state, specs_of(runtime, state), observed, runtime.settings.limits, now, routed=routed)
