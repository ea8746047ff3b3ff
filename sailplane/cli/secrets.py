"""`sailplane secrets`: texts that replicas find in variables, and that stand in no file, command line or answer."""

from __future__ import annotations

import re
import sys

import click

from chalicelib import spec
from chalicelib.api.schemas import SERVICE_PATTERN, Secret
from chalicelib.errors import Invalid, NotFound
from chalicelib.model import MAX_SECRET_BYTES, SECRET_NAME, SecretBinding, ServiceSpec
from chalicelib.model import Secret as Known
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.failures import NoSecret
from sailplane.cli.keys import minute
from sailplane.cli.output import Output

_HEADING = ("NAME", "VERSION", "CHANGED (UTC)", "FOR", "USED BY")


@click.group("secrets")
def command() -> None:
    """Keep texts, such as tokens, that replicas find in variables.

    A service's file names them: `secrets: {HF_TOKEN: }` puts the secret HF_TOKEN into the variable HF_TOKEN, and
    `secrets: {HF_TOKEN: {ref: team-hf}}` the secret team-hf. No command and no answer shows a text again.
    """


@command.command("set")
@click.argument("name")
@click.argument("extra", nargs=-1, metavar="")
@click.option(
    "--service", "services", multiple=True, metavar="SERVICE", help="Which may use it; llm-* is all that begin so."
)
@click.option("--all", "everything", is_flag=True, help="For all services, later ones too.")
@click.option("--no-service", is_flag=True, help="For none: a forge's token, which webhooks show to it.")
@connection.client
@output.options
def set_(
    out: Output,
    *,
    client: Client,
    name: str,
    extra: tuple[str, ...],
    services: tuple[str, ...],
    everything: bool,
    no_service: bool,
) -> None:
    """Keep a text as the secret NAME, in place of the one before: asked for, or read from stdin when that is no terminal.

    Whoever may deploy a service can read its secrets: a new one is for the services that you name, and one that there is stays
    with those that have it. The end of the text's last line is left out, so that `printenv HF_TOKEN | sailplane secrets set
    HF_TOKEN --service chat` does. Replicas that run keep the text that they started with.
    """
    if extra or "=" in name:
        raise click.UsageError(
            "A text on the command line is in your shell's history, and everybody on this machine can see it: "
            "change it where it comes from, then run `sailplane secrets set NAME --service SERVICE` and give the new one when asked."
        )
    if not re.fullmatch(SECRET_NAME, name):
        rule = "1 to 128 of letters, digits, _, - and ., a letter or _ first"
        raise Invalid(f"{name!r} cannot name a secret: a name is {rule}.")
    if sum((bool(services), everything, no_service)) > 1:
        raise click.UsageError("Give one of --service, --all and --no-service.")
    chosen = ("*",) if everything else () if no_service else services or None
    _require_services(chosen or ())
    kept = client.set_secret(name, _text(name), chosen)
    used_by = kept.used_by
    out.data(f"Secret {name} is set, for {_listed(kept.services)}.")
    out.document({"name": name, "services": list(kept.services), "used_by": list(used_by)})
    if used_by:
        out.message(
            f"Replicas of {', '.join(used_by)} that run keep the text they started with; an update replaces them."
        )
        out.next(*(f"sailplane update {service} FILE" for service in used_by))
    elif kept.services:
        out.next(f"write it into a service's file: secrets: {{{name}: }}")
    else:
        out.next(f"sailplane webhook create SERVICE --github OWNER/REPO --token-secret {name}")


