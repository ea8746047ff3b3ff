"""`sailplane update`: move a running service to a changed file."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from chalicelib import spec
from chalicelib.api.schemas import Service, Version
from chalicelib.errors import Conflict
from chalicelib.model import ReplicaStatus, ServiceSpec, ServiceStatus
from sailplane.cli import connection, inputs, output, plan, prices, secrets, workdir
from sailplane.cli.client import Client
from sailplane.cli.exits import Exit
from sailplane.cli.failures import ServiceFailed
from sailplane.cli.output import Output
from sailplane.cli.services import OPEN, last_words, newest_failure, service_text, watch


@click.command("update")
@click.argument("name")
@inputs.service_file
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Do not wait until the new version is rolled out.")
@connection.client
@output.options
def command(
    out: Output, *, client: Client, name: str, text: str, envs: dict[str, str], yes: bool, detach: bool
) -> None:
    """Move service NAME to the version in FILE: show what changes, ask, then show progress.

    Replicas are replaced one after the other, or not at all when only policy changes. A replica of the old version goes
    when one of the new version is ready, so a broken new version ends the command with exit code 7 and the old one serves on.
    """
    catalog = prices.current()
    parsed = spec.parse(text, env_overrides=envs, known_accelerators=catalog.accelerators())
    spec.require_reachable_workdir(parsed.spec, plan.make(parsed, client.info().providers, catalog).providers)
    text = workdir.made_absolute(text, Path(output.current().source).parent)
    before = client.service(name)
    current = client.version(name, before.version)
    # Read once more as the control plane will: replicas are made of the absolute `workdir`.
    _show_change(out, current, text, secrets.bound(client, spec.parse(text, env_overrides=envs).spec, name))
    if parsed.spec.routing.access == "open" and before.access != "open":
        out.message(OPEN)
    if not yes and not out.confirm(f"Update service {name!r}?"):
        out.declined()
    service = client.update(name, text, envs, before.etag)
    if not detach:
        service = _until_rolled_out(out, client, name, service.version)
    out.data(service_text(service))
    out.document(service.model_dump(mode="json"))
    out.next(f"sailplane status {name} --watch" if detach else f"sailplane status {name}")


def _show_change(out: Output, current: Version, text: str, new: ServiceSpec) -> None:
    """The files' difference, and what it means for the replicas."""
    names = (f"version {current.number}", output.current().source)
    lines = difflib.unified_diff(current.yaml.splitlines(), text.splitlines(), *names, lineterm="")
    out.message("\n".join(lines) or "The file is the same.")
    if new.fingerprint == current.fingerprint:
        out.message("What replicas are made of stays the same: none is replaced.")
    else:
        surge = f"{new.max_surge} more at a time" if new.max_surge else "none more at a time"
        out.message(f"Every replica is replaced, with {surge}; old ones serve until new ones are ready.")


def _until_rolled_out(out: Output, client: Client, name: str, version: int) -> Service:
    def settled(service: Service) -> bool:
        return _is_rolled_out(service) or service.version != version or newest_failure(service, version) is not None

    try:
        service = watch(out, client, name, settled)
    except KeyboardInterrupt:
        out.message(f"\nDetached: {name} goes on updating.")
        out.next(f"sailplane status {name} --watch")
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None
    if service.version != version:
        raise Conflict(f"Somebody else has moved {name} to version {service.version} meanwhile.")
    if broken := newest_failure(service, version):
        raise ServiceFailed(
            f"Version {version} of {name} failed: {last_words(client, name, broken)}\n"
            f"{_who_serves(service)} The new version is tried again with growing pauses until you update {name} once more: "
            f"with a mended file, or with the one before."
        )
    return service


def _who_serves(service: Service) -> str:
    if any(replica.status is ReplicaStatus.READY and replica.version < service.version for replica in service.replicas):
        return "Replicas of the version before serve on."
    return f"{service.ready} of {service.target} replicas are ready, none of them of the version before."


def _is_rolled_out(service: Service) -> bool:
    return not service.updating and service.status in (ServiceStatus.READY, ServiceStatus.IDLE)
