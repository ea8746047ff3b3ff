"""The agent's life: lock, listen, start the engine, serve, drain, end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress

import aiohttp

from replica_agent import console, lock
from replica_agent.conda import with_conda
from replica_agent.config import Config, ConfigError, forget_secrets
from replica_agent.container import Container
from replica_agent.control import Control
from replica_agent.door import Door
from replica_agent.engine import Engine, free_port
from replica_agent.gate import Gate
from replica_agent.heads import OF_THE_HOP, REWRITTEN
from replica_agent.load import EngineMetrics, Load
from replica_agent.log import Log
from replica_agent.metadata import cloud_of
from replica_agent.notice import Notices
from replica_agent.quota import Quotas
from replica_agent.registry import Registry
from replica_agent.secrets import Refused, with_secrets
from replica_agent.server import Behind, Server
from replica_agent.session import client_session
from replica_agent.signatures import Signatures
from replica_agent.times import ControlTime
from replica_agent.upstream import Upstream

_ENGINE_GRACE_S = 5.0
# Each request takes two sockets; what systemd allows (1,024) is full with 500 streams. The engine inherits it, and many ask
# for as much themselves (vLLM for 65,535).
_MOST_FILES = 65_536


async def live(config: Config, host_env: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight, stop the engine and return.

    Raises:
        lock.Refused: an agent lives here or has lived here. Nothing was started.
        ConfigError: the port to listen on cannot be had. Nothing was started.
    """
    descriptor = lock.take(config.directory)
    _allow_many_files()
    with closing(Log(config.directory / "replica.log")) as log:
        refused = ""
        try:
            config = await with_secrets(config, os.urandom(16).hex(), log.say)
        except Refused as error:
            refused = str(error)
        told_to_stop = _on_signal()
        engine_port = config.engine_port or free_port()
        engine_env = _engine_env(config, engine_port)
        container = (
            Container(
                config.image,
                config.replica_id,
                config.directory,
                config.engine_directory,
                engine_env,
                frozenset(config.secrets),
                Registry.named_in({**config.env, **config.secrets}, config.directory),
            )
            if config.image
            else None
        )
        env = {**host_env, **({} if container else engine_env), **config.secrets}
        engine = Engine(
            config.directory,
            config.engine_directory,
            engine_port,
            env,
            log,
            host=config.host,
            container=container,
        )
        if refused:
            engine.give_up(refused)
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
        door = Door(config, engine, gate, Quotas(time.monotonic), clock)
        server = Server(_behind(config, engine, gate, door, control))
        try:
            port = await server.listen(config.host, config.port)
        except OSError as error:
            raise ConfigError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
        place = {"pid": os.getpid(), "port": port, "engine_port": engine.port}
        # The engine starts after this line, so a machine with an empty lock file has run nothing of the user's.
        lock.publish(descriptor, {**place, "started_at": time.time()})
        with suppress(OSError):  # a full disk costs the log, not the replica
            forget_secrets(config.path)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(engine.run(*_scripts(config))),
                tasks.create_task(notices.watch()),
                tasks.create_task(metrics.watch()),
                tasks.create_task(server.watch()),
                tasks.create_task(
                    _die_on_interruption(notices) if config.is_local else console.echo(log, sys.stdout.fileno())
                ),
            ]
            await told_to_stop.wait()
            server.stop_listening()
            await gate.close(config.drain_timeout_s)
            await engine.stop(_ENGINE_GRACE_S)
            for task in background:
                task.cancel()
        await server.close()


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _scripts(config: Config) -> tuple[str, str]:
    """A laptop has what its owner gave it, an image what is in it; a cloud's machine is made to fit."""
    if config.is_local or config.image:
        return config.setup, config.run
    return with_conda(config.setup), with_conda(config.run)


def _behind(config: Config, engine: Engine, gate: Gate, door: Door, control: Control) -> Behind:
    """What clients show routers is worth nothing to the engine, or worth too much to be shown to it."""
    shown = {b"authorization", b"x-api-key"} if config.access == "required" else set()
    return Behind(
        door=door,
        gate=gate,
        upstream=Upstream(engine.port, time.monotonic),
        engine_host=b"127.0.0.1:%d" % engine.port,
        control=control.handle,
        dropped=OF_THE_HOP | REWRITTEN | shown | ({b"authorization"} if config.engine_key else set()),
        credentials=f"Authorization: Bearer {config.engine_key}\r\n".encode() if config.engine_key else b"",
    )


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
