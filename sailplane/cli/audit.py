"""`sailplane audit`: who changed what."""

from __future__ import annotations

from itertools import islice

import click

from chalicelib.api.schemas import AuditEntry
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.keys import utc
from sailplane.cli.output import Output

_HEADING = ("AT", "WHO", "KEY", "FROM", "DID", "TARGET", "ANSWER")


@click.command("audit")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, newest first.")
@connection.client
@output.options
def command(out: Output, *, client: Client, limit: int) -> None:
    """Show who asked the control plane to change what, when, and what it answered. Kept for 90 days.

    TARGET is what was made, changed or removed: its id and, in brackets, what it is called. What was sent is kept nowhere.
    """
    entries = list(islice(client.audit(), limit))
    if entries:
        out.table(_HEADING, [_row(entry) for entry in entries])
    else:
        out.data("Nobody has changed anything.")
    out.document({"entries": [entry.model_dump(mode="json") for entry in entries]})
    out.next("sailplane admin-keys list")


def _row(entry: AuditEntry) -> tuple[str, ...]:
    return (
        utc(entry.at),
        entry.name,
        entry.principal,
        entry.ip or "-",
        _did(entry),
        entry.target or entry.path,
        _answer(entry),
    )


def _did(entry: AuditEntry) -> str:
    """The operation in words; those on services and replicas leave it to their path what they are on."""
    noun = "" if "_" in entry.operation else " replica" if "/replicas/" in entry.path else " service"
    return entry.operation.replace("_", " ") + noun


def _answer(entry: AuditEntry) -> str:
    if entry.status is None:
        return "none: it did not end"
    return f"{entry.status} (as before)" if entry.replayed else str(entry.status)
