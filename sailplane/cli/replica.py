"""`sailplane replica`: break or drain one replica, to see what happens."""

from __future__ import annotations

from typing import Any

import click

from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.output import Output


@click.group("replica")
def command() -> None:
    """Preempt, kill or drain one replica of service NAME.

    ID is the replica's id or its end, such as 0-3. Only the local provider and boxed clouds (`local start --clouds`)
    can preempt and kill.
    """


@command.command()
@click.argument("name")
@click.argument("replica", metavar="ID")
@click.option("--notice", type=click.FloatRange(0, 600), default=30.0, show_default=True, help="Seconds of notice.")
@connection.client
@output.options
def preempt(out: Output, *, client: Client, name: str, replica: str, notice: float) -> None:
    """Take the machine back with notice, as a cloud does with spot machines."""
    _act(
        out, client, name, replica, action="preempt", done=f"will be taken in {notice:g} s", query={"notice_s": notice}
    )


@command.command()
@click.argument("name")
@click.argument("replica", metavar="ID")
@connection.client
@output.options
def kill(out: Output, *, client: Client, name: str, replica: str) -> None:
    """Take the machine at once, without notice."""
    _act(out, client, name, replica, action="kill", done="is killed")


@command.command()
@click.argument("name")
@click.argument("replica", metavar="ID")
@connection.client
@output.options
def drain(out: Output, *, client: Client, name: str, replica: str) -> None:
    """Take the replica out of use once it has finished its requests; it is replaced."""
    _act(out, client, name, replica, action="drain", done="is draining")


def _act(
    out: Output, client: Client, name: str, replica: str, *, action: str, done: str, query: dict[str, Any] | None = None
) -> None:
    accepted = client.act(name, replica, action, query)
    out.data(f"{accepted.replica} {done}.")
    out.document(accepted.model_dump())
    out.next(f"sailplane status {name} --watch", f"sailplane why {name}")
