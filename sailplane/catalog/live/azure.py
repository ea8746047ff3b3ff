"""Microsoft's list prices: https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices.

Public, without credentials. One question for each machine type; a page has up to 1,000 meters: every region, Linux and Windows,
on demand, spot and the old low-priority kind, each told from the others by its names only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from chalicelib.catalog.snapshot import Price, Quarantined, Shape
from sailplane.catalog import facts
from sailplane.catalog.live.source import MAX_PAGES, Source, SourceFailed
from sailplane.catalog.quarantine import KINDS, Reason, Row

URL = "https://prices.azure.com"
_PATH = "/api/retail/prices"
_VERSION = "2023-01-01-preview"


def rows(source: Source, known: Sequence[Price], now: datetime) -> tuple[list[Row], list[Quarantined]]:
    """Today's prices of the machine types that are `known`, and the meters that cannot be read. Raises `SourceFailed`."""
    found: list[Row] = []
    unreadable: list[Quarantined] = []
    for shape in sorted({price.shape for price in known}):
        newest: dict[tuple[str, str], tuple[str, list[float]]] = {}
        for number, meter in enumerate(_meters(source, shape.instance_type), start=1):
            try:
                if _is_of_use(meter, shape.instance_type, now):
                    _keep(newest, meter)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                what = f"{shape.instance_type} {str(meter)[:60]}"
                unreadable.append(
                    Quarantined(number, what, "both", Reason.MALFORMED, f"{type(error).__name__}: {error}")
                )
        found += _rows(shape, newest, len(found))
    return found, unreadable


def _meters(source: Source, instance_type: str) -> Iterator[Any]:
    """Every page of one machine type's meters."""
    wanted = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armSkuName eq '{instance_type}'"
    parameters = {"api-version": _VERSION, "currencyCode": "USD", "$filter": wanted}
    page = source.get(f"{source.url}{_PATH}", parameters)
    for _ in range(MAX_PAGES):
        items = page.get("Items")
        if not isinstance(items, list):
            raise SourceFailed(f"{source.url} answers without `Items`.")
        yield from items
        link = page.get("NextPageLink")
        if not link:
            return
        page = source.get(str(link))
    raise SourceFailed(f"{source.url} has no last page.")


def _is_of_use(meter: Mapping[str, Any], instance_type: str, now: datetime) -> bool:
    """A price for Linux, in effect now. Neither Windows, nor Cloud Services, nor low-priority machines, which are no more."""
    other = ("Windows" in meter["productName"], "Cloud Services" in meter["productName"])
    return (
        not any(other)
        and not meter["skuName"].endswith("Low Priority")
        and meter["armSkuName"] == instance_type
        and meter["type"] == "Consumption"
        and meter["unitOfMeasure"] == "1 Hour"
        and meter["currencyCode"] == "USD"
        and datetime.fromisoformat(meter["effectiveStartDate"]) <= now
    )


def _keep(newest: dict[tuple[str, str], tuple[str, list[float]]], meter: Mapping[str, Any]) -> None:
    """Of a region's prices the one that took effect last; several of one day are kept side by side, to be doubted."""
    region, start = meter["armRegionName"], meter["effectiveStartDate"]
    usd = _number(meter["retailPrice"])
    if not facts.is_place("azure", region, ""):
        raise ValueError(f"{region!r} is no region")
    key = (region, "spot" if meter["skuName"].endswith("Spot") else "on-demand")
    since, prices = newest.get(key, ("", []))
    if start > since:
        newest[key] = (start, [usd])
    elif start == since and usd not in prices:
        prices.append(usd)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"retailPrice is {value!r}")
    return float(value)


def _stated(
    newest: Mapping[tuple[str, str], tuple[str, list[float]]], region: str, kind: str
) -> Sequence[float | None]:
    return newest[region, kind][1] if (region, kind) in newest else [None]


def _rows(shape: Shape, newest: Mapping[tuple[str, str], tuple[str, list[float]]], line: int) -> Iterator[Row]:
    for region in sorted({region for region, _ in newest}):
        on_demand, spot = (_stated(newest, region, kind) for kind in KINDS)
        for each, other in ((a, b) for a in on_demand for b in spot):
            line += 1
            yield Row(
                line,
                shape.instance_type,
                shape.vcpus,
                shape.memory_gib,
                shape.accelerator,
                shape.accelerator_count,
                region,
                "",
                each,
                other,
            )
