"""The catalog's own format: one gzip file for each cloud, three lines of JSON.

The first line holds what planning needs: `as_of` (ISO date of the prices), `source`, `digest` (SHA-256 of what was imported),
`shapes` (machine types), `places` (region, zone) and `prices`, each `[shape, place, on-demand $/h, spot $/h]` with indices into
the former two and null for what is not offered. The second line, which only `sailplane catalog doctor` reads, lists what was
quarantined, the third the prices that wait to be confirmed. Equal content makes equal bytes: everything is sorted and no time of
writing is kept.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from chalicelib.model import CapacityType, Location, Offer

_SUFFIX = ".jsonl.gz"


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """A machine type. `accelerator` is canonical (`A10G`) or empty; `accelerator_memory_gib` is nominal, of one of them."""

    instance_type: str
    vcpus: float
    memory_gib: float
    accelerator: str = ""
    accelerator_count: int = 0
    accelerator_memory_gib: float = 0.0


@dataclass(frozen=True, slots=True)
class Price:
    """What a machine type costs in a place, in $/h. None where that way of buying it is not offered."""

    shape: Shape
    region: str
    zone: str
    on_demand: float | None
    spot: float | None


@dataclass(frozen=True, slots=True, order=True)
class Quarantined:
    """A line of the source that must not be believed. `price` says which of its prices: `on-demand`, `spot` or `both`."""

    line: int
    what: str
    price: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, order=True)
class Suspect:
    """A price that has jumped and waits to be confirmed. `price` as in `Quarantined`; `since` in epoch seconds."""

    instance_type: str
    accelerator: str
    accelerator_count: int
    region: str
    zone: str
    price: str
    believed: float
    said: float
    since: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The prices of one cloud at an instant: `as_of` is an ISO 8601 date, or a time of day with its zone as well."""

    provider: str
    as_of: str
    source: str
    digest: str
    prices: tuple[Price, ...]
    quarantined: tuple[Quarantined, ...] = ()
    suspects: tuple[Suspect, ...] = ()

    @property
    def offers(self) -> int:
        """How many prices there are, each way of buying counted."""
        return sum((price.on_demand is not None) + (price.spot is not None) for price in self.prices)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The first line of a snapshot as read, from which offers are made only as far as they are wanted.

    Told from others by identity: whoever reads a file once has one.
    """

    provider: str
    document: Mapping[str, Any]

    @property
    def as_of(self) -> str:
        """ISO date of the prices."""
        return str(self.document["as_of"])

    @property
    def accelerators(self) -> frozenset[str]:
        """Canonical names."""
        return frozenset(shape[3] for shape in self.document["shapes"] if shape[3])

    def offers(self, accelerators: frozenset[str] | None = None) -> Iterator[Offer]:
        """Offers with one of `accelerators` (`""` stands for machines that have none); all of them when None."""
        shapes = self.document["shapes"]
        places = [Location(self.provider, region, zone) for region, zone in self.document["places"]]
        for which, where, *prices in self.document["prices"]:
            name, vcpus, memory_gib, accelerator, count, accelerator_memory_gib = shapes[which]
            if accelerators is not None and accelerator not in accelerators:
                continue
            for kind, price in zip((CapacityType.ON_DEMAND, CapacityType.SPOT), prices, strict=True):
                if price is not None:
                    yield Offer(
                        places[where],
                        name,
                        vcpus,
                        memory_gib,
                        kind,
                        price,
                        accelerator,
                        count,
                        accelerator_memory_gib,
                    )

    def prices(self) -> Iterator[Price]:
        """Everything, as it was written."""
        shapes = [Shape(*shape) for shape in self.document["shapes"]]
        for which, where, on_demand, spot in self.document["prices"]:
            region, zone = self.document["places"][where]
            yield Price(shapes[which], region, zone, on_demand, spot)


def path(directory: Path, provider: str) -> Path:
    """Where a cloud's snapshot lies."""
    return directory / f"{provider}{_SUFFIX}"


