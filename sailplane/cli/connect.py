"""`sailplane connect`: which control plane the other commands talk to."""

from __future__ import annotations

import click

from sailplane.cli import connection, output
from sailplane.cli import target as targets
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.local.home import Connected, Home


@click.group("connect")
def command() -> None:
    """Choose the control plane that the other commands talk to."""


@command.command("aws")
@targets.aws
@output.options
def aws(out: Output, *, target: Target, home: Home) -> None:
    """Talk to the control plane in your AWS account from now on.

    Its address and its admin key are read with your AWS credentials, and kept in $SAILPLANE_HOME for you alone.
    """
    with out.progress(f"Looking for {target}"):
        stack = target.account.stack(target.deployment)
        if stack is None or not stack.has_code:
            raise targets.missing(target)
        key, identity = targets.admin_key(target), target.account.identity()
    url = stack.outputs["ApiUrl"].rstrip("/")
    home.connect(Connected(url, key, target.deployment.name, target.account.region, identity.account))
    out.message(f"Connected to {target} of {identity}.")
    out.document({"deployment": target.deployment.name, "region": target.account.region, "url": url})
    out.next("sailplane status", "sailplane up FILE -n NAME")


@command.command("local")
@connection.home
@output.options
def local(out: Output, *, home: Home) -> None:
    """Talk to the control plane on this machine again, and forget the other one's key."""
    home.disconnect()
    out.message("Connected to this machine.")
    out.document({"deployment": None})
    out.next("sailplane local status")
