"""`sailplane export`: everything that another control plane can take in, as a file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from chalicelib.errors import Invalid
from sailplane.cli import backup_file, connection, output
from sailplane.cli.client import Client
from sailplane.cli.output import Output


@click.command("export")
@click.option(
    "--output",
    "-o",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, for you alone to read. [default: stdout]",
)
@connection.client
@output.options
def command(out: Output, *, client: Client, path: Path | None) -> None:
    """Write services with all their versions, keys by their hashes, and the names of secrets.

    Not in it are the texts of secrets, machines (they stay where they are), events and the audit. Treat it as confidential:
    service files may hold anything. It is JSON, one entry a line.
    """
    with out.progress("Reading everything"):
        lines = tuple(backup_file.lines(client.backup(), client.url))
    if path is None:
        for line in lines:
            click.echo(line)
    else:
        try:
            _write(path, lines)
        except OSError as error:
            raise Invalid(f"Cannot write {path}: {error.strerror}.") from error
        out.data(f"{len(lines) - 2} entries of the control plane at {client.url} are in {path}.")
        out.document({"file": str(path), "entries": len(lines) - 2})
        out.next("sailplane connect aws --deployment NAME", f"sailplane import {path}")


def _write(path: Path, lines: Iterable[str]) -> None:
    """Whole or not at all, so that an older backup of that name is not lost to a newer one that is cut off."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
