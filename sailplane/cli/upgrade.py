"""`sailplane upgrade`: move a control plane in a cloud account to this version, or to other settings."""

from __future__ import annotations

from pathlib import Path

import click

from sailplane.cli import deploying, output
from sailplane.cli import target as targets
from sailplane.cli.deploying import Chosen
from sailplane.cli.output import Output
from sailplane.cli.target import Target
from sailplane.local.home import Home


@click.command("upgrade")
@deploying.settings
@targets.aws
@output.options
def command(out: Output, *, target: Target, home: Home, settings: Chosen, directory: Path | None, yes: bool) -> None:
    """Move the control plane to this version of Sailplane: show what changes, ask, then show progress.

    Settings that are not given stay as they are. One that fails is rolled back to the version before. Services, their
    replicas and their keys are not touched; the data plane goes on meanwhile.
    """
    target = targets.identified(out, target, home)
    stack = target.account.stack(target.deployment)
    if stack is None:
        raise targets.missing(target)
    done = deploying.deploy(out, target, stack, settings, directory, yes=yes)
    deploying.tell(out, target, done, is_changed=done != stack)
