"""`sailplane doctor`: find, and remove, what the clouds still hold that no replica needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import click

from chalicelib.api.schemas import Leftover, Leftovers
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.exits import Exit
from sailplane.cli.output import Output

_HEADING = ("CLOUD", "WHAT", "REGION", "USD/MONTH", "WHY", "ID")
# A disk goes after its machine, a network after its addresses: each round removes what the last one freed.
ROUNDS_TIMEOUT_S = 120.0
ROUND_S = 3.0


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Remove what is found.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before removing.")
@connection.client
@output.options
def command(out: Output, *, client: Client, fix: bool, yes: bool) -> None:
    """Find machines, disks, addresses and firewall rules with this deployment's tag that no replica needs.

    The passes remove machines that nobody knows by themselves after a minute. This shows everything, at once, and also
    what costs little or nothing. Exit code 1 when something is left, or a cloud could not be asked.
    """
    with out.progress("Asking the clouds"):
        seen = client.leftovers()
    show(out, seen)
    if fix and seen.leftovers:
        if not yes and not out.confirm(f"Remove {counted(seen.leftovers)}?"):
            out.message("Nothing was changed.")
        else:
            seen = remove_all(out, client, seen)
            say_outcome(out, seen)
    out.document(seen.model_dump(mode="json"))
    if seen.leftovers and not fix:
        out.next("sailplane doctor --fix")
    if seen.leftovers or seen.unreachable:
        raise click.exceptions.Exit(Exit.FAILURE)


class Holder(Protocol):
    """Who can tell what clouds hold, and have it removed: a control plane or, without one, the user's own credentials."""

    def leftovers(self) -> Leftovers: ...

    def remove_leftovers(self, leftovers: Sequence[Leftover]) -> Leftovers: ...


def show(out: Output, seen: Leftovers) -> None:
    for name, why in seen.unreachable.items():
        out.message(f"{name} could not be asked: {why}")
    if not seen.leftovers:
        out.data("Nothing is left over." if not seen.unreachable else "Nothing is left over where it could be asked.")
        return
    rows = [
        (one.provider, one.kind, one.region, _price(one.usd_per_month), one.why, _short(one.id))
        for one in seen.leftovers
    ]
    out.table(_HEADING, rows, right=("USD/MONTH",))


def _short(name: str) -> str:
    """Azure's ids are paths of 150 characters that say once more what the other columns do."""
    return name.rpartition("/")[2] or name


def _price(usd_per_month: float | None) -> str:
    return "?" if usd_per_month is None else f"{usd_per_month:.2f}"


def remove_all(out: Output, client: Holder, seen: Leftovers) -> Leftovers:
    """Remove in rounds until nothing is left or time is up; what is left then."""
    deadline = time.monotonic() + ROUNDS_TIMEOUT_S
    with out.progress("Removing") as show:
        while seen.leftovers and time.monotonic() < deadline:
            show(f"Removing {counted(seen.leftovers)}")
            client.remove_leftovers(seen.leftovers)
            seen = client.leftovers()
            if seen.leftovers:
                time.sleep(ROUND_S)
    return seen


def say_outcome(out: Output, seen: Leftovers) -> None:
    if seen.leftovers:
        out.message(f"{counted(seen.leftovers)} could not be removed yet; clouds take their time. Run it again.")
    else:
        out.message("Everything is removed.")


def counted(leftovers: Sequence[Leftover]) -> str:
    return f"{len(leftovers)} leftover{'s' * (len(leftovers) != 1)}"
