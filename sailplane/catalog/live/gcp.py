"""Google's list prices: https://cloud.google.com/billing/v1/how-tos/catalog-api, service Compute Engine.

A machine is billed by its parts: cores and memory of its family, and accelerators, each a SKU for some regions, on demand or spot.
SKUs are told apart by their descriptions, and only whole descriptions count: public catalogs that looked for words in them have
taken reservations, calendar mode and flex start ("DWS"), at half the price, for on-demand prices.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chalicelib.catalog.snapshot import Price, Quarantined
from sailplane.catalog import facts
from sailplane.catalog.live.source import MAX_PAGES, Source, SourceFailed
from sailplane.catalog.quarantine import Reason, Row

URL = "https://cloudbilling.googleapis.com"
_PATH = "/v1/services/6F81-5844-456A/skus"

_PART = re.compile(
    r"(?P<spot>Spot Preemptible )?(?P<family>N1 Predefined|E2|N2|G2|A2|A3|A3Plus|A3Ultra|A4) Instance (?P<part>Core|Ram)"
    r" running in [\w ().-]+"
)
_GPU = re.compile(
    r"(?P<spot>Spot Preemptible )?(?:A4 )?Nvidia (?:Tesla )?(?P<name>[A-Z]+\d+(?: Mega)?(?: \d+GB)?(?: Plus| Mega)?)"
    r"(?: GPU| \(1 gpu slice\))(?P<attached> attached to Spot Preemptible VMs)? running in [\w ().-]+"
)
_GPU_NAMES = {
    "A100 80GB": "A100-80GB",
    "H100 80GB": "H100",
    "H100 80GB Plus": "H100-MEGA",
    "H100 80GB Mega": "H100-MEGA",
    "H100 Mega 80GB": "H100-MEGA",
    "H200 141GB": "H200",
}
_FAMILIES = {
    "n1-": "N1 Predefined",
    "e2-": "E2",
    "n2-": "N2",
    "g2-": "G2",
    "a2-": "A2",
    "a3-highgpu-": "A3",
    "a3-megagpu-": "A3Plus",
    "a3-ultragpu-": "A3Ultra",
    "a4-": "A4",
}
_UNITS = {"Core": "h", "Ram": "GiBy.h", "GPU": "h"}
# A quarantined accelerator or machine, as `Row.what` words it: its place is a fact though its price was none.
_QUARANTINED = re.compile(r"(?:\S+ )?([\w-]+):(\d+) ([a-z0-9-]+)/([a-z0-9-]+)")

_Part = tuple[str, str]  # a family and Core or Ram; an accelerator and GPU
_Prices = Mapping[tuple[_Part, str, bool], set[float]]  # part, region, spot or not: every price stated, in $/h of one


def rows(
    source: Source, known: Sequence[Price], quarantined: Sequence[Quarantined]
) -> tuple[list[Row], list[Quarantined]]:
    """Today's prices of hosts and accelerators where they are `known` to be, and the SKUs that cannot be read.

    Raises `SourceFailed`.
    """
    prices: dict[tuple[_Part, str, bool], set[float]] = defaultdict(set)
    unreadable: list[Quarantined] = []
    for number, sku in enumerate(_skus(source), start=1):
        try:
            if read := _read(sku):
                part, spot, usd = read
                for region in sku["serviceRegions"]:
                    prices[part, region, spot].add(usd)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            what = str(sku.get("description", sku) if isinstance(sku, dict) else sku)[:60]
            unreadable.append(Quarantined(number, what, "both", Reason.MALFORMED, f"{type(error).__name__}: {error}"))
    for (part, region, _), stated in sorted(prices.items()):
        if len(stated) > 1:
            detail = f"{len(stated)} SKUs say different things: {', '.join(f'${usd:g}' for usd in sorted(stated))}"
            unreadable.append(Quarantined(0, f"{' '.join(part)} {region}", "both", Reason.DUPLICATED, detail))
    return list(_rows(prices, known, quarantined)), unreadable


def _skus(source: Source) -> Iterator[Any]:
    token = ""
    for _ in range(MAX_PAGES):
        parameters = {"currencyCode": "USD", "pageSize": "5000"} | ({"pageToken": token} if token else {})
        page = source.get(f"{source.url}{_PATH}", parameters)
        skus = page.get("skus")
        if not isinstance(skus, list):
            raise SourceFailed(f"{source.url} answers without `skus`.")
        yield from skus
        token = str(page.get("nextPageToken") or "")
        if not token:
            return
    raise SourceFailed(f"{source.url} has no last page.")


def _read(sku: Mapping[str, Any]) -> tuple[_Part, bool, float] | None:
    """Which part it is, whether spot, and $/h of one; None when it is of no use here. Raises on what has another form."""
    usage = sku["category"]["usageType"]
    text = sku["description"]
    if found := _PART.fullmatch(text):
        part, spot = (found["family"], found["part"]), bool(found["spot"])
    elif (found := _GPU.fullmatch(text)) and (name := facts.canonical(_GPU_NAMES.get(found["name"], found["name"]))):
        part, spot = (name, "GPU"), bool(found["spot"] or found["attached"])
    else:
        return None
    if usage not in ("OnDemand", "Preemptible"):
        return None
    # Some spot SKUs are filed under OnDemand; the description is right.
    return part, spot or usage == "Preemptible", _usd(sku, _UNITS[part[1]])


def _usd(sku: Mapping[str, Any], unit: str) -> float:
    expression = sku["pricingInfo"][-1]["pricingExpression"]
    (rate,) = expression["tieredRates"]
    price = rate["unitPrice"]
    if expression["usageUnit"] != unit or price["currencyCode"] != "USD":
        raise ValueError(f"{expression['usageUnit']} in {price['currencyCode']}, not {unit} in USD")
    return int(price.get("units", 0)) + int(price.get("nanos", 0)) / 1e9


def _rows(prices: _Prices, known: Sequence[Price], quarantined: Sequence[Quarantined]) -> Iterator[Row]:
    """Hosts and accelerators apart, as `facts.with_hosts` takes them."""
    sizes = {price.shape.instance_type: (price.shape.vcpus, price.shape.memory_gib) for price in known}
    hosts = {(price.shape.instance_type, price.region, price.zone) for price in known}
    parts = {
        (price.shape.accelerator, price.shape.accelerator_count, price.region, price.zone)
        for price in known
        if price.shape.accelerator
    }
    for entry in quarantined:
        if found := _QUARANTINED.fullmatch(entry.what):
            parts.add((found[1], int(found[2]), found[3], found[4]))
    for accelerator, count, region, zone in parts:
        hosts |= {(name, region, zone) for name in facts.gcp_hosts(accelerator, count) if name in sizes}
    line = 0
    for line, (name, region, zone) in enumerate(sorted(hosts), start=1):
        cores, memory = sizes[name]
        family = next(family for prefix, family in _FAMILIES.items() if name.startswith(prefix))
        amounts = {(family, "Core"): cores, (family, "Ram"): memory}
        yield Row(line, name, cores, memory, "", 0, region, zone, *_sums(prices, amounts, region))
    for number, (accelerator, count, region, zone) in enumerate(sorted(parts), start=line + 1):
        usd = _sums(prices, {(accelerator, "GPU"): count}, region)
        yield Row(number, "", 0.0, 0.0, accelerator, count, region, zone, *usd)


def _sums(prices: _Prices, amounts: Mapping[_Part, float], region: str) -> tuple[float | None, float | None]:
    """On demand and spot; None where a part has no price or several."""
    on_demand, spot = (
        [(amount, prices.get((part, region, spot), set())) for part, amount in amounts.items()]
        for spot in (False, True)
    )
    return _sum(on_demand), _sum(spot)


def _sum(parts: Sequence[tuple[float, set[float]]]) -> float | None:
    if any(len(stated) != 1 for _, stated in parts):
        return None
    return round(sum(amount * usd for amount, stated in parts for usd in stated), 6)
