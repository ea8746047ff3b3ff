"""What EC2 itself knows about prices: spot's, as they are now. On-demand prices are in AWS's price list, not in EC2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


@dataclass(frozen=True, slots=True)
class SpotPrice:
    """What a type of machine with Linux costs as spot in a zone, in US dollars an hour, since an instant (epoch seconds)."""

    region: str
    zone: str  # the zone's id (use1-az1), the same place for every account
    instance_type: str
    usd_per_hour: float
    since: float


def spot_prices(region: str, client: EC2Client, at: float) -> Iterator[SpotPrice]:
    """What every type costs in every zone of a region at the instant `at` (epoch seconds). Raises what botocore raises.

    Asked about an instant EC2 answers with the last change before it:
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
    """
    ids = zone_ids(client)
    instant = datetime.fromtimestamp(at, UTC)
    pages = client.get_paginator("describe_spot_price_history").paginate(
        ProductDescriptions=["Linux/UNIX"], StartTime=instant, EndTime=instant
    )
    for page in pages:
        for entry in page["SpotPriceHistory"]:
            # A zone that this account has not opted in to has a price, but no id here.
            if zone := ids.get(entry["AvailabilityZone"]):
                since = entry["Timestamp"].timestamp()
                yield SpotPrice(region, zone, entry["InstanceType"], float(entry["SpotPrice"]), since)


def zone_ids(client: EC2Client) -> Mapping[str, str]:
    """Zone ids by this account's names for them: `us-east-1a` is another place in another account."""
    answer = client.describe_availability_zones()
    return {zone["ZoneName"]: zone["ZoneId"] for zone in answer["AvailabilityZones"]}
