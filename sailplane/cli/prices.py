"""Which prices a command plans on: the packaged ones, or newer ones of $SAILPLANE_HOME."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from chalicelib.catalog import Catalog
from sailplane.cli import output

_R = TypeVar("_R")
_ROOT = "sailplane.cli.prices.root"  # in click's context


def _remember(ctx: click.Context, _parameter: click.Parameter, root: Path) -> Path:
    ctx.meta[_ROOT] = root
    return root


home_option = functools.partial(
    click.option,
    "--home",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: Path.home() / ".sailplane",
    envvar="SAILPLANE_HOME",
    show_envvar=True,
    show_default="~/.sailplane",
    callback=_remember,
    help="Where the local stack keeps its things, and `catalog refresh` its prices.",
)


def usd(amount: float) -> str:
    """Dollars of a machine's hour: with four digits below one, where the cheapest machines differ."""
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4f}"


def needed(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command that needs no control plane `--home`, for `current`."""
    return home_option(expose_value=False)(command)


def current() -> Catalog:
    """The prices of the running command, which has `--home`, as every command with a client has. Tells what cannot be read."""
    root: Path = click.get_current_context().meta[_ROOT]
    found = Catalog(root.expanduser().absolute() / "catalog")
    for defect in found.defects():
        output.current().message(f"Warning: {defect}")
    return found
