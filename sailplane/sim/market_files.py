"""Recorded markets: a directory of traces of one type of machine, or one trace.

Three formats are read, told apart by their endings and first lines:

- `*.json`, one zone a file: `{"metadata": {cloud, zone, instance_type, accelerator, gap_seconds, ondemand_usd?},
  "data": [machines obtainable, a number a step], "prices": [spot $/h, a number a step]?}`.
- `*.csv` without heading, one zone a file: `milliseconds,add|remove,node`.
- `*.txt`, one zone a file: `date, time, machines`; a line that goes back in time overrules those it goes behind.

What a trace leaves out (the two last name neither place nor machine, many hold no price) is taken from `Missing`, and
prices next from a price list. Whatever was filled in is told in `Loaded.notes`.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.errors import Invalid
from chalicelib.model import CapacityType, Location, Offer
from sailplane.sim.market import Market, Zone

# The traces of events and counts are turned into steps of this length, the shortest interval in any of them.
_STEP_S = 60.0
# What each format has in its first hundred characters, and other files with the same ending do not.
_BEGINNINGS = {
    ".json": re.compile('"metadata"'),
    ".csv": re.compile(r"\A\d+, *(add|remove),"),
    ".txt": re.compile(r"\A\d{4}-\d\d-\d\d, *\d\d:\d\d:\d\d, *\d"),
}

Prices = Callable[[str, str], Sequence[Offer]]  # (cloud, instance type) -> what a price list has of it


@dataclass(frozen=True, slots=True)
class Missing:
    """What traces that do not say it are traces of. Empty and None mean "not told"."""

    provider: str = ""
    instance_type: str = ""
    zone: str = ""
    on_demand_usd_per_hour: float | None = None
    spot_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A market, and what was filled in to make it one, in sentences."""

    market: Market
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Trace:
    path: Path
    provider: str
    instance_type: str
    zone: str
    zone_id: str  # under which a price list may know the zone (AWS)
    accelerators: str  # "V100:1"
    step_s: float
    capacity: tuple[int, ...]
    spot: tuple[float, ...] | None
    on_demand: float | None
    first_step: int = 0  # of the data set that the trace is cut from; all zones of one count alike


def load(path: Path, prices: Prices, missing: Missing = Missing()) -> Loaded:
    """The market at `path`, a directory or a file.

    A market lasts while all its traces do: nothing is made up for a zone that is not known yet, or no longer.

    Raises:
        Invalid: there is no trace, or one is malformed; names file, line or field, and what to do.
    """
    traces = [_trace(file, missing) for file in _files(path)]
    first = traces[0]
    for one, other in itertools.combinations(traces, 2):
        _agree(one, other)
    traces = _from_one_instant(traces)
    on_demand, of_on_demand = _on_demand(traces, prices, missing)
    spot = [_spot(trace, prices, missing) for trace in traces]
    duration_s = min(len(trace.capacity) * trace.step_s for trace in traces)
    notes = (of_on_demand, *(note for _, note in spot), *_cut(traces, duration_s))
    accelerator, _, count = first.accelerators.partition(":")
    market = Market(
        name=path.stem if path.is_file() else path.resolve().name,
        instance_type=first.instance_type,
        accelerator=accelerator,
        accelerator_count=int(count or 1) if accelerator else 0,
        on_demand_usd_per_hour=on_demand,
        zones=tuple(
            Zone(_location(trace), trace.step_s, trace.capacity, usd)
            for trace, (usd, _) in zip(traces, spot, strict=True)
        ),
        duration_s=duration_s,
    )
    return Loaded(market, tuple(filter(None, notes)))


