"""From public price tables (SkyPilot's CSV shape, one `<cloud>/vms.csv` each) to snapshots of our own.

`read` and `judge` are pure; `run` compares with what is there and writes it.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from chalicelib.catalog import snapshot
from chalicelib.catalog.snapshot import Quarantined, Snapshot
from chalicelib.errors import Invalid
from sailplane.catalog import facts, judging
from sailplane.catalog.facts import PROVIDERS
from sailplane.catalog.judging import Judged, Table
from sailplane.catalog.quarantine import Reason, Row

__all__ = ["PROVIDERS", "judge", "read", "run"]

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


def run(source: Path, target: Path, providers: Iterable[str], as_of: str, origin: str, *, fresh: bool) -> list[Judged]:
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
            snapshot.write(target, imported.snapshot)
    return done


def _one(source: Path, target: Path, provider: str, as_of: str, origin: str, *, fresh: bool) -> Judged:
    path = source / provider / "vms.csv"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}; the present snapshot is kept.") from error
    former = None if fresh else judging.former(target, provider)
    try:
        return judge(provider, content, former, as_of, origin)
    except Invalid as error:
        raise Invalid(f"{path}: {error}; the present snapshot is kept.") from error


def judge(provider: str, content: bytes, former: Snapshot | None, as_of: str, origin: str) -> Judged:
    """What becomes of one cloud's table beside its `former` snapshot. The same table again changes nothing.

    Raises:
        Invalid: the table is empty or has other columns, or more than a tenth of the former offers would be lost.
    """
    digest = hashlib.sha256(content).hexdigest()
    # A price that waits to be confirmed is, by the same table drawn up later.
    if former and former.digest == digest and not former.suspects:
        return Judged(former, former.offers, unchanged=True)
    rows, unreadable = read(provider, content.decode(errors="replace").splitlines())
    return judging.judge(Table(provider, as_of, origin, digest, tuple(rows), tuple(unreadable)), former)


def read(provider: str, lines: Iterable[str]) -> tuple[list[Row], list[Quarantined]]:
    """The rows that are of use, and the lines that cannot be read. Each line is read alone: a stray quote spoils only its own.

    Raises:
        Invalid: the header lacks a column.
    """
    numbered = iter(enumerate(lines, start=1))
    header = next(numbered, (1, ""))[1].strip("\ufeff").split(",")
    if missing := sorted(_COLUMNS - set(header)):
        raise Invalid(f"the table has no column {', '.join(missing)}")
    rows: list[Row] = []
    unreadable: list[Quarantined] = []
    for number, line in numbered:
        try:
            row = _row(provider, number, _cells(header, line))
        except csv.Error as error:
            unreadable.append(Quarantined(number, line[:60], "both", Reason.MALFORMED, str(error)))
        except _Unreadable as error:
            unreadable.append(Quarantined(number, line[:60], "both", error.reason, error.detail))
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
    if not facts.is_place(provider, region, zone):
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
    plain = facts.PLAIN[provider].fullmatch(instance_type)
    return bool(name or plain or (provider == "gcp" and re.match("a2-|a3-|a4-|g2-|n1-", instance_type)))


def _accelerator(name: str, count: float, info: str) -> str:
    """The canonical name. Raises `_Unreadable` when name, number and memory do not go together."""
    if not name and not count:
        return ""
    if not name or not count or not count.is_integer():
        raise _Unreadable(Reason.MALFORMED, f"{count:g} accelerators named {name!r}")
    canonical = facts.canonical(name)
    if not canonical:
        raise _Unreadable(Reason.UNKNOWN_ACCELERATOR, f"{name!r}")
    stated = re.search(r"'SizeInMiB': (\d+)", info)
    nominal = facts.ACCELERATOR_MEMORY_GIB[canonical]
    # Some tables state the memory of one accelerator, some that of all of a machine.
    of_one = [int(stated[1]) / 1024, int(stated[1]) / 1024 / count] if stated else [nominal]
    if not any(facts.has_memory(canonical, gib) for gib in of_one):
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
