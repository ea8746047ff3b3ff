"""What EC2 sells in the box: types where they are offered, default images, spot prices that move."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

from chalicelib import catalog
from chalicelib.model import CapacityType

# The parameters that exist. Restated from AWS's and Canonical's documentation, see chalicelib/providers/aws/machine.py.
_IMAGE_PARAMETER = re.compile(
    r"/aws/service/(?:deeplearning/ami/(?P<gpu>x86_64|arm64)/base-oss-nvidia-driver-gpu-ubuntu-2[24]\.04/latest/ami-id"
    r"|canonical/ubuntu/server/2[24]\.04/stable/current/(?P<cpu>amd64|arm64)/hvm/ebs-gp[23]/ami-id)"
)
_STEP_S = 6 * 3600.0  # how often a spot price moves
_SWING = 0.1  # of the catalog's price, up and down


@dataclass(frozen=True)
class Image:
    """What machines start from; `size_gib` is the least that a disk for it may have, and what it has by itself."""

    id: str
    architecture: str
    size_gib: int


def public_image(region: str, parameter: str) -> Image | None:
    """The image behind a public parameter; another in each region."""
    found = _IMAGE_PARAMETER.fullmatch(parameter)
    if not found:
        return None
    architecture = (found["gpu"] or found["cpu"]).replace("amd64", "x86_64")
    digest = hashlib.sha256(f"{region}{parameter}".encode()).hexdigest()
    return Image(f"ami-{digest[:17]}", architecture, size_gib=75 if found["gpu"] else 8)


def architectures(instance_type: str) -> tuple[str, ...]:
    """Of a type's processor; empty when moto does not know the type."""
    info: dict[str, Any] = INSTANCE_TYPES.get(instance_type, {}).get("ProcessorInfo", {})
    return tuple(info.get("SupportedArchitectures", ()))


def is_offered(instance_type: str, region: str, zone_id: str) -> bool:
    """As moto's copy of AWS's offerings says, or the catalog, which is newer."""
    return (instance_type, zone_id) in _moto_offerings(region) or (instance_type, zone_id) in _spot_prices(region)


@dataclass(frozen=True)
class Price:
    """A spot price from an instant on."""

    instance_type: str
    zone_id: str
    usd_per_hour: float
    since: float


def spot_history(region: str, start: float, end: float) -> Iterator[Price]:
    """Every change between two instants, and the last one before the first, newest first."""
    for step in range(int(end // _STEP_S), int(start // _STEP_S) - 1, -1):
        for (instance_type, zone_id), usual in sorted(_spot_prices(region).items()):
            yield Price(instance_type, zone_id, usual * _mood(instance_type, zone_id, step), step * _STEP_S)


def _mood(instance_type: str, zone_id: str, step: int) -> float:
    lot = hashlib.sha256(f"{instance_type}{zone_id}{step}".encode()).digest()[0] / 255
    return 1 + _SWING * (2 * lot - 1)


@cache
def _spot_prices(region: str) -> dict[tuple[str, str], float]:
    return {
        (offer.instance_type, offer.location.zone): offer.price_usd_per_hour
        for offer in catalog.offers(["aws"])
        if offer.location.region == region and offer.capacity_type is CapacityType.SPOT
    }


@cache
def _moto_offerings(region: str) -> frozenset[tuple[str, str]]:
    return frozenset(
        (each["InstanceType"], each["Location"])
        for each in INSTANCE_TYPE_OFFERINGS["availability-zone-id"].get(region, ())
    )
