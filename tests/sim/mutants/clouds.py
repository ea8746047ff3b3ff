"""Bugs in talking to clouds."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from typing import Any

from chalicelib.errors import NoCapacity, Unreachable
from chalicelib.model import CapacityType, Instance, LaunchRequest, State
from chalicelib.ports import Runtime
from tests.sim.mutants.instead import Instead, with_providers


def drops_the_token(runtime: Runtime) -> Runtime:
    """Every call of launch starts a machine."""

    class Provider(Instead):
        calls = count()

        def launch(self, request: LaunchRequest) -> Any:
            return self.port.cloud.run_machine(f"{request.replica.id} {next(self.calls)}", request)

    return with_providers(Provider)(runtime)


def retries_with_a_new_token(runtime: Runtime) -> Runtime:
    """An answer that is lost is asked for again, as if nothing had been started."""

    class Provider(Instead):
        def launch(self, request: LaunchRequest) -> Any:
            try:
                return self.port.launch(request)
            except Unreachable:
                return self.port.cloud.run_machine(f"{request.replica.id} again", request)

    return with_providers(Provider)(runtime)


def launches_under_another_name(runtime: Runtime) -> Runtime:
    """The retry after a lost answer is a new replica to the cloud."""

    class Provider(Instead):
        def launch(self, request: LaunchRequest) -> Any:
            try:
                return self.port.launch(request)
            except Unreachable:
                renamed = replace(request.replica, id=f"{request.replica.id}9")
                return self.port.launch(replace(request, replica=renamed))

    return with_providers(Provider)(runtime)


def buys_on_demand_what_was_booked_as_spot(runtime: Runtime) -> Runtime:
    """A refusal is not reported but worked around."""

    class Provider(Instead):
        def launch(self, request: LaunchRequest) -> Any:
            try:
                return self.port.launch(request)
            except NoCapacity:
                offer = replace(request.replica.offer, capacity_type=CapacityType.ON_DEMAND)
                return self.port.launch(replace(request, replica=replace(request.replica, offer=offer)))

    return with_providers(Provider)(runtime)


def takes_not_found_for_gone(runtime: Runtime) -> Runtime:
    """A machine that is not listed yet counts as gone."""

    class Provider(Instead):
        listing_lag_s = 0.0

    return with_providers(Provider)(runtime)


def takes_a_removal_for_done(runtime: Runtime) -> Runtime:
    """What the cloud was asked to remove is not looked for any more."""

    class Provider(Instead):
        def __init__(self, port: Any) -> None:
            super().__init__(port)
            self.removed: set[str] = set()

        def terminate(self, replica_id: str, instance_id: str) -> None:
            self.removed.add(replica_id)
            self.port.terminate(replica_id, instance_id)

        def list_instances(self) -> tuple[Instance, ...]:
            return tuple(one for one in self.port.list_instances() if one.replica_id not in self.removed)

    return with_providers(Provider)(runtime)


def asks_for_a_removal_once(runtime: Runtime) -> Runtime:
    """Whether it was heard or not."""

    class Provider(Instead):
        def __init__(self, port: Any) -> None:
            super().__init__(port)
            self.asked: set[str] = set()

        def terminate(self, replica_id: str, instance_id: str) -> None:
            if replica_id not in self.asked:
                self.asked.add(replica_id)
                self.port.terminate(replica_id, instance_id)

    return with_providers(Provider)(runtime)


def lists_once(runtime: Runtime) -> Runtime:
    """Every later pass sees the first list."""

    class Provider(Instead):
        first: tuple[Instance, ...] | None = None

        def list_instances(self) -> tuple[Instance, ...]:
            if self.first is None:
                self.first = self.port.list_instances()
            return self.first

    return with_providers(Provider)(runtime)


def takes_silence_for_nothing(runtime: Runtime) -> Runtime:
    """A cloud that does not answer has no machines."""

    class Provider(Instead):
        def list_instances(self) -> Any:
            try:
                return self.port.list_instances()
            except Unreachable:
                return ()

    return with_providers(Provider)(runtime)


def lets_orphans_be(runtime: Runtime) -> Runtime:
    """A machine that no record knows is none of ours."""

    class Provider(Instead):
        def list_instances(self) -> tuple[Instance, ...]:
            names = runtime.store.service_names()
            states = [runtime.store.load(name) for name in names]
            known = {replica.id for state in states if state for replica in state.replicas}
            return tuple(one for one in self.port.list_instances() if one.replica_id in known)

    return with_providers(Provider)(runtime)


def lists_after_state_without_grace(runtime: Runtime) -> Runtime:
    """Clouds answer when their answer is needed, state is the one read before; and who has no record goes at once."""

    class Late(Future[Any]):
        """Begins when it is asked for its result."""

        def __init__(self, work: Any) -> None:
            super().__init__()
            self.work = work

        def done(self) -> bool:
            if self.work is not None:
                work, self.work = self.work, None
                try:
                    self.set_result(work())
                except Unreachable as error:
                    self.set_exception(error)
            return super().done()

    def spawn(lane: str, work: Any) -> Future[Any]:
        if lane not in runtime.providers or getattr(work, "func", None) is None or work.func.__name__ != "_list":
            return runtime.spawn(lane, work)
        return Late(work)

    class Store(Instead):
        def __init__(self, port: Any) -> None:
            super().__init__(port)
            self.first: State | None = None
            self.is_leased = False

        def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Any:
            self.is_leased = True
            return self.port.acquire_lease(name, owner, ttl_s, now)

        def load(self, name: str) -> State | None:
            if not self.is_leased:
                self.first = self.port.load(name)
            self.is_leased = False
            return self.first

    limits = replace(runtime.settings.limits, orphan_grace_s=0.0)
    settings = replace(runtime.settings, limits=limits)
    return replace(runtime, spawn=spawn, settings=settings, store=Store(runtime.store))


MUTANTS: Sequence[Any] = (
    drops_the_token,
    retries_with_a_new_token,
    launches_under_another_name,
    buys_on_demand_what_was_booked_as_spot,
    takes_not_found_for_gone,
    takes_a_removal_for_done,
    asks_for_a_removal_once,
    lists_once,
    takes_silence_for_nothing,
    lets_orphans_be,
    lists_after_state_without_grace,
)
