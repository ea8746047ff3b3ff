"""Services, replicas and routers for the scaler's tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from chalicelib import lifecycle
from chalicelib.model import (
    CapacityType,
    Limits,
    LoadSample,
    Location,
    Observed,
    Offer,
    ProbeResult,
    Replica,
    ReplicaLoad,
    ReplicaStatus,
    RouterLoad,
    ScalerState,
    Service,
    State,
)
from chalicelib.scaler import decide, sample
from tests.fakes import START, spec

LIMITS = Limits()
SKYSERVE = {"upscale_delay_s": 300.0, "downscale_delay_s": 1200.0, "target_qps_per_replica": 1.0}


def service(target: int = 1, *, was_ready: bool = True, **scaling: Any) -> Service:
    """A service with SkyServe's constants, one request per second and replica, 0 to 10 of them."""
    bounds: dict[str, Any] = {"min_replicas": 0, "max_replicas": 10} | SKYSERVE | scaling
    made = lifecycle.new_service("svc", "u1d0", spec(**bounds), START)
    return replace(made, scaler=ScalerState(target, since=START), was_ready=was_ready)


def replica(
    number: int,
    accelerators: str = "",
    status: ReplicaStatus = ReplicaStatus.READY,
    usd: float = 1.0,
    **changes: Any,
) -> Replica:
    """Of the current version, on a machine with `L4:8`."""
    name, _, count = accelerators.partition(":")
    place = Location("aws", "here", "a")
    offer = Offer(place, "box", 4, 16, CapacityType.ON_DEMAND, usd, name, int(count or 1) if name else 0)
    made = Replica("svc", f"svc-u1d0-{number}-{number}", number, number, 1, "v1", offer, "nonce", status, START, START)
    return replace(made, **changes)


def router(counts: Iterable[tuple[int, int]], at: float, name: str = "a", *, on_demand: bool = False) -> RouterLoad:
    return RouterLoad(name, 1, at, tuple(counts), on_demand)


def steady(qps: int, until: float, seconds: int = 600) -> list[tuple[int, int]]:
    """The counts of a load that stays as it is."""
    return [(second, qps) for second in range(int(until) - seconds, int(until))]


def reports(loads: Sequence[tuple[Replica, ReplicaLoad | None]]) -> Observed:
    """What the replicas' agents answered."""
    probes = {one.id: ProbeResult(one.id, START, identified=True, ready=True, load=load) for one, load in loads}
    return Observed(probes=probes)


def seen(
    subject: Service,
    now: float,
    *,
    routers: Sequence[RouterLoad] = (),
    loads: Sequence[tuple[Replica, ReplicaLoad | None]] = (),
) -> LoadSample:
    """The sample of a service whose replicas answered `loads`."""
    replicas = tuple(one for one, _ in loads)
    return sample(State(subject, replicas, tuple(routers)), reports(loads), LIMITS, now)


def follow(subject: Service, samples: Iterable[LoadSample], every_s: float = 20.0) -> list[Service]:
    """The service after each sample, one every `every_s` seconds."""
    services, now = [], START
    for load in samples:
        now += every_s
        subject = replace(subject, scaler=decide(subject, load, now).state)
        services.append(subject)
    return services


def targets(services: Iterable[Service]) -> list[int]:
    return [one.scaler.target for one in services]
