# noqa: N999 commands are found by their name
"""`sailplane import`: take in what another control plane has exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

# What a kind of entry is called: one of them, and several.
_NAMES = {
    "admin_key": ("admin key", "admin keys"),
    "key": ("endpoint key", "endpoint keys"),
    "secret": ("secret name", "secret names"),
    "service": ("service", "services"),
    "trust": ("trust", "trusts"),
    "webhook": ("webhook", "webhooks"),
}
_OUTCOMES = {
    "restored": "taken in",
    "same": "was there already",
    "kept": "not taken in: another one of that name is here",
    "revoked": "not taken in: it was revoked here since, or removed, or is long over",
    "missing": "its text is to be set",
}


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--yes", "-y", is_flag=True, help="Do not ask before.")
@click.option("--admin-keys", is_flag=True, help="Take admin keys in too: whoever had one then may use it here.")
@click.option(
    "--replace-machines", is_flag=True, help="Go on although machines of these services run that are not known here."
)
@connection.client
@output.options
def command(out: Output, *, client: Client, path: Path, yes: bool, admin_keys: bool, replace_machines: bool) -> None:
    """Take in what `sailplane export` has written into FILE, service by service, key by key.

    Each is taken in whole or not at all, and one that is there already is left alone: run it again after it was interrupted.
    Services begin without machines and launch as many replicas as they wanted when the file was written.

    Endpoint keys open services again as they did then. What was revoked or removed here since stays so: keys, trusts, webhooks.
    Admin keys are left out unless asked for.
    """
    found = _read(path)
    with out.progress("Looking for what is there"):
        missing = _missing_secrets(client, found)
        strangers = _strangers(client, found)
        warnings = tuple(_revived(client, found, admin_keys=admin_keys))
    out.message(_plan(client, found))
    if missing:
        out.message(f"These secrets are not set here, and services that name them wait for them: {', '.join(missing)}")
    for warning in warnings:
        out.message(warning)
    if strangers and not replace_machines:
        raise Invalid(_told_of(strangers))
    entries = [entry for entry in found.entries if admin_keys or entry.kind != "admin_key"]
    if not yes and not out.confirm("Take it in?"):
        out.declined()
    restored = _restore(out, client, entries)
    _show(out, restored, {(entry.kind, entry.id): _label(entry) for entry in entries})
    left_out = [] if admin_keys else [entry.id for entry in found.of_kind("admin_key")]
    out.document({"entries": [one.model_dump(mode="json") for one in restored], "left_out": left_out})
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
    counts = [(len(found.of_kind(kind)), *names) for kind, names in _NAMES.items()]
    holds = ", ".join(f"{count} {one if count == 1 else several}" for count, one, several in counts if count)
    made_at = found.made_at.replace("T", " ").replace("+00:00", " UTC")
    source = f"From {found.deployment!r}{found.url and f' at {found.url}'}, as of {made_at}"
    return f"{source}: {holds or 'nothing'}. It goes to {client.info().deployment!r} at {client.url}."


def _revived(client: Client, found: BackupFile, *, admin_keys: bool) -> Iterator[str]:
    """Which keys are about to open something again, or are left out. A revocation after the backup is not in it."""
    known = {key.id for key in client.admin_keys()}
    if theirs := [entry for entry in found.of_kind("admin_key") if entry.id not in known]:
        named = ", ".join(map(_label, theirs))
        yield (
            f"These admin keys may be used here from now on, but for those that were revoked here: {named}"
            if admin_keys
            else f"These admin keys are left out: {named}. Make new ones with `sailplane admin-keys create`, or add "
            "--admin-keys to let whoever has one of these command this control plane."
        )
    opening = {key.id for key in client.endpoint_keys()}
    if theirs := [entry for entry in found.of_kind("key") if entry.id not in opening]:
        yield (
            f"These endpoint keys open services here from now on, but for those that were revoked here: "
            f"{', '.join(map(_label, theirs))}. Revoke with `sailplane keys revoke` what was revoked elsewhere since."
        )


def _label(entry: BackupEntry) -> str:
    name = str(entry.document.get("name", ""))
    return f"{entry.id} ({name})" if name and entry.kind in ("admin_key", "key") else entry.id


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
            show(f"Taking in {number} of {len(entries)}: {_NAMES[entry.kind][0]} {entry.id}")
            restored.append(client.restore(entry))
    return restored


def _show(out: Output, restored: Sequence[RestoredEntry], labels: Mapping[tuple[str, str], str]) -> None:
    rows = [(_NAMES[one.kind][0], labels[one.kind, one.id], _OUTCOMES[one.outcome]) for one in restored]
    out.table(("WHAT", "NAME", "OUTCOME"), rows)
