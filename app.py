"""What Lambda runs. The routes, schedules and events stand in `chalicelib.api.app`, the adapters in `chalicelib.bootstrap`."""

from __future__ import annotations

import functools

from chalicelib.api.app import create_app
from chalicelib.bootstrap import from_environment

# The runtime is built by the first request or event that a function instance gets, and kept for the ones that follow.
app = create_app(functools.cache(from_environment))

# Lambda finds a handler by its name in this module; that of API Gateway is `app` itself.
tick = app.handler_map["tick"]
interrupt = app.handler_map["interrupt"]
relay = app.handler_map["relay"]
machines = app.handler_map["machines"]
