"""Closing a control plane that is to be taken out of its account: what a push made meanwhile, nobody would ever end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from chalice.app import Blueprint

from chalicelib import schedule
from chalicelib.api import schemas, views
from chalicelib.api.problems import Refused
from chalicelib.api.routes import Route, blueprint
from chalicelib.ports import Runtime


def intake(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for `sailplane teardown`."""
    route = partial(Route, path="/v1/intake", answer=schemas.Intake, query=schemas.IntakeQuery, errors=(409, 423))
    return blueprint(
        __name__,
        runtime,
        (
            route("DELETE", handler=close_intake, summary="Make no service for an hour, whoever asks or pushes"),
            route("PUT", handler=open_intake, summary="Make services again, if nobody else has closed it"),
        ),
    )


def close_intake(runtime: Runtime, query: schemas.IntakeQuery) -> schemas.Intake:
    """Asked again, the hour begins anew. Raises `Refused` where nothing can be taken out."""
    _require_deployed(runtime)
    return schemas.Intake(closed_until=views.instant(schedule.close(runtime, query.by)))


def open_intake(runtime: Runtime, query: schemas.IntakeQuery) -> schemas.Intake:
    """Unless somebody else has closed it, too."""
    _require_deployed(runtime)
    schedule.reopen(runtime, query.by)
    return schemas.Intake(closed_until=None)


def _require_deployed(runtime: Runtime) -> None:
    if runtime.schedule is None:
        raise Refused(
            HTTPStatus.CONFLICT, "This control plane runs on your machine: stop it with `sailplane local stop`."
        )
