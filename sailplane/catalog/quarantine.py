"""What in a price table must not be believed, and why. Pure: rows in, sound rows and verdicts out, in any order.

A price that is too low makes a wrong winner in every plan, so doubt always goes against the cheap side. A row may lose one of
its two prices and keep the other. The rules, with the defects of public catalogs that taught them, are in docs/catalog.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median_high

from chalicelib.catalog.snapshot import Suspect

MAX_USD_PER_HOUR = 1000.0  # the dearest machine for rent, 8 newest GPUs in the dearest region, costs a fifth of it
MAX_VCPUS = 2048.0
MAX_MEMORY_GIB = 65536.0
MAX_ACCELERATORS = 16
EQUAL = 1e-4  # relative; AWS rounds spot prices to four decimals and list prices to five
MIN_SPOT_SHARE = 0.05  # of on-demand; clouds give at most 91 % off
LOW_ON_DEMAND = 0.6  # of the upper quartile over regions; the dearest regions list 2.0 times the cheapest at most
HIGH_ON_DEMAND = 3.0  # times the median over regions
LOW_IN_REGION = 0.9  # of the median over the region's zones; clouds list on-demand prices by region
LOW_SPOT = 0.2  # of the median over places; spot prices of one type differ by 4 to 1 on an ordinary day
MAX_SLICE = 0.67  # of a whole machine
SLICE_TOLERANCE = 0.02
MAX_ON_DEMAND_CHANGE = (
    1.1  # times, from one snapshot to the next; Azure's flips that were reverted within hours: 1.1 to 1.8
)
MAX_SPOT_CHANGE = 2.0
CONFIRM_S = 86400.0  # how long a jump must last to be believed; the longest of Azure's flips took 5.4 hours to revert


class Reason(StrEnum):
    """Why a price is disbelieved."""

    MALFORMED = "malformed"
    MISSING = "missing"
    NOT_POSITIVE = "not positive"
    ABSURD = "absurd"
    UNKNOWN_ACCELERATOR = "unknown accelerator"
    WRONG_MEMORY = "wrong accelerator memory"
    CONTRADICTED = "contradicted"
    DUPLICATED = "duplicated"
    SLICE = "slice of an accelerator"
    BELOW_SPOT = "below its own spot price"
    SPOT_EQUALS_ON_DEMAND = "spot equals on-demand"
    OUTLIER = "outlier"
    FLAPPING = "flapping"


Key = tuple[tuple[str, str, int], str, str]  # instance type, accelerator and how many of it; region; zone


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a price table, read but not yet believed. Prices in $/h, None where the table has none."""

    line: int
    instance_type: str
    vcpus: float
    memory_gib: float
    accelerator: str
    accelerator_count: int
    region: str
    zone: str
    on_demand: float | None
    spot: float | None

    @property
    def kind(self) -> tuple[str, str, int]:
        """What is comparable in price between places."""
        return self.instance_type, self.accelerator, self.accelerator_count

    @property
    def key(self) -> Key:
        """What may have one price only."""
        return self.kind, self.region, self.zone

    @property
    def what(self) -> str:
        """The row in a few words, e.g. `g5.48xlarge A10G:8 us-east-1/use1-az1`."""
        accelerators = f"{self.accelerator}:{self.accelerator_count}" if self.accelerator else ""
        place = "/".join(filter(None, (self.region, self.zone)))
        return " ".join(filter(None, (self.instance_type, accelerators, place)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row's price (`on-demand`, `spot` or `both`) that is not believed."""

    row: Row
    price: str
    reason: Reason
    detail: str


Rule = Callable[[Sequence[Row]], Iterator[Verdict]]
KINDS = ("on-demand", "spot")
Prices = tuple[float | None, float | None]  # of KINDS


def sift(rows: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[Verdict, ...]]:
    """Apply every rule that needs the table only. Each rule judges what those before it have left."""
    return _apply(RULES, rows)


def steady(
    rows: Iterable[Row], past: Mapping[Key, Prices], suspects: Mapping[tuple[Key, str], Suspect], now: float
) -> tuple[tuple[Row, ...], tuple[Verdict, ...], tuple[Suspect, ...]]:
    """Disbelieve prices that have jumped since the former snapshot until they have stayed where they are for a day.

    Args:
        rows: sound otherwise.
        past: what was believed, by `Row.key`.
        suspects: what was not, by `Row.key` and `on-demand` or `spot`.
        now: epoch seconds of this table.

    Returns:
        The rows without what is not believed, the verdicts, and the suspects for the next table.
    """
    left: dict[tuple[Key, str], Suspect] = {}

    def jumped(rows: Sequence[Row]) -> Iterator[Verdict]:
        for row in rows:
            believed = past.get(row.key, (None, None))
            for kind, usd, former in zip(KINDS, (row.on_demand, row.spot), believed, strict=True):
                before = suspects.get((row.key, kind)) or _believed(row, kind, former, now)
                found = _jump(before, usd, now) if before and usd is not None else None
                if found:
                    left[row.key, kind] = found
                    yield Verdict(row, kind, Reason.FLAPPING, f"${found.said:g} after ${found.believed:g}")

    table = tuple(rows)
    sound, found = _apply((jumped,), table)
    listed = {row.key for row in table}
    gone = (one for (key, _), one in suspects.items() if key not in listed and now - one.since < CONFIRM_S)
    return sound, found, tuple(sorted((*left.values(), *gone)))


def _believed(row: Row, kind: str, usd: float | None, now: float) -> Suspect | None:
    """What was believed of a price, None when nothing was."""
    (instance_type, accelerator, count), region, zone = row.key
    return Suspect(instance_type, accelerator, count, region, zone, kind, usd, usd, now) if usd else None


def _jump(before: Suspect, usd: float, now: float) -> Suspect | None:
    """The price as a suspect; None when it is near what was believed last, or has stayed where it is for long enough."""
    most = MAX_SPOT_CHANGE if before.price == "spot" else MAX_ON_DEMAND_CHANGE
    since = now if _changed(before.said, usd, most) else before.since
    if not _changed(before.believed, usd, most) or now - since >= CONFIRM_S:
        return None
    return replace(before, said=usd, since=since)


def _apply(rules: Iterable[Rule], rows: Iterable[Row]) -> tuple[tuple[Row, ...], tuple[Verdict, ...]]:
    sound = tuple(sorted(rows, key=lambda row: (row.key, row.line)))
    found: list[Verdict] = []
    for rule in rules:
        verdicts = tuple(rule(sound))
        found += verdicts
        doubted: dict[Row, set[str]] = defaultdict(set)
        for verdict in verdicts:
            doubted[verdict.row].add(verdict.price)
        sound = tuple(left for row in sound if (left := _without(row, doubted.get(row, set()))))
    return sound, tuple(found)


def _without(row: Row, prices: set[str]) -> Row | None:
    """What is left of a row whose `prices` are not believed; None when nothing is."""
    if not prices:
        return row
    left = replace(
        row,
        on_demand=None if prices & {"both", "on-demand"} else row.on_demand,
        spot=None if prices & {"both", "spot"} else row.spot,
    )
    return None if left.on_demand is None and left.spot is None else left


def _impossible(rows: Sequence[Row]) -> Iterator[Verdict]:
    """No such machine exists. An accelerator that is billed apart from its host (GCP) has no size of its own."""
    for row in rows:
        sizes = ((row.vcpus, MAX_VCPUS), (row.memory_gib, MAX_MEMORY_GIB)) if row.instance_type else ()
        if not all(0 < size <= most for size, most in sizes):
            detail = f"{row.vcpus:g} vCPUs, {row.memory_gib:g} GiB"
            yield Verdict(row, "both", Reason.ABSURD, detail)
        elif row.accelerator and not 1 <= row.accelerator_count <= MAX_ACCELERATORS:
            yield Verdict(row, "both", Reason.ABSURD, f"{row.accelerator_count} accelerators")


def _price_missing(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Without the on-demand price nothing says whether the spot price is right."""
    for row in rows:
        if row.on_demand is None:
            yield Verdict(row, "both", Reason.MISSING, "no on-demand price")


def _price_unsound(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Zero, negative, or more than any machine costs. Beside an unsound list price the spot price cannot be judged."""
    for row in rows:
        for price, usd in (("both", row.on_demand), ("spot", row.spot)):
            if usd is not None and not 0 < usd <= MAX_USD_PER_HOUR:
                yield Verdict(row, price, Reason.NOT_POSITIVE if usd <= 0 else Reason.ABSURD, f"${usd:g} an hour")
                break


def _duplicated(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Of equal lines the first stays; of lines that differ nobody knows the right one."""
    for group in _grouped(rows, lambda row: row.key):
        first, *others = sorted(group, key=lambda row: row.line)
        same = len({replace(row, line=0) for row in group}) == 1
        for row in others if same else (first, *others):
            if len(group) > 1:
                detail = f"repeats line {first.line}" if same else f"{len(group)} lines say different things"
                yield Verdict(row, "both", Reason.DUPLICATED, detail)


def _contradicted(rows: Sequence[Row]) -> Iterator[Verdict]:
    """A type is the same machine in every place; what most lines do not say about it is wrong."""
    for group in _grouped([row for row in rows if row.instance_type], lambda row: row.instance_type):
        shapes = Counter((row.vcpus, row.memory_gib, row.accelerator, row.accelerator_count) for row in group)
        for row in group if len(shapes) > 1 else ():
            shape = (row.vcpus, row.memory_gib, row.accelerator, row.accelerator_count)
            if shapes[shape] * 2 <= len(group):
                detail = f"{len(group) - shapes[shape]} of {len(group)} lines describe the type otherwise"
                yield Verdict(row, "both", Reason.CONTRADICTED, detail)


def _slice(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Half the vCPUs, half the memory and half the price of another type in the same place: half the accelerator, too.

    Azure lists eighths of an MI25 and halves of an A10 as one. Where a type has an accelerator of its own, its price does not
    shrink with the rest (Azure's T4: $0.53 for 4 vCPUs, $0.75 for 8).
    """
    for group in _grouped(
        [row for row in rows if row.instance_type and row.accelerator],
        lambda row: (row.accelerator, row.accelerator_count, row.region, row.zone),
    ):
        for row in group:
            if whole := next((other for other in group if _is_slice(row, other)), None):
                detail = f"in everything {whole.vcpus / row.vcpus:.1f} times less than {whole.instance_type}"
                yield Verdict(row, "both", Reason.SLICE, detail)


def _is_slice(row: Row, whole: Row) -> bool:
    if row.on_demand is None or whole.on_demand is None:
        return False
    shares = (row.vcpus / whole.vcpus, row.memory_gib / whole.memory_gib, row.on_demand / whole.on_demand)
    return max(shares) <= MAX_SLICE and max(shares) - min(shares) <= SLICE_TOLERANCE * max(shares)


def _spot_unsound(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Spot at the list price is a placeholder or no bargain; above it, one of the two is wrong and nobody knows which."""
    for row in rows:
        if row.on_demand is None or row.spot is None:
            continue
        detail = f"on-demand ${row.on_demand:g}, spot ${row.spot:g}"
        if row.spot > row.on_demand * (1 + EQUAL):
            yield Verdict(row, "both", Reason.BELOW_SPOT, detail)
        elif row.spot >= row.on_demand * (1 - EQUAL):
            yield Verdict(row, "spot", Reason.SPOT_EQUALS_ON_DEMAND, detail)
        elif row.spot < row.on_demand * MIN_SPOT_SHARE:
            yield Verdict(row, "spot", Reason.ABSURD, detail)


def _outlier(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Far from the same type's prices elsewhere.

    Discounts for committed use slip into list prices in many regions at once (GCP's H100, H200: in most), so that the median
    may itself be wrong: low prices are measured by the upper quartile.
    """
    for group in _grouped(rows, lambda row: row.kind):
        list_prices = sorted(row.on_demand for row in group if row.on_demand is not None)
        high = HIGH_ON_DEMAND * median_high(list_prices) if list_prices else 0.0
        credible = [usd for usd in list_prices if usd <= high]
        low = LOW_ON_DEMAND * credible[len(credible) * 3 // 4] if credible else 0.0
        spot_prices = [row.spot for row in group if row.spot is not None]
        low_spot = LOW_SPOT * median_high(spot_prices) if spot_prices else 0.0
        for row in group:
            if row.on_demand is not None and not low <= row.on_demand <= high:
                usual = [usd for usd in credible if usd >= low]
                detail = f"${row.on_demand:g}, usually ${usual[0]:g} to ${usual[-1]:g}"
                yield Verdict(row, "on-demand", Reason.OUTLIER, detail)
            if row.spot is not None and row.spot < low_spot:
                detail = f"spot ${row.spot:g}, elsewhere about ${median_high(spot_prices):g}"
                yield Verdict(row, "spot", Reason.OUTLIER, detail)


def _outlier_in_region(rows: Sequence[Row]) -> Iterator[Verdict]:
    """Cheaper on demand than the same type in the other zones of its region."""
    for group in _grouped([row for row in rows if row.on_demand is not None], lambda row: (row.kind, row.region)):
        usual = median_high(row.on_demand or 0.0 for row in group)
        for row in group:
            if row.on_demand is not None and row.on_demand < LOW_IN_REGION * usual:
                detail = f"${row.on_demand:g}, in the region's other zones ${usual:g}"
                yield Verdict(row, "on-demand", Reason.OUTLIER, detail)


def _changed(old: float, new: float, most: float) -> bool:
    return not old / most <= new <= old * most


def _grouped(rows: Iterable[Row], by: Callable[[Row], object]) -> Iterable[list[Row]]:
    groups: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        groups[by(row)].append(row)
    return groups.values()


RULES: tuple[Rule, ...] = (
    _impossible,
    _price_missing,
    _price_unsound,
    _duplicated,
    _contradicted,
    _slice,
    _spot_unsound,
    _outlier,
    _outlier_in_region,
)
