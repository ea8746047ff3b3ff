"""The control API over real HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from chalicelib.api.app import create_app
from chalicelib.ports import Runtime
from sailplane.local.gateway import Gateway
from tests.waiting import until


@contextmanager
def served(listener: socket.socket, runtime: Runtime) -> Iterator[None]:
    """Serve the API on `listener` while the body runs."""
    gateway = Gateway(partial(create_app, lambda: runtime), threads=2)
    server = uvicorn.Server(uvicorn.Config(gateway, lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],), name="api")
    thread.start()
    try:
        until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join()
        gateway.close()
