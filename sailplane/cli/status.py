"""`sailplane status`: services, their replicas and endpoints."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from chalicelib.api.schemas import Service
from chalicelib.model import ServiceStatus
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.output import Output
from sailplane.cli.services import POLL_S, service_table, service_text, ways_to_call


@click.command("status")
@click.argument("name", required=False)
@click.option("--endpoint", is_flag=True, help="Print the service's endpoint and nothing else.")
@click.option("--watch", is_flag=True, help="Go on showing every change until Ctrl-C.")
@connection.client
@output.options
def command(out: Output, *, client: Client, name: str | None, endpoint: bool, watch: bool) -> None:
    """Show all services, or service NAME with its replicas.

    Replicas that are gone stay listed for an hour, with the reason. With --watch and --json every change is one line of
    JSON.
    """
    if endpoint and not name:
        raise click.UsageError("--endpoint needs the NAME of a service.")
    if watch:
        _watch(out, client, name)
    services = _services(client, name)
    if endpoint:
        out.data(services[0].endpoint)
        out.document({"endpoint": services[0].endpoint})
        return
    out.data(_text(services, name))
    out.document(_document(services, name))
    out.next(*_next(client, services, name))


def _services(client: Client, name: str | None) -> tuple[Service, ...]:
    return (client.service(name),) if name else client.services()


def _text(services: tuple[Service, ...], name: str | None) -> str:
    if name:
        return service_text(services[0])
    return service_table(services) if services else "No services."


def _document(services: tuple[Service, ...], name: str | None) -> dict[str, Any]:
    documents = [service.model_dump(mode="json") for service in services]
    return documents[0] if name else {"services": documents}


def _watch(out: Output, client: Client, name: str | None) -> None:
    """Show changes until interrupted: redrawn on a terminal, appended elsewhere."""
    if sys.stdout.isatty() and not out.as_json:
        with out.progress("") as show:
            while True:
                show(_text(_services(client, name), name))
                time.sleep(POLL_S)
    shown: tuple[Service, ...] | None = None
    while True:
        services = _services(client, name)
        if services != shown:
            out.data(_text(services, name))
            out.line(_document(services, name))
            shown = services
        time.sleep(POLL_S)


def _next(client: Client, services: tuple[Service, ...], name: str | None) -> tuple[str, ...]:
    if not services:
        return ("sailplane up FILE -n NAME",)
    if not name:
        return (f"sailplane status {services[0].name}",)
    if services[0].status is ServiceStatus.READY:
        return (*ways_to_call(client, services[0]), f"sailplane logs {name}")
    return (f"sailplane why {name}", f"sailplane logs {name}")
