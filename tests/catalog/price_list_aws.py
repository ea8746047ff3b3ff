"""EC2 and the Price List API as far as a refresh asks them: the wire forms of the two protocols, and small facts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from tests.catalog.recorded import Answer, Request


def xml(name: str, value: Any) -> str:
    """A value as EC2 writes it: lists as <item>s."""
    if isinstance(value, dict):
        inner = "".join(xml(key, each) for key, each in value.items())
    elif isinstance(value, list):
        inner = "".join(xml("item", each) for each in value)
    else:
        inner = escape(str(value).lower() if isinstance(value, bool) else str(value))
    return f"<{name}>{inner}</{name}>"


def machine(name: str, gpu: str = "", count: int = 1, mib: int = 0, vcpus: int = 4, **changes: Any) -> dict[str, Any]:
    """A type of DescribeInstanceTypes."""
    found: dict[str, Any] = {
        "instanceType": name,
        "bareMetal": False,
        "processorInfo": {"supportedArchitectures": ["x86_64"]},
        "vCpuInfo": {"defaultVCpus": vcpus},
        "memoryInfo": {"sizeInMiB": 16384},
    }
    if gpu:
        gpus = [{"name": gpu, "manufacturer": "NVIDIA", "count": count, "memoryInfo": {"sizeInMiB": mib}}]
        found["gpuInfo"] = {"gpus": gpus, "totalGpuMemoryInMiB": mib * count}
    return found | changes


def product(name: str, usd: str, usage: str = "BoxUsage", unit: str = "Hrs") -> dict[str, Any]:
    """An entry of a PriceList."""
    dimension = {"unit": unit, "endRange": "Inf", "beginRange": "0", "pricePerUnit": {"USD": usd}, "appliesTo": []}
    return {
        "product": {
            "productFamily": "Compute Instance",
            "attributes": {"instanceType": name, "usagetype": f"{usage}:{name}", "operation": "RunInstances"},
            "sku": "VH8F",
        },
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {"VH8F.JRTC": {"priceDimensions": {"VH8F.JRTC.6YS6": dimension}, "sku": "VH8F"}}},
        "version": "20261120",
    }


def spot(name: str, zone: str, usd: str, time: str = "2026-11-21T10:00:00.000Z") -> dict[str, str]:
    """An entry of DescribeSpotPriceHistory."""
    return {
        "instanceType": name,
        "productDescription": "Linux/UNIX",
        "spotPrice": usd,
        "timestamp": time,
        "availabilityZone": zone,
    }


@dataclass
class PriceListAws:
    """Regions with the same machines at the same prices; zone names are the wrong way round, as accounts may see them."""

    regions: tuple[str, ...] = ("us-east-1", "eu-west-1")
    machines: list[dict[str, Any]] = field(default_factory=list)
    products: list[Any] = field(default_factory=list)
    spots: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # by region
    offered: dict[str, list[str]] = field(default_factory=dict)  # zone ids by type, all when not given
    page: int = 1  # entries on one
    asked: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        region = request.headers["authorization"].split("Credential=")[1].split("/")[2]
        if "x-amz-target" in request.headers:
            body = json.loads(request.body)
            self.asked.append({each["Field"]: each["Value"] for each in body["Filters"]})
            products, token = self._page(self.products, body.get("NextToken", ""))
            listed = [each if isinstance(each, str) else json.dumps(each) for each in products]
            return Answer({"FormatVersion": "aws_v1", "PriceList": listed} | ({"NextToken": token} if token else {}))
        form = {name: values[-1] for name, values in parse_qs(request.body).items()}
        self.asked.append(form)
        name, entries = self._entries(form["Action"], region)
        page, token = self._page(entries, form.get("NextToken", ""))
        inner = xml(name, page) + (xml("nextToken", token) if token else "")
        kind = f"{form['Action']}Response"
        return Answer(
            f'<?xml version="1.0"?><{kind} xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{inner}</{kind}>',
            headers={"Content-Type": "text/xml"},
        )

    def zone_ids(self, region: str) -> list[str]:
        short = "use1" if region == "us-east-1" else "euw1"
        return [f"{short}-az2", f"{short}-az1"]

    def _page(self, entries: list[Any], token: str) -> tuple[list[Any], str]:
        start = int(token or 0)
        rest = start + self.page
        return entries[start:rest], str(rest) if rest < len(entries) else ""

    def _entries(self, action: str, region: str) -> tuple[str, list[Any]]:
        ids = self.zone_ids(region)
        match action:
            case "DescribeRegions":
                self.page = max(self.page, len(self.regions))  # not paged
                return "regionInfo", [{"regionName": name} for name in self.regions]
            case "DescribeAvailabilityZones":
                zones = [
                    {"zoneName": f"{region}{letter}", "zoneId": one} for letter, one in zip("ab", ids, strict=True)
                ]
                return "availabilityZoneInfo", zones
            case "DescribeInstanceTypes":
                return "instanceTypeSet", self.machines
            case "DescribeInstanceTypeOfferings":
                names = [each["instanceType"] for each in self.machines]
                pairs = [(name, one) for name in names for one in self.offered.get(name, ids) if one in ids]
                return "instanceTypeOfferingSet", [{"instanceType": name, "location": one} for name, one in pairs]
            case _:
                assert action == "DescribeSpotPriceHistory", action
                return "spotPriceHistorySet", self.spots.get(region, [])
