"""What may be done to the world, as data.

A deciding module returns a `Decision`; only `executor.Execution` carries one out. A decision can therefore be printed
(dry run, `sailplane why`), compared in a test and replayed in a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.model import Instance, Reason, Replica, RouteTable, Service


@dataclass(frozen=True, slots=True)
class Launch:
    """Make sure the replica's machine exists. Safe to repeat: the replica's id is the cloud's idempotency token.

    `replica.version == 0` means the intent itself has yet to be written.
    """

    replica: Replica
    why: str


@dataclass(frozen=True, slots=True)
class Save:
    """Write a replica's new state; nothing else happens."""

    replica: Replica
    why: str


@dataclass(frozen=True, slots=True)
class SaveService:
    """Write the service's new state (target, back-off)."""

    service: Service
    why: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop routing to the replica and let it finish what it has."""

    replica: Replica
    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """Remove the replica's machine. Safe to repeat until it is seen gone."""

    replica: Replica
    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class TerminateOrphan:
    """Remove a machine that carries our tag and that no record wants."""

    instance: Instance
    why: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Give the routers a new table for this service."""

    table: RouteTable
    why: str


@dataclass(frozen=True, slots=True)
class DeleteService:
    """Forget a service that was shut down and whose last machine has been seen gone."""

    service: Service
    why: str


Action = Launch | Save | SaveService | Drain | Terminate | TerminateOrphan | Publish | DeleteService


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do and why. `why` also explains doing nothing."""

    actions: tuple[Action, ...] = ()
    why: tuple[str, ...] = ()
