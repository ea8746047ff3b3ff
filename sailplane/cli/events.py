"""`sailplane events`: what happened to a service."""

from __future__ import annotations

import time

import click

from chalicelib.api.schemas import Event
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.output import Output
from sailplane.cli.services import local_time

POLL_S = 1.0


@click.command("events")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True, help="How many, newest last.")
@click.option("--follow", "-f", is_flag=True, help="Go on showing new ones until Ctrl-C.")
@connection.client
@output.options
def command(out: Output, *, client: Client, name: str, limit: int, follow: bool) -> None:
    """Show what happened to service NAME. Events are kept for a week, also those of a service that is gone."""
    events = client.events(name, limit=limit)
    if not follow:
        out.data("\n".join(map(event_line, events)) or "No events.")
        out.document({"events": [event.model_dump(mode="json") for event in events]})
        out.next(f"sailplane why {name}")
        return
    newest = None
    while True:
        for event in events:
            out.data(event_line(event))
            out.line(event.model_dump(mode="json"))
            newest = event.at
        time.sleep(POLL_S)
        events = client.events(name, after=newest, limit=1000)


def event_line(event: Event) -> str:
    """An event as text; the lines of a longer message are indented."""
    return f"{local_time(event.at)}  {event.kind:<22}  {event.message}".replace("\n", "\n    ")
