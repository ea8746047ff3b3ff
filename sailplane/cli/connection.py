"""Which control plane a command talks to: the one it is told, or the local stack of $SAILPLANE_HOME."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from chalicelib.catalog import Catalog
from chalicelib.errors import Unreachable
from sailplane.cli import output
from sailplane.cli.client import Client
from sailplane.local.home import Home

_R = TypeVar("_R")

_ROOT = "sailplane.cli.connection.root"  # in click's context


def _remember(ctx: click.Context, _parameter: click.Parameter, root: Path) -> Path:
    ctx.meta[_ROOT] = root
    return root


_home_option = functools.partial(
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


def home(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the argument `home`, the local stack's directory."""

    @_home_option()
    @functools.wraps(command)
    def with_home(*args: Any, root: Path, **others: Any) -> _R:
        return command(*args, home=_home_at(root), **others)

    return with_home


def offline(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command that needs no control plane `--home`, for `prices`."""
    return _home_option(expose_value=False)(command)


def prices() -> Catalog:
    """The prices that the running command plans on; those that cannot be read are told. It must have `--home`, as every command with a client has."""
    found = Catalog(_home_at(click.get_current_context().meta[_ROOT]).catalog)
    for defect in found.defects():
        output.current().message(f"Warning: {defect}")
    return found


def client(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the argument `client`, a connection to the control plane."""

    @click.option(
        "--url", envvar="SAILPLANE_URL", show_envvar=True, help="Control plane to use instead of the local one."
    )
    @click.option("--key", envvar="SAILPLANE_KEY", show_envvar=True, help="Its admin key; better given by environment.")
    @_home_option()
    @functools.wraps(command)
    def with_client(*args: Any, url: str | None, key: str | None, root: Path, **others: Any) -> _R:
        if url and not key:
            raise click.UsageError("--url (SAILPLANE_URL) needs that control plane's admin key: set SAILPLANE_KEY.")
        if key and not (key.isascii() and key.isprintable()):
            # Refused here: the HTTP client's own refusal repeats it.
            raise click.UsageError("--key (SAILPLANE_KEY) has a character that no key has, such as the end of a line.")
        with Client((lambda: (url, key)) if url and key else functools.partial(locate, _home_at(root))) as found:
            return command(*args, client=found, **others)

    return with_client


def locate(home: Home) -> tuple[str, str]:
    """URL and admin key of the local stack. Raises `Unreachable` when it does not run."""
    running = home.running()
    if running is None:
        raise Unreachable(f"The local stack of {home.root} is not running.")
    return running.api_url, home.secrets().admin_key


def _home_at(root: Path) -> Home:
    return Home(root.expanduser().absolute())
