"""`sailplane admin-keys`: who may ask the control plane, and for what."""

from __future__ import annotations

from collections.abc import Collection

import click

from chalicelib.api.schemas import LONGEST_KEY_S, AdminKey, NewAdminKey
from chalicelib.errors import Invalid
from chalicelib.model import Scope
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.failures import NoAdminKey
from sailplane.cli.keys import Duration, day, expiry, minute, utc
from sailplane.cli.output import Output

_HEADING = ("ID", "NAME", "SCOPES", "SERVICES", "CREATED", "BY", "EXPIRES (UTC)", "LAST USED (UTC)")


@click.group("admin-keys")
def command() -> None:
    """Make, list and revoke the keys that commands like these show to the control plane.

    Give a colleague, or a CI job, a key of their own that does no more than they need: the audit says who did what, and it can
    be revoked alone. Only a hash of a key is kept.
    """


@command.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What it may do; may be given several times. `deploy` includes `read`, `admin` everything.",
)
@click.option(
    "--service", "services", multiple=True, metavar="SERVICE", help="Only for this one; several times for more."
)
@click.option(
    "--expires",
    type=Duration(LONGEST_KEY_S),
    metavar="TIME",
    help="How long it works, such as 90d. [default: as long as the key that makes it]",
)
@connection.client
@output.options
def create(
    out: Output, *, client: Client, name: str, scopes: tuple[str, ...], services: tuple[str, ...], expires: float | None
) -> None:
    """Make a key called NAME, its owner's name or a program's, and print it, this once."""
    made = client.create_admin_key(name, scopes=scopes, services=services or ("*",), expires_in_s=expires)
    out.data(made.key)
    out.document(made.model_dump(mode="json"))
    if not out.as_json:
        out.message(_described(made))
        if namesakes := [key.id for key in client.admin_keys() if key.name == name and key.id != made.id]:
            out.message(f"{name!r} is the name of {', '.join(namesakes)} too: only their ids tell them apart.")
        out.next(
            f"SAILPLANE_URL={client.url} SAILPLANE_KEY=KEY {_first_command(scopes)}",
            f"sailplane admin-keys revoke {made.id}",
        )


@command.command("list")
@connection.client
@output.options
def list_(out: Output, *, client: Client) -> None:
    """Show the admin keys but not their texts, which are kept nowhere. The root key, the deployment's own, is not listed."""
    found = client.admin_keys()
    if found:
        out.table(_HEADING, [_row(key) for key in found])
    else:
        out.data("No admin keys but the root one.")
    out.document({"keys": [key.model_dump(mode="json") for key in found]})
    out.next("sailplane admin-keys create NAME --scope deploy", "sailplane audit")


@command.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@connection.client
@output.options
def revoke(out: Output, *, client: Client, keys: tuple[str, ...]) -> None:
    """Revoke KEY..., given by id or by name: refused from the next request on. What it made stays.

    When one of them is unknown, nothing is done to the others either.
    """
    known = client.admin_keys()
    chosen = list(dict.fromkeys(_find(known, wanted).id for wanted in keys))
    for key_id in chosen:
        client.revoke_admin_key(key_id)
        out.data(f"{key_id} is revoked.")
    out.document({"revoked": chosen})
    out.next("sailplane admin-keys list")


def _first_command(scopes: Collection[str]) -> str:
    """One that a key with these scopes may run."""
    lists = {Scope.KEYS.value: "sailplane keys list", Scope.SECRETS.value: "sailplane secrets list"}
    return lists[min(scopes)] if lists.keys() >= set(scopes) else "sailplane status"


def _described(made: NewAdminKey) -> str:
    where = "all services" if "*" in made.services else ", ".join(made.services)
    until = "does not expire" if made.expires_at is None else f"expires at {utc(made.expires_at)}"
    return f"Key {made.id} is good for {', '.join(made.scopes)} on {where} and {until}. It is shown this once and kept nowhere."


def _find(known: tuple[AdminKey, ...], wanted: str) -> AdminKey:
    """The key with that id, or the only one of that name; expired ones are meant only where no other is."""
    named = [key for key in known if key.name == wanted]
    found = [key for key in known if key.id == wanted] or [key for key in named if not key.expired] or named
    if not found:
        raise NoAdminKey(f"There is no admin key {wanted!r}.")
    if len(found) > 1:
        raise Invalid(f"{wanted!r} may mean {', '.join(key.id for key in found)}. Give the id.")
    return found[0]


def _row(key: AdminKey) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        ",".join(key.scopes),
        "all" if "*" in key.services else ",".join(key.services),
        day(key.created_at),
        key.created_by,
        expiry(key),
        minute(key.last_used_at),
    )
