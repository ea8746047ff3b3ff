"""`sailplane cost`: what services cost, and what the control plane does."""

from __future__ import annotations

import click

from chalicelib.api.schemas import ControlPlaneCost, ReplicaCost, ServiceCost
from sailplane.cli import connection, output, prices
from sailplane.cli.client import Client
from sailplane.cli.output import Output

_SERVICES = ("SERVICE", "USD/HOUR", "THIS MONTH", "FORECAST", "EVER", "BUDGET")
_REPLICAS = ("REPLICA", "STATUS", "WHERE", "MACHINE", "BOUGHT", "SINCE", "USD/HOUR", "SO FAR")
_MONEY = frozenset({"USD/HOUR", "THIS MONTH", "FORECAST", "EVER", "SO FAR"})


@click.command("cost")
@click.argument("name", required=False)
@connection.client
@output.options
def command(out: Output, *, client: Client, name: str | None) -> None:
    """Show what all services cost and the control plane itself, or what service NAME does, machine by machine.

    US dollars; months are UTC's. A machine is billed from when it is asked for until it is seen gone, at the price it was
    taken at; disks, addresses and traffic are not counted. FORECAST is the month's bill if what runs now runs on.
    """
    if name:
        one = client.cost(name)
        _show_services(out, (one,))
        if one.replicas:
            out.data("")
            out.table(_REPLICAS, [_replica_row(replica) for replica in one.replicas], right=_MONEY)
        out.document(one.model_dump(mode="json"))
        return
    costs = client.costs()
    if costs.services:
        _show_services(out, costs.services)
        out.data("")
    out.data(_control_plane(costs.control_plane))
    out.document(costs.model_dump(mode="json"))
    if costs.services:
        dearest = max(costs.services, key=lambda service: service.usd_per_hour)
        out.next(f"sailplane cost {dearest.name}")


def _show_services(out: Output, services: tuple[ServiceCost, ...]) -> None:
    rows = [_service_row(service) for service in services]
    if len(services) > 1:
        rows.append(_total(services))
    out.table(_SERVICES, rows, right=_MONEY)


def _service_row(service: ServiceCost) -> tuple[str, ...]:
    limits = [(service.max_usd_per_hour, "hour"), (service.max_usd_per_month, "month")]
    budget = ", ".join(f"${limit:g} a {unit}" for limit, unit in limits if limit is not None)
    return (service.name, *_sums((service,)), budget or "-")


def _total(services: tuple[ServiceCost, ...]) -> tuple[str, ...]:
    return ("total", *_sums(services), "")


def _sums(services: tuple[ServiceCost, ...]) -> tuple[str, ...]:
    fields = ("usd_per_hour", "usd_this_month", "usd_month_forecast", "usd_ever")
    return tuple(f"{sum(getattr(service, field) for service in services):,.2f}" for field in fields)


def _replica_row(replica: ReplicaCost) -> tuple[str, ...]:
    return (
        replica.id,
        replica.status,
        replica.where,
        replica.instance_type,
        replica.capacity_type.lower().replace("_", " "),
        f"{replica.created_at.astimezone():%Y-%m-%d %H:%M}",
        prices.usd(replica.usd_per_hour),
        f"{replica.usd_so_far:,.2f}",
    )


def _control_plane(cost: ControlPlaneCost) -> str:
    if not cost.usd_per_month_by_part:
        return f"Control plane: $0.00 a month. {cost.message or 'No service, so every schedule is off.'}"
    parts = ", ".join(f"{part} ${usd:.2f}" for part, usd in cost.usd_per_month_by_part.items())
    lines = [
        f"Control plane: about ${cost.usd_per_month:.2f} a month ({parts});",
        f"               ${cost.usd_per_month_beyond_free:.2f} after what AWS leaves free in every account.",
    ]
    if cost.usd_this_month_measured is not None:
        lines.append(
            f"               ${cost.usd_this_month_measured:.2f} used since the month began, by its own count."
        )
    return "\n".join([*lines, *filter(None, [cost.message])])
