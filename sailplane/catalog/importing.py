"""From public price tables (SkyPilot's CSV shape, one `<cloud>/vms.csv` each) to snapshots of our own.

Read `snapshot` first: it is the whole way of one cloud, and pure. `judge` and `run` compare with what is there and write it.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from chalicelib.catalog import snapshot as packaged
from chalicelib.errors import Invalid
from sailplane.catalog import quarantine
from sailplane.catalog.quarantine import Reason, Row, Verdict

MAX_DROP = 0.1  # of a cloud's offers, in one import

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
_PLAIN = {
    "aws": re.compile(r"(m6i|m7i|c7i|r7i)\.(large|xlarge|2xlarge|4xlarge|8xlarge)"),
    "azure": re.compile(r"Standard_[DE](2|4|8|16|32)s_v5"),
    "gcp": re.compile(r"e2-standard-(2|4|8|16)|n2-standard-(2|4|8|16|32)"),
    "lambda": re.compile(r"cpu_4x_general"),
}
PROVIDERS = tuple(_PLAIN)
_PLACE = {
    "aws": re.compile(r"[a-z]+(-[a-z]+)+-\d /[a-z]+\d(-[a-z]+\d)?-az\d+"),
    "azure": re.compile(r"[a-z]+\d* /"),
    "gcp": re.compile(r"([a-z]+-[a-z]+\d+) /\1-[a-z]"),
    "lambda": re.compile(r"[a-z]+(-[a-z]+)+-\d /"),
}
_COLUMNS = {
    "InstanceType",
    "vCPUs",
    "MemoryGiB",
    "AcceleratorName",
    "AcceleratorCount",
    "GpuInfo",
    "Region",
    "Price",
    "SpotPrice",
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


@dataclass(frozen=True, slots=True)
class Imported:
    """The outcome for one cloud. `before` is the number of offers that it had, None when it had no snapshot."""

    snapshot: packaged.Snapshot
    before: int | None
    unchanged: bool

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many prices were quarantined for each reason."""
        return Counter(entry.reason for entry in self.snapshot.quarantined)


def run(
    source: Path, target: Path, providers: Iterable[str], as_of: str, origin: str, *, fresh: bool
) -> list[Imported]:
    """Import `<source>/<provider>/vms.csv` into `target`: every cloud or, when one is refused, none.

    Args:
        source: the directory of public tables.
        target: the directory of snapshots.
        providers: which clouds.
        as_of: ISO date on which the tables held.
        origin: where the tables are from, in a few words.
        fresh: judge them without regard to the present snapshot.

    Raises:
        Invalid: a table is missing, empty or has other columns, or lost too many offers; nothing is changed.
    """
    done = [_one(source, target, provider, as_of, origin, fresh=fresh) for provider in providers]
    for imported in done:
        if not imported.unchanged:
            packaged.write(target, imported.snapshot)
    return done


def _one(source: Path, target: Path, provider: str, as_of: str, origin: str, *, fresh: bool) -> Imported:
    path = source / provider / "vms.csv"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}; the present snapshot is kept.") from error
    former = None if fresh else _former(target, provider)
    try:
        return judge(provider, content, former, as_of, origin)
    except Invalid as error:
        raise Invalid(f"{path}: {error}; the present snapshot is kept.") from error


def _former(target: Path, provider: str) -> packaged.Snapshot | None:
    if not packaged.path(target, provider).exists():
        return None
    table = packaged.table(target, provider)
    stamp = {name: str(table.document[name]) for name in ("as_of", "source", "digest")}
    return packaged.Snapshot(
        provider, prices=tuple(table.prices()), quarantined=packaged.quarantined(target, provider), **stamp
    )


