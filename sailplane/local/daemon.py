"""The local stack under one supervising process.

The control API and the pass loop are threads of it. MiniStack, the edge router and the boxed clouds are processes that it
starts and ends. Replicas of the local provider are processes that outlive it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from chalice import Chalice

from chalicelib import bootstrap, config, passes
from chalicelib.api.app import create_app
from chalicelib.config import Config
from chalicelib.errors import Invalid, SailplaneError, Unreachable
from chalicelib.ports import Runtime
from chalicelib.providers.local.offers import LOCATION
from sailplane.local import loop
from sailplane.local.clouds import Clouds, require_checkout
from sailplane.local.edge import Router
from sailplane.local.gateway import Gateway
from sailplane.local.home import Home, Running
from sailplane.local.ministack import MiniStack, environment
from sailplane.local.processes import ProcessId

HOST = "127.0.0.1"
START_TIMEOUT_S = 15.0
SUPERVISE_EVERY_S = 0.2
LEASE_TTL_S = 20.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the stack listens; 0 takes any free port."""

    api: int
    edge: int


def serve(
    home: Home, cache: Path, ports: Ports, announce: Callable[[Running], None], *, clouds: Sequence[str] = ()
) -> None:
    """Run the stack until SIGINT or SIGTERM, then stop it: passes, router, API, database, in this order. Replicas stay.

    Args:
        home: where the stack keeps its things.
        cache: where MiniStack is installed on first use.
        ports: where it listens.
        announce: told once, when everything serves.
        clouds: which clouds to stand up on this machine beside the local provider, see `clouds.NAMES`.

    Raises:
        Exists: this home's stack runs already.
        Invalid: a port is taken, or clouds are wanted where there are none. Nothing was started.
        Unreachable: the database or the router does not start, or the database ended and does not start again.
    """
    if clouds:
        require_checkout()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        stack.enter_context(home.claimed())
        api_socket = stack.enter_context(listening(ports.api, "--api-port"))
        edge_socket = stack.enter_context(listening(ports.edge, "--edge-port"))
        api_url, edge_url = _url(api_socket), _url(edge_socket)
        database = stack.enter_context(MiniStack(environment(cache), home.database))
        agenda = loop.Agenda(bootstrap.SystemClock())
        boxed = stack.enter_context(Clouds(clouds, home.clouds, home.log)) if clouds else None
        told = _configuration(home, database.url, api_url, edge_url, boxed)
        bootstrap.create_table(told)
        runtime = _for_this_machine(bootstrap.build(told, agenda.poke), boxed)
        stack.enter_context(_api_served(runtime, api_socket))
        router = stack.enter_context(Router(edge_socket, _router_env(home, api_url), home.local))
        stack.enter_context(_passes_run(agenda, partial(_turn, runtime)))
        stack.callback(_ignore_signals)
        _wait_for_router(edge_url)
        if boxed:
            boxed.deliver(partial(_interrupt, create_app(lambda: runtime)))
        home.publish(running := Running(ProcessId.of(os.getpid()), router.id, api_url, edge_url, tuple(clouds)))
        with suppress(KeyboardInterrupt):
            announce(running)
            _supervise(home, database, router, running, boxed)


def _turn(runtime: Runtime, only: loop.Turn, told: Callable[[passes.Report], None]) -> None:
    """What the functions do when they are woken: pushes beside everything, or before the service that they may be for."""
    pushes = runtime.spawn("pushes", partial(passes.deploy_pushes, runtime, only))
    if only is not None:
        pushes.result()
    passes.tick(runtime, only, told)
    for report in pushes.result():
        for failure in report.failures:
            _log.warning("%s: %s", report.service or "the deployment", failure)


def _for_this_machine(runtime: Runtime, boxed: Clouds | None) -> Runtime:
    """There is no second control plane on a laptop: a lease is only in the way of the one that follows a killed one."""
    runtime = replace(runtime, settings=replace(runtime.settings, lease_ttl_s=LEASE_TTL_S))
    return replace(runtime, providers=boxed.breakable(runtime.providers)) if boxed else runtime


