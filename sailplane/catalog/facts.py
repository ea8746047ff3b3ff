"""What is known about machines before any price is read: accelerators, the types of use here, places, and GCP's hosts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from chalicelib.catalog.snapshot import Shape
from sailplane.catalog.quarantine import Row

# Nominal GiB of one accelerator. A table may state what the driver sees, up to 7 % less (an A10G has 22888 MiB).
ACCELERATOR_MEMORY_GIB = {
    "A10": 24,
    "A100": 40,
    "A100-80GB": 80,
    "A10G": 24,
    "A6000": 48,
    "B200": 180,
    "GH200": 96,
    "H100": 80,
    "H100-MEGA": 80,
    "H200": 141,
    "L4": 24,
    "L40S": 48,
    "M60": 8,
    "MI25": 16,
    "MI300X": 192,
    "P100": 16,
    "P4": 8,
    "RTX6000": 24,
    "T4": 16,
    "V100": 16,
    "V100-32GB": 32,
}
_MEMORY_TOLERANCE = 0.1
_CANONICAL = {name.lower(): name for name in ACCELERATOR_MEMORY_GIB}

# Machines without accelerators: general-purpose x86, a few sizes of each. The rest of the thousands are of no use here.
PLAIN = {
    "aws": re.compile(r"(m6i|m7i|c7i|r7i)\.(large|xlarge|2xlarge|4xlarge|8xlarge)"),
    "azure": re.compile(r"Standard_[DE](2|4|8|16|32)s_v5"),
    "gcp": re.compile(r"e2-standard-(2|4|8|16)|n2-standard-(2|4|8|16|32)"),
    "lambda": re.compile(r"cpu_4x_general"),
}
PROVIDERS = tuple(PLAIN)
_PLACE = {
    "aws": re.compile(r"[a-z]+(-[a-z]+)+-\d /[a-z]+\d(-[a-z]+\d)?-az\d+"),
    "azure": re.compile(r"[a-z]+\d* /"),
    "gcp": re.compile(r"([a-z]+-[a-z]+\d+) /\1-[a-z]"),
    "lambda": re.compile(r"[a-z]+(-[a-z]+)+-\d /"),
}

# GCP's accelerators and the hosts they come on: {} is their number, {4} and {8} four and eight times it.
_GCP_HOSTS = {
    "A100": ("a2-highgpu-{}g", "a2-megagpu-{}g"),
    "A100-80GB": ("a2-ultragpu-{}g",),
    "B200": ("a4-highgpu-{}g",),
    "H100": ("a3-highgpu-{}g",),
    "H100-MEGA": ("a3-megagpu-{}g",),
    "H200": ("a3-ultragpu-{}g",),
    **dict.fromkeys(("P100", "P4", "T4", "V100"), ("n1-standard-{4}", "n1-standard-{8}", "n1-highmem-{8}")),
}
_L4_HOSTS = {1: (4, 8, 12, 16, 32), 2: (24,), 4: (48,), 8: (96,)}  # g2-standard-<vCPUs>


def is_place(provider: str, region: str, zone: str) -> bool:
    """Whether the cloud could have such a region and zone."""
    return bool(_PLACE[provider].fullmatch(f"{region} /{zone}"))


def canonical(name: str) -> str:
    """An accelerator's name as the catalog spells it (`A10g` is `A10G`); empty when it is not known."""
    return _CANONICAL.get(name.lower(), "")


def with_memory(name: str, gib: float) -> str:
    """The accelerator of that name, or the variant of it (`A100-80GB`), that has so much memory; empty when none has."""
    fitting = (
        each
        for each in (canonical(name), *ACCELERATOR_MEMORY_GIB)
        if each and (each == canonical(name) or each.lower().startswith(f"{name.lower()}-")) and has_memory(each, gib)
    )
    return next(fitting, "")


def has_memory(accelerator: str, gib: float) -> bool:
    """Whether `gib` is, near enough, what one of the accelerators has."""
    nominal = ACCELERATOR_MEMORY_GIB[accelerator]
    return abs(gib - nominal) <= _MEMORY_TOLERANCE * nominal


def shape(row: Row) -> Shape:
    """The machine type of a row."""
    memory_gib = float(ACCELERATOR_MEMORY_GIB.get(row.accelerator, 0))
    return Shape(row.instance_type, row.vcpus, row.memory_gib, row.accelerator, row.accelerator_count, memory_gib)


def gcp_hosts(accelerator: str, count: int) -> Sequence[str]:
    """GCP's machine types that come with so many of the accelerator."""
    if accelerator == "L4":
        return [f"g2-standard-{vcpus}" for vcpus in _L4_HOSTS.get(count, ())]
    multiples = {"{}": count, "{4}": 4 * count, "{8}": 8 * count}
    return [
        re.sub(r"\{\d?\}", lambda found: str(multiples[found[0]]), name) for name in _GCP_HOSTS.get(accelerator, ())
    ]


def with_hosts(rows: Iterable[Row]) -> Iterator[Row]:
    """GCP's machines: plain ones as they are, accelerators summed with each host they come on in the same zone."""
    hosts: dict[tuple[str, str], Row] = {}
    parts: list[Row] = []
    for row in rows:
        if row.accelerator:
            parts.append(row)
        else:
            hosts[row.instance_type, row.zone] = row
    yield from (host for host in hosts.values() if PLAIN["gcp"].fullmatch(host.instance_type))
    for part in parts:
        for name in gcp_hosts(part.accelerator, part.accelerator_count):
            host = hosts.get((name, part.zone))
            prices = (_sum(host.on_demand, part.on_demand), _sum(host.spot, part.spot)) if host else (None, None)
            if host and prices != (None, None):
                yield replace(
                    host,
                    accelerator=part.accelerator,
                    accelerator_count=part.accelerator_count,
                    on_demand=prices[0],
                    spot=prices[1],
                )


def _sum(host: float | None, part: float | None) -> float | None:
    return None if host is None or part is None else round(host + part, 6)
