"""Bugs in what is written, when, and under what conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from chalicelib.errors import Conflict, LeaseHeld
from chalicelib.model import Backoff, BudgetSpec, Lease, Replica, ReplicaStatus, State, Unavailable
from chalicelib.ports import Commit, Runtime
from tests.sim.mutants.instead import Instead, with_store

_LEAVING = (ReplicaStatus.DRAINING, ReplicaStatus.TERMINATING)


def writes_no_intent(runtime: Runtime) -> Runtime:
    """A replica is recorded when its cloud has answered."""

    class Store(Instead):
        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            late = tuple(one for one in commit.replicas if one.status is not ReplicaStatus.PENDING)
            state = self.port.load(name)
            known = {one.id for one in state.replicas} if state else set()
            first = tuple(one if one.id in known else replace(one, version=0) for one in late)
            self.port.commit(name, lease, replace(commit, replicas=first))

    return with_store(Store)(runtime)


def saves_at_the_end_only(runtime: Runtime) -> Runtime:
    """What a pass has done is written when it is done with everything."""

    class Store(Instead):
        def __init__(self, port: Any) -> None:
            super().__init__(port)
            self.kept: list[tuple[str, Lease, Commit]] = []

        def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Any:
            lease = self.port.acquire_lease(name, owner, ttl_s, now)
            self.kept.clear()
            return lease

        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            if lease is None:
                self.port.commit(name, lease, commit)
            else:
                self.kept.append((name, lease, commit))

        def release_lease(self, lease: Lease) -> None:
            for kept in self.kept:
                self.port.commit(*kept)
            self.kept.clear()
            self.port.release_lease(lease)

    return with_store(Store)(runtime)


def writes_without_a_fence(runtime: Runtime) -> Runtime:
    """A pass that has lost its lease goes on writing."""

    class Store(Instead):
        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            del lease
            self.port.commit(name, None, commit)

    return with_store(Store)(runtime)


def takes_no_lease(runtime: Runtime) -> Runtime:
    """Two passes act on one service side by side."""

    class Store(Instead):
        def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Any:
            try:
                return self.port.acquire_lease(name, owner, ttl_s, now)
            except LeaseHeld:
                return Lease(name, owner, 0, now + ttl_s)

        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            del lease
            self.port.commit(name, None, commit)

    return with_store(Store)(runtime)


def keeps_a_dead_pass_s_lease(runtime: Runtime) -> Runtime:
    """A lease does not expire."""
    return replace(runtime, settings=replace(runtime.settings, lease_ttl_s=1e8))


def overwrites_what_others_wrote(runtime: Runtime) -> Runtime:
    """The last writer wins."""

    class Store(Instead):
        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            state = self.port.load(name)
            versions = {one.id: one.version for one in state.replicas} if state else {}
            replicas = tuple(replace(one, version=versions.get(one.id, one.version)) for one in commit.replicas)
            service = commit.service
            if service is not None and state is not None:
                service = replace(service, version=state.service.version)
            self.port.commit(name, lease, replace(commit, service=service, replicas=replicas))

    return with_store(Store)(runtime)


def forgets_its_back_off(runtime: Runtime) -> Runtime:
    """Every failure is the first."""

    class Store(Instead):
        def load(self, name: str) -> State | None:
            state: State | None = self.port.load(name)
            return state and replace(state, service=replace(state.service, backoff=Backoff()))

    return with_store(Store)(runtime)


def forgets_refusals(runtime: Runtime) -> Runtime:
    """The cheapest offer is asked for again, whatever its cloud has said."""

    class Store(Instead):
        def unavailable(self, now: float) -> tuple[Unavailable, ...]:
            del now
            return ()

    return with_store(Store)(runtime)


def believes_refusals_for_ever(runtime: Runtime) -> Runtime:
    """A place that has refused once is never asked again."""

    class Store(Instead):
        def __init__(self, port: Any) -> None:
            super().__init__(port)
            self.ever: dict[tuple[str, ...], Unavailable] = {}

        def unavailable(self, now: float) -> tuple[Unavailable, ...]:
            self.ever |= {one.scope: replace(one, until=1e11) for one in self.port.unavailable(now)}
            return tuple(self.ever.values())

    return with_store(Store)(runtime)


def ignores_the_ceiling(runtime: Runtime) -> Runtime:
    """Those on their way out are no longer counted."""

    class Store(Instead):
        def load(self, name: str) -> State | None:
            state: State | None = self.port.load(name)
            if state is None:
                return None
            return replace(state, service=replace(state.service, spec=replace(state.service.spec, max_surge=9)))

        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            state = self.port.load(name)
            service = commit.service
            if service is not None and state is not None:
                service = replace(service, spec=state.service.spec)
            self.port.commit(name, lease, replace(commit, service=service))

    return with_store(Store)(runtime)


def forgets_who_is_leaving(runtime: Runtime) -> Runtime:
    """A replica that was told to go is out of sight."""

    class Store(Instead):
        def load(self, name: str) -> State | None:
            state: State | None = self.port.load(name)
            return state and replace(state, replicas=tuple(one for one in state.replicas if one.status not in _LEAVING))

    return with_store(Store)(runtime)


def never_asks_again_for_a_launch(runtime: Runtime) -> Runtime:
    """A launch without an answer is left at that, and so is its record."""

    class Store(Instead):
        def load(self, name: str) -> State | None:
            state: State | None = self.port.load(name)
            if state is None:
                return None
            return replace(state, replicas=tuple(_settled(one) for one in state.replicas))

    def _settled(replica: Replica) -> Replica:
        is_pending = replica.status is ReplicaStatus.PENDING
        return replace(replica, status=ReplicaStatus.STARTING, status_since=1e11) if is_pending else replica

    return with_store(Store)(runtime)


def leaves_the_dead_in_the_table(runtime: Runtime) -> Runtime:
    """A table that names fewer than the last is not published."""

    class Store(Instead):
        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            published = self.port.table(name)
            if commit.table and published and len(commit.table.routes) < len(published.routes):
                commit = replace(commit, table=None)
            self.port.commit(name, lease, commit)

    return with_store(Store)(runtime)


def publishes_after_it_removes(runtime: Runtime) -> Runtime:
    """The routers hear of a departure when the pass is over."""

    class Store(Instead):
        def __init__(self, port: Any) -> None:
            super().__init__(port)
            self.kept: list[Commit] = []

        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            if commit.table is not None:
                self.kept.append(Commit(table=commit.table))
                commit = replace(commit, table=None)
            self.port.commit(name, lease, commit)

        def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Any:
            lease = self.port.acquire_lease(name, owner, ttl_s, now)
            for kept in self.kept:
                with suppress(Conflict):
                    self.port.commit(name, lease, kept)
            self.kept.clear()
            return lease

    return with_store(Store)(runtime)


def deletes_the_service_first(runtime: Runtime) -> Runtime:
    """What is shut down is forgotten, and its machines are left to whoever finds them."""

    class Store(Instead):
        def load(self, name: str) -> State | None:
            state: State | None = self.port.load(name)
            return replace(state, replicas=()) if state and state.service.deleting else state

    return with_store(Store)(runtime)


def takes_silence_for_no_load(runtime: Runtime) -> Runtime:
    """Routers that report nothing have nothing to report."""

    class Store(Instead):
        def load(self, name: str) -> State | None:
            state: State | None = self.port.load(name)
            now = runtime.clock.now()
            return state and replace(state, load=tuple(replace(one, reported_at=now) for one in state.load))

    return with_store(Store)(runtime)


def ignores_the_budget(runtime: Runtime) -> Runtime:
    """Money is no object."""
    return with_store(partial(_Budgeted, budget=lambda _: BudgetSpec()))(runtime)


def is_too_mean(runtime: Runtime) -> Runtime:
    """A tenth of the month's money counts as all of it."""

    def meaner(budget: BudgetSpec) -> BudgetSpec:
        usd = budget.max_usd_per_month
        return replace(budget, max_usd_per_month=usd and usd / 10)

    return with_store(partial(_Budgeted, budget=meaner))(runtime)


