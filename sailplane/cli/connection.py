"""Which control plane a command talks to: the one it is told, the one connected to, or the local stack."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from chalicelib.errors import Unreachable
from sailplane.cli import output, prices
from sailplane.cli.client import Client
from sailplane.cli.failures import NamedAway, NotRunning
from sailplane.local.home import Home

_R = TypeVar("_R")


def home(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the argument `home`, the local stack's directory."""

    @prices.home_option()
    @functools.wraps(command)
    def with_home(*args: Any, root: Path, **others: Any) -> _R:
        return command(*args, home=_home_at(root), **others)

    return with_home


def client(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a command the argument `client`, a connection to the control plane."""

    @click.option(
        "--url", envvar="SAILPLANE_URL", show_envvar=True, help="Control plane to use, whatever is connected to."
    )
    @click.option("--key", envvar="SAILPLANE_KEY", show_envvar=True, help="Its admin key; better given by environment.")
    @prices.home_option()
    @functools.wraps(command)
    def with_client(*args: Any, url: str | None, key: str | None, root: Path, **others: Any) -> _R:
        if url and not _is_address(url):
            # Not repeated: it may hold a password.
            raise click.UsageError("SAILPLANE_URL (or --url) is no address: expected http(s)://host[:port][/prefix].")
        if url and not key:
            raise click.UsageError("SAILPLANE_URL (or --url) needs that control plane's admin key: set SAILPLANE_KEY.")
        if key and not (key.isascii() and key.isprintable()):
            # Refused here: the HTTP client's own refusal repeats it.
            raise click.UsageError(
                "SAILPLANE_KEY (or --key) has a character that no key has, such as the end of a line."
            )

        def place() -> tuple[str, str]:
            if url and key:
                return url, key
            address, kept = locate(_home_at(root))
            return address, key or kept

        with Client(place, output.current().message) as found:
            try:
                return command(*args, client=found, **others)
            except Unreachable as error:
                if url:
                    raise NamedAway(str(error)) from error
                raise

    return with_client


def locate(home: Home) -> tuple[str, str]:
    """URL and admin key of the control plane that `sailplane connect` chose, or else of the local stack.

    Raises `NotRunning` when that does not run.
    """
    if connected := home.connected():
        return connected.url, connected.key
    return locate_local(home)


def locate_local(home: Home) -> tuple[str, str]:
    """URL and admin key of the local stack. Raises `NotRunning` when it does not run."""
    running = home.running()
    if running is None:
        raise NotRunning(f"The local stack of {home.root} is not running.")
    return running.api_url, home.secrets().admin_key


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is none, or a bracket that is not closed
        return False


def _home_at(root: Path) -> Home:
    return Home(root.expanduser().absolute())
