"""`sailplane local`: the control plane on this machine."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from chalicelib.errors import Invalid, Unreachable
from chalicelib.providers.local import interruption
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.down import shut_down
from sailplane.cli.failures import NotRunning
from sailplane.cli.output import Output
from sailplane.local.home import Home, Running

STOP_TIMEOUT_S = 60.0
POLL_S = 0.1


def _clouds(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        return ()
    from sailplane.local.clouds import NAMES, require_checkout  # noqa: PLC0415 - costs 200 ms, which only this option need pay

    names = tuple(dict.fromkeys(part for each in ",".join(values).split(",") if (part := each.strip())))
    if unknown := [name for name in names if name not in NAMES]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(NAMES)}")
    try:
        require_checkout()  # before the rest of the stack is started for nothing
    except Invalid as error:
        raise click.UsageError(str(error)) from error
    return names


@click.group("local")
def command() -> None:
    """Start, stop and inspect the control plane on this machine."""


@command.command()
@click.option("--detach", is_flag=True, help="Return when everything serves, and leave it running.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=7480, show_default=True, help="0 = any free one.")
@click.option("--edge-port", type=click.IntRange(0, 65535), default=7490, show_default=True, help="0 = any free one.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: Path.home() / ".cache" / "sailplane",
    envvar="SAILPLANE_CACHE",
    show_envvar=True,
    show_default="~/.cache/sailplane",
    help="Where tools are installed on first use.",
)
@click.option(
    "--clouds",
    metavar="NAMES",
    multiple=True,
    callback=_clouds,
    help="Stand up aws, gcp, azure (comma-separated) on this machine too; needs a checkout.",
)
@connection.home
@output.options
def start(
    out: Output,
    *,
    home: Home,
    cache: Path,
    detach: bool,
    api_port: int,
    edge_port: int,
    clouds: tuple[str, ...],
) -> None:
    """Start the control API, the edge router, the database and the pass loop.

    They serve on 127.0.0.1 only, until Ctrl-C or `sailplane local stop`. One that runs already is left as it is, and that
    is no error, unless it lacks a cloud that is asked for.

    With --clouds, services can be tried on several clouds without an account: their real SDKs talk to stand-ins, whose
    machines are processes of this machine and end with the stack.
    """
    if running := home.running():
        if missing := [name for name in clouds if name not in running.clouds]:
            raise Invalid(
                f"The local stack is running already, without {', '.join(missing)}. Stop it with `sailplane local stop` first."
            )
        out.message("The local stack is running already.")
    elif detach:
        running = _start_detached(out, home, cache, (api_port, edge_port), clouds)
    else:
        _serve(out, home, cache, (api_port, edge_port), clouds)
        return
    _announce(out, home, running)


@command.command()
@click.option("--keep", is_flag=True, help="Leave services and replicas as they are; the next start finds them again.")
@click.option("--down", is_flag=True, help="Shut all services down first.")
@connection.home
@output.options
def stop(out: Output, *, home: Home, keep: bool, down: bool) -> None:
    """Stop the local stack. Its state is kept.

    While there are services, it wants to be told --keep or --down. One that is not running is no error.
    """
    if keep and down:
        raise click.UsageError("--keep and --down contradict each other.")
    running = home.running()
    daemon = running.daemon.find() if running else None
    if not running or not daemon:
        out.message("The local stack is not running.")
    else:
        if not keep:
            with Client(partial(connection.locate_local, home)) as client:
                _settle_services(out, client, running, down=down)
        with out.progress("Stopping the local stack"):
            daemon.terminate()
            if not running.daemon.is_gone_within(STOP_TIMEOUT_S):
                raise Unreachable(f"The local stack (pid {daemon.pid}) does not stop; see {home.log}.")
        out.message("The local stack is stopped.")
    out.document({"running": False})
    out.next("sailplane local start --detach")


@command.command()
@connection.home
@output.options
def status(out: Output, *, home: Home) -> None:
    """Show whether the local stack runs, and where. Exit code 6 when it does not."""
    running = home.running()
    if running is None:
        raise NotRunning(f"The local stack of {home.root} is not running.")
    with Client(partial(connection.locate_local, home)) as client:
        services = client.services()
    out.data(_where(home, running))
    out.data(f"Services:     {len(services)}")
    out.document(_document(home, running) | {"services": [service.name for service in services]})
    out.next(*(["sailplane status"] if services else ["sailplane up FILE -n NAME"]))


@command.command()
@click.argument("replicas", metavar="N|unlimited")
@connection.home
@output.options
def capacity(out: Output, *, home: Home, replicas: str) -> None:
    """Pretend that this machine has room for N replicas only, as a cloud runs out of machines; those that run stay."""
    if replicas != "unlimited" and not replicas.isdecimal():
        raise click.BadParameter("give a whole number, 0 or more, or `unlimited`", param_hint="N")
    limit = None if replicas == "unlimited" else int(replicas)
    home.make()
    interruption.set_capacity(home.replicas, limit)
    out.data(
        "There is room for any number of replicas."
        if limit is None
        else f"There is room for {limit} replica{'s' * (limit != 1)}."
    )
    out.document({"capacity": limit})
    out.next("sailplane status --watch" if limit is None else "sailplane local capacity unlimited")


def _serve(out: Output, home: Home, cache: Path, ports: tuple[int, int], clouds: tuple[str, ...]) -> None:
    from sailplane.local import daemon  # noqa: PLC0415 - half a second of imports that only the daemon needs

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    out.message("Starting; the first time installs the database, which takes some 15 s.")
    daemon.serve(home, cache, daemon.Ports(*ports), lambda running: _announce(out, home, running), clouds=clouds)
    out.message("The local stack is stopped. Local replicas, if there are any, go on running.")


def _start_detached(out: Output, home: Home, cache: Path, ports: tuple[int, int], clouds: tuple[str, ...]) -> Running:
    """Start the daemon as a process of its own and wait until it serves. Ends this command as the daemon ends, if it does."""
    where = [f"--home={home.root}", f"--cache={cache}", f"--api-port={ports[0]}", f"--edge-port={ports[1]}"]
    where += [f"--clouds={','.join(clouds)}"] if clouds else []
    where += ["--json"] if out.as_json else []  # which makes its error, in its log, one line of JSON
    home.make()
    with home.log.open("ab") as log, out.progress("Starting the local stack; the first time takes some 15 s longer"):
        seen = log.tell()
        command = [sys.executable, "-P", "-m", "sailplane", "local", "start", *where]  # -P: no module from here
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            while daemon.poll() is None:
                if (running := home.running()) and running.daemon.pid == daemon.pid:
                    return running
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            daemon.terminate()
            daemon.wait()
            raise
    said = home.log.read_bytes()[seen:].decode(errors="replace").rstrip()
    out.message(_failure(said, daemon.returncode) if out.as_json else said)
    raise click.exceptions.Exit(daemon.returncode)


def _failure(said: str, code: int) -> str:
    """The daemon's error as a line of JSON: its own, or whatever it said when it was killed before it could tell."""
    last = said.rpartition("\n")[2]
    return last if last.startswith('{"error"') else json.dumps({"error": said, "exit_code": code})


