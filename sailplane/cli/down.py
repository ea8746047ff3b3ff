"""`sailplane down`: shut services down and remove their replicas."""

from __future__ import annotations

from collections.abc import Sequence

import click

from chalicelib.errors import NotFound
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.exits import Exit
from sailplane.cli.output import Output
from sailplane.cli.services import watch


@click.command("down")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="All services.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Do not wait until the replicas are gone.")
@connection.client
@output.options
def command(out: Output, *, client: Client, names: tuple[str, ...], everything: bool, yes: bool, detach: bool) -> None:
    """Shut down the services NAME... or --all: ask, then wait until their last replica is gone.

    Replicas finish the requests they have. When one of the names is unknown, nothing is done to the others either.
    """
    if everything == bool(names):
        raise click.UsageError("Name the services to shut down, or give --all.")
    chosen = [service.name for service in client.services()] if everything else list(dict.fromkeys(names))
    for name in names:
        client.service(name)
    if chosen and not yes and not out.confirm(f"Shut down {', '.join(chosen)}?"):
        out.declined()
    if detach:
        for name in chosen:
            client.delete(name)
        out.message("Shutting down.")
    else:
        shut_down(out, client, chosen)
    out.document({"shut_down": chosen})
    out.next("sailplane status")


def shut_down(out: Output, client: Client, names: Sequence[str]) -> None:
    """Shut services down and wait until they are gone."""
    for name in names:
        client.delete(name)
    for name in names:
        try:
            watch(out, client, name, settled=lambda _service: False)
        except NotFound:
            out.message(f"{name} is gone.")
        except KeyboardInterrupt:
            out.message("\nDetached: what was to be shut down goes on shutting down.")
            out.next("sailplane status --watch")
            raise click.exceptions.Exit(Exit.INTERRUPTED) from None
