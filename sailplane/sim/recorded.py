"""A market as one service met it, read from the service's own events, so that its decisions can be made again.

What was never asked for is not known: a zone has room until it refuses or takes a machine, from then on for the machines that
it has left, until it gives one again. Prices are those of the launches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from chalicelib.errors import Invalid
from chalicelib.model import Event, Location
from sailplane.sim.market import Market, Zone
from sailplane.sim.scenario import ColdStart

_N = TypeVar("_N", int, float)
_PLENTY = 1_000
_PENDING = re.compile(
    r"\S+: (?P<place>\S+/\S+) (?P<type>\S+)(?: \((?P<accelerator>[^:)]+):(?P<count>\d+)\))? "
    r"(?P<kind>spot|on-demand) at \$(?P<usd>[\d,.]*\d)/h"
)
_NO_ROOM = ("NO_CAPACITY", "the cloud took the machine")
_NOTICE = re.compile(r"takes the machine in (?P<seconds>\d+) s")


@dataclass(frozen=True, slots=True)
class Recording:
    """What a simulation needs to go through it again. Instants of the market count from `start` (epoch seconds)."""

    market: Market
    cold_start: ColdStart
    start: float
    until_s: float


@dataclass
class _Place:
    """One zone's spot machines: who is alive, and what changed when."""

    alive: set[str] = field(default_factory=set)
    room: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, _PLENTY)])
    usd: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Launch:
    location: Location
    instance_type: str
    accelerator: str
    count: int
    is_spot: bool
    usd: float


def read(events: Sequence[Event], on_demand_usd_per_hour: float | None = None) -> Recording:
    """The recording of a service from its events, oldest first.

    Raises:
        Invalid: no launch is among them, machines of several types are, or nothing says what one costs on demand.
    """
    launches = {event.replica: _launch(event) for event in events if event.kind == "replica.pending"}
    if not launches:
        raise Invalid("No launch is among the events. Export more of them: sailplane events NAME --json --limit 1000")
    types = {launch.instance_type for launch in launches.values()}
    if len(types) > 1:
        raise Invalid(
            f"Machines of several types were launched ({', '.join(sorted(types))}); one type can be replayed."
        )
    first = next(iter(launches.values()))
    start = events[0].at
    until_s = float(int(events[-1].at - start) + 1)
    market = Market(
        name="recorded",
        instance_type=first.instance_type,
        accelerator=first.accelerator,
        accelerator_count=first.count,
        on_demand_usd_per_hour=_on_demand(launches.values(), on_demand_usd_per_hour),
        zones=tuple(
            Zone(location, 1.0, tuple(_steps(place.room, until_s)), tuple(_steps(place.usd, until_s)))
            for location, place in sorted(_places(events, launches, start).items())
        ),
        duration_s=until_s,
    )
    return Recording(market, _cold_start(events), start, until_s)


def _launch(event: Event) -> _Launch:
    found = _PENDING.match(event.message)
    if found is None:
        raise Invalid(
            f"The launch of {event.replica} says no place or price: {event.message!r}. Is it Sailplane's own event?"
        )
    provider, region, *zone = found["place"].split("/")
    return _Launch(
        location=Location(provider, region, "/".join(zone)),
        instance_type=found["type"],
        accelerator=found["accelerator"] or "",
        count=int(found["count"] or 0),
        is_spot=found["kind"] == "spot",
        usd=float(found["usd"].replace(",", "")),
    )


def _places(events: Iterable[Event], launches: Mapping[str, _Launch], start: float) -> dict[Location, _Place]:
    places = {launch.location: _Place() for launch in launches.values()}
    for event in events:
        launch = launches.get(event.replica)
        if launch is None or not launch.is_spot:
            continue
        place, at = places[launch.location], event.at - start
        match event.kind:
            case "replica.pending":
                place.usd.append((at, launch.usd))
            case "replica.provisioning":
                place.alive.add(event.replica)
                place.room.append((at, _PLENTY))
            case "replica.notice" if notice := _NOTICE.search(event.message):
                place.alive.discard(event.replica)
                place.room.append((at + float(notice["seconds"]), len(place.alive)))
            case "replica.terminating" | "replica.terminated":
                place.alive.discard(event.replica)
                if any(words in event.message for words in _NO_ROOM):
                    place.room.append((at, len(place.alive)))
    # Where only on-demand machines were bought, nobody knows what spot ones cost: none is to be had.
    return {
        location: place if place.usd else _Place(room=[(0.0, 0)], usd=[(0.0, 0.0)])
        for location, place in places.items()
    }


def _steps(changes: Sequence[tuple[float, _N]], until_s: float) -> Iterator[_N]:
    """What holds in each second; the first change holds from the beginning."""
    ordered = sorted(changes, key=lambda change: change[0])
    current, upcoming = ordered[0][1], 0
    for second in range(int(until_s)):
        while upcoming < len(ordered) and ordered[upcoming][0] < second + 1:
            current = ordered[upcoming][1]
            upcoming += 1
        yield current


def _on_demand(launches: Iterable[_Launch], told: float | None) -> float:
    usd = [launch.usd for launch in launches if not launch.is_spot]
    if told is None and not usd:
        raise Invalid("No machine was bought on demand, so its price is not known. Say it with --on-demand-usd.")
    return told if told is not None else max(usd)


def _cold_start(events: Sequence[Event]) -> ColdStart:
    """Between the fastest and the slowest that was seen."""
    usual = ColdStart()
    at = {(event.replica, event.kind): event.at for event in reversed(events)}

    def spread(before: str, after: str, otherwise: tuple[float, float]) -> tuple[float, float]:
        times_s = [
            at[replica, after] - at[replica, before]
            for replica, kind in at
            if kind == after and (replica, before) in at
        ]
        return (min(times_s), max(times_s)) if times_s else otherwise

    return ColdStart(
        spread("replica.provisioning", "replica.starting", usual.boot_s),
        spread("replica.starting", "replica.ready", usual.setup_s),
    )
