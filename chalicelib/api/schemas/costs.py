"""What is said about money."""

from __future__ import annotations

from pydantic import AwareDatetime

from chalicelib.api.schemas.fields import Answer
from chalicelib.model import CapacityType, ReplicaStatus


class ReplicaCost(Answer):
    """A machine's price, and what it has cost since it was asked for."""

    id: str
    status: ReplicaStatus
    where: str
    instance_type: str
    capacity_type: CapacityType
    created_at: AwareDatetime
    usd_per_hour: float
    usd_so_far: float


class ServiceCost(Answer):
    """A service's machines as billed by their clouds, from the request for each to its end; months are UTC's.

    `usd_month_forecast` is the month's if what runs now runs on. Disks, addresses and traffic are not counted.
    """

    name: str
    usd_per_hour: float
    usd_this_month: float
    usd_month_forecast: float
    usd_ever: float
    max_usd_per_hour: float | None
    max_usd_per_month: float | None
    replicas: tuple[ReplicaCost, ...]


class ControlPlaneCost(Answer):
    """What the control plane itself costs.

    By the model of docs/cost.md for the services of this moment, without and with what AWS leaves free for ever; and as
    measured since the month began, null where nothing measures.
    """

    usd_per_month: float
    usd_per_month_beyond_free: float
    usd_per_month_by_part: dict[str, float]
    usd_this_month_measured: float | None
    message: str


class Costs(Answer):
    """What everything costs, since the month began. `control_plane` is null for a key that is for some services only."""

    since: AwareDatetime
    services: tuple[ServiceCost, ...]
    control_plane: ControlPlaneCost | None
