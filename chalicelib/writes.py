"""Changing a record that a pass may be changing too, and making what an attempt before may have made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chalicelib.errors import Conflict, Exists

ATTEMPTS = 3

T = TypeVar("T")


def until_unchallenged(change: Callable[[], T]) -> T:
    """Do `change` (load, decide, write under version), again when another writer came between. At most three times.

    Passes hold a lease among themselves, the owner's changes hold none and meet them at the record's version.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return change()
        except Conflict:
            continue
    return change()


def made_once(make: Callable[[], T], find: Callable[[], T | None]) -> T:
    """Make something, or find it when the id is taken: an attempt that died before it answered drew the same (see `once`).

    Raises `Exists` when what is there is somebody else's, so that `find` finds nothing.
    """
    try:
        return make()
    except Exists:
        found = find()
        if found is None:
            raise
        return found
