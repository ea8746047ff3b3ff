"""The routing table: parsed from the control plane's JSON document, or refused as a whole with a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

POLICIES = ("round_robin", "least_load")
STATUSES = ("STARTING", "READY", "DEGRADED", "IDLE", "FAILED", "SHUTTING_DOWN")

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
# Scheme, host, port and path prefix; no user, query or fragment. Every character may stand in a header as it is.
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
)


class TableRefused(Exception):
    """The document is no usable routing table; the message names the place and the fault. Keep the current table."""


@dataclass(frozen=True, slots=True)
class Replica:
    """Somewhere to send a request. `in_flight` is the number of requests it had when the table was published."""

    id: str
    url: str  # without a trailing slash
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """One service's share of the table. `replicas` are the ready ones, in the order published."""

    policy: str
    status: str
    replicas: tuple[Replica, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """All services by name. `issued_at` (epoch seconds) orders tables; `etag` is what the publisher calls it."""

    etag: str
    issued_at: float
    services: Mapping[str, Service]


def parse(document: object) -> Table:
    """A table from decoded JSON. Unknown keys are ignored, so that a newer control plane may add some.

    Raises:
        TableRefused: something is missing or malformed. Nothing is taken from a table with a fault in it: half a table
            would send the load of the whole service to half of its replicas.
    """
    table = _mapping(document, "table")
    services = _mapping(table.get("services"), "services")
    return Table(
        etag=_text(table.get("etag"), "etag"),
        issued_at=_instant(table.get("issued_at"), "issued_at"),
        services={_name(name): _service(entry, f"services.{name}") for name, entry in services.items()},
    )


def _service(document: object, where: str) -> Service:
    service = _mapping(document, where)
    entries = service.get("replicas")
    if not isinstance(entries, list):
        raise TableRefused(f"{where}.replicas: not a list")
    replicas = tuple(_replica(entry, f"{where}.replicas[{index}]") for index, entry in enumerate(entries))
    if len({replica.id for replica in replicas}) < len(replicas):
        raise TableRefused(f"{where}.replicas: an id is listed twice")
    return Service(
        policy=_one_of(POLICIES, service.get("policy"), f"{where}.policy"),
        status=_one_of(STATUSES, service.get("status"), f"{where}.status"),
        replicas=replicas,
    )


def _replica(document: object, where: str) -> Replica:
    replica = _mapping(document, where)
    in_flight = replica.get("in_flight", 0)
    if not isinstance(in_flight, int) or isinstance(in_flight, bool) or in_flight < 0:
        raise TableRefused(f"{where}.in_flight: not a whole number of at least 0")
    return Replica(_text(replica.get("id"), f"{where}.id"), _url(replica.get("url"), f"{where}.url"), in_flight)


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TableRefused(f"{where}: not an object")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise TableRefused(f"{where}: not a string of 1 to 256 characters")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise TableRefused(f"services: {value[:60]!r} is no service name")
    return value


def _one_of(known: tuple[str, ...], value: object, where: str) -> str:
    if value not in known:
        raise TableRefused(f"{where}: not one of {', '.join(known)}")
    return str(value)


def _url(value: object, where: str) -> str:
    match = _URL.fullmatch(_text(value, where))
    if match is None or int(match["port"] or 0) > 65535:
        raise TableRefused(f"{where}: not an http(s) URL of a host, a port and a path only")
    return match[0].rstrip("/")


def _instant(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise TableRefused(f"{where}: not epoch seconds")
    return float(value)
