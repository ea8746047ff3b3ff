"""`sailplane teardown`: take a control plane out of its cloud account."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import click

from chalicelib.api.schemas import Leftovers
from chalicelib.errors import Invalid, NotFound, Retry, SailplaneError
from sailplane.cli import deploying, doctor, down, output
from sailplane.cli import target as targets
from sailplane.cli.client import Client
from sailplane.cli.exits import Exit
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.deploy import machines, stacks, teardown
from sailplane.deploy.account import DeployFailed, Stack
from sailplane.local.home import Home


@click.command("teardown")
@click.option("--services", is_flag=True, help="Shut all services down first, and wait for their machines to be gone.")
@click.option("--force", is_flag=True, help="Do not ask the control plane what still runs, but the clouds.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option(
    "--gcp-project", metavar="ID", envvar="SAILPLANE_GCP_PROJECT", show_envvar=True, help="Where machines may be, too."
)
@click.option("--azure-subscription", metavar="ID", envvar="SAILPLANE_AZURE_SUBSCRIPTION", show_envvar=True)
@click.option("--azure-resource-group", metavar="NAME", envvar="SAILPLANE_AZURE_RESOURCE_GROUP", show_envvar=True)
@targets.aws
@output.options
def command(
    out: Output,
    *,
    target: Target,
    home: Home,
    services: bool,
    force: bool,
    yes: bool,
    gcp_project: str | None,
    azure_subscription: str | None,
    azure_resource_group: str | None,
) -> None:
    """Take the control plane out of your account, with its table, keys, secrets and logs.

    While services or machines are there, it wants --services. Run again, it finishes what was interrupted. Back up first
    with `sailplane export`, if you may want it back. Where there is no control plane to ask (any more), it looks for machines
    itself, with your own credentials, and offers to end them.
    """
    target = targets.identified(out, target, home)
    with out.progress(f"Looking at {target}") as show:
        stack = stacks.settled(target.account, target.deployment, show, stacks.pause)
    left = teardown.leftovers(target.account, target.deployment)
    serving = stack if stack is not None and stack.has_code and not stack.is_dead and not force else None
    if serving and not services:
        with _asked(target, serving) as client:
            _require_none(client)
    if left and not (yes or out.confirm(f"Remove {target} for good: {', '.join(left)}?")):
        out.declined()
    if serving:
        with _asked(target, serving) as client:
            empty(out, client, is_wanted=services)
    if left:
        _remove(out, target)
    else:
        out.message(f"{target}: nothing to do.")
    if (known := home.connected()) and known.deployment == target.deployment.name:
        home.disconnect()
    seen = Leftovers(leftovers=(), unreachable={})
    if not serving:
        told = {"GcpProject": gcp_project, "AzureSubscription": azure_subscription}
        told |= {"AzureResourceGroup": azure_resource_group}
        seen = end_machines(out, _clouds(out, target, stack, told), yes=yes)
    out.document(
        {"deployment": target.deployment.name, "removed": list(left), "machines": seen.model_dump(mode="json")}
    )
    if seen.leftovers or seen.unreachable:
        raise click.exceptions.Exit(Exit.FAILURE)


def _clouds(out: Output, target: Target, stack: Stack | None, told: Mapping[str, str | None]) -> machines.Clouds:
    """Where to look: as told now or, as long as there is a stack, then."""
    kept = stack.parameters if stack else {}
    known = {name: value or kept.get(name, "") for name, value in told.items()}
    places = machines.Places(
        known["GcpProject"], known["AzureSubscription"], known["AzureResourceGroup"], target.endpoint_url
    )
    if stack is None and len(places.known) < len(deploying.CLOUDS):
        out.message(
            f"Looking at {' and '.join(places.known)} only. If there were machines elsewhere: --gcp-project, or "
            "--azure-subscription and --azure-resource-group."
        )
    return machines.clouds(target.deployment, places, kept.get("Providers", "aws").split(","))


def end_machines(out: Output, clouds: machines.Clouds, *, yes: bool) -> Leftovers:
    """Show what has the deployment's tag and, if the user wants it, remove it; what is left then."""
    with out.progress("Looking for machines, with your own credentials"):
        seen = clouds.leftovers()
    doctor.show(out, seen)
    if seen.leftovers and (yes or out.confirm(f"Remove {doctor.counted(seen.leftovers)}?")):
        seen = doctor.remove_all(out, clouds, seen)
        doctor.say_outcome(out, seen)
    return seen


@contextmanager
def _asked(target: Target, stack: Stack) -> Iterator[Client]:
    """The control plane, which alone knows what runs. Raises `DeployFailed` when it does not answer."""
    url, key = stack.outputs["ApiUrl"], targets.admin_key(target)
    with Client(lambda: (url, key)) as client:
        try:
            yield client
        except Retry as error:
            raise DeployFailed(
                f"{error}\nNobody knows what still runs. Mend it with `sailplane upgrade`, and try again; or use --force, "
                "which looks for machines with your own credentials. Nothing was removed."
            ) from error


def empty(out: Output, client: Client, *, is_wanted: bool) -> None:
    """See to it that nothing runs that only the control plane would end, and that nothing more is begun.

    It makes no service from the first word on, or what is pushed meanwhile would run with nobody to end it. Broken off, it
    makes services again, unless somebody else takes it out as well; a laptop that dies here leaves it closed for an hour.

    Raises `Invalid` when there are services and they are not to be ended, or it is too old to be closed.
    """
    by = secrets.token_hex(8)
    try:
        client.close_intake(by)
    except NotFound as error:
        raise Invalid(
            "This control plane is older than this command, and would make services while it is taken out. Run `sailplane "
            "upgrade` first, then this again. Nothing was removed."
        ) from error
    with ExitStack() as given_up:
        given_up.callback(_make_services_again, client, by)
        if not is_wanted:
            _require_none(client)
        while names := [service.name for service in client.services()]:
            down.shut_down(out, client, names)
            client.close_intake(by)  # services take their time, and the mark may have ended
        _remove_leftovers(out, client)
        given_up.pop_all()  # it was not: all of it goes now


def _make_services_again(client: Client, by: str) -> None:
    with suppress(SailplaneError):  # the mark ends by itself
        client.open_intake(by)


def _require_none(client: Client) -> None:
    if names := [service.name for service in client.services()]:
        raise Invalid(
            f"{len(names)} service{'s' * (len(names) != 1)} would be left without anybody to end "
            f"{'their' if len(names) != 1 else 'its'} machines: {', '.join(names)}. Shut down first with `sailplane down --all`, "
            "or use --services. Nothing was removed."
        )


def _remove_leftovers(out: Output, client: Client) -> None:
    seen = client.leftovers()
    if seen.leftovers:
        seen = doctor.remove_all(out, client, seen)
    if seen.leftovers or seen.unreachable:
        what = ", ".join([*(one.id for one in seen.leftovers), *seen.unreachable])
        raise SailplaneError(
            f"The clouds still hold, or may hold, something of this control plane: {what}. `sailplane doctor --fix` shows and "
            "removes it. Nothing was removed."
        )


def _remove(out: Output, target: Target) -> None:
    with out.progress(f"Removing {target}") as show:
        teardown.remove(target.account, target.deployment, show, stacks.pause)
    if left := teardown.leftovers(target.account, target.deployment):
        raise DeployFailed(f"Something made new ones meanwhile: {', '.join(left)}. Run the same command again.")
    out.message(f"{target} is gone.")
