"""Single replicas: read a log, drain, and break on purpose."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from chalice.app import Blueprint

from chalicelib import lifecycle
from chalicelib.api import schemas
from chalicelib.api.auth import Reach
from chalicelib.api.lookup import find, load
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Invalid, NotFound
from chalicelib.model import Event, Reason, Replica, ReplicaStatus, Scope
from chalicelib.ports import Commit, FaultInjector, Runtime
from chalicelib.writes import until_unchallenged


def replicas(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for replicas. `{replica}` is its id, or an end of it that no other replica shares."""
    one = "/v1/services/{name}/replicas/{replica}"
    action = partial(
        Route,
        "POST",
        answer=schemas.Accepted,
        status=HTTPStatus.ACCEPTED,
        scope=Scope.DEPLOY,
        reach=Reach.SERVICE,
    )
    return blueprint(
        __name__,
        runtime,
        (
            Route(
                "GET",
                f"{one}/log",
                log,
                "The last lines of a replica's log",
                schemas.Log,
                query=schemas.LogQuery,
                errors=(404,),
                scope=Scope.READ,
                reach=Reach.SERVICE,
            ),
            action(f"{one}/drain", drain, "Take a replica out of use; it is replaced", errors=(404, 412, 422)),
            action(
                f"{one}/preempt",
                preempt,
                "Interrupt a replica's machine with notice, as a cloud would",
                query=schemas.PreemptQuery,
                errors=(404, 422),
            ),
            action(f"{one}/kill", kill, "Take a replica's machine without notice", errors=(404, 422)),
        ),
    )


def log(runtime: Runtime, name: str, replica: str, query: schemas.LogQuery) -> schemas.Log:
    """What the agent says or, when it is silent, what its provider kept. Works for replicas that are gone."""
    record = _past_or_present(runtime, name, replica)
    text = None
    if record.url and record.status is not ReplicaStatus.TERMINATED:
        text = runtime.prober.read_log(record, query.tail)
    provider = runtime.providers.get(record.offer.location.provider)
    if text is None and provider:
        text = provider.read_log(record.id, record.instance_id, query.tail)
    if text is None:
        raise NotFound(
            f"Replica {record.id} ({record.status}) has no log: its agent does not answer and none was kept."
        )
    return schemas.Log(replica=record.id, log=text)


def drain(runtime: Runtime, name: str, replica: str) -> schemas.Accepted:
    """Unroute the replica, let it finish, remove it. One that is leaving already is left to it."""
    record = until_unchallenged(partial(_drain, runtime, name, replica))
    runtime.prober.drain(record)
    runtime.poke(name)
    return schemas.Accepted(replica=record.id, action="drain")


def _drain(runtime: Runtime, name: str, wanted: str) -> Replica:
    replica = find(name, load(runtime, name).replicas, wanted)
    if not replica.status.is_active:
        return replica
    now = runtime.clock.now()
    draining = lifecycle.moved(replica, ReplicaStatus.DRAINING, now, reason=Reason.USER)
    event = Event(now, "replica.draining", f"{replica.id}: drained at its owner's request", replica.id)
    runtime.store.commit(name, None, Commit(replicas=(draining,), events=(event,)))
    return draining


def preempt(runtime: Runtime, name: str, replica: str, query: schemas.PreemptQuery) -> schemas.Accepted:
    """Give the replica's machine notice. Raises `Invalid` when its provider cannot."""
    record, provider = _breakable(runtime, name, replica)
    provider.preempt(record.id, query.notice_s)
    runtime.poke(name)
    return schemas.Accepted(replica=record.id, action="preempt")


def kill(runtime: Runtime, name: str, replica: str) -> schemas.Accepted:
    """Take the replica's machine now. Raises `Invalid` when its provider cannot, `NotFound` when it has none."""
    record, provider = _breakable(runtime, name, replica)
    provider.kill(record.id)
    runtime.poke(name)
    return schemas.Accepted(replica=record.id, action="kill")


def _breakable(runtime: Runtime, name: str, wanted: str) -> tuple[Replica, FaultInjector]:
    replica = find(name, load(runtime, name).replicas, wanted)
    place = replica.offer.location.provider
    provider: object = runtime.providers.get(place)
    if not isinstance(provider, FaultInjector):
        raise Invalid(
            f"Replica {replica.id} runs on {place!r}, which cannot be told to fail. `local` and boxed clouds can."
        )
    return replica, provider


def _past_or_present(runtime: Runtime, name: str, wanted: str) -> Replica:
    """Live replicas first: an end of an id that only one of them has is that one's."""
    live = load(runtime, name).replicas
    try:
        return find(name, live, wanted)
    except NotFound:
        return find(name, runtime.store.history(name), wanted)
