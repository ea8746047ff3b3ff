"""`sailplane why`: the last decisions about a service and their reasons."""

from __future__ import annotations

from collections.abc import Sequence

import click

from chalicelib.api.schemas import Unavailable
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.events import event_line
from sailplane.cli.output import Output
from sailplane.cli.services import local_time


@click.command("why")
@click.argument("name")
@connection.client
@output.options
def command(out: Output, *, client: Client, name: str) -> None:
    """Explain service NAME: what each pass would do now, what was done last, and which offers are left alone for a while."""
    why = client.why(name)
    out.data(
        "\n".join(
            [
                *_section("Now", why.now),
                *_section("Last decisions", [event_line(event) for event in why.decisions]),
                *_section("Not asked again for a while", [_refusal(refusal) for refusal in why.unavailable]),
            ]
        )
    )
    out.document(why.model_dump(mode="json"))
    out.next(f"sailplane events {name}")


def _section(title: str, entries: Sequence[str]) -> list[str]:
    indented = [entry.replace("\n", "\n  ") for entry in entries]
    return [f"{title}:", *(f"  {entry}" for entry in indented or ["nothing"])]


def _refusal(refusal: Unavailable) -> str:
    scope = "/".join(part for part in (refusal.provider, refusal.region, refusal.zone) if part)
    kind = refusal.capacity_type.lower().replace("_", "-")
    whom = " for this version" if refusal.fingerprint else ""
    what = f"{refusal.instance_type or 'everything'} {kind}".strip() + f" in {scope}{whom}"
    row = f" (refusal {refusal.failures} in a row)" if refusal.failures > 1 else ""
    return f"{what} until {local_time(refusal.until)}: {refusal.reason}, {refusal.message}{row}"
