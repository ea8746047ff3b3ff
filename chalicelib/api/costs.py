"""What services cost, and what the control plane does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chalice.app import Blueprint

from chalicelib import cost
from chalicelib.api import schemas
from chalicelib.api.auth import Principal, Reach
from chalicelib.api.lookup import load
from chalicelib.api.routes import Route, blueprint
from chalicelib.api.views import instant
from chalicelib.errors import Unreachable
from chalicelib.lifecycle import budget
from chalicelib.model import Replica, Scope, State
from chalicelib.ports import Runtime


def costs(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for money."""
    look = partial(Route, "GET", scope=Scope.READ)
    return blueprint(
        __name__,
        runtime,
        (
            look(
                "/v1/cost",
                all_costs,
                "What every service costs, and the control plane",
                schemas.Costs,
                reach=Reach.OWN,
            ),
            look(
                "/v1/services/{name}/cost",
                service_cost,
                "What one service costs",
                schemas.ServiceCost,
                reach=Reach.SERVICE,
                errors=(404,),
            ),
        ),
    )


def service_cost(runtime: Runtime, name: str) -> schemas.ServiceCost:
    """One service's bill, with its machines. Raises `NotFound`."""
    return _service(load(runtime, name), runtime.clock.now())


def all_costs(runtime: Runtime, principal: Principal) -> schemas.Costs:
    """The bill of every service that the principal is for; one deleted between two reads is left out."""
    now = runtime.clock.now()
    names = (name for name in runtime.store.service_names() if principal.reaches((name,)))
    states = [state for state in map(runtime.store.load, names) if state]
    return schemas.Costs(
        since=instant(budget.month_at(now)),
        services=tuple(_service(state, now) for state in states),
        control_plane=_control_plane(runtime, states, now),
    )


def _service(state: State, now: float) -> schemas.ServiceCost:
    service, replicas = state.service, state.replicas
    limit = service.spec.budget
    return schemas.ServiceCost(
        name=service.name,
        usd_per_hour=budget.usd_per_hour(replicas),
        usd_this_month=budget.usd_this_month(service, replicas, now),
        usd_month_forecast=budget.usd_forecast(service, replicas, now),
        usd_ever=budget.usd_ever(service, replicas, now),
        max_usd_per_hour=limit.max_usd_per_hour,
        max_usd_per_month=limit.max_usd_per_month,
        replicas=tuple(_replica(replica, now) for replica in replicas),
    )


def _replica(replica: Replica, now: float) -> schemas.ReplicaCost:
    offer = replica.offer
    return schemas.ReplicaCost(
        id=replica.id,
        status=replica.status,
        where=str(offer.location),
        instance_type=offer.instance_type,
        capacity_type=offer.capacity_type,
        created_at=instant(replica.created_at),
        usd_per_hour=budget.usd_per_hour([replica]),
        usd_so_far=budget.usd_of_life(replica, now),
    )


def _control_plane(runtime: Runtime, states: Sequence[State], now: float) -> schemas.ControlPlaneCost:
    """By the model for what there is to look after now; as measured, where something measures."""
    is_billed = runtime.schedule is not None
    parts = cost.month(_fleet(runtime, states)) if is_billed else {}
    measured, message = None, ""
    if runtime.meter is not None:
        try:
            measured = runtime.meter.used(budget.month_at(now), now).usd
        except Unreachable as error:
            message = str(error)
    return schemas.ControlPlaneCost(
        usd_per_month=cost.total(parts).usd,
        usd_per_month_beyond_free=cost.total(parts).beyond(cost.FREE).usd,
        usd_per_month_by_part={part: usage.usd for part, usage in parts.items()},
        usd_this_month_measured=measured,
        message=message if is_billed else "It runs on a machine of your own, and nobody bills it.",
    )


def _fleet(runtime: Runtime, states: Sequence[State]) -> cost.Fleet:
    """Routers that have counted something lately will go on doing so."""
    routers = {load.router_id for state in states for load in state.load if load.on_demand and load.counts}
    return cost.Fleet(
        services=len(states),
        replicas=sum(len(state.replicas) for state in states),
        interval_s=min((state.service.spec.probe.interval_s for state in states), default=10.0),
        routers=len(routers),
        memory=cost.memory(runtime.providers),
    )
