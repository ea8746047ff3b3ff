"""When does a service want its next pass? Pure.

A loop of its own calls passes when they are due. Where only the minute's tick does, rounds fill the time between two ticks:
each is a message that comes back when the first of its services is due, and names those that are due later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from chalicelib.lifecycle import wanted_mix
from chalicelib.model import ReplicaStatus, State
from chalicelib.passes.report import Report

# While anything is on its way somewhere; a pass over one service takes 0.2 to 5 ms of CPU, see benchmarks/passes.py.
_BUSY_S = 1.0
TICK_S = 60.0  # EventBridge's finest rate
# Of rounds. A round costs some $2.5 a million (docs/cost.md), so one a second, all month, would cost $6; machines boot for
# minutes, and a notice of a cloud's waits for no round.
SHORTEST_S = 2.0
# A service this close to its turn is taken along: one round costs nearly the same for ten services as for one.
_TAKEN_ALONG_S = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """Services to look at before the next tick does: when each is due, and when that tick is expected, in epoch seconds."""

    due: Mapping[str, float]
    until: float

    @classmethod
    def poke(cls, name: str) -> Round:
        """A service that is to be looked at now, whenever the tick comes."""
        return cls({name: 0.0}, until=0.0)

    @classmethod
    def parse(cls, text: str) -> Round:
        """What `text` of another was. Raises `ValueError`, `KeyError`."""
        said = json.loads(text)
        return cls(said["due"], said["until"])

    @property
    def text(self) -> str:
        """As a message."""
        return json.dumps({"due": self.due, "until": self.until})

    def names(self, now: float) -> frozenset[str]:
        """Whose turn it is."""
        return frozenset(name for name, at in self.due.items() if at <= now + _TAKEN_ALONG_S)


def is_at_rest(state: State) -> bool:
    """Whether nothing is on its way: all replicas that are wanted are there, and ready."""
    are_ready = all(replica.status is ReplicaStatus.READY for replica in state.replicas)
    # A month whose money is spent may be weeks long, and nothing changes in any of its seconds.
    enough = state.service.held_by_budget or len(state.replicas) == wanted_mix(state.service, state.replicas).total
    return are_ready and enough and not state.service.deleting


def next_pass_s(state: State, *, failed: bool) -> float:
    """Seconds until the next pass: the probe's interval at rest, one second while anything is in transition."""
    if failed or not is_at_rest(state):
        return _BUSY_S
    return max(_BUSY_S, state.service.spec.probe.interval_s)


def next_round(last: Round, looked_at: Collection[str], reports: Iterable[Report], now: float) -> Round | None:
    """The round after one that ended at `now`; None when the tick comes before any of its services is due."""
    waiting = {name: at for name, at in last.due.items() if name not in looked_at}
    told = {report.service: report.next_at for report in reports if report.service}
    wanted = {name: max(at, now + SHORTEST_S) for name, at in (waiting | told).items()}
    # Whatever is due just before the tick is left to it.
    due = {name: at for name, at in wanted.items() if at < last.until - _TAKEN_ALONG_S}
    return Round(due, last.until) if due else None


def delay_s(upcoming: Round, now: float) -> int:
    """Whole seconds, as queues count, until the first of the services is due."""
    return max(0, math.ceil(min(upcoming.due.values()) - now))
