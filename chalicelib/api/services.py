"""Services: create, look at, change, shut down, and ask why."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from chalice.app import Blueprint

from chalicelib import deploying, passes
from chalicelib.api import paging, schemas, views
from chalicelib.api.auth import Principal, Reach
from chalicelib.api.lookup import load, no_service
from chalicelib.api.preconditions import WHATEVER_IT_IS, IfMatch, tag_of
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import NotFound
from chalicelib.model import Event, Scope, State
from chalicelib.ports import Commit, Runtime
from chalicelib.writes import until_unchallenged

if TYPE_CHECKING:
    from chalicelib import spec

# How many events `why` looks back on; each is a decision carried out, with its reason.
DECISIONS_SHOWN = 20


def services(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for services."""
    one = "/v1/services/{name}"
    look = partial(Route, "GET", scope=Scope.READ, reach=Reach.SERVICE)
    change = partial(Route, answer=schemas.Service, scope=Scope.DEPLOY, reach=Reach.SERVICE, tagged=True)
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
            Route(
                "GET",
                "/v1/services",
                list_all,
                "Services with their replicas, by name",
                schemas.Services,
                query=schemas.PageQuery,
                scope=Scope.READ,
                reach=Reach.OWN,
            ),
            look(one, show, "One service with its replicas", schemas.Service, errors=(404,), tagged=True),
            change(
                "PUT", one, update, "Give a service its next version", body=schemas.UpdateService, errors=(404, 412)
            ),
            change("DELETE", one, delete, "Shut a service down", status=HTTPStatus.ACCEPTED, errors=(404, 412)),
            look(
                f"{one}/versions",
                versions,
                "The versions of its YAML, oldest first",
                schemas.Versions,
                query=schemas.VersionsQuery,
                errors=(404,),
            ),
            look(f"{one}/versions/{{number}}", version, "One version of its YAML", schemas.Version, errors=(404,)),
            look(
                f"{one}/events",
                events,
                "What happened, kept for 7 days: the newest page, oldest first; the next page is older",
                schemas.Events,
                query=schemas.EventsQuery,
                errors=(404,),
            ),
            look(f"{one}/why", why, "What would be done now, and the last decisions", schemas.Why, errors=(404,)),
        ),
    )


def create(runtime: Runtime, body: schemas.CreateService) -> schemas.Service:
    """Parse, check that something on offer fits, then write; nothing is written when either fails."""
    parsed = deploying.understood(runtime, body.name, body.yaml, body.envs)
    return _view(runtime, deploying.create(runtime, body.name, body.yaml, parsed))


def list_all(runtime: Runtime, query: schemas.PageQuery, principal: Principal) -> schemas.Services:
    """The services that the principal is for; one deleted between the two reads is left out."""
    visible = (name for name in runtime.store.service_names() if principal.reaches((name,)))
    names, following = paging.page(visible, str, query.cursor, query.limit)
    states = map(runtime.store.load, names)
    return schemas.Services(services=tuple(_view(runtime, state) for state in states if state), next=following)


def show(runtime: Runtime, name: str) -> schemas.Service:
    """One service with its replicas. Raises `NotFound`."""
    return _view(runtime, load(runtime, name))


def update(
    runtime: Runtime, name: str, body: schemas.UpdateService, if_match: IfMatch = WHATEVER_IT_IS
) -> schemas.Service:
    """Write the next version. A YAML that means the same as the current one changes nothing."""
    load(runtime, name)  # an unknown service is said before anything about its YAML
    parsed = deploying.understood(runtime, name, body.yaml, body.envs)
    return _view(runtime, until_unchallenged(partial(_update, runtime, name, body, parsed, if_match)))


def _update(runtime: Runtime, name: str, body: schemas.UpdateService, parsed: spec.Parsed, if_match: IfMatch) -> State:
    state = load(runtime, name)
    deploying.require_alive(state)
    # Before the condition: where what is asked for is so already, an attempt before may have done it, and moved the tag.
    if state.service.spec == parsed.spec:
        runtime.poke(name)
        return state
    if_match.require(tag_of(state.service))
    return deploying.update(runtime, state, body.yaml, parsed)


def delete(runtime: Runtime, name: str, if_match: IfMatch = WHATEVER_IT_IS) -> schemas.Service:
    """Mark the service for shutdown; the passes drain and remove its replicas, then forget it. Asking again is fine."""
    state = until_unchallenged(partial(_delete, runtime, name, if_match))
    runtime.poke(name)
    return _view(runtime, state)


def _delete(runtime: Runtime, name: str, if_match: IfMatch) -> State:
    state = load(runtime, name)
    if state.service.deleting:
        return state
    if_match.require(tag_of(state.service))
    now = runtime.clock.now()
    service = replace(state.service, deleting=True, updated_at=now)
    event = Event(now, "service.deleting", "shutting down at its owner's request")
    runtime.store.commit(name, None, Commit(service=service, events=(event,)))
    return replace(state, service=service)


def versions(runtime: Runtime, name: str, query: schemas.VersionsQuery) -> schemas.Versions:
    """The versions as they were written. Raises `NotFound`."""
    load(runtime, name)
    found = runtime.store.specs(name, start=int(query.cursor or 1), limit=query.limit + 1)
    following = str(found[query.limit].number) if len(found) > query.limit else None
    return schemas.Versions(versions=tuple(map(views.version, found[: query.limit])), next=following)


def version(runtime: Runtime, name: str, number: str) -> schemas.Version:
    """One version as it was written. Raises `NotFound`."""
    load(runtime, name)
    if not re.fullmatch("[0-9]{1,6}", number):
        raise NotFound(f"Service {name!r} has no version {number!r}: versions are numbered from 1.")
    return views.version(runtime.store.spec(name, int(number)))


def events(runtime: Runtime, name: str, query: schemas.EventsQuery) -> schemas.Events:
    """A service that is gone keeps its events for a while, so only a name without either is not found."""
    after = query.after.timestamp() if query.after else 0.0
    upto = paging.place(query.cursor)
    found = runtime.store.events_page(name, limit=query.limit + 1, upto=upto, after=after, kind=query.kind)
    if not found and runtime.store.load(name) is None and not runtime.store.events(name, limit=1):
        raise no_service(runtime, name)
    shown, older = paging.cut(found, query.limit)
    return schemas.Events(events=tuple(map(views.event, reversed(shown))), next=older)


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