class _Budgeted(Instead):
    """The service is read with another budget, and written with its own."""

    def __init__(self, port: Any, budget: Callable[[BudgetSpec], BudgetSpec]) -> None:
        super().__init__(port)
        self.budget = budget

    def load(self, name: str) -> State | None:
        state: State | None = self.port.load(name)
        if state is None:
            return None
        spec = state.service.spec
        return replace(state, service=replace(state.service, spec=replace(spec, budget=self.budget(spec.budget))))

    def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
        state = self.port.load(name)
        service = commit.service
        if service is not None and state is not None:
            service = replace(service, spec=state.service.spec)
        self.port.commit(name, lease, replace(commit, service=service))


MUTANTS: Sequence[Any] = (
    writes_no_intent,
    saves_at_the_end_only,
    writes_without_a_fence,
    takes_no_lease,
    keeps_a_dead_pass_s_lease,
    overwrites_what_others_wrote,
    forgets_its_back_off,
    forgets_refusals,
    believes_refusals_for_ever,
    ignores_the_ceiling,
    forgets_who_is_leaving,
    never_asks_again_for_a_launch,
    leaves_the_dead_in_the_table,
    publishes_after_it_removes,
    deletes_the_service_first,
    takes_silence_for_no_load,
    ignores_the_budget,
    is_too_mean,
)