def _interrupt(app: Chalice, event: Mapping[str, Any]) -> None:
    """What EventBridge does with a cloud's event: calls the function of its rule."""
    try:
        app.handler_map["interrupt"](event, None)
    except SailplaneError as error:
        _log.warning("An event was not handled: %s", error)


@contextmanager
def listening(port: int, option: str) -> Iterator[socket.socket]:
    """A socket that listens on this machine only. Raises `Invalid`, naming `option`, when the port is taken."""
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        advice = f"Stop what uses it, or choose another with {option} (0 takes any free one)."
        raise Invalid(f"Cannot listen on port {port}: {error.strerror}. {advice}") from error
    with listener:
        yield listener


def _wait_for_router(edge_url: str) -> None:
    """One request: it waits in our socket's queue until the router takes it."""
    try:
        httpx.get(edge_url, timeout=START_TIMEOUT_S).raise_for_status()
    except httpx.HTTPError as error:
        raise Unreachable(f"The edge router does not start ({error}); its own messages stand above.") from error


def _supervise(home: Home, database: MiniStack, router: Router, running: Running, boxed: Clouds | None) -> None:
    """Keep database and router up until interrupted.

    Raises `Unreachable` or `Invalid` when the database cannot be, or boxed clouds have ended.
    """
    while True:
        database.keep_up()
        if boxed:
            boxed.check()
        if router.keep_up():
            home.publish(replace(running, router=router.id))
        time.sleep(SUPERVISE_EVERY_S)


def _configuration(home: Home, database_url: str, api_url: str, edge_url: str, boxed: Clouds | None) -> Config:
    keys = home.secrets()
    return config.from_environment(
        {
            "SAILPLANE_PROVIDERS": ",".join(["local", *(boxed.endpoints if boxed else ())]),
            "SAILPLANE_CONTROL_URL": api_url,
            "SAILPLANE_TABLE": "sailplane",
            "SAILPLANE_DYNAMODB_ENDPOINT": database_url,
            "SAILPLANE_SSM_ENDPOINT": database_url,
            "SAILPLANE_EDGE_URL": edge_url,
            "SAILPLANE_LOCAL_ROOT": str(home.replicas),
            "SAILPLANE_CATALOG": str(home.catalog),
            "SAILPLANE_SNAPSHOT": str(home.snapshot),
            "SAILPLANE_ADMIN_KEY": keys.admin_key,
            "SAILPLANE_ROUTER_TOKEN": keys.router_token,
            "SAILPLANE_AGENT_KEY": keys.agent_key,
            "SAILPLANE_DEPLOYMENT": "local",
            "AWS_REGION": "us-east-1",
            **(boxed.environment if boxed else {}),
        }
    )


def _router_env(home: Home, api_url: str) -> dict[str, str]:
    """All of the router's environment: nothing of the user's reaches it."""
    return {
        "SAILPLANE_CONTROL_URL": api_url,
        "SAILPLANE_ROUTER_TOKEN": home.secrets().router_token,
        "SAILPLANE_REFRESH_S": "1",
        "SAILPLANE_ROUTER_ID": "edge-local",
        "SAILPLANE_SNAPSHOT_URL": home.snapshot.as_uri(),
        "SAILPLANE_LOCATION": str(LOCATION),
    }


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"


@contextmanager
def _api_served(runtime: Runtime, listener: socket.socket) -> Iterator[None]:
    """Serve the control API while the body runs."""
    gateway = Gateway(partial(create_app, lambda: runtime))
    told = uvicorn.Config(
        gateway,
        lifespan="off",
        log_config=None,
        log_level="error",  # a warning for each malformed request would let anybody fill the disk
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(told)
    thread = threading.Thread(target=server.run, args=([listener],), name="api")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        gateway.close()


@contextmanager
def _passes_run(agenda: loop.Agenda, tick: loop.Tick) -> Iterator[None]:
    """Run the pass loop while the body runs."""
    thread = threading.Thread(target=loop.run, args=(agenda, tick), name="passes")
    thread.start()
    try:
        yield
    finally:
        agenda.close()
        thread.join()


def _ignore_signals() -> None:
    """A second signal must not tear the orderly stop that the first one began."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