def found(path: Path) -> tuple[Path, ...]:
    """Every market at or below `path`, sorted; one at the least, or `Invalid`.

    That is: a directory that holds `*.json` traces of zones, and each `*.csv` or `*.txt` trace by itself, since these do not
    say what they have in common.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise Invalid(f"{path}: not there. Name a directory that holds markets, or one of them.")
    traces = [file for file in path.rglob("*") if file.suffix in _BEGINNINGS and file.is_file() and _is_trace(file)]
    markets = tuple(sorted({file.parent if file.suffix == ".json" else file for file in traces}))
    if not markets:
        raise Invalid(f"{path}: no traces of a market in it or below. Links are not followed: name what they point to.")
    return markets


def _is_trace(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as text:
        return _BEGINNINGS[file.suffix].search(text.read(100)) is not None


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise Invalid(f"{path}: there is no such directory of traces. Or did you mean `--market generated`?")
    for ending in ("json", "csv", "txt"):
        if found := sorted(path.glob(f"*.{ending}")):
            return found
    inner = ", ".join(sorted(one.name for one in path.iterdir() if one.is_dir()))
    hint = (
        f" Name one of its directories: {inner}." if inner else " Name a directory that holds *.json, *.csv or *.txt."
    )
    raise Invalid(f"{path}: no trace in it.{hint}")


def _trace(file: Path, missing: Missing) -> _Trace:
    match file.suffix:
        case ".json":
            return _json(file, missing)
        case ".csv":
            return _plain(file, _added_and_removed(file), missing)
        case ".txt":
            return _plain(file, _counts(file), missing)
        case _:
            raise Invalid(f"{file}: not a format of traces. Give *.json, *.csv or *.txt.")


def _json(file: Path, missing: Missing) -> _Trace:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        where = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Invalid(f"{file}{where}: not JSON ({error}). Get the file again.") from error
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        raise Invalid(
            f"{file}: no trace of a zone: an object with `metadata` and `data` is wanted. "
            "Name a directory that holds nothing but traces."
        )
    about = document["metadata"]
    capacity = tuple(int(value) for value in _numbers(file, document, "data"))
    spot = _numbers(file, document, "prices") if document.get("prices") is not None else None
    if spot is not None and len(spot) != len(capacity):
        raise Invalid(f"{file}: {len(spot)} prices for {len(capacity)} steps of data. They must be as many.")
    step_s = about.get("gap_seconds")
    if not isinstance(step_s, int | float) or step_s <= 0:
        raise Invalid(f"{file}: metadata.gap_seconds is {step_s!r}; the seconds of a step are wanted.")
    on_demand = about.get("ondemand_usd")
    if on_demand is not None and not (isinstance(on_demand, int | float) and on_demand > 0):
        raise Invalid(f"{file}: metadata.ondemand_usd is {on_demand!r}; a price above 0 is wanted, or none at all.")
    return _Trace(
        path=file,
        provider=_said(file, about, "cloud", missing.provider, "--machine"),
        instance_type=_said(file, about, "instance_type", missing.instance_type, "--machine"),
        zone=_said(file, about, "zone", file.stem, "--machine"),
        zone_id=str(about.get("az_id", "")),
        accelerators=str(about.get("accelerator", "")),
        step_s=float(step_s),
        capacity=capacity,
        spot=spot,
        on_demand=on_demand,
        first_step=int(_at_least_0(file, about, "first_tick")),
    )


def _at_least_0(file: Path, about: Mapping[str, Any], key: str) -> float:
    value = about.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Invalid(f"{file}: metadata.{key} is {value!r}; a number of at least 0 is wanted, or none at all.")
    return value


def _said(file: Path, about: Mapping[str, Any], key: str, otherwise: str, flag: str) -> str:
    value = about.get(key) or otherwise
    if not isinstance(value, str) or not value:
        raise Invalid(f"{file}: metadata.{key} is missing. Add it, or say it with {flag}.")
    return value


def _numbers(file: Path, document: Mapping[str, Any], key: str) -> tuple[float, ...]:
    values = document.get(key)
    if not isinstance(values, list) or not values:
        raise Invalid(f"{file}: `{key}` is not a list of numbers. Each step of the trace needs one.")
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise Invalid(f"{file}: {key}[{index}] is {value!r}; a number of at least 0 is wanted.")
    return tuple(values)


def _plain(file: Path, capacity: tuple[int, ...], missing: Missing) -> _Trace:
    """A trace that holds nothing but numbers of machines."""
    if not (missing.provider and missing.instance_type and missing.zone):
        raise Invalid(
            f"{file}: the trace does not say of which machines it is. "
            "Add --machine CLOUD/ZONE/INSTANCE_TYPE, for example --machine aws/us-east-1a/p3.2xlarge."
        )
    return _Trace(
        path=file,
        provider=missing.provider,
        instance_type=missing.instance_type,
        zone=missing.zone,
        zone_id="",
        accelerators="",
        step_s=_STEP_S,
        capacity=capacity,
        spot=None,
        on_demand=None,
    )


def _added_and_removed(file: Path) -> tuple[int, ...]:
    changes: list[tuple[float, int]] = []
    nodes: set[str] = set()
    for number, row in _rows(file):
        match row:
            case [at, "add" | "remove" as what, node] if at.isdecimal():
                nodes.add(node) if what == "add" else nodes.discard(node)
                changes.append((int(at) / 1e3, len(nodes)))
            case _:
                raise Invalid(
                    f"{file}:{number}: {','.join(row)!r} is not `milliseconds,add|remove,node`. Mend the line."
                )
    return _steps(file, changes)


def _counts(file: Path) -> tuple[int, ...]:
    changes: list[tuple[float, int]] = []
    for number, row in _rows(file):
        try:
            day, time, machines = row
            at, count = datetime.fromisoformat(f"{day}T{time}").timestamp(), int(machines)
        except ValueError as error:
            raise Invalid(
                f"{file}:{number}: {', '.join(row)!r} is not `date, time, machines`. Mend the line."
            ) from error
        while changes and changes[-1][0] >= at:
            changes.pop()
        changes.append((at, count))
    return _steps(file, changes)


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    with file.open(encoding="utf-8", newline="") as text:
        for number, row in enumerate(csv.reader(text, skipinitialspace=True), start=1):
            if row:
                yield number, row


def _steps(file: Path, changes: Sequence[tuple[float, int]]) -> tuple[int, ...]:
    """What holds at the start of each step, from the first change to the last."""
    if not changes:
        raise Invalid(f"{file}: empty. Get the file again.")
    for (before, _), (after, _) in itertools.pairwise(changes):
        if after < before:
            raise Invalid(f"{file}: goes back in time, from {before:g} s to {after:g} s. Sort its lines.")
    start, end = changes[0][0], changes[-1][0]
    capacity, upcoming = [], 0
    for step in range(int((end - start) // _STEP_S) + 1):
        while upcoming < len(changes) and changes[upcoming][0] <= start + step * _STEP_S:
            upcoming += 1
        capacity.append(changes[upcoming - 1][1])
    return tuple(capacity)


def _agree(first: _Trace, other: _Trace) -> None:
    for what in ("provider", "instance_type", "accelerators"):
        mine, theirs = getattr(first, what), getattr(other, what)
        if mine != theirs:
            raise Invalid(
                f"{other.path}: {what} {theirs!r}, but {first.path.name} has {mine!r}. "
                "A market is one type of machine: put the traces of each type in a directory of its own."
            )
    if first.zone == other.zone:
        raise Invalid(
            f"{other.path}: of zone {other.zone!r}, as {first.path.name} is. A market has one trace a zone: name one of the files."
        )


def _from_one_instant(traces: Sequence[_Trace]) -> list[_Trace]:
    """Without what lies before the latest beginning, so that what happened at one time stays at one time."""
    start_s = max(trace.first_step * trace.step_s for trace in traces)
    cut = []
    for trace in traces:
        steps = round(start_s / trace.step_s) - trace.first_step
        if steps >= len(trace.capacity):
            raise Invalid(f"{trace.path}: ends before another zone's trace begins. Put it into a directory of its own.")
        spot = trace.spot[steps:] if trace.spot else None
        cut.append(replace(trace, capacity=trace.capacity[steps:], spot=spot))
    return cut


def _on_demand(traces: Sequence[_Trace], prices: Prices, missing: Missing) -> tuple[float, str]:
    said = {trace.on_demand for trace in traces if trace.on_demand is not None}
    if len(said) > 1:
        raise Invalid(
            f"{traces[0].path.parent}: ondemand_usd differs between zones: {sorted(said)}. Make it one price."
        )
    if said:
        return said.pop(), ""
    if missing.on_demand_usd_per_hour is not None:
        return missing.on_demand_usd_per_hour, f"On-demand price: ${missing.on_demand_usd_per_hour:g}/h, as told."
    offers = _offers(traces[0], prices, CapacityType.ON_DEMAND)
    here = [offer for offer in offers if any(_is_of(trace, offer.location) for trace in traces)] or offers
    if not here:
        raise _no_price(traces[0], "on-demand price", "--on-demand-usd")
    # The lowest, so that what a policy saves is not made to look larger than it is.
    cheapest = min(here, key=lambda offer: offer.price_usd_per_hour)
    source = f"the price list's lowest ({cheapest.location}); the traces hold none"
    return cheapest.price_usd_per_hour, f"On-demand price: ${cheapest.price_usd_per_hour:g}/h, {source}."


def _spot(trace: _Trace, prices: Prices, missing: Missing) -> tuple[tuple[float, ...], str]:
    if trace.spot is not None:
        return trace.spot, ""
    usd, source = _spot_elsewhere(trace, prices, missing)
    return (usd,), f"Spot price in {trace.zone}: ${usd:g}/h all the time, {source}; the trace holds none."


def _spot_elsewhere(trace: _Trace, prices: Prices, missing: Missing) -> tuple[float, str]:
    if missing.spot_usd_per_hour is not None:
        return missing.spot_usd_per_hour, "as told"
    offers = _offers(trace, prices, CapacityType.SPOT)
    zone = [offer.price_usd_per_hour for offer in offers if offer.location.zone in (trace.zone, trace.zone_id)]
    if zone:
        return zone[0], "from the price list"
    region = sorted(offer.price_usd_per_hour for offer in offers if _is_of(trace, offer.location))
    if region:
        return region[len(region) // 2], "the median of its region in the price list"
    raise _no_price(trace, f"spot price in {trace.zone}", "--spot-usd")


def _offers(trace: _Trace, prices: Prices, capacity_type: CapacityType) -> list[Offer]:
    return [offer for offer in prices(trace.provider, trace.instance_type) if offer.capacity_type is capacity_type]


def _is_of(trace: _Trace, place: Location) -> bool:
    return place.region == _location(trace).region


def _no_price(trace: _Trace, what: str, flag: str) -> Invalid:
    return Invalid(
        f"{trace.path}: no {what} for {trace.instance_type} on {trace.provider}, neither in the trace nor in the "
        f"price list. Say it with {flag}."
    )


def _location(trace: _Trace) -> Location:
    """With the region that the zone's name tells: `us-east-1` of `us-east-1a`, `us-east4` of `us-east4-a`."""
    zone = trace.zone
    region = zone[:-1] if trace.provider == "aws" and zone[-1:].isalpha() else zone.rpartition("-")[0] or zone
    return Location(trace.provider, region, zone)


def _cut(traces: Sequence[_Trace], duration_s: float) -> Iterator[str]:
    for trace in traces:
        days = len(trace.capacity) * trace.step_s / 86400
        if days * 86400 > duration_s:
            yield f"{trace.zone}: {days:.1f} days recorded, the first {duration_s / 86400:.1f} are used, as of the others."
