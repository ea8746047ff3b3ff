"""What goes wrong on this machine, in the words of `chalicelib.errors`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.errors import LaunchRefused, NoCapacity, Unreachable

# The machine is full: of files, processes, memory or open files. Another one might not be.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@contextmanager
def launching() -> Iterator[None]:
    """Raise what the system refuses before a replica has started as `NoCapacity` or `LaunchRefused`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoCapacity(f"this machine has no room for another replica: {error}") from error
        raise LaunchRefused(f"this machine cannot start the replica: {error}") from error


@contextmanager
def reaching() -> Iterator[None]:
    """Raise what the system refuses otherwise as `Unreachable`."""
    try:
        yield
    except OSError as error:
        raise Unreachable(f"the local provider's files cannot be used: {error}") from error
