"""A cloud's word that it takes a machine: written down first, then acted upon at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from chalicelib.errors import Conflict
from chalicelib.model import Event, Instance, InterruptionNotice, NoticeKind, Replica, State
from chalicelib.passes.listing import ask, observe
from chalicelib.passes.report import Report
from chalicelib.passes.runner import run
from chalicelib.ports import Asked, Commit, Runtime

_NOTICE = "replica.notice"
_WRITES = 4  # of one notice, while passes and owners write to the same replica
# Another pass may hold the service's lease for as long as a cloud takes to answer a launch. The least notice that any
# cloud gives is 30 s.
_TURNS = 10
_PAUSE_S = 1.0
# Clouds name an instant once; who tells it, and by which clock, makes seconds of difference.
_EARLIER_S = 10.0
_RISK_TOLD_S = 3600.0


def interrupt(
    runtime: Runtime, notices: Sequence[InterruptionNotice], pause: Callable[[float], None] = time.sleep
) -> tuple[Report, ...]:
    """Note on its replica that a machine will be taken, and run the passes over the services concerned.

    An INTERRUPTION is durable before anything else happens, so that a pass that dies or is not let in loses nothing of it.
    ENDED is looked up in the cloud's list; REBALANCE is told as an event and, where the service's file asks for it
    (`replace_on_rebalance`), noted: the replica goes when another is ready in its place. What is said about a machine
    of somebody else's (a cloud's event bus tells of all in the account), twice, or too late, changes nothing.

    Raises:
        Conflict: others kept writing to the replica; nothing is noted. Hand the notice in again.
        Unreachable: the store did not answer.
    """
    search = _Search(runtime)
    concerned: set[str] = set()
    for notice in notices:
        replica = search.replica_of(notice)
        if replica is not None and noted(runtime, notice, replica):
            concerned.add(replica.service)
            if notice.kind is NoticeKind.ENDED:
                search.list(notice.provider)  # what passes conclude from that a machine is gone
    reports: dict[str, Report] = {}
    for turn in range(_TURNS):
        if turn:
            pause(_PAUSE_S)
        waiting = [name for name in sorted(concerned) if name not in reports or reports[name].is_held_up]
        reports |= {name: run(runtime, name, search.asked) for name in waiting}
        if not any(report.is_held_up for report in reports.values()):
            break
    return tuple(reports.values())


def is_news(runtime: Runtime, notice: InterruptionNotice, replica: Replica) -> bool:
    """Whether a machine's own word says more than is known: what it repeats costs nothing but this look.

    An instant that creeps is news once in 10 s at the most, a risk once an hour. Raises `Unreachable`.
    """
    now = runtime.clock.now()
    if notice.kind is NoticeKind.REBALANCE:
        told = runtime.store.events(replica.service, after=now - _RISK_TOLD_S, kind=_NOTICE)
        return not any(event.replica == replica.id for event in told)
    known = replica.interruption_at
    return known is None or known - max(notice.at, now) >= _EARLIER_S


def noted(runtime: Runtime, notice: InterruptionNotice, replica: Replica) -> bool:
    """Write down what the notice says of a replica; whether there is anything that passes can do about it now.

    Raises `Conflict` and `Unreachable` as `interrupt` does.
    """
    match notice.kind:
        case NoticeKind.INTERRUPTION:
            return _interruption_noted(runtime, notice, replica)
        case NoticeKind.REBALANCE:
            return _risk_noted(runtime, notice, replica)
        case NoticeKind.ENDED:
            return True


def _risk_noted(runtime: Runtime, notice: InterruptionNotice, replica: Replica) -> bool:
    """A word that is lost to a conflict is no loss: nothing is certain."""
    state = runtime.store.load(replica.service)
    if state is None or not replica.status.is_active:
        return False
    acts = state.service.spec.spot.replace_on_rebalance
    follows = "it is replaced first" if acts else "it stays as long as that is not certain"
    risk = f"{replica.id}: {notice.provider} may soon take its machine; {follows}"
    noted = (replace(replica, is_at_risk=True),) if acts and not replica.is_at_risk else ()
    runtime.store.commit(replica.service, None, Commit(replicas=noted, events=(_event(runtime, replica, risk),)))
    return bool(noted)


def _interruption_noted(runtime: Runtime, notice: InterruptionNotice, replica: Replica) -> bool:
    """False when the replica is leaving anyhow. The earliest instant that a cloud has named stays."""
    found: Replica | None = replica
    for attempt in range(_WRITES):
        if found is None or not found.status.is_active:
            return False
        if found.interruption_at is not None and found.interruption_at <= notice.at:
            return True
        left_s = max(0.0, notice.at - runtime.clock.now())
        why = f"{found.id}: {notice.provider} gives notice that it takes the machine in {left_s:.0f} s"
        noted = replace(found, interruption_at=notice.at)
        try:
            runtime.store.commit(found.service, None, Commit(replicas=(noted,), events=(_event(runtime, found, why),)))
        except Conflict:
            if attempt == _WRITES - 1:
                raise
            found = _replica(runtime.store.load(found.service), found.id)
        else:
            return True
    return False


def _event(runtime: Runtime, replica: Replica, why: str) -> Event:
    return Event(runtime.clock.now(), _NOTICE, why, replica.id)


def _replica(state: State | None, replica_id: str) -> Replica | None:
    return next((one for one in state.replicas if one.id == replica_id), None) if state else None


@dataclass
class _Search:
    """Whose machine is it? By our records and, only if one of them may not have its machine's id yet, by the cloud's list."""

    runtime: Runtime
    asked: dict[str, Asked] = field(default_factory=dict)
    _records: tuple[Replica, ...] | None = None

    def replica_of(self, notice: InterruptionNotice) -> Replica | None:
        """The live replica that the notice is about."""
        return self._by_id(notice.replica_id) if notice.replica_id else self._by_instance(notice)

    def _by_id(self, replica_id: str) -> Replica | None:
        name = replica_id.rsplit("-", 3)[0]  # see `lifecycle.new_replica`
        return _replica(self.runtime.store.load(name), replica_id)

    def _by_instance(self, notice: InterruptionNotice) -> Replica | None:
        records = [one for one in self._live() if one.offer.location.provider == notice.provider]
        if known := next((one for one in records if one.instance_id == notice.instance_id), None):
            return known
        if all(one.instance_id for one in records):
            return None
        listed = next((one for one in self.list(notice.provider) if one.id == notice.instance_id), None)
        return self._by_id(listed.replica_id) if listed else None

    def _live(self) -> Iterable[Replica]:
        if self._records is None:
            states = (self.runtime.store.load(name) for name in self.runtime.store.service_names())
            self._records = tuple(replica for state in states if state for replica in state.replicas)
        return self._records

    def list(self, provider: str) -> Sequence[Instance]:
        """The machines that the cloud has; it is asked once."""
        if provider in self.runtime.providers and provider not in self.asked:
            self.asked |= ask(self.runtime, provider)
        return observe(self.runtime, self.asked, {provider}).instances.get(provider, ())
