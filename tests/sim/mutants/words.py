"""Bugs in listening to agents, and in how long to wait for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.model import Lease, ProbeResult, ProbeSpec, Replica, ScalingSpec
from chalicelib.ports import Commit, Runtime
from sailplane.sim.cloud import Machine
from sailplane.sim.ports import AgentProber
from tests.sim.mutants.instead import Instead, with_prober


def takes_an_address_for_an_identity(runtime: Runtime) -> Runtime:
    """Whoever answers there is the replica."""

    class Prober(AgentProber):
        def is_replica(self, machine: Machine, replica: Replica) -> bool:
            del machine, replica
            return True

    def planted(port: Any) -> Prober:
        return Prober(port.clouds, port.scheduler, port.in_flight, port.drained)

    return with_prober(planted)(runtime)


def ignores_the_boot_nonce(runtime: Runtime) -> Runtime:
    """Whoever goes by the replica's name is the replica."""

    class Prober(AgentProber):
        def is_replica(self, machine: Machine, replica: Replica) -> bool:
            return machine.replica.id == replica.id

    def planted(port: Any) -> Prober:
        return Prober(port.clouds, port.scheduler, port.in_flight, port.drained)

    return with_prober(planted)(runtime)


def ignores_notices(runtime: Runtime) -> Runtime:
    """A machine is there until it is not."""

    class Prober(Instead):
        def probe(
            self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec
        ) -> Mapping[str, ProbeResult]:
            found = self.port.probe(targets, scaling)
            return {name: replace(one, interruption_at=None) for name, one in found.items()}

    class Store(Instead):
        def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
            if lease is not None or not commit.replicas:
                self.port.commit(name, lease, commit)

    return replace(runtime, prober=Prober(runtime.prober), store=Store(runtime.store))


def awaits_no_drain(runtime: Runtime) -> Runtime:
    """Nobody is ever inside."""

    class Prober(Instead):
        def probe(
            self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec
        ) -> Mapping[str, ProbeResult]:
            return {name: replace(one, in_flight=0) for name, one in self.port.probe(targets, scaling).items()}

    return with_prober(Prober)(runtime)


def gives_routers_no_time(runtime: Runtime) -> Runtime:
    """Who is out of the table gets no more requests from that moment on."""
    limits = replace(runtime.settings.limits, routers_settle_s=-1e6)
    return replace(runtime, settings=replace(runtime.settings, limits=limits))


def never_tires_of_waiting(runtime: Runtime) -> Runtime:
    """A machine that does not come is waited for."""
    limits = replace(runtime.settings.limits, pending_s=1e8, provisioning_s=1e8)
    return replace(runtime, settings=replace(runtime.settings, limits=limits))


MUTANTS: Sequence[Any] = (
    takes_an_address_for_an_identity,
    ignores_the_boot_nonce,
    ignores_notices,
    awaits_no_drain,
    gives_routers_no_time,
    never_tires_of_waiting,
)
