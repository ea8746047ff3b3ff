"""What a service is worth to its clients, in one word and one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chalicelib.lifecycle.launches import wanted_mix
from chalicelib.model import Replica, ReplicaStatus, Rollout, Service, ServiceStatus
from chalicelib.scaler import bounds


def service_status(service: Service, replicas: Sequence[Replica], now: float) -> tuple[ServiceStatus, str]:
    """The status, and a sentence with the figures or the last error behind it.

    READY means that the service's minimum of this hour is met (one replica at least): a scale-out under way is no trouble.
    """
    ready = sum(replica.status is ReplicaStatus.READY for replica in replicas)
    target = service.scaler.target
    needed = min(target, max(1, bounds(service.spec.scaling, now).min_replicas))
    if service.deleting:
        held_up = next((f"; {replica.removal_error}" for replica in replicas if replica.removal_error), "")
        return ServiceStatus.SHUTTING_DOWN, f"{_count(replicas)} still to go{held_up}"
    if target == 0:
        return ServiceStatus.IDLE, "scaled to zero; the first request wakes it"
    if ready >= needed:
        return ServiceStatus.READY, _figures(service, replicas, ready)
    if ready:
        return ServiceStatus.DEGRADED, _figures(service, replicas, ready)
    if service.backoff.failures:
        times = "once" if service.backoff.failures == 1 else f"{service.backoff.failures} times in a row"
        return ServiceStatus.FAILED, f"failed {times}: {service.backoff.error}"
    status = ServiceStatus.DEGRADED if service.was_ready else ServiceStatus.STARTING
    return status, _figures(service, replicas, ready)


def rollout(service: Service, replicas: Sequence[Replica], version: int, now: float) -> Rollout:
    """How far a version has come, by the replicas that there are and those that have ended lately."""
    if service.deleting or service.spec_version != version:
        return Rollout.OVERTAKEN
    faults = [replica.reason for replica in replicas if replica.spec_version == version and replica.reason]
    if any(fault.blames_user_code for fault in faults):
        return Rollout.FAILED
    active = [replica for replica in replicas if replica.status.is_active]
    is_mixed = any(replica.fingerprint != service.spec.fingerprint for replica in active)
    status, _ = service_status(service, active, now)
    is_there = status in (ServiceStatus.READY, ServiceStatus.IDLE)
    return Rollout.DONE if is_there and not is_mixed else Rollout.UNDER_WAY


def _figures(service: Service, replicas: Sequence[Replica], ready: int) -> str:
    wanted = wanted_mix(service, replicas)
    text = f"{ready} of {service.scaler.target} ready"
    if wanted.total != service.scaler.target:
        text += f"; {wanted} wanted"
    counts = Counter(replica.status for replica in replicas)
    others = [f"{counts[s]} {s}" for s in ReplicaStatus if counts[s] and s is not ReplicaStatus.READY]
    if others:
        text += f" ({', '.join(others)})"
    if service.backoff.failures:
        text += f"; last failure: {service.backoff.error}"
    return text


def _count(replicas: Sequence[Replica]) -> str:
    return "1 replica" if len(replicas) == 1 else f"{len(replicas)} replicas"
