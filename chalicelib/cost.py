"""What does the control plane itself cost a month? Prices, what is used, and how much of it so many services use. Pure.

It is billed for what it does and for nothing else: functions by the request and the GB-second, the table by the unit, the
queue by the request. docs/cost.md shows what comes of it, and where each figure was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, fields
from types import MappingProxyType

HOURS_A_MONTH = 730.0
_MINUTES = HOURS_A_MONTH * 60
_MILLION = 1e6
_GB = 1e9

# USD, us-east-1, arm64, as published in November 2026: https://aws.amazon.com/{lambda,dynamodb,sqs,cloudwatch,api-gateway,
# s3,ec2}/pricing. A function URL, EventBridge's rules on the account's own bus and SSM's standard parameters are free.
FUNCTION_REQUEST_USD = 0.20 / _MILLION
FUNCTION_GB_S_USD = 0.0000133334
READ_UNIT_USD = 0.125 / _MILLION
WRITE_UNIT_USD = 0.625 / _MILLION
QUEUE_REQUEST_USD = 0.40 / _MILLION
LOG_GB_USD = 0.50
OBJECT_READ_USD = 0.40 / _MILLION
EGRESS_GB_USD = 0.09
REST_API_REQUEST_USD = 3.50 / _MILLION
HTTP_API_REQUEST_USD = 1.00 / _MILLION
# What a machine costs that must stay up: SkyServe's controller by its documentation's default size.
CONTROLLER_VM_USD = 160.0

# A function has a whole CPU at this much memory, and its share of it below:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_MB_PER_CPU = 1769.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What is billed by its amount; of one part, or of all of them together."""

    requests: float = 0.0  # of functions
    gb_s: float = 0.0
    read_units: float = 0.0
    write_units: float = 0.0
    queue_requests: float = 0.0
    log_bytes: float = 0.0
    object_reads: float = 0.0
    egress_bytes: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Usage:
        return Usage(*(amount * times for amount in astuple(self)))

    def beyond(self, free: Usage) -> Usage:
        """What is left to pay for."""
        return Usage(*(max(0.0, mine - theirs) for mine, theirs in zip(astuple(self), astuple(free), strict=True)))

    @property
    def usd_by_kind(self) -> Mapping[str, float]:
        """By the field's name."""
        prices = Usage(
            FUNCTION_REQUEST_USD,
            FUNCTION_GB_S_USD,
            READ_UNIT_USD,
            WRITE_UNIT_USD,
            QUEUE_REQUEST_USD,
            LOG_GB_USD / _GB,
            OBJECT_READ_USD,
            EGRESS_GB_USD / _GB,
        )
        return {one.name: getattr(self, one.name) * getattr(prices, one.name) for one in fields(self)}

    @property
    def usd(self) -> float:
        """All of it together."""
        return sum(self.usd_by_kind.values())


# What every account has free each month, for ever (not the first year's): https://aws.amazon.com/free
FREE = Usage(requests=1e6, gb_s=400_000, queue_requests=1e6, log_bytes=5 * _GB, egress_bytes=100 * _GB)

# Seen with `python -m benchmarks.capacity` and `benchmarks.cadence` on 2026-11-22, in ms of one CPU and DynamoDB's units.
_INVOCATION_CPU_MS = 2.0  # the event, the queue's next message
_PASS_CPU_MS, _PROBE_CPU_MS, _LIST_CPU_MS = 2.5, 1.7, 32.0  # of a service; a replica; a cloud's (AWS: 17 regions)
_EXCHANGE_CPU_MS, _REPORT_CPU_MS, _ROUTER_CPU_MS = 6.0, 2.5, 2.0
_PASS_READ_UNITS, _REPLICA_READ_UNITS, _ROUTER_READ_UNITS = 2.0, 1 / 3, 0.25
_REPORT_READ_UNITS, _REPORT_WRITE_UNITS = 1.0, 1.0
_REPLACED_READ_UNITS, _REPLACED_WRITE_UNITS = 15.0, 56.0
# Not measured, for want of a cloud: what a function waits for, and is billed for meanwhile. Agents on the same continent, over
# connections kept open; a cloud's list as slow as its farthest region, after the list of regions.
_TABLE_S, _AGENT_S, _LIST_S, _EDGE_S = 0.006, 0.1, 0.5, 0.15
_PROBE_BYTES, _LINE_BYTES = 800.0, 700.0
# A machine's way to READY takes some 5 minutes, all of which a round every 2 s watches; see `passes.cadence`.
_BOOT_ROUNDS = 150.0
# Five pollers, each asking again after 20 s: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
_POLLS_A_MINUTE = 15.0
# Of a router that is asked all the time; see `edge_router.platforms.function.REFRESH_S` and `edge_router.counts.REPORT_S`.
_EXCHANGES_A_MINUTE, _REPORTS_A_MINUTE = 20.0, 7.0

# MB, as infra's template gives them.
MEMORY: Mapping[str, int] = MappingProxyType(
    {"api": 1024, "machines": 512, "tick": 256, "relay": 256, "interrupt": 256, "edge": 256}
)
# Passes import the SDKs of the clouds in use: with AWS's alone 50 MB are in use before the first call, with all three 190.
_WITH_ALL_CLOUDS = MappingProxyType({**MEMORY, **dict.fromkeys(("tick", "relay", "interrupt"), 512)})


