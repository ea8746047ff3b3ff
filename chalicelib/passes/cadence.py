"""When does a service want its next pass? Pure."""

from __future__ import annotations

from chalicelib.lifecycle import wanted_mix
from chalicelib.model import ReplicaStatus, State

# While anything is on its way somewhere; a pass over one service takes 0.2 to 5 ms of CPU, see benchmarks/passes.py.
_BUSY_S = 1.0


def next_pass_s(state: State, *, failed: bool) -> float:
    """Seconds until the next pass: the probe's interval at rest, one second while anything is in transition."""
    at_rest = all(replica.status is ReplicaStatus.READY for replica in state.replicas)
    # A month whose money is spent may be weeks long, and nothing changes in any of its seconds.
    enough = state.service.held_by_budget or len(state.replicas) == wanted_mix(state.service, state.replicas).total
    if at_rest and enough and not failed and not state.service.deleting:
        return max(_BUSY_S, state.service.spec.probe.interval_s)
    return _BUSY_S