def judge(provider: str, content: bytes, former: packaged.Snapshot | None, as_of: str, origin: str) -> Imported:
    """What becomes of one cloud's table beside its `former` snapshot. The same table again changes nothing.

    Raises:
        Invalid: the table is empty or has other columns, or more than a tenth of the former offers would be lost.
    """
    if former and former.digest == hashlib.sha256(content).hexdigest():
        return Imported(former, former.offers, unchanged=True)
    made = snapshot(provider, content, former, as_of, origin)
    if former and made.offers < former.offers * (1 - MAX_DROP):
        message = (
            f"of {former.offers} offers {made.offers} would be left, which is more likely a defect than the market"
        )
        raise Invalid(f"{message} (--fresh imports it nevertheless)")
    return Imported(made, former.offers if former else None, unchanged=False)


def snapshot(
    provider: str, content: bytes, former: packaged.Snapshot | None, as_of: str, origin: str
) -> packaged.Snapshot:
    """Read, sift, sum and compare one cloud's table.

    Raises:
        Invalid: the table has other columns, or no offer of any use.
    """
    rows, unreadable = read(provider, content.decode(errors="replace").splitlines())
    sound, doubted = quarantine.sift(rows)
    offers = tuple(_with_hosts(sound)) if provider == "gcp" else sound
    past = {_key(price): (price.on_demand, price.spot) for price in former.prices} if former else {}
    steady, flapping = quarantine.steady(offers, past)
    if not steady:
        raise Invalid("it holds no offer that could be used")
    return packaged.Snapshot(
        provider=provider,
        as_of=as_of,
        source=origin,
        digest=hashlib.sha256(content).hexdigest(),
        prices=tuple(packaged.Price(_shape(row), row.region, row.zone, row.on_demand, row.spot) for row in steady),
        quarantined=(*unreadable, *(_entry(verdict) for verdict in (*doubted, *flapping))),
    )


def read(provider: str, lines: Iterable[str]) -> tuple[list[Row], list[packaged.Quarantined]]:
    """The rows that are of use, and the lines that cannot be read. Each line is read alone: a stray quote spoils only its own.

    Raises:
        Invalid: the header lacks a column.
    """
    numbered = iter(enumerate(lines, start=1))
    header = next(numbered, (1, ""))[1].strip("\ufeff").split(",")
    if missing := sorted(_COLUMNS - set(header)):
        raise Invalid(f"the table has no column {', '.join(missing)}")
    rows: list[Row] = []
    unreadable: list[packaged.Quarantined] = []
    for number, line in numbered:
        try:
            row = _row(provider, number, _cells(header, line))
        except csv.Error as error:
            unreadable.append(packaged.Quarantined(number, line[:60], "both", Reason.MALFORMED, str(error)))
        except _Unreadable as error:
            unreadable.append(packaged.Quarantined(number, line[:60], "both", error.reason, error.detail))
        else:
            rows += [row] if row else []
    return rows, unreadable


def _cells(header: list[str], line: str) -> dict[str, str]:
    """Raises `_Unreadable` and `csv.Error`."""
    cells = next(csv.reader([line], strict=True), [])
    if len(cells) != len(header):
        raise _Unreadable(Reason.MALFORMED, f"{len(cells)} cells for {len(header)} columns")
    return dict(zip(header, cells, strict=True))


