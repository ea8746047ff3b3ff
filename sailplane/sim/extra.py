"""What `sailplane sim` needs beyond Sailplane's own dependencies: scipy and matplotlib, the extra `sim`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.errors import SailplaneError


class MissingExtra(SailplaneError):
    """An optional dependency is not installed."""


@contextmanager
def wanted_for(purpose: str) -> Iterator[None]:
    """Import what belongs to the extra within this. Raises `MissingExtra` with the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{purpose} needs {error.name}, which is not installed: `make setup` or `pip install '.[sim]'` where Sailplane was"
            " checked out"
        ) from error


def check(library: str, purpose: str) -> None:
    """See that a library of the extra is there before hours are spent. Raises `MissingExtra`."""
    with wanted_for(purpose):
        importlib.import_module(library)
