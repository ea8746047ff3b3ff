"""`sailplane bootstrap`: put the control plane into a cloud account."""

from __future__ import annotations

from pathlib import Path

import click

from sailplane.cli import deploying, output
from sailplane.cli import target as targets
from sailplane.cli.deploying import Chosen
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.local.home import Home


@click.command("bootstrap")
@click.argument("cloud", type=click.Choice(["aws"]))
@deploying.settings
@targets.aws
@output.options
def command(
    out: Output,
    *,
    cloud: str,
    target: Target,
    home: Home,
    settings: Chosen,
    directory: Path | None,
    yes: bool,
) -> None:
    """Put the control plane into your CLOUD account: show the plan, ask, then show progress until it serves.

    Run again, it finds nothing to do, or finishes what was interrupted; with other options it changes what is there. A
    first one that fails leaves nothing behind. It costs nothing while no service is deployed.
    """
    del cloud  # there is one so far
    target = targets.identified(out, target, home)
    stack = target.account.stack(target.deployment)
    done = deploying.deploy(out, target, stack, settings, directory, yes=yes)
    deploying.tell(out, target, done, is_changed=done != stack)
