"""The routing table as routers read it: all services and all endpoint keys in one JSON document. Pure.

Nothing in it is a secret. The keys of grants are derived from the routers' own token, and of endpoint keys, 256 random
bits each, it has the hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chalicelib.model import EndpointKey, Route, RouteTable


@dataclass(frozen=True, slots=True)
class EdgeTable:
    """The document and its content's name: time alone changes the text, and not the `etag`."""

    etag: str
    text: str


def compose(tables: Iterable[RouteTable], keys: Iterable[EndpointKey], now: float) -> EdgeTable:
    """The document as of `now` (epoch seconds; routers refuse one older than theirs). Keys that have expired are left out."""
    content = {
        "keys": {key.id: _key(key) for key in keys if key.is_valid(now)},
        "services": {table.service: service(table) for table in tables},
    }
    etag = hashlib.sha256(_json(content).encode()).hexdigest()[:32]
    return EdgeTable(etag, _json({"etag": etag, "issued_at": now, **content}))


def service(table: RouteTable) -> Mapping[str, Any]:
    """One service's part of the document."""
    routing = table.routing
    return {
        "policy": routing.policy,
        "status": table.status.value,
        "access": routing.access,
        "mode": routing.mode,
        "wait_for_replica_s": routing.wait_for_replica_s,
        "sticky_header": routing.sticky_header,
        "prefix_characters": routing.prefix_characters,
        "slow_start_s": routing.slow_start_s,
        "prefer_near": routing.prefer_near,
        "models": list(routing.models or (table.service,)),
        "replicas": [_replica(route) for route in table.routes],
    }


def _replica(route: Route) -> Mapping[str, Any]:
    return {
        "id": route.id,
        "url": route.url,
        "boot": route.boot_nonce,
        "in_flight": route.in_flight,
        "weight": route.weight,
        "ready_at": route.ready_at,
        "location": route.location,
    }


def _key(key: EndpointKey) -> Mapping[str, Any]:
    """When it was last used is the control plane's own business, and would make every table a new one."""
    return {
        "hash": key.hash,
        "services": list(key.services),
        "expires_at": key.expires_at,
        "rate_per_s": key.rate_per_s,
        "concurrency": key.concurrency,
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), sort_keys=True)
