# noqa: N999 commands are found by their name
"""`sailplane import`: take in what another control plane has exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from chalicelib.api.schemas import BackupEntry, Leftover, RestoredEntry
from chalicelib.errors import Invalid
from chalicelib.model import LeftoverKind
from sailplane.cli import backup_file, connection, output
from sailplane.cli.backup_file import BackupFile
from sailplane.cli.client import Client
from sailplane.cli.exits import Exit
from sailplane.cli.output import Output

_NAMES = {
    "admin_key": "admin keys",
    "key": "endpoint keys",
    "secret": "secrets' names",
    "service": "services",
    "trust": "trusts",
    "webhook": "webhooks",
}


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
@click.option(
    "--replace-machines", is_flag=True, help="Go on although machines of these services run that are not known here."
)
@connection.client
@output.options
def command(out: Output, *, client: Client, path: Path, yes: bool, replace_machines: bool) -> None:
    """Take in what `sailplane export` has written into FILE, service by service, key by key.

    Each is taken in whole or not at all, and one that is there already is left alone: run it again after it was interrupted.
    Services begin without machines and launch as many replicas as they wanted when the file was written.
    """
    found = _read(path)
    with out.progress("Looking for what is there"):
        missing = _missing_secrets(client, found)
        strangers = _strangers(client, found)
    out.message(_plan(client, found))
    if missing:
        out.message(f"These secrets are not set here, and services that name them wait for them: {', '.join(missing)}")
    if strangers and not replace_machines:
        raise Invalid(_told_of(strangers))
    if not yes and not out.confirm("Take all of it in?"):
        out.message("Nothing was changed.")
        return
    restored = _restore(out, client, found.entries)
    _show(out, restored)
    out.document({"entries": [one.model_dump(mode="json") for one in restored]})
    if any((one.kind, one.outcome) == ("webhook", "restored") for one in restored):
        out.message("Webhooks have other addresses and secrets here: remove each at its forge, and make it anew.")
    if not out.as_json:
        out.next(*(f"sailplane secrets set {name}" for name in missing), "sailplane status")
    if any(one.outcome == "kept" for one in restored):
        raise click.exceptions.Exit(Exit.FAILURE)


def _read(path: Path) -> BackupFile:
    try:
        return backup_file.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is no backup: it is not even text.") from error


def _plan(client: Client, found: BackupFile) -> str:
    counts = [f"{len(found.of_kind(kind))} {name}" for kind, name in _NAMES.items()]
    source = f"From {found.deployment!r}, as of {found.made_at}"
    return f"{source}: {', '.join(counts)}. They go to {client.info().deployment!r}."


def _missing_secrets(client: Client, found: BackupFile) -> Sequence[str]:
    wanted = [entry.id for entry in found.of_kind("secret")]
    known = {secret.name for secret in client.secrets()} if wanted else set()
    return [name for name in wanted if name not in known]


def _strangers(client: Client, found: BackupFile) -> Sequence[Leftover]:
    """Machines of services that are still to be taken in: a minute after that they would be removed as nobody's."""
    here = {service.name for service in client.services()}
    wanted = tuple(f"{entry.id}-" for entry in found.of_kind("service") if entry.id not in here)
    machines = (one for one in client.leftovers().leftovers if one.kind is LeftoverKind.MACHINE)
    return [one for one in machines if one.replica.startswith(wanted)]


def _told_of(strangers: Sequence[Leftover]) -> str:
    return (
        f"{len(strangers)} machines of these services run that this control plane does not know: "
        f"{', '.join(one.replica for one in strangers)}. They serve as they are, and would be removed a minute after the "
        f"import, some minutes before new ones are ready. If the control plane that made them is still there, use another "
        f"deployment name; to have them replaced, add --replace-machines."
    )


def _restore(out: Output, client: Client, entries: Sequence[BackupEntry]) -> Sequence[RestoredEntry]:
    restored = []
    with out.progress("Taking it in") as show:
        for number, entry in enumerate(entries, start=1):
            show(f"Taking in {number} of {len(entries)}: {entry.kind.replace('_', ' ')} {entry.id}")
            restored.append(client.restore(entry))
    return restored


def _show(out: Output, restored: Sequence[RestoredEntry]) -> None:
    told = {
        "restored": "taken in",
        "same": "there already",
        "kept": "not taken in: another one of that name is here",
        "missing": "its text is to be set",
    }
    out.table(
        ("WHAT", "NAME", "OUTCOME"), [(one.kind.replace("_", " "), one.id, told[one.outcome]) for one in restored]
    )
