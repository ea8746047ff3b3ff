"""How services and replicas come into being and change."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.model import (
    Backoff,
    Offer,
    Reason,
    Replica,
    ReplicaStatus,
    Requirement,
    ScalerState,
    Service,
    ServiceSpec,
)
from chalicelib.scaler import bounds


def new_service(name: str, uid: str, spec: ServiceSpec, now: float) -> Service:
    """A service at its first version. `uid` is random and makes its replicas' ids unlike those of any earlier namesake."""
    return Service(
        name=name,
        uid=uid,
        spec_version=1,
        spec=spec,
        scaler=ScalerState(target=spec.scaling.initial_replicas, since=now),
        created_at=now,
        updated_at=now,
    )


def with_spec(service: Service, spec: ServiceSpec, number: int, now: float) -> Service:
    """The service at its next version: target within the new bounds in force, past failures forgiven."""
    target = bounds(spec.scaling, now).clamp(service.scaler.target)
    return replace(
        service,
        spec=spec,
        spec_version=number,
        scaler=ScalerState(target=target, since=now),
        backoff=Backoff(),
        updated_at=now,
    )


def new_replica(
    service: Service,
    *,
    slot: int,
    generation: int,
    offer: Offer,
    requirement: Requirement,
    boot_nonce: str,
    now: float,
) -> Replica:
    """The intent to run a replica; nothing has been asked of a cloud yet."""
    return Replica(
        service=service.name,
        id=f"{service.name}-{service.uid}-{slot}-{generation}",
        slot=slot,
        generation=generation,
        spec_version=service.spec_version,
        fingerprint=service.spec.fingerprint,
        offer=offer,
        boot_nonce=boot_nonce,
        status=ReplicaStatus.PENDING,
        status_since=now,
        created_at=now,
        requirement=requirement,
    )


def moved(
    replica: Replica, status: ReplicaStatus, now: float, *, reason: Reason | None = None, error: str = ""
) -> Replica:
    """The replica in another status. The first reason to remove it stays; the last error does until the replica is READY."""
    return replace(
        replica,
        status=status,
        status_since=now,
        ready_at=now if status is ReplicaStatus.READY and replica.ready_at is None else replica.ready_at,
        reason=replica.reason or reason,
        error=error or ("" if status is ReplicaStatus.READY else replica.error),
    )