@dataclass(frozen=True, slots=True)
class Fleet:
    """How much there is to look after, all month long."""

    services: int
    replicas: int  # of all services together
    interval_s: float = 10.0  # the probe's, which is the cadence at rest
    replacements: float = 0.0  # machines launched a month
    routers: float = 0.0  # functions that are asked around the clock
    memory: Mapping[str, int] = field(default_factory=lambda: MEMORY)


def memory(clouds: Iterable[str]) -> Mapping[str, int]:
    """MB of each function of a deployment that makes machines in these clouds."""
    return _WITH_ALL_CLOUDS if {"gcp", "azure"} & set(clouds) else MEMORY


def month(fleet: Fleet) -> Mapping[str, Usage]:
    """What each part of the control plane uses in a month. Nothing at all without a service: every schedule is off then."""
    if not fleet.services:
        return {}
    rounds = max(0.0, 60.0 / fleet.interval_s - 1) * _MINUTES
    busy = fleet.replacements * _BOOT_ROUNDS
    return {
        "ticks": _tick(fleet) * _MINUTES,
        "passes between ticks": _pass(fleet, "relay", fleet.services, fleet.replicas, listed=False) * rounds,
        "replacements": _pass(fleet, "relay", 1, fleet.replicas / fleet.services, listed=True) * busy
        + Usage(read_units=_REPLACED_READ_UNITS, write_units=_REPLACED_WRITE_UNITS, log_bytes=10 * _LINE_BYTES)
        * fleet.replacements,
        # A message is sent and deleted; the poll that receives it has waited half its time, and another begins.
        "queue": Usage(queue_requests=_POLLS_A_MINUTE * _MINUTES + 2.5 * (rounds + busy)),
        "routers": _routers(fleet),
    }


def total(parts: Mapping[str, Usage]) -> Usage:
    """Of all parts together."""
    return sum(parts.values(), Usage())


def usd_per_million_requests(gateway_usd: float = 0.0, memory_mb: int = MEMORY["edge"]) -> float:
    """What a million clients' requests cost at the edge function, with what stands in front of it; its URL is free."""
    return _MILLION * (_billed("edge", _ROUTER_CPU_MS, 0.0, {"edge": memory_mb}).usd + gateway_usd)


def break_even_requests_per_s(gateway_usd: float = 0.0) -> float:
    """The rate, all month long, at which the edge function costs as much as the controller's machine."""
    return CONTROLLER_VM_USD / usd_per_million_requests(gateway_usd) * _MILLION / (HOURS_A_MONTH * 3600)


def _tick(fleet: Fleet) -> Usage:
    """The minute's: routers are asked for their counts while clouds list their machines; webhooks and the routers' snapshot are looked at."""
    looked_at_units = 4 + fleet.services * 0.2  # names, keys, webhooks, route tables
    extra_s = 3 * _TABLE_S + 0.03
    extra = Usage(gb_s=extra_s * fleet.memory["tick"] / 1024, read_units=looked_at_units, object_reads=1)
    return _pass(fleet, "tick", fleet.services, fleet.replicas, listed=True) + extra


def _pass(fleet: Fleet, function: str, services: float, replicas: float, *, listed: bool) -> Usage:
    """One invocation that looks at all of them. They wait side by side, and take turns at the CPU."""
    cpu_ms = _INVOCATION_CPU_MS + services * _PASS_CPU_MS + replicas * _PROBE_CPU_MS + listed * _LIST_CPU_MS
    waits_s = 2 * _TABLE_S + (_LIST_S if listed else _AGENT_S)
    of_service = _PASS_READ_UNITS + fleet.routers * _ROUTER_READ_UNITS
    reads = Usage(read_units=services * of_service + replicas * _REPLICA_READ_UNITS)
    probes = Usage(egress_bytes=_PROBE_BYTES) * replicas
    return _billed(function, cpu_ms, waits_s, fleet.memory) + reads + probes


def _routers(fleet: Fleet) -> Usage:
    """Asked each minute whether they live, they report; one that clients ask around the clock exchanges and reports on its own."""
    report = _exchange(fleet, fleet.services)
    asked = _billed("edge", _ROUTER_CPU_MS, _EDGE_S, fleet.memory) + report
    busy = report * _REPORTS_A_MINUTE + _exchange(fleet, 0) * (_EXCHANGES_A_MINUTE - _REPORTS_A_MINUTE)
    return (asked + busy * fleet.routers) * _MINUTES


def _exchange(fleet: Fleet, reported: float) -> Usage:
    cpu_ms = _EXCHANGE_CPU_MS + reported * _REPORT_CPU_MS
    waits_s = (2 + 2 * reported) * _TABLE_S
    units = Usage(
        read_units=0.9 + fleet.services * 0.1 + reported * _REPORT_READ_UNITS,
        write_units=reported * _REPORT_WRITE_UNITS,
    )
    return _billed("machines", cpu_ms, waits_s, fleet.memory) + units


def _billed(function: str, cpu_ms: float, waits_s: float, memory: Mapping[str, int]) -> Usage:
    """One invocation, by its CPU and its waiting, as if it did one after the other."""
    mb = memory[function]
    seconds = waits_s + cpu_ms / 1e3 / min(1.0, mb / _MB_PER_CPU)
    return Usage(requests=1, gb_s=seconds * mb / 1024)
