"""Amazon's machines, places and prices, through boto3.

On-demand prices come from the Price List Query API, filtered to Linux on shared hardware: ten requests a region. The bulk files
("offers/v1.0") need no credentials, but hold every tenancy, system and reservation, 250 MB a region, and spot prices need
credentials anyway. https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError

from chalicelib.catalog.snapshot import Quarantined
from sailplane.catalog import facts
from sailplane.catalog.live.source import Endpoint, NoCredentials, SourceFailed
from sailplane.catalog.quarantine import Reason, Row

_HOME = "us-east-1"  # lists the regions of an account, and every region's prices
_PRICED = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}


@dataclass(frozen=True, slots=True)
class _Machine:
    """A type as `DescribeInstanceTypes` has it."""

    name: str
    vcpus: float
    memory_gib: float
    accelerator: str = ""
    count: int = 0


class Market:
    """EC2 and the price list, with boto3's own credentials, or an `endpoint` that stands for both with its key.

    `attempts` at each request, the waits between them growing, are botocore's.
    """

    def __init__(self, told: Callable[[str], None], endpoint: Endpoint | None = None, attempts: int = 6) -> None:
        self._told = told
        self._config = Config(
            connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": attempts}
        )
        self._session = boto3.Session()
        self._options: dict[str, Any] = {}
        if endpoint:
            key = endpoint.key or "none"
            self._options = {"endpoint_url": endpoint.url, "aws_access_key_id": key, "aws_secret_access_key": key}

    def rows(self, now: datetime) -> tuple[list[Row], list[Quarantined]]:
        """Today's prices in every region that the account may use, and what cannot be read. Raises `SourceFailed`."""
        found: list[Row] = []
        unreadable: list[Quarantined] = []
        try:
            regions = [region["RegionName"] for region in self._ec2(_HOME).describe_regions()["Regions"]]
            pricing = self._pricing()
            for number, region in enumerate(sorted(regions), start=1):
                self._told(f"Asking AWS: {region}, {number} of {len(regions)} regions")
                found += self._region(region, pricing, now, unreadable, len(found))
        except NoCredentialsError as error:
            raise NoCredentials(f"AWS shows prices to customers only: {error}.") from error
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            raise SourceFailed(f"AWS: {error}") from error
        except (KeyError, TypeError, OverflowError) as error:
            raise SourceFailed(f"AWS answers in another form ({type(error).__name__}: {error}).") from error
        return found, unreadable

    def _ec2(self, region: str) -> Any:
        return self._session.client("ec2", region_name=region, config=self._config, **self._options)

    def _pricing(self) -> Any:
        return self._session.client("pricing", region_name=_HOME, config=self._config, **self._options)

    def _region(
        self, region: str, pricing: Any, now: datetime, unreadable: list[Quarantined], line: int
    ) -> Iterator[Row]:
        ec2 = self._ec2(region)
        machines = list(_machines(_items(ec2, "describe_instance_types", "InstanceTypes"), unreadable))
        on_demand = _list_prices(_items(pricing, "get_products", "PriceList", **_priced_in(region)), unreadable)
        spot = _spot_prices(ec2, now, unreadable)
        zones: dict[str, list[str]] = defaultdict(list)
        offerings = _items(
            ec2, "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone-id"
        )
        for offering in offerings:
            zones[offering["InstanceType"]].append(offering["Location"])
        for machine in machines:
            for zone in zones[machine.name]:
                stated: Sequence[float | None] = sorted(on_demand.get(machine.name, ())) or [None]
                for usd in stated:
                    line += 1
                    yield Row(
                        line,
                        machine.name,
                        machine.vcpus,
                        machine.memory_gib,
                        machine.accelerator,
                        machine.count,
                        region,
                        zone,
                        usd,
                        spot.get((machine.name, zone)),
                    )


def _items(client: Any, operation: str, name: str, **wanted: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**wanted):
        yield from page[name]


def _priced_in(region: str) -> dict[str, Any]:
    terms = _PRICED | {"regionCode": region}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()]
    return {"ServiceCode": "AmazonEC2", "Filters": filters}


def _machines(types: Iterable[Mapping[str, Any]], unreadable: list[Quarantined]) -> Iterator[_Machine]:
    """x86 machines with one kind of known GPU, and the plain ones of use."""
    for found in types:
        name = found["InstanceType"]
        gpus = found.get("GpuInfo", {}).get("Gpus", [])
        if "x86_64" not in found["ProcessorInfo"]["SupportedArchitectures"] or found.get("BareMetal"):
            continue
        size = (float(found["VCpuInfo"]["DefaultVCpus"]), found["MemoryInfo"]["SizeInMiB"] / 1024)
        if len(gpus) == 1:
            (gpu,) = gpus
            gib = gpu["MemoryInfo"]["SizeInMiB"] / 1024
            if accelerator := facts.with_memory(gpu["Name"], gib):
                yield _Machine(name, *size, accelerator, gpu["Count"])
            else:
                reason = Reason.WRONG_MEMORY if facts.canonical(gpu["Name"]) else Reason.UNKNOWN_ACCELERATOR
                unreadable.append(Quarantined(0, name, "both", reason, f"{gpu['Name']!r} with {gib:.0f} GiB"))
        elif not gpus and facts.PLAIN["aws"].fullmatch(name):
            yield _Machine(name, *size)


def _list_prices(products: Iterable[str], unreadable: list[Quarantined]) -> Mapping[str, set[float]]:
    """Every price in $/h that is stated for a type; there should be one."""
    prices: dict[str, set[float]] = defaultdict(set)
    for number, text in enumerate(products, start=1):
        try:
            product = json.loads(text)
            attributes = product["product"]["attributes"]
            if not attributes["usagetype"].partition(":")[0].endswith("BoxUsage"):
                continue  # what a reservation leaves unused, hosts, and the like
            for term in product["terms"]["OnDemand"].values():
                for dimension in term["priceDimensions"].values():
                    prices[attributes["instanceType"]].add(_usd_per_hour(dimension))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            detail = f"{type(error).__name__}: {error}"
            unreadable.append(Quarantined(number, str(text)[:60], "both", Reason.MALFORMED, detail))
    return prices


def _usd_per_hour(dimension: Mapping[str, Any]) -> float:
    if dimension["unit"] != "Hrs":
        raise ValueError(f"unit {dimension['unit']!r}")
    return float(dimension["pricePerUnit"]["USD"])


def _spot_prices(ec2: Any, now: datetime, unreadable: list[Quarantined]) -> Mapping[tuple[str, str], float]:
    """The newest price by type and zone id; asked for "from now on", EC2 answers with those in effect."""
    ids = {zone["ZoneName"]: zone["ZoneId"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]}
    newest: dict[tuple[str, str], tuple[datetime, float]] = {}
    wanted = {"ProductDescriptions": ["Linux/UNIX"], "StartTime": now}
    history = _items(ec2, "describe_spot_price_history", "SpotPriceHistory", **wanted)
    for number, entry in enumerate(history, start=1):
        try:
            key = (entry["InstanceType"], ids[entry["AvailabilityZone"]])
            price = (entry["Timestamp"], float(entry["SpotPrice"]))
        except (KeyError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
            unreadable.append(Quarantined(number, str(entry)[:60], "spot", Reason.MALFORMED, detail))
        else:
            newest[key] = max(newest.get(key, price), price)
    return {key: usd for key, (_, usd) in newest.items()}
