"""The agent's life: lock, listen, start the engine, serve, drain, end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing

import aiohttp
from aiohttp import web
from aiohttp.http import HttpProcessingError

from replica_agent import console, lock
from replica_agent.conda import with_conda
from replica_agent.config import Config, ConfigError
from replica_agent.container import Container
from replica_agent.control import PREFIX, Control
from replica_agent.engine import Engine, free_port
from replica_agent.gate import Gate
from replica_agent.load import EngineMetrics, Load
from replica_agent.log import Log
from replica_agent.metadata import cloud_of
from replica_agent.notice import Notices
from replica_agent.proxy import MAX_HEADER_BYTES, Proxy, client_session
from replica_agent.signatures import Signatures
from replica_agent.times import ControlTime

_ENGINE_GRACE_S = 5.0
_KEEPALIVE_S = 75.0  # longer than a load balancer's 60 s; the server's own hour lets idle clients take all sockets


async def live(config: Config, host_env: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight, stop the engine and return.

    Raises:
        lock.Refused: an agent lives here or has lived here. Nothing was started.
        ConfigError: the port to listen on cannot be had. Nothing was started.
    """
    descriptor = lock.take(config.directory)
    told_to_stop = _on_signal()
    engine_port = config.engine_port or free_port()
    engine_env = _engine_env(config, engine_port)
    container = (
        Container(config.image, config.replica_id, config.directory, config.engine_directory, engine_env)
        if config.image
        else None
    )
    env = {**host_env} if container else {**host_env, **engine_env}
    with closing(Log(config.directory / "replica.log")) as log:
        engine = Engine(
            config.directory,
            config.engine_directory,
            engine_port,
            env,
            log,
            host=config.host,
            container=container,
        )
        await _serve(config, descriptor, engine, log, told_to_stop)


async def _serve(config: Config, descriptor: int, engine: Engine, log: Log, told_to_stop: asyncio.Event) -> None:
    gate = Gate()
    clock = ControlTime()
    async with client_session(config.engine_key) as session, aiohttp.ClientSession() as outside:
        notices = Notices(cloud_of(config, outside), config, outside, log.say)
        metrics = EngineMetrics(engine, session)
        load = Load(gate, metrics)
        control = Control(
            config,
            engine=engine,
            gate=gate,
            load=load,
            notices=notices,
            log=log,
            session=session,
            signatures=Signatures(config.agent_token, clock),
        )
        proxy = Proxy(config, engine=engine, gate=gate, session=session, clock=clock)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await (control if request.path.startswith(PREFIX) else proxy).handle(request)

        runner = web.ServerRunner(_server(handle), shutdown_timeout=0.1)
        site = await _listen(runner, config.host, config.port)
        place = {"pid": os.getpid(), "port": runner.addresses[0][1], "engine_port": engine.port}
        # The engine starts after this line, so a machine with an empty lock file has run nothing of the user's.
        lock.publish(descriptor, {**place, "started_at": time.time()})
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(engine.run(*_scripts(config))),
                tasks.create_task(notices.watch()),
                tasks.create_task(metrics.watch()),
                tasks.create_task(
                    _die_on_interruption(notices) if config.is_local else console.echo(log, sys.stdout.fileno())
                ),
            ]
            await told_to_stop.wait()
            await site.stop()
            await gate.close(config.drain_timeout_s)
            await engine.stop(_ENGINE_GRACE_S)
            for task in background:
                task.cancel()
        await runner.cleanup()


def _scripts(config: Config) -> tuple[str, str]:
    """A laptop has what its owner gave it, an image what is in it; a cloud's machine is made to fit."""
    if config.is_local or config.image:
        return config.setup, config.run
    return with_conda(config.setup), with_conda(config.run)


def _server(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> web.Server:
    return web.Server(
        handle,
        handler_cancellation=True,  # a client that leaves takes its request to the engine with it
        auto_decompress=False,
        access_log=None,  # paths and headers may carry credentials
        logger=_server_log(),
        keepalive_timeout=_KEEPALIVE_S,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


def _server_log() -> logging.Logger:
    """The server's log without malformed requests, half a kilobyte each, which quote what the client sent."""
    log = logging.getLogger("replica_agent.server")
    log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
    return log


async def _listen(runner: web.ServerRunner, host: str, port: int) -> web.TCPSite:
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return site


def _on_signal() -> asyncio.Event:
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    return told_to_stop


async def _die_on_interruption(notices: Notices) -> None:
    """Go as a machine goes that the cloud takes back: everything at once, no last word."""
    await notices.passed()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _engine_env(config: Config, engine_port: int) -> dict[str, str]:
    return {
        "PYTHONUNBUFFERED": "1",  # or a Python engine's log stays empty for its first 8 KB
        **config.env,
        "SAILPLANE_PORT": str(engine_port),
        "SAILPLANE_REPLICA_ID": config.replica_id,
        "SAILPLANE_SERVICE": config.service,
    }
