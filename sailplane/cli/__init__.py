"""The command line: a table of contents. Each command lives in its own module, imported only when it is asked for."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from types import TracebackType
from typing import Any

import click

from chalicelib import __version__
from sailplane.cli.exits import Exit

COMMANDS = {
    "local": "Start, stop and inspect the control plane on this machine.",
    "plan": "Show where a service would run and at what cost; offline.",
    "up": "Start a service: plan, confirm, then watch it become ready.",
    "status": "Show services, their replicas and endpoints.",
    "keys": "Make, list, revoke and replace the keys that clients show.",
    "secrets": "Keep, list and remove texts, such as tokens, for replicas.",
    "update": "Move a running service to a changed file, replica by replica.",
    "down": "Shut services down and remove their replicas.",
    "logs": "Show what a replica's engine wrote.",
    "events": "Show what happened to a service.",
    "why": "Explain the last decisions about a service.",
    "cost": "Show what services cost, and the control plane.",
    "replica": "Preempt, kill or drain one replica.",
    "bootstrap": "Put the control plane into an AWS account.",
    "connect": "Choose the control plane that the other commands talk to.",
    "check": "Show which credentials, permissions and quotas are missing.",
    "upgrade": "Move the control plane in an account to this version.",
    "teardown": "Take the control plane out of its account.",
    "edge": "Put routers on other clouds' functions; list, remove them.",
    "webhook": "Have services follow branches: a push deploys.",
    "trust": "Let CI jobs deploy without a key of their own.",
    "admin-keys": "Make, list and revoke the keys that commands like these show.",
    "audit": "Show who changed what.",
    "export": "Write what another control plane can take in into a file.",
    "import": "Take in what `export` has written.",
    "doctor": "Show, and remove, what clouds hold that no replica needs.",
    "catalog": "Show, check and refresh the prices that plans are made on.",
    "sim": "Simulate a service on recorded markets and traffic; offline.",
}


class LazyCommand(click.Command):
    """Stands for a command until it is run or asked for its own help, so that `sailplane --help` imports none of them."""

    def load(self) -> click.Command:
        """The real command: `command` in the module of the same name."""
        module = (self.name or "").replace("-", "_")
        command: click.Command = importlib.import_module(f"sailplane.cli.{module}").command
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return self.load().make_context(info_name, args, parent, **extra)


class Sailplane(click.Group):
    """The root: commands in the order of their use; a failure ends in a message and an exit code, not in a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx  # click's signature
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        from sailplane.cli import failures  # noqa: PLC0415 - costs 30 ms, which `--help` need not pay

        with failures.shown():
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx  # click's signature
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in Exit])


@click.group(
    cls=Sailplane,
    commands=[LazyCommand(name, help=text) for name, text in COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option(
    "--no-color",
    is_flag=True,
    flag_value="1",
    default="",
    type=click.UNPROCESSED,
    envvar="NO_COLOR",
    show_envvar=True,
    help="Print no colours, as into a pipe.",
)
@click.pass_context
def cli(ctx: click.Context, *, as_json: bool, debug: bool, no_color: str) -> None:
    """Serve AI models on the cheapest healthy GPUs of any cloud, with no server that must stay up.

    Data goes to stdout, messages to stderr.
    """
    from sailplane.cli import output  # noqa: PLC0415 - only a command prints, `--help` does not

    output.configure(ctx, as_json=as_json, debug=debug)
    if no_color:
        ctx.color = False


def main() -> None:
    """The console script."""
    sys.excepthook = _report_defect
    _reach_this_machine_directly()
    if "--debug" not in sys.argv:
        # Libraries log what they then raise too, azure-identity in 15 lines; here the error is told, with what to do.
        logging.lastResort = logging.NullHandler()
    cli()


def _reach_this_machine_directly() -> None:
    """Let no proxy of the user's network stand between the parts of a local stack, of which this process may be one."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join([*filter(None, [os.environ.get(name)]), "127.0.0.1", "localhost"])


def _report_defect(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Tell a defect of Sailplane's own from a failure that its user can mend."""
    if "--debug" in sys.argv:
        sys.__excepthook__(kind, error, traceback)
        return
    click.echo(f"Error: {kind.__name__}: {error}", err=True)
    click.echo("This is a defect of Sailplane, not of your input. Add --debug to see where it happened.", err=True)
