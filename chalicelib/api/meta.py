"""About the control plane itself."""

from __future__ import annotations

from collections.abc import Callable

from chalice.app import Blueprint, Chalice

from chalicelib import __version__
from chalicelib.api import openapi
from chalicelib.api.auth import Caller, Reach
from chalicelib.api.routes import Route, blueprint
from chalicelib.api.schemas import Health, Info, OpenApi
from chalicelib.model import Scope
from chalicelib.ports import Runtime


def meta(runtime: Callable[[], Runtime], app: Chalice) -> Blueprint:
    """Routes that describe the control plane. `app` is walked when its document is asked for, not before."""

    def document(_runtime: Runtime) -> OpenApi:
        return OpenApi(openapi.document(app))

    return blueprint(
        __name__,
        runtime,
        (
            Route("GET", "/healthz", health, "Whether the control plane answers", Health, caller=Caller.ANYONE),
            Route("GET", "/openapi.json", document, "This API, described", OpenApi, caller=Caller.ANYONE),
            Route(
                "GET",
                "/v1/info",
                info,
                "Which control plane this is",
                Info,
                scope=Scope.READ,
                reach=Reach.NOTHING,
            ),
        ),
    )


def health(_runtime: Runtime) -> Health:
    """That the runtime could be built; the store is not asked."""
    return Health()


def info(runtime: Runtime) -> Info:
    """What a client needs to know before it plans."""
    settings = runtime.settings
    return Info(
        version=__version__,
        deployment=settings.deployment,
        providers=tuple(sorted(runtime.providers)),
        edge_url=settings.edge_url,
    )
