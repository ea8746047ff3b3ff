"""What can be had on this machine: processes, for nothing."""

from __future__ import annotations

import os

import psutil

from chalicelib.model import CapacityType, Location, Offer

LOCATION = Location("local", "laptop")
INSTANCE_TYPE = "process"


def offers(vcpus: float | None = None, memory_gib: float | None = None) -> tuple[Offer, ...]:
    """One process on this machine, on demand and as spot (which `preempt` can take back).

    Every replica may use the whole machine; `vcpus` and `memory_gib` default to what it has.
    """
    return tuple(
        Offer(
            location=LOCATION,
            instance_type=INSTANCE_TYPE,
            vcpus=vcpus if vcpus is not None else float(os.cpu_count() or 1),
            memory_gib=memory_gib if memory_gib is not None else round(psutil.virtual_memory().total / 2**30, 1),
            capacity_type=capacity_type,
            price_usd_per_hour=0.0,
        )
        for capacity_type in (CapacityType.ON_DEMAND, CapacityType.SPOT)
    )
