"""Services: create, look at, change, shut down, and ask why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from chalice.app import Blueprint

from chalicelib import deploying, passes, spec
from chalicelib.api import schemas, views
from chalicelib.api.auth import Principal, Reach
from chalicelib.api.lookup import load, no_service
from chalicelib.api.routes import Route, blueprint
from chalicelib.api.writes import until_unchallenged
from chalicelib.model import Event, Scope, State
from chalicelib.ports import Commit, Runtime

# How many events `why` looks back on; each is a decision carried out, with its reason.
DECISIONS_SHOWN = 20


def services(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for services."""
    one = "/v1/services/{name}"
    look = partial(Route, "GET", scope=Scope.READ, reach=Reach.SERVICE)
    change = partial(Route, answer=schemas.Service, scope=Scope.DEPLOY, reach=Reach.SERVICE)
    return blueprint(
        __name__,
        runtime,
        (
            change(
                "POST",
                "/v1/services",
                create,
                "Create a service from its YAML",
                status=HTTPStatus.CREATED,
                body=schemas.CreateService,
                errors=(409,),
            ),
            Route("GET", "/v1/services", list_all, "All services", schemas.Services, scope=Scope.READ, reach=Reach.OWN),
            look(one, show, "One service with its replicas", schemas.Service, errors=(404,)),
            change(
                "PUT", one, update, "Give a service its next version", body=schemas.UpdateService, errors=(404, 412)
            ),
            change("DELETE", one, delete, "Shut a service down", status=HTTPStatus.ACCEPTED, errors=(404, 412)),
            look(f"{one}/versions", versions, "Every version of its YAML", schemas.Versions, errors=(404,)),
            look(
                f"{one}/events",
                events,
                "What happened, kept for 7 days",
                schemas.Events,
                query=schemas.EventsQuery,
                errors=(404,),
            ),
            look(f"{one}/why", why, "What would be done now, and the last decisions", schemas.Why, errors=(404,)),
        ),
    )


def create(runtime: Runtime, body: schemas.CreateService) -> schemas.Service:
    """Parse, check that something on offer fits, then write; nothing is written when either fails."""
    parsed = deploying.understood(runtime, body.yaml, body.envs)
    return _view(runtime, deploying.create(runtime, body.name, body.yaml, parsed))


def list_all(runtime: Runtime, principal: Principal) -> schemas.Services:
    """Every service that the principal is for; one deleted between the two reads is left out."""
    names = (name for name in runtime.store.service_names() if principal.reaches((name,)))
    states = map(runtime.store.load, names)
    return schemas.Services(services=tuple(_view(runtime, state) for state in states if state))


def show(runtime: Runtime, name: str) -> schemas.Service:
    """One service with its replicas. Raises `NotFound`."""
    return _view(runtime, load(runtime, name))


def update(runtime: Runtime, name: str, body: schemas.UpdateService) -> schemas.Service:
    """Write the next version. A YAML that means the same as the current one changes nothing."""
    load(runtime, name)  # an unknown service is said before anything about its YAML
    parsed = deploying.understood(runtime, body.yaml, body.envs)
    return _view(runtime, until_unchallenged(partial(_update, runtime, name, body, parsed)))


def _update(runtime: Runtime, name: str, body: schemas.UpdateService, parsed: spec.Parsed) -> State:
    state = load(runtime, name)
    deploying.require_alive(state)
    if state.service.spec == parsed.spec:
        runtime.poke(name)
        return state
    return deploying.update(runtime, state, body.yaml, parsed)


def delete(runtime: Runtime, name: str) -> schemas.Service:
    """Mark the service for shutdown; the passes drain and remove its replicas, then forget it. Asking again is fine."""
    state = until_unchallenged(partial(_delete, runtime, name))
    runtime.poke(name)
    return _view(runtime, state)


def _delete(runtime: Runtime, name: str) -> State:
    state = load(runtime, name)
    if state.service.deleting:
        return state
    now = runtime.clock.now()
    service = replace(state.service, deleting=True, updated_at=now)
    event = Event(now, "service.deleting", "shutting down at its owner's request")
    runtime.store.commit(name, None, Commit(service=service, events=(event,)))
    return replace(state, service=service)


def versions(runtime: Runtime, name: str) -> schemas.Versions:
    """Every version as it was written. Raises `NotFound`."""
    load(runtime, name)
    return schemas.Versions(versions=tuple(views.version(version) for version in runtime.store.specs(name)))


def events(runtime: Runtime, name: str, query: schemas.EventsQuery) -> schemas.Events:
    """A service that is gone keeps its events for a while, so only a name without either is not found."""
    after = query.after.timestamp() if query.after else 0.0
    found = runtime.store.events(name, limit=query.limit, after=after, kind=query.kind)
    if not found and runtime.store.load(name) is None and not runtime.store.events(name, limit=1):
        raise no_service(runtime, name)
    return schemas.Events(events=tuple(views.event(event) for event in found))


def why(runtime: Runtime, name: str) -> schemas.Why:
    """What the next passes would do, what the last ones did, and which refusals hold them back. Raises `NotFound`."""
    fingerprint = load(runtime, name).service.spec.fingerprint
    decisions = runtime.store.events(name, limit=DECISIONS_SHOWN)
    refusals = runtime.store.unavailable(runtime.clock.now())
    return schemas.Why(
        now=passes.preview(runtime, name),
        decisions=tuple(views.event(event) for event in decisions),
        unavailable=tuple(views.unavailable(one) for one in refusals if one.fingerprint in ("", fingerprint)),
    )


def _view(runtime: Runtime, state: State) -> schemas.Service:
    history = runtime.store.history(state.service.name)
    shown = views.service(state, history, runtime.settings.edge_url, runtime.clock.now())
    missing = passes.not_enabled(runtime, state)
    return shown.model_copy(update={"message": "; ".join((shown.message, *missing))}) if missing else shown
