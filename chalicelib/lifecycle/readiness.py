"""What do the probes' answers change? PROVISIONING → STARTING → READY ⇄ NOT_READY."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.actions import Action, Decision, Save, SaveService
from chalicelib.lifecycle.records import moved
from chalicelib.model import EnginePhase, Observed, ProbeResult, Replica, ReplicaStatus, State

_PROBED = (ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING, ReplicaStatus.READY, ReplicaStatus.NOT_READY)


def decide_readiness(state: State, observed: Observed, now: float) -> Decision:
    """One `Save` for each replica whose readiness changed; the service remembers when its first one became ready."""
    actions: list[Action] = []
    for replica in state.replicas:
        probe = observed.probes.get(replica.id)
        if probe is None or replica.status not in _PROBED:
            continue
        if probe.at < replica.status_since:
            continue  # of a pass that was held up: another one has heard of the replica since
        status = _after(replica, probe)
        if status is not replica.status:
            detail = "" if probe.ready else probe.detail
            actions.append(Save(moved(replica, status, now, error=detail), _why(replica, status, probe)))
    # Also one that was ready all along: a service woken before its last replica was drained keeps that one.
    saved = {action.replica.id: action.replica for action in actions if isinstance(action, Save)}
    statuses = [saved.get(replica.id, replica).status for replica in state.replicas]
    if ReplicaStatus.READY in statuses and not state.service.was_ready:
        actions.append(SaveService(replace(state.service, was_ready=True), "first replica ready"))
    return Decision(tuple(actions), tuple(action.why for action in actions if isinstance(action, Save)))


def _after(replica: Replica, probe: ProbeResult) -> ReplicaStatus:
    if probe.identified and probe.ready:
        return ReplicaStatus.READY
    if replica.status is ReplicaStatus.READY:
        return ReplicaStatus.NOT_READY
    if replica.status is ReplicaStatus.PROVISIONING and probe.identified:
        return ReplicaStatus.STARTING
    return replica.status


def _why(replica: Replica, status: ReplicaStatus, probe: ProbeResult) -> str:
    if status is ReplicaStatus.READY:
        return f"{replica.id}: readiness probe passed"
    if status is ReplicaStatus.STARTING:
        phase = "running setup" if probe.engine is EnginePhase.SETUP else "starting its engine"
        return f"{replica.id}: agent is up and {phase}"
    return f"{replica.id}: readiness probe failed ({probe.detail}), no longer routed"
