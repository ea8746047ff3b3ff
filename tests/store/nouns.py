"""Services, replicas, events… with everything filled in that the store does not care about."""

from __future__ import annotations

import secrets
from typing import Any

from chalicelib.model import (
    SPOTHEDGE,
    CapacityType,
    EndpointKey,
    EngineSpec,
    Event,
    Location,
    Mix,
    Offer,
    Plan,
    ProbeSpec,
    Reason,
    Replica,
    ReplicaStatus,
    Requirement,
    ResourceRequest,
    Route,
    RouteTable,
    RoutingSpec,
    ScalerState,
    ScalingSpec,
    Service,
    ServiceSpec,
    ServiceStatus,
    SpecVersion,
    SpotSpec,
    Unavailable,
    ZoneMemory,
)

NOW = 1_900_000_000.0  # ahead of every server's clock, so that none removes by TTL what a test wants to see filtered

SPEC = ServiceSpec(
    probe=ProbeSpec(path="/health", headers=(("x-a", "b"),)),
    scaling=ScalingSpec(max_replicas=3, target_qps_per_replica=0.5, target_qps_by_accelerator=(("L4:8", 2.0),)),
    routing=RoutingSpec(),
    resources=ResourceRequest(((Requirement(accelerators=(("L4", 1), ("A100-80GB", 2)), use_spot=True),),)),
    engine=EngineSpec(port=8080, run="python server.py", envs=(("LANG", "ελληνικά"),)),
    spot=SpotSpec(num_overprovision=1, placer=SPOTHEDGE, max_spot_price_ratio=0.8),
    fingerprint="f1",
)
OFFER = Offer(Location("local", "here", "a"), "small", 1.0, 2.0, CapacityType.SPOT, 0.1)


class RandomIds:
    """`ports.Ids`."""

    def token(self, nbytes: int) -> str:
        return secrets.token_hex(nbytes)


def service(name: str = "hello", **fields: Any) -> Service:
    base: dict[str, Any] = {
        "uid": "k3f9",
        "spec_version": 1,
        "scaler": ScalerState(1),
        "created_at": NOW,
        "plan": Plan(1, Mix(2, 1), (OFFER.location,)),
        "zones": (ZoneMemory(OFFER.location, NOW, Reason.PREEMPTED, losses=1.5, lost_at=NOW),),
    }
    return Service(name, spec=SPEC, updated_at=NOW, **(base | fields))


def spec(name: str = "hello", number: int = 1, **fields: Any) -> SpecVersion:
    return SpecVersion(name, number, SPEC, created_at=NOW, **({"source": "service:\n  readiness_probe: /\n"} | fields))


def replica(slot: int = 0, name: str = "hello", **fields: Any) -> Replica:
    base: dict[str, Any] = {
        "id": f"{name}-k3f9-{slot}-1",
        "generation": 1,
        "spec_version": 1,
        "fingerprint": "f1",
        "offer": OFFER,
        "boot_nonce": "n",
        "status": ReplicaStatus.PENDING,
        "status_since": NOW,
        "created_at": NOW,
    }
    return Replica(name, slot=slot, **(base | fields))


def table(name: str = "hello", version: int = 1, **fields: Any) -> RouteTable:
    return RouteTable(
        name,
        ServiceStatus.READY,
        routes=(Route("a", "http://127.0.0.1:1", 2, "n", 2.5, NOW, "aws/r/z"),),
        version=version,
        **fields,
    )


def refusal(zone: str = "a", until: float = NOW + 60, **fields: Any) -> Unavailable:
    base: dict[str, Any] = {"reason": Reason.NO_CAPACITY, "message": "none left", "since": NOW}
    return Unavailable("aws", "us-east-1", zone, "g6.xlarge", "SPOT", until=until, **(base | fields))


def event(message: str = "it happened", at: float = NOW, kind: str = "replica.ready", **fields: Any) -> Event:
    return Event(at, kind, message, **fields)


def key(key_id: str = "0123456789", **fields: Any) -> EndpointKey:
    base: dict[str, Any] = {"name": "laptop", "hash": "ab" * 32, "services": ("hello", "*"), "created_at": NOW}
    return EndpointKey(key_id, **(base | fields))
