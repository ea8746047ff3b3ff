"""`sailplane teardown`: take a control plane out of its cloud account."""

from __future__ import annotations

import click

from chalicelib.errors import Invalid, Retry, SailplaneError
from sailplane.cli import doctor, down, output
from sailplane.cli import target as targets
from sailplane.cli.client import Client
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.deploy import stacks, teardown
from sailplane.deploy.account import DeployFailed, Stack
from sailplane.deploy.deployment import ADMIN_KEY
from sailplane.local.home import Home


@click.command("teardown")
@click.option("--services", is_flag=True, help="Shut all services down first, and wait for their machines to be gone.")
@click.option("--force", is_flag=True, help="Do not ask the control plane what still runs; you see to that yourself.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@targets.aws
@output.options
def command(out: Output, *, target: Target, home: Home, services: bool, force: bool, yes: bool) -> None:
    """Take the control plane out of your account, with its table, keys, secrets and logs.

    While services or machines are there, it wants --services. Run again, it finishes what was interrupted. Back up first
    with `sailplane export`, if you may want it back.
    """
    with out.progress(f"Looking at {target}") as show:
        stack = stacks.settled(target.account, target.deployment, show, stacks.pause)
    left = teardown.leftovers(target.account, target.deployment)
    serving = stack if stack is not None and stack.has_code and not stack.is_dead and not force else None
    if serving and not services:
        _end_services(out, target, serving, wanted=False)
    if not left:
        out.message(f"{target}: nothing to do.")
    elif yes or out.confirm(f"Remove {target} for good: {', '.join(left)}?"):
        if serving and services:
            _end_services(out, target, serving, wanted=True)
        _remove(out, target)
    else:
        out.message("Nothing was changed.")
        return
    if (known := home.connected()) and known.deployment == target.deployment.name:
        home.disconnect()
    out.document({"deployment": target.deployment.name, "removed": list(left)})


def _end_services(out: Output, target: Target, stack: Stack, *, wanted: bool) -> None:
    """See to it that nothing runs that only the control plane would end. Raises `Invalid` if something does and may."""
    url, key = stack.outputs["ApiUrl"], target.account.keys(target.deployment)[ADMIN_KEY]
    with Client(lambda: (url, key)) as client:
        try:
            _shut_down(out, client, wanted=wanted)
        except Retry as error:
            raise DeployFailed(
                f"{error}\nNobody knows what still runs. Mend it with `sailplane upgrade`, try again, or look yourself at what "
                f"has the tag sailplane-deployment={target.deployment.name} and use --force. Nothing was removed."
            ) from error


def _shut_down(out: Output, client: Client, *, wanted: bool) -> None:
    names = [service.name for service in client.services()]
    if names and not wanted:
        raise Invalid(
            f"{len(names)} service{'s' * (len(names) != 1)} would be left without anybody to end "
            f"{'their' if len(names) != 1 else 'its'} machines: {', '.join(names)}. Shut down first with `sailplane down --all`, "
            "or use --services. Nothing was removed."
        )
    down.shut_down(out, client, names)
    seen = client.leftovers()
    if seen.leftovers:
        seen = doctor.remove_all(out, client, seen)
    if seen.leftovers or seen.unreachable:
        what = ", ".join([*(one.id for one in seen.leftovers), *seen.unreachable])
        raise SailplaneError(
            f"The clouds still hold, or may hold, something of this control plane: {what}. `sailplane doctor --fix` shows and "
            "removes it; --force leaves it to you. Nothing was removed."
        )


def _remove(out: Output, target: Target) -> None:
    with out.progress(f"Removing {target}") as show:
        teardown.remove(target.account, target.deployment, show, stacks.pause)
    if left := teardown.leftovers(target.account, target.deployment):
        raise DeployFailed(f"Something made new ones meanwhile: {', '.join(left)}. Run the same command again.")
    out.message(f"{target} is gone.")