@command.command()
@click.argument("name")
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--all", "everything", is_flag=True, help="For all services, later ones too.")
@click.option("--only", is_flag=True, help="In place of those that may use it now; without a SERVICE for none.")
@connection.client
@output.options
def allow(out: Output, *, client: Client, name: str, services: tuple[str, ...], everything: bool, only: bool) -> None:
    """Let SERVICE... use the secret NAME, beside those that may already. `'llm-*'` is all whose names begin so.

    Replicas that run keep what they have; those of a service that may not use it any more cannot start again.
    """
    if everything and services:
        raise click.UsageError("Name the services that may use it or give --all, not both.")
    if not (everything or services or only):
        raise click.UsageError("Name the services that may use it or give --all; `--only` alone is for none.")
    _require_services(services)
    try:
        kept = client.allow_secret(name, ("*",) if everything else services, only=only)
    except NotFound as error:
        raise NoSecret(str(error)) from error
    out.data(f"Secret {name} is for {_listed(kept.services)}.")
    out.document(kept.model_dump(mode="json"))
    binding = SecretBinding(name, kept.services)
    if shut_out := [service for service in kept.used_by if not binding.covers(service)]:
        out.message(f"{', '.join(shut_out)} named it and may not use it any more: no new replica of theirs can start.")
    out.next("sailplane secrets list")


@command.command("list")
@connection.client
@output.options
def list_(out: Output, *, client: Client) -> None:
    """Show all secrets but not their texts, and the services whose files name them."""
    found = client.secrets()
    if found:
        out.table(_HEADING, [_row(secret) for secret in found])
    else:
        out.data("No secrets.")
    out.document({"secrets": [secret.model_dump(mode="json") for secret in found]})
    out.next("sailplane secrets set NAME --service SERVICE")


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--force", is_flag=True, help="Although services need them: their next replicas cannot start.")
@connection.client
@output.options
def remove(out: Output, *, client: Client, names: tuple[str, ...], force: bool) -> None:
    """Forget the secrets NAME... Refused while a service's file names them, unless forced.

    When one of them is unknown, nothing is done to the others either.
    """
    chosen = list(dict.fromkeys(names))
    known = {secret.name for secret in client.secrets()} if len(chosen) > 1 else set(chosen)  # of one it is told anyhow
    for unknown in (name for name in chosen if name not in known):
        raise NoSecret(f"There is no secret {unknown!r}. Nothing was removed.")
    for name in chosen:
        try:
            client.remove_secret(name, force=force)
        except NotFound as error:
            raise NoSecret(str(error)) from error
        out.data(f"Secret {name} is removed.")
    out.document({"removed": chosen})
    out.next("sailplane secrets list")


def bound(client: Client, service: ServiceSpec, name: str) -> ServiceSpec:
    """The service with the secrets that the control plane has now. Raises `SpecError` when one is missing, or others' alone."""
    if not service.engine.secrets:
        return service
    known = [Known(one.name, one.version, one.changed_at.timestamp(), one.services) for one in client.secrets()]
    return spec.with_secrets(service, name, known)


def _require_services(services: tuple[str, ...]) -> None:
    for one in services:
        if not re.fullmatch(SERVICE_PATTERN, one):
            raise Invalid(f"{one!r} names no service: write a name, or the beginning of some and *, as 'llm-*'.")


def _listed(services: tuple[str, ...]) -> str:
    if not services:
        return "no service"
    return "all services" if "*" in services else ", ".join(services)


def _text(name: str) -> str:
    if sys.stdin.isatty():
        prompt = f"Text of {name} (not shown)"
        text: str = click.prompt(prompt, hide_input=True, confirmation_prompt="The same again", err=True)
        return text
    given = sys.stdin.buffer.read(MAX_SECRET_BYTES + len("\r\n") + 1)
    try:
        text = re.sub(r"\r?\n\Z", "", given.decode())
    except UnicodeDecodeError:
        raise Invalid("What stands on stdin is not UTF-8 text; write bytes as base64. Nothing was set.") from None
    if not 1 <= len(text.encode()) <= MAX_SECRET_BYTES:
        size = f"more than {MAX_SECRET_BYTES:,} bytes" if text else "nothing"
        raise Invalid(f"There is {size} on stdin; a secret has 1 to {MAX_SECRET_BYTES:,} bytes. Nothing was set.")
    return text


def _row(secret: Secret) -> tuple[str, ...]:
    users = [*secret.used_by, *(f"webhook {webhook}" for webhook in secret.webhooks)]
    services = "all" if "*" in secret.services else ",".join(secret.services) or "none"
    return (secret.name, str(secret.version), minute(secret.changed_at), services, ", ".join(users) or "-")
