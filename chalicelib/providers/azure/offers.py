"""What has to be known of Azure's machine sizes to launch them; their prices are the catalog's.

A size's name says what it can do: family, number of vCPUs, then a letter for each feature.
https://learn.microsoft.com/azure/virtual-machines/vm-naming-conventions
"""

from __future__ import annotations

import re

from chalicelib.model import Offer

_NAME = re.compile(r"Standard_[A-Z]+\d+(?:-\d+)?(?P<features>[a-z]*)")
# Publisher, offer, SKU and version, all generation 2: every size in the catalog boots it.
# Microsoft's image for GPUs has the drivers and the container runtime. NV…_A10_v5 are virtual GPUs, which need the GRID
# driver instead: a service's `setup` has to install it there.
_NVIDIA = "microsoft-dsvm:ubuntu-hpc:2204:latest"
_AMD = "microsoft-dsvm:ubuntu-hpc:2404-rocm:latest"
_CPU = "Canonical:ubuntu-24_04-lts:server:latest"
_CPU_ARM = "Canonical:ubuntu-24_04-lts:server-arm64:latest"
_UNUSABLE = {
    "NCC": "is for confidential machines, whose images have no GPU driver",
    "NV32as_v4": "is for Windows only",
}


def default_image(offer: Offer) -> str:
    """The marketplace image for an offer when its requirement names none."""
    if offer.accelerator:
        return _AMD if offer.accelerator.startswith("MI") else _NVIDIA
    return _CPU_ARM if "p" in _features(offer.instance_type) else _CPU


def has_premium_disks(instance_type: str) -> bool:
    """Whether premium SSDs can be attached; Azure refuses them for other sizes."""
    return "s" in _features(instance_type)


def why_unusable(instance_type: str) -> str:
    """Why no replica can run on this size although it is for sale; empty when one can."""
    reasons = (why for name, why in _UNUSABLE.items() if instance_type.startswith(f"Standard_{name}"))
    return next((f"{instance_type} {why}" for why in reasons), "")


def _features(instance_type: str) -> str:
    name = _NAME.match(instance_type)
    return name["features"] if name else ""
