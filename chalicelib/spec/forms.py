"""The small notations inside a service file: `A100:8`, `80GB+`, `32+`, `8000-8010`, `aws/us-east-1`, cron.

Every function here reads one of them, and raises ValueError with a reason in plain words when it cannot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

# Every cloud that SkyServe 0.14.1 knows, and this machine. Whether anything can be bought there is the optimizer's answer.
CLOUDS = (
    *("local", "aws", "azure", "gcp", "lambda", "vast", "runpod", "nebius", "oci", "ibm", "scp", "do", "cudo"),
    *("fluidstack", "paperspace", "vsphere", "hyperbolic", "seeweb", "shadeform", "primeintellect"),
    *("kubernetes", "ssh", "slurm"),
)

_UNITS_GIB = {"K": 2.0**-20, "M": 2.0**-10, "": 1.0, "G": 1.0, "T": 2.0**10, "P": 2.0**20}
_AMOUNT = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,6})?)\s*(?:(?P<unit>[KMGTP])B?)?(?P<plus>\+?)", re.IGNORECASE)
_BY_MEMORY = re.compile(r"(?P<memory>\d{1,6}(?:\.\d{1,3})?[MGT]B\+?)(?::(?P<count>\d{1,4}))?", re.IGNORECASE)
_BY_NAME = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9 ._-]*)(?::(?P<count>0|[1-9]\d{0,3}))?")
_PORTS = re.compile(r"([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?")

# The smallest holds a system; the largest is what the largest disk of AWS (io2) and GCP has. A cloud may refuse less.
MIN_DISK_GIB = 10
MAX_DISK_GIB = 65536

_MAX_PORT_RANGES = 100  # 4,500 of 65,535 ports each take half a minute

_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "weekday": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
_ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 no timezone: whether an expression ever comes is the same in all
_CRON_ITEM = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?")


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity, exact or a minimum. Memory is in GiB."""

    number: float
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One kind of accelerator, by `name` or else by its `memory`. `count` is None when the text names none."""

    name: str = ""
    memory: Amount | None = None
    count: int | None = None


def amount(value: float | str) -> Amount:
    """Read `4`, `"4+"`: how many vCPUs."""
    match = _AMOUNT.fullmatch(_plain(value))
    if match is None or match["unit"] or float(match["number"]) == 0:
        raise ValueError(f"must be a number above 0, such as 4, or 4+ for at least 4, not {value!r}")
    return Amount(float(match["number"]), bool(match["plus"]))


def memory(value: float | str) -> Amount:
    """Read `32`, `"32+"`, `64GB`, `1TB+`: GiB unless a unit is given, as everywhere in SkyServe."""
    found = _gib(value)
    if found is None or found.number == 0:
        raise ValueError(f"must be an amount of memory such as 32, 32+ or 64GB, not {value!r}")
    return found


def disk_size(value: int | str) -> int:
    """Read `100`, `"100GB"`, `1TB`: whole GiB."""
    size = _gib(value)
    if size is None or size.at_least or not size.number.is_integer():
        raise ValueError(f"must be a whole number of gigabytes such as 256, 256GB or 1TB, not {value!r}")
    if not MIN_DISK_GIB <= size.number <= MAX_DISK_GIB:
        raise ValueError(f"must lie between {MIN_DISK_GIB} and {MAX_DISK_GIB} GiB, which clouds can do, not {value!r}")
    return int(size.number)


def _gib(value: float | str) -> Amount | None:
    if (match := _AMOUNT.fullmatch(_plain(value))) is None:
        return None
    return Amount(float(match["number"]) * _UNITS_GIB[(match["unit"] or "").upper()], bool(match["plus"]))


def _plain(value: float | str) -> str:
    return value.strip() if isinstance(value, str) else f"{value:.6f}".rstrip("0").rstrip(".")


def accelerator(text: str) -> Accelerator:
    """Read `A100`, `A100:8`, `80GB`, `80GB+:2`. The name is not looked up."""
    if by_memory := _BY_MEMORY.fullmatch(text):
        found = Accelerator(memory=memory(by_memory["memory"]), count=_count(by_memory["count"]))
    elif by_name := _BY_NAME.fullmatch(text):
        found = Accelerator(name=by_name["name"], count=_count(by_name["count"]))
    elif text.count(":") == 2 or re.fullmatch(r"[A-Za-z]+:\d+[MGT]B\+?", text, re.IGNORECASE):
        raise ValueError(
            f"asks for a manufacturer, which cannot be chosen: write the memory alone or a name, not {text!r}"
        )
    else:
        raise ValueError(f"must be NAME, NAME:COUNT with a whole count, or a memory size such as 80GB+, not {text!r}")
    if found.count == 0:
        raise ValueError(f"asks for 0 accelerators ({text!r}): leave accelerators out for a machine without any")
    return found


def _count(text: str | None) -> int | None:
    return None if text is None else int(text)


def ports(value: int | str | Collection[int | str]) -> frozenset[int]:
    """Read `8080`, `"8080"`, `"8000-8010"` or a list of those: every port that is meant."""
    if isinstance(value, int | str):
        return frozenset(_port_range(str(value)))
    if len(value) > _MAX_PORT_RANGES:
        raise ValueError(f"must name at most {_MAX_PORT_RANGES} ports and ranges, not {len(value)}")
    return frozenset(port for each in value for port in _port_range(str(each)))


def _port_range(text: str) -> range:
    match = _PORTS.fullmatch(text)
    if match is None:
        mapping = (
            " (only the port the engine listens on is named here, not a host:container pair)" if ":" in text else ""
        )
        raise ValueError(f"must be a port such as 8080 or a range such as 8000-8010, not {text!r}{mapping}")
    first = int(match[1])
    last = int(match[2] or first)
    if not first <= last <= 65535:
        raise ValueError(f"must lie between 1 and 65535, the lower port first, not {text!r}")
    return range(first, last + 1)


def infra(text: str) -> tuple[str, str, str]:
    """Read `cloud[/region[/zone]]` with `*` for any: (cloud, region, zone), empty for any."""
    parts = [part.strip() for part in text.strip().split("/")]
    head = cloud(parts[0]) if parts[0] != "*" else ""
    if head in ("kubernetes", "ssh") and len(parts) > 1:  # contexts may hold slashes
        parts = [head, "/".join(parts[1:])]
    if not all(parts) or len(parts) > 3:
        raise ValueError(f"must be cloud, cloud/region or cloud/region/zone, with * for any, not {text!r}")
    _, region, zone = (*parts, "", "")[:3]
    return head, region.replace("*", ""), zone.replace("*", "")


def cloud(text: str) -> str:
    """Read a cloud's name in any case."""
    name = {"k8s": "kubernetes"}.get(text.lower(), text.lower())
    if name not in CLOUDS:
        raise ValueError(f"names no cloud that is known: {text!r}")
    return name