def _announce(out: Output, home: Home, running: Running) -> None:
    out.data(_where(home, running))
    out.document(_document(home, running))
    out.next("sailplane up FILE -n NAME")


def _where(home: Home, running: Running) -> str:
    return (
        f"Control API:  {running.api_url}\n"
        f"Edge router:  {running.edge_url}/<service>\n"
        f"Clouds:       {', '.join(('local', *running.clouds))}\n"
        f"Home:         {home.root}\n"
        f"Supervisor:   pid {running.daemon.pid}"
    )


def _document(home: Home, running: Running) -> dict[str, Any]:
    urls = {"api_url": running.api_url, "edge_url": running.edge_url}
    return {
        "running": True,
        **urls,
        "clouds": list(running.clouds),
        "home": str(home.root),
        "pid": running.daemon.pid,
        "log": str(home.log),
    }


def _settle_services(out: Output, client: Client, running: Running, *, down: bool) -> None:
    """See to it that no service is left behind unasked."""
    names = [service.name for service in client.services()]
    if names and not down:
        but = (
            f" Those in {', '.join(running.clouds)} end with the stack; the next start with --clouds replaces them."
            if running.clouds
            else ""
        )
        raise Invalid(
            f"There are services: {', '.join(names)}. Nothing was stopped. Give --down to shut them down first, or --keep to "
            f"leave their replicas running without a control plane until the next start.{but}"
        )
    if names:
        shut_down(out, client, names)
