"""`sailplane logs`: what a replica's engine wrote."""

from __future__ import annotations

import time

import click

from chalicelib.api.schemas import Service
from chalicelib.errors import NotFound
from chalicelib.model import ReplicaStatus
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.output import Output

POLL_S = 1.0
# How many lines a replica may write between two looks without any being missed.
FOLLOW_LINES = 2000


@click.command("logs")
@click.argument("name")
@click.argument("replica", required=False)
@click.option("--tail", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on showing new lines until Ctrl-C.")
@connection.client
@output.options
def command(out: Output, *, client: Client, name: str, replica: str | None, tail: int, follow: bool) -> None:
    """Show the last lines of a replica's log: of REPLICA, or of service NAME's newest one.

    REPLICA is an id or its end, such as 0-3. Replicas that are gone keep their log for an hour.
    """
    wanted = replica or _newest(out, client.service(name))
    log = client.log(name, wanted, tail)
    if not follow:
        out.data(log.log.rstrip("\n"))
        out.document(log.model_dump())
        out.next(f"sailplane logs {name} {wanted} --follow")
        return
    seen: list[str] = []
    while True:
        lines = log.log.splitlines()
        for line in lines[overlap(seen, lines) :]:
            out.data(line)
            out.line({"replica": log.replica, "line": line})
        seen = lines
        time.sleep(POLL_S)
        log = client.log(name, wanted, FOLLOW_LINES)


def overlap(seen: list[str], lines: list[str]) -> int:
    """How many of the first `lines` are the last of those `seen`: the longest such run."""
    return next((size for size in range(min(len(seen), len(lines)), 0, -1) if seen[-size:] == lines[:size]), 0)


def _newest(out: Output, service: Service) -> str:
    if not service.replicas:
        raise NotFound(f"Service {service.name!r} has no replica, nor had it one within the last hour.")
    live = [replica for replica in service.replicas if replica.status is not ReplicaStatus.TERMINATED]
    newest = max(live or service.replicas, key=lambda replica: replica.created_at)
    if len(live) > 1:
        out.message(f"{len(live)} replicas; this is the newest, {newest.id}.")
    return newest.id
