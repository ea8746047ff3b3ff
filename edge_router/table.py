"""The routing table: parsed from the control plane's JSON document, or refused as a whole with a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from zlib import crc32

POLICIES = ("round_robin", "least_load", "instance_aware_least_load", "prefix_aware")
ACCESSES = ("required", "open")
MODES = ("redirect", "resolve")
STATUSES = ("STARTING", "READY", "DEGRADED", "IDLE", "FAILED", "SHUTTING_DOWN")

EVERY_SERVICE = "*"

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_KEY_ID = re.compile(r"[0-9a-z]{1,32}")
_HASH = re.compile(r"[0-9a-f]{64}")
# What stands between the tildes and in the lines that a grant is made of.
_PLAIN = re.compile(r"[A-Za-z0-9._:-]{0,128}")
_LOCATION = re.compile(r"[A-Za-z0-9._:,/ -]{0,200}")
_HEADER = re.compile(r"[a-z0-9-]{0,64}")
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
    boot: str = ""  # nonce of this boot of its machine
    in_flight: int = 0
    weight: float = 1.0  # how many requests per second it is good for, against the others of its service
    ready_at: float = -inf
    location: str = ""  # cloud/region/zone
    seed: int = field(default=0, compare=False)  # of its id, for rendezvous hashing


@dataclass(frozen=True, slots=True)
class Key:
    """An endpoint key, as far as a router needs to know it."""

    id: str
    hash: str  # SHA-256 of the whole text, in hex
    services: frozenset[str]
    expires_at: float = inf
    rate_per_s: float | None = None
    concurrency: int | None = None

    def permits(self, service: str) -> bool:
        """Whether it is one for this service."""
        return service in self.services or EVERY_SERVICE in self.services


@dataclass(frozen=True, slots=True)
class Service:
    """One service's share of the table. `replicas` are the ready ones, in the order published."""

    policy: str
    status: str
    replicas: tuple[Replica, ...] = ()
    access: str = "required"
    mode: str = "redirect"
    wait_for_replica_s: float = 0.0
    sticky_header: bytes = b""
    prefix_characters: int = 256
    slow_start_s: float = 0.0
    prefer_near: bool = False
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """All services by name, all keys by id. `issued_at` (epoch seconds) orders tables; `etag` is the publisher's name."""

    etag: str
    issued_at: float
    services: Mapping[str, Service]
    keys: Mapping[str, Key] = field(default_factory=dict)


def parse(document: object) -> Table:
    """A table from decoded JSON. Unknown keys are ignored, so that a newer control plane may add some.

    Raises:
        TableRefused: something is missing or malformed. Nothing is taken from a table with a fault in it: half a table
            would send the load of the whole service to half of its replicas.
    """
    table = _mapping(document, "table")
    services = _mapping(table.get("services"), "services")
    keys = _mapping(table.get("keys", {}), "keys")
    return Table(
        etag=_text(table.get("etag"), "etag"),
        issued_at=_number(table.get("issued_at"), "issued_at"),
        services={_name(name): _service(name, entry, f"services.{name}") for name, entry in services.items()},
        keys={key_id: _key(key_id, entry, f"keys.{key_id[:40]}") for key_id, entry in keys.items()},
    )


def _service(name: str, document: object, where: str) -> Service:
    service = _mapping(document, where)
    replicas = tuple(
        _replica(entry, f"{where}.replicas[{index}]")
        for index, entry in enumerate(_list(service.get("replicas"), f"{where}.replicas"))
    )
    if len({replica.id for replica in replicas}) < len(replicas):
        raise TableRefused(f"{where}.replicas: an id is listed twice")
    return Service(
        policy=_one_of(POLICIES, service.get("policy"), f"{where}.policy"),
        status=_one_of(STATUSES, service.get("status"), f"{where}.status"),
        replicas=replicas,
        access=_one_of(ACCESSES, service.get("access", "required"), f"{where}.access"),
        mode=_one_of(MODES, service.get("mode", "redirect"), f"{where}.mode"),
        wait_for_replica_s=_number(service.get("wait_for_replica_s", 0), f"{where}.wait_for_replica_s"),
        sticky_header=_matching(_HEADER, service.get("sticky_header", ""), f"{where}.sticky_header").encode(),
        prefix_characters=_whole(service.get("prefix_characters", 256), f"{where}.prefix_characters"),
        slow_start_s=_number(service.get("slow_start_s", 0), f"{where}.slow_start_s"),
        prefer_near=service.get("prefer_near", False) is True,
        models=_texts(service.get("models", [name]), f"{where}.models"),
    )


def _replica(document: object, where: str) -> Replica:
    replica = _mapping(document, where)
    replica_id = _matching(_PLAIN, _text(replica.get("id"), f"{where}.id"), f"{where}.id")
    return Replica(
        id=replica_id,
        url=_url(replica.get("url"), f"{where}.url"),
        boot=_matching(_PLAIN, replica.get("boot", ""), f"{where}.boot"),
        in_flight=_whole(replica.get("in_flight", 0), f"{where}.in_flight"),
        weight=_number(replica.get("weight", 1), f"{where}.weight", above=0.0),
        ready_at=_number(replica.get("ready_at", 0), f"{where}.ready_at"),
        location=_matching(_LOCATION, replica.get("location", ""), f"{where}.location"),
        seed=crc32(replica_id.encode()),
    )


def _key(key_id: str, document: object, where: str) -> Key:
    key = _mapping(document, where)
    rate_per_s, concurrency, expires_at = key.get("rate_per_s"), key.get("concurrency"), key.get("expires_at")
    return Key(
        id=_matching(_KEY_ID, key_id, where),
        hash=_matching(_HASH, key.get("hash"), f"{where}.hash"),
        services=frozenset(_texts(key.get("services"), f"{where}.services")),
        expires_at=inf if expires_at is None else _number(expires_at, f"{where}.expires_at"),
        rate_per_s=None if rate_per_s is None else _number(rate_per_s, f"{where}.rate_per_s", above=0.0),
        concurrency=None if concurrency is None else _whole(concurrency, f"{where}.concurrency", least=1),
    )


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


def _number(value: object, where: str, above: float = -1.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value < 1e12 and value > above):
        raise TableRefused(f"{where}: not a number of {'more than' if above == 0 else 'at least'} 0, below 1e12")
    return float(value)


def _whole(value: object, where: str, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1_000_000_000:
        raise TableRefused(f"{where}: not a whole number of at least {least}")
    return value


def _matching(form: re.Pattern[str], value: object, where: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise TableRefused(f"{where}: not of the form {form.pattern}")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise TableRefused(f"{where}: not a list")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(_text(each, f"{where}[{index}]") for index, each in enumerate(_list(value, where)))
