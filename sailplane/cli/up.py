"""`sailplane up`: start a service."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from chalicelib import optimizer, spec
from chalicelib.api.schemas import Service, valid_name
from chalicelib.errors import Invalid, NotFound
from chalicelib.lifecycle import budget
from chalicelib.model import ReplicaStatus, ServiceStatus
from sailplane.cli import connection, inputs, output, plan, prices, secrets, workdir
from sailplane.cli.client import Client
from sailplane.cli.exits import Exit
from sailplane.cli.failures import NoMachine, ServiceFailed, Taken
from sailplane.cli.output import Output
from sailplane.cli.services import OPEN, last_words, newest_failure, service_text, watch, ways_to_call


@click.command("up")
@inputs.service_file
@click.option("--name", "-n", help="The service's name. [default: the file's `name`]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Do not wait until the service is ready.")
@connection.client
@output.options
def command(
    out: Output, *, client: Client, text: str, envs: dict[str, str], name: str | None, yes: bool, detach: bool
) -> None:
    """Start the service in FILE: show the plan, ask, then show progress until it is ready.

    A relative `workdir` is taken from FILE's directory. Ctrl-C while waiting leaves the service starting. A service that
    fails ends the command with exit code 7 and the last lines of its log; one that no cloud gives a machine with exit code 8.
    Both are tried again with growing pauses.
    """
    catalog = prices.current()
    parsed = spec.parse(text, env_overrides=envs, known_accelerators=catalog.accelerators())
    name = name or parsed.name
    if not name:
        raise click.UsageError("The file gives no `name`: choose one with -n NAME.")
    _require_valid(name)
    planned = plan.make(parsed, client.info().providers, catalog)
    spec.require_reachable_workdir(parsed.spec, planned.providers)
    # The control plane refuses both too; here, before a page of plan is shown.
    _require_free(client, name)
    secrets.bound(client, parsed.spec, name)
    plan.show(out, planned)
    if parsed.spec.routing.access == "open":
        out.message(OPEN)
    if not yes and not out.confirm(f"Start service {name!r}?"):
        out.declined()
    service = client.create(name, workdir.made_absolute(text, Path(output.current().source).parent), envs)
    if not detach:
        service = _until_ready(out, client, name)
    out.data(service_text(service))
    out.document(service.model_dump(mode="json"))
    calls = (f"sailplane status {name}",) if detach else ways_to_call(client, service)
    out.next(*calls, f"sailplane down {name}")


def _require_valid(name: str) -> None:
    try:
        valid_name(name)
    except ValueError as error:
        raise Invalid(f"{error}. Nothing was started; give another with -n NAME.") from error


def _require_free(client: Client, name: str) -> None:
    """The control plane refuses a name in use too; asked here, it is refused before the user is asked anything."""
    try:
        service = client.service(name)
    except NotFound:
        return
    file = output.current().source
    raise Taken(
        f"There is a service {name!r} already, and it is {service.status}. Nothing was changed.",
        "the same command with another name: -n NAME",
        f"sailplane update {name} {'-' if file == '<stdin>' else shlex.quote(file)}",
    )


def _until_ready(out: Output, client: Client, name: str) -> Service:
    def is_settled(service: Service) -> bool:
        return service.status in (ServiceStatus.READY, ServiceStatus.FAILED) or _is_refused(client, service)

    try:
        service = watch(out, client, name, is_settled)
    except KeyboardInterrupt:
        out.message(f"\nDetached: {name} goes on starting.")
        out.next(f"sailplane status {name} --watch", f"sailplane down {name}")
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None
    if service.status is ServiceStatus.READY:
        return service
    if service.status is not ServiceStatus.FAILED:
        raise NoMachine(
            f"{name} gets no machine now: every place that fits has refused, or its budget holds it back ({service.message}).\n"
            f"It goes on being asked for, with growing pauses: `sailplane status {name} --watch`. Look closer with "
            f"`sailplane why {name}`, ask for more kinds of machines with `sailplane update {name} FILE`, or give up with "
            f"`sailplane down {name}`."
        )
    broken = newest_failure(service)
    error = last_words(client, name, broken) if broken else service.message
    raise ServiceFailed(
        f"{name} failed: {error}\n"
        f"It is tried again with growing pauses. Mend the file and run `sailplane update {name} FILE`, look closer "
        f"with `sailplane why {name}`, or give up with `sailplane down {name}`."
    )


def _is_refused(client: Client, service: Service) -> bool:
    """Whether nothing is on its way any more, and nothing that could be asked for is left."""
    standing = (ReplicaStatus.READY, ReplicaStatus.TERMINATED)
    if not service.replicas or any(replica.status not in standing for replica in service.replicas):
        return False
    hopeless = (optimizer.NOTHING_LEFT, budget.HELD)
    return any(sign in line for line in client.why(service.name).now for sign in hopeless)