class _Unreadable(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def _row(provider: str, number: int, cells: Mapping[str, str]) -> Row | None:
    """One line's row; None when it is sound and of no use here. Raises `_Unreadable`."""
    name, instance_type = cells["AcceleratorName"].strip(), cells["InstanceType"].strip()
    count = _number(cells, "AcceleratorCount") if cells["AcceleratorCount"] else 0.0
    if not _is_of_use(provider, instance_type, name, count, cells.get("Arch", "x86_64")):
        return None
    region, zone = cells["Region"], cells.get("AvailabilityZone", "")
    if not _PLACE[provider].fullmatch(f"{region} /{zone}"):
        raise _Unreadable(Reason.MALFORMED, f"{region!r}, zone {zone!r} is no place of {provider}")
    is_part = provider == "gcp" and not instance_type
    return Row(
        line=number,
        instance_type=instance_type,
        vcpus=0.0 if is_part else _number(cells, "vCPUs"),
        memory_gib=0.0 if is_part else _number(cells, "MemoryGiB"),
        accelerator=_accelerator(name, count, cells["GpuInfo"]),
        accelerator_count=int(count),
        region=region,
        zone=zone,
        on_demand=_number(cells, "Price") if cells["Price"] else None,
        spot=_number(cells, "SpotPrice") if cells["SpotPrice"] else None,
    )


def _is_of_use(provider: str, instance_type: str, name: str, count: float, architecture: str) -> bool:
    """Whole GPUs, the hosts of GCP's, and a modest set of plain machines; no TPUs, no slices of a GPU, x86 only."""
    if architecture != "x86_64" or name.startswith("tpu-") or 0 < count < 1:
        return False
    plain = _PLAIN[provider].fullmatch(instance_type)
    return bool(name or plain or (provider == "gcp" and re.match("a2-|a3-|a4-|g2-|n1-", instance_type)))


def _accelerator(name: str, count: float, info: str) -> str:
    """The canonical name. Raises `_Unreadable` when name, number and memory do not go together."""
    if not name and not count:
        return ""
    if not name or not count or not count.is_integer():
        raise _Unreadable(Reason.MALFORMED, f"{count:g} accelerators named {name!r}")
    canonical = _CANONICAL.get(name.lower())
    if not canonical:
        raise _Unreadable(Reason.UNKNOWN_ACCELERATOR, f"{name!r}")
    stated = re.search(r"'SizeInMiB': (\d+)", info)
    nominal = ACCELERATOR_MEMORY_GIB[canonical]
    # Some tables state the memory of one accelerator, some that of all of a machine.
    of_one = [int(stated[1]) / 1024, int(stated[1]) / 1024 / count] if stated else [nominal]
    if not any(abs(gib - nominal) <= _MEMORY_TOLERANCE * nominal for gib in of_one):
        raise _Unreadable(Reason.WRONG_MEMORY, f"{name} has {nominal} GiB, not {of_one[0]:.0f}")
    return canonical


def _number(cells: Mapping[str, str], column: str) -> float:
    try:
        number = float(cells[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _Unreadable(Reason.MALFORMED, f"{column} is {cells[column]!r}")
    return number


def _with_hosts(rows: Iterable[Row]) -> Iterator[Row]:
    """GCP's machines: plain ones as they are, accelerators summed with each host they come on in the same zone."""
    hosts: dict[tuple[str, str], Row] = {}
    parts: list[Row] = []
    for row in rows:
        if row.accelerator:
            parts.append(row)
        else:
            hosts[row.instance_type, row.zone] = row
    yield from (host for host in hosts.values() if _PLAIN["gcp"].fullmatch(host.instance_type))
    for part in parts:
        for name in _host_names(part.accelerator, part.accelerator_count):
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


def _host_names(accelerator: str, count: int) -> list[str]:
    if accelerator == "L4":
        return [f"g2-standard-{vcpus}" for vcpus in _L4_HOSTS.get(count, ())]
    multiples = {"{}": count, "{4}": 4 * count, "{8}": 8 * count}
    return [
        re.sub(r"\{\d?\}", lambda found: str(multiples[found[0]]), name) for name in _GCP_HOSTS.get(accelerator, ())
    ]


def _sum(host: float | None, part: float | None) -> float | None:
    return None if host is None or part is None else round(host + part, 6)


def _shape(row: Row) -> packaged.Shape:
    memory_gib = float(ACCELERATOR_MEMORY_GIB.get(row.accelerator, 0))
    return packaged.Shape(
        row.instance_type, row.vcpus, row.memory_gib, row.accelerator, row.accelerator_count, memory_gib
    )


def _key(price: packaged.Price) -> tuple[tuple[str, str, int], str, str]:
    """As `Row.key`."""
    shape = price.shape
    return (shape.instance_type, shape.accelerator, shape.accelerator_count), price.region, price.zone


def _entry(verdict: Verdict) -> packaged.Quarantined:
    return packaged.Quarantined(verdict.row.line, verdict.row.what, verdict.price, verdict.reason.value, verdict.detail)
