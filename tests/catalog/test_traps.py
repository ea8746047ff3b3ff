"""Every trap that price tables are known to hold, set for a plan: the poisoned price never wins."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.catalog import snapshot
from chalicelib.catalog.snapshot import Snapshot
from chalicelib.model import Offer, Requirement, ResourceRequest
from chalicelib.optimizer import Request, decide
from sailplane.catalog import facts, judging, quarantine
from sailplane.catalog.judging import Table
from sailplane.catalog.quarantine import Key, Prices, Row

REGIONS = [f"us-test-{n}" for n in range(1, 7)]


def row(line: int, region: str, on_demand: float | None = 7.0, spot: float | None = 2.5, **changes: object) -> Row:
    fields = {"instance_type": "p9.4xlarge", "vcpus": 16.0, "memory_gib": 64.0, "accelerator": "A100-80GB", "count": 2}
    fields |= {"zone": f"ust{region[-1]}-az1"} | changes
    return Row(
        line,
        str(fields["instance_type"]),
        float(str(fields["vcpus"])),
        float(str(fields["memory_gib"])),
        str(fields["accelerator"]),
        int(str(fields["count"])),
        region,
        str(fields["zone"]),
        on_demand,
        spot,
    )


SOUND = [row(number, region, 7.0 + number / 10, 2.5 + number / 10) for number, region in enumerate(REGIONS, start=2)]


def snapshot_of(rows: list[Row], former: Snapshot | None = None, as_of: str = "2026-11-01") -> Snapshot:
    return judging.judge(Table("aws", as_of, "a test", as_of, tuple(rows)), former, fresh=False).snapshot


def winner(made: Snapshot, *, spot: bool, accelerator: str = "A100-80GB") -> Offer:
    """What a plan would choose, from the file as it is written and read."""
    requirement = Requirement(accelerators=((accelerator, 2),), use_spot=spot)
    document = json.loads(gzip.decompress(snapshot.encode(made)).splitlines()[0])
    offers = tuple(snapshot.Table("aws", document).offers())
    placement = decide(Request(ResourceRequest(((requirement,),)), ("aws",)), offers, 0.0)
    assert placement.chosen is not None
    return placement.chosen


POISON: dict[str, list[Row]] = {
    "on-demand at half the list price (GCP's A100-80GB)": [row(90, "us-bad-1", 3.4, 2.9)],
    "the same below its own spot price": [row(90, "us-bad-1", 3.4, 3.6)],
    "half the price in two of three regions (GCP's H200)": [row(90 + n, f"us-bad-{n}", 3.4, None) for n in range(1, 9)],
    "spot for nothing (Vast)": [row(90, "us-bad-1", 9.0, 0.0)],
    "spot for less than nothing": [row(90, "us-bad-1", 9.0, -1.0)],
    "all for nothing (GCP's B200 hosts)": [row(90, "us-bad-1", 0.0, 0.0)],
    "negative": [row(90, "us-bad-1", -7.0, -2.0)],
    "a cent": [row(90, "us-bad-1", 0.01, 0.005)],
    "cents for dollars": [row(90, "us-bad-1", 0.07, 0.025)],
    "not a number": [row(90, "us-bad-1", float("nan"), float("nan"))],
    "minus infinity": [row(90, "us-bad-1", float("-inf"), 0.1)],
    "spot alone": [row(90, "us-bad-1", None, 2.0)],
    "on-demand below spot though both are usual": [row(90, "us-bad-1", 5.0, 5.2)],
    "a zone below the other zones of its region": [row(90, REGIONS[0], 5.0, 2.9, zone="ust1-az2")],
    "spot a hundredth of on-demand": [row(90, "us-bad-1", 9.0, 0.07)],
    "spot a sixth of what it is elsewhere": [row(90, "us-bad-1", 9.0, 0.4)],
    "listed twice at different prices": [row(90, "us-bad-1", 7.0, 2.5), row(91, "us-bad-1", 5.0, 1.0)],
    "more accelerators than the type has": [row(90, "us-bad-1", 1.0, 0.4, instance_type="p9.xlarge", count=2)]
    + [row(91 + n, f"us-else-{n}", 1.0, 0.4, instance_type="p9.xlarge", count=1) for n in range(3)],
    "a slice listed as whole (Azure's A10)": [
        row(90 + n, region, 3.5 + (n + 2) / 20, 1.2, instance_type="p9.2xlarge", vcpus=8.0, memory_gib=32.0)
        for n, region in enumerate(REGIONS)
    ],
    "a machine without memory": [row(90, "us-bad-1", 1.0, 0.4, instance_type="p9.free", memory_gib=0.0)],
    "sixty-four thousand accelerators": [row(90, "us-bad-1", 1.0, 0.4, instance_type="p9.many", count=64000)],
}


@pytest.mark.parametrize("spot", [False, True], ids=["on-demand", "spot"])
@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_poisoned_row_never_wins(poison: list[Row], spot: bool) -> None:
    """Beside six sound regions, the plan is what it is without the poison."""
    healthy = winner(snapshot_of(SOUND), spot=spot)
    assert (healthy.location.region, healthy.price_usd_per_hour) == (REGIONS[0], 2.7 if spot else 7.2)
    assert winner(snapshot_of([*SOUND, *poison]), spot=spot) == healthy


@pytest.mark.parametrize("factor", [0.5, 0.62, 0.85, 1.5])
@pytest.mark.parametrize("hours", [1, 5, 23])
def test_a_flip_that_is_reverted_within_a_day_never_wins(factor: float, hours: int) -> None:
    """However small the flip and however often one looks, the flipped price is in no plan, nor is its return a jump."""
    before = snapshot_of(SOUND, as_of="2026-11-01T00:00Z")
    flipped = [row(2, REGIONS[0], round(7.2 * factor, 4), 2.7), *SOUND[1:]]
    kept = before
    for hour in range(1, hours + 1, 2):
        kept = snapshot_of(flipped, kept, f"2026-11-01T{hour:02}:00Z")
        assert winner(kept, spot=False).location.region == REGIONS[1]
    back = snapshot_of(SOUND, kept, "2026-11-02T12:00Z")
    assert winner(back, spot=False) == winner(before, spot=False)


@pytest.mark.public_catalog
def test_no_flip_of_the_public_history_is_ever_believed() -> None:
    """Replay of Azure's changes in $SAILPLANE_PUBLIC_CATALOG/history: what reverts within a day is at no time among the prices."""
    tables: dict[float, dict[Key, Prices]] = defaultdict(dict)
    with (Path(os.environ["SAILPLANE_PUBLIC_CATALOG"]) / "history" / "azure_gpu_changes.csv").open() as lines:
        for line in csv.DictReader(lines):
            count = float(line["AcceleratorCount"] or 0)
            kind = (
                line["InstanceType"],
                facts.canonical(line["AcceleratorName"]) or line["AcceleratorName"],
                int(count),
            )
            when = datetime.fromisoformat(line["snapshot_time"]).astimezone(UTC).timestamp()
            removed = line["Price"] == "REMOVED"
            prices = (
                (None, None) if removed else (float(line["Price"] or 0) or None, float(line["SpotPrice"] or 0) or None)
            )
            tables[when][kind, line["Region"], line["AvailabilityZone"]] = prices
    flips = _reverted(tables)
    believed: dict[Key, Prices] = {}
    said: dict[Key, Prices] = {}
    suspects: dict[tuple[Key, str], snapshot.Suspect] = {}
    seen: Counter[str] = Counter()
    for when in sorted(tables):
        said |= tables[when]
        rows = [
            Row(number, key[0][0], 4.0, 16.0, key[0][1], key[0][2], key[1], key[2], *prices)
            for number, (key, prices) in enumerate(said.items())
            if prices[0]
        ]
        sound, _, left = quarantine.steady(rows, believed, suspects, when)
        believed = {each.key: (each.on_demand, each.spot) for each in sound}
        suspects = {(judging.suspect_key(one)): one for one in left}
        for key, usd in flips.get(when, ()):
            seen["flips"] += 1
            seen["believed"] += believed.get(key, (None, None))[0] == usd
    assert seen["flips"] > 50
    assert seen["believed"] == 0


def _reverted(tables: Mapping[float, Mapping[Key, Prices]]) -> dict[float, list[tuple[Key, float]]]:
    """On-demand prices a tenth or more from the first one that went back to it within a day, by the time they appeared."""
    history: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    for when in sorted(tables):
        for key, (on_demand, _) in tables[when].items():
            if on_demand and (not history[key] or history[key][-1][1] != on_demand):
                history[key].append((when, on_demand))
    found: dict[float, list[tuple[Key, float]]] = defaultdict(list)
    for key, changes in history.items():
        for (_, before), (when, usd), (until, after) in zip(changes, changes[1:], changes[2:], strict=False):
            if (
                before == after == changes[0][1]
                and until - when < quarantine.CONFIRM_S
                and not before / 1.1 <= usd <= before * 1.1
            ):
                found[when].append((key, usd))
    return found
