"""Changing a record that a pass may be changing too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chalicelib.errors import Conflict

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
