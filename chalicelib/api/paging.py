"""Lists by the page: so many at once, and a cursor for where the next page begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from chalicelib.model import AdminKey, EndpointKey

T = TypeVar("T")

LONGEST_CURSOR = 512
# Hexadecimal, so that each of them is the place of something that may exist, and none has to be refused.
PATTERN = rf"^(?:[0-9a-f]{{2}}){{1,{LONGEST_CURSOR // 2}}}$"


def valid_cursor(text: str) -> str:
    """The cursor. Raises `ValueError` when it was none of ours."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError("expected the `next` of the page before, as it is")
    return text


def by_age(key: EndpointKey | AdminKey) -> str:
    """The place of a key among others: as stores sort them."""
    return f"{key.created_at:020.6f}#{key.id}"


def cursor(place: str) -> str:
    """The cursor for a place; what it holds is nobody's business but ours."""
    return place.encode("latin-1").hex()


def place(cursor: str | None) -> str:
    """The place that a cursor is for; empty = the beginning."""
    return bytes.fromhex(cursor or "").decode("latin-1")


def cut(rows: Sequence[tuple[str, T]], limit: int) -> tuple[Sequence[T], str | None]:
    """A page of at most `limit` of rows with their places, and the cursor of the next one: the row after it is at hand."""
    following = cursor(rows[limit][0]) if len(rows) > limit else None
    return [row for _, row in rows[:limit]], following


def page(
    items: Iterable[T], place_of: Callable[[T], str], start: str | None, limit: int
) -> tuple[Sequence[T], str | None]:
    """The page of a list that is all there, in the order of its places, and the cursor of the next one."""
    rows = [(place_of(item), item) for item in items]
    return cut([row for row in rows if row[0] >= place(start)], limit)