def json_text(value: str | dict[str, Any]) -> str:
    """A request body: JSON that is written as text, or the JSON of a map."""
    try:
        parsed = json.loads(value, parse_constant=_not_json) if isinstance(value, str) else value
        return json.dumps(parsed, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON: {error}") from error


def _not_json(name: str) -> None:
    raise ValueError(f"{name} does not exist in JSON")


def cron(text: str) -> str:
    """Check the five fields of a cron expression: numbers, names, `*`, ranges, lists and steps."""
    fields = text.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError(f"must have the 5 fields minute, hour, day, month and weekday, not {len(fields)}")
    for field, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        for item in field.split(","):
            if not _is_cron_item(item, name, low, high):
                raise ValueError(f"has {item!r} where the {name} ({low}-{high}) belongs")
    try:
        next(CronSim(text, _ANY_DAY))
    except (CronSimError, StopIteration):
        raise ValueError(f"never comes: {text!r} is on no day of any year") from None
    return text


def timezone(name: str) -> str:
    """Check the name of a timezone, as the IANA database has it."""
    try:
        ZoneInfo(name)
    # A directory of the database cannot be read, and some of its files are no timezones.
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError(f"is no timezone that is known: {name!r}; write e.g. UTC or Europe/Zurich") from error
    return name


def _is_cron_item(item: str, name: str, low: int, high: int) -> bool:
    match = _CRON_ITEM.fullmatch(item)
    if match is None or match[3] == "0":
        return False
    names = _CRON_NAMES.get(name, [])
    ends = [names.index(end.lower()) + low if end.lower() in names else end for end in match.groups()[:2] if end]
    if not all(str(end).isdecimal() and low <= int(end) <= high for end in ends):
        return False
    return ends == sorted(ends, key=int)
