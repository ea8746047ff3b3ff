"""Ask every replica's agent how it is, and record whose readiness changed."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.actions import Decision
from chalicelib.lifecycle import decide_readiness
from chalicelib.model import Observed, ProbeResult, ReplicaStatus, State
from chalicelib.passes.specs import specs_of
from chalicelib.ports import Runtime

_ASKED = frozenset(
    {
        ReplicaStatus.PROVISIONING,
        ReplicaStatus.STARTING,
        ReplicaStatus.READY,
        ReplicaStatus.NOT_READY,
        ReplicaStatus.DRAINING,
    }
)


def observe(runtime: Runtime, state: State) -> Mapping[str, ProbeResult]:
    """Every answer, by replica id. A replica is asked its own version's probe, and its load by the service's newest scaling."""
    specs = specs_of(runtime, state)
    asked = [replica for replica in state.replicas if replica.status in _ASKED and replica.url]
    targets = [(replica, specs[replica.spec_version].probe) for replica in asked]
    return runtime.prober.probe(targets, state.service.spec.scaling)


def decide(_runtime: Runtime, state: State, observed: Observed, now: float) -> Decision:
    return decide_readiness(state, observed, now)