def providers(directory: Path) -> tuple[str, ...]:
    """The clouds with a snapshot in `directory`, sorted."""
    return tuple(sorted(found.name.removesuffix(_SUFFIX) for found in directory.glob(f"*{_SUFFIX}")))


def table(directory: Path, provider: str) -> Table:
    """Read the prices and leave the quarantine. Raises `FileNotFoundError` for a cloud without a snapshot."""
    with gzip.open(path(directory, provider)) as lines:
        return Table(provider, json.loads(lines.readline()))


class Corrupt(Exception):
    """A snapshot that cannot be used; the message says which and why."""


def checked_table(directory: Path, provider: str) -> Table:
    """As `table`, of a file that others may have written. Raises `Corrupt` when anything in it is not as `write` makes it."""
    try:
        found = table(directory, provider)
        prices = tuple(found.prices())
        sound = prices and found.as_of and all(map(_is_sound, prices))
        read(directory, provider)
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError) as error:
        raise Corrupt(
            f"{path(directory, provider)} cannot be read ({type(error).__name__}) and is not used."
        ) from error
    if not sound:
        raise Corrupt(f"{path(directory, provider)} holds what is no price or no machine and is not used.")
    return found


def _is_sound(price: Price) -> bool:
    """A wrong low price would win every plan, so whatever is not a number above zero condemns the file."""
    shape = price.shape
    numbers: tuple[Any, ...] = (
        shape.vcpus,
        shape.memory_gib,
        *(usd for usd in (price.on_demand, price.spot) if usd is not None),
    )
    texts: tuple[Any, ...] = (shape.instance_type, shape.accelerator, price.region, price.zone)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int | float) and 0 < number < math.inf for number in numbers)
        and len(numbers) > 2
    )


def quarantined(directory: Path, provider: str) -> tuple[Quarantined, ...]:
    """Read the quarantine. Raises `FileNotFoundError` for a cloud without a snapshot."""
    return read(directory, provider).quarantined


def read(directory: Path, provider: str) -> Snapshot:
    """Read everything. Raises `FileNotFoundError` for a cloud without a snapshot."""
    with gzip.open(path(directory, provider)) as lines:
        document, entries, suspects = (json.loads(lines.readline() or "[]") for _ in range(3))
    stamp = {name: str(document[name]) for name in ("as_of", "source", "digest")}
    return Snapshot(
        provider,
        prices=tuple(Table(provider, document).prices()),
        quarantined=tuple(Quarantined(*entry) for entry in entries),
        suspects=tuple(Suspect(*one) for one in suspects),
        **stamp,
    )


def write(directory: Path, snapshot: Snapshot) -> None:
    """Put `snapshot` in the place of the cloud's former one; whoever reads meanwhile sees one of the two, whole."""
    target = path(directory, snapshot.provider)
    unfinished = target.with_suffix(".new")
    unfinished.write_bytes(encode(snapshot))
    unfinished.replace(target)


def encode(snapshot: Snapshot) -> bytes:
    """The bytes of the file."""
    shapes = sorted({price.shape for price in snapshot.prices})
    places = sorted({(price.region, price.zone) for price in snapshot.prices})
    shape_index = {shape: index for index, shape in enumerate(shapes)}
    place_index = {place: index for index, place in enumerate(places)}
    prices = [
        [shape_index[price.shape], place_index[price.region, price.zone], price.on_demand, price.spot]
        for price in snapshot.prices
    ]
    document = {
        "as_of": snapshot.as_of,
        "source": snapshot.source,
        "digest": snapshot.digest,
        "shapes": [astuple(shape) for shape in shapes],
        "places": places,
        "prices": sorted(prices, key=lambda price: price[:2]),
    }
    quarantined = [astuple(entry) for entry in sorted(snapshot.quarantined)]
    suspects = [astuple(one) for one in sorted(snapshot.suspects)]
    parts = (document, quarantined, suspects)
    lines = [json.dumps(part, separators=(",", ":"), ensure_ascii=False) + "\n" for part in parts]
    return gzip.compress("".join(lines).encode(), mtime=0)
