"""What Lambda runs. The routes, schedules and events stand in `chalicelib.api.app`, the adapters in `chalicelib.bootstrap`."""

from __future__ import annotations

import functools
import logging

from chalicelib.api.app import create_app
from chalicelib.bootstrap import from_environment
from chalicelib.ports import Runtime
from chalicelib.telemetry import log


@functools.cache
def runtime() -> Runtime:
    """Built by the first request or event that a function instance gets, and kept for the ones that follow."""
    built = from_environment()
    log.configure(log.secrets_of(built.settings), logging.getLogger())
    return built


app = create_app(runtime)

# Lambda finds a handler by its name in this module; that of API Gateway is `app` itself.
tick = app.handler_map["tick"]
interrupt = app.handler_map["interrupt"]
relay = app.handler_map["relay"]
machines = app.handler_map["machines"]
