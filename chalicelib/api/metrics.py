"""What Prometheus collects: services as they stand, in its own form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from chalice.app import Blueprint

from chalicelib.api import schemas
from chalicelib.api.auth import Principal, Reach
from chalicelib.api.lookup import load
from chalicelib.api.routes import Route, blueprint
from chalicelib.model import Scope
from chalicelib.ports import Runtime
from chalicelib.telemetry import prometheus
from chalicelib.telemetry.measures import measure


def metrics(runtime: Callable[[], Runtime]) -> Blueprint:
    """The routes for whoever collects."""
    look = partial(Route, "GET", answer=schemas.Text, scope=Scope.READ, media_type=prometheus.MEDIA_TYPE)
    return blueprint(
        __name__,
        runtime,
        (
            look("/metrics", all_metrics, "Every service's metrics, for Prometheus", reach=Reach.OWN),
            look(
                "/v1/services/{name}/metrics",
                service_metrics,
                "One service's metrics, for Prometheus",
                reach=Reach.SERVICE,
                errors=(404,),
            ),
        ),
    )


def all_metrics(runtime: Runtime, principal: Principal) -> schemas.Text:
    """Of every service that the principal is for; one deleted between the reads is left out."""
    tables = {table.service: table for table in runtime.store.tables()}
    names = (name for name in runtime.store.service_names() if principal.reaches((name,)))
    states = [state for state in map(runtime.store.load, names) if state]
    now = runtime.clock.now()
    return schemas.Text(prometheus.exposition([measure(one, tables.get(one.service.name), now) for one in states]))


def service_metrics(runtime: Runtime, name: str) -> schemas.Text:
    """Of one. Raises `NotFound`."""
    state = load(runtime, name)
    return schemas.Text(prometheus.exposition([measure(state, runtime.store.table(name), runtime.clock.now())]))
