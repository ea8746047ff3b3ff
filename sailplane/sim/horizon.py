"""Until when can a pass that has just done nothing not do anything else?

A pass is a function of what it reads. While no answer that it got has changed, only the time has, and time matters to the
deciders by comparing a difference of two instants with a duration. So whatever instants it read, shifted by whatever durations
there are, are the only moments at which it may decide otherwise. They are found by walking the data: any figure above 1e9 is an
instant, any other positive one is taken for a duration, be it one or not. More moments than there are cost a pass each, no more.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache, lru_cache
from typing import Any

_FIRST_INSTANT = 1e9  # epoch seconds of 2001
# Differences that the deciders compute are rounded; a pass that falls this near to a moment is run.
_SLACK_S = 1e-3
_REMEMBERED = 10_000  # nouns; a simulation has a few dozen alive at a time
_NO_FLOAT = re.compile(r"(str|int|bool|tuple|None|[\[\],.| ])+")  # an annotation made of nothing else


class Horizon:
    """Finds the next moment that matters. Remembers what it found in a noun: most are the same ones from pass to pass."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, tuple[float, ...]]] = {}  # by identity; holding the noun keeps it its own

    def after(
        self, now: float, read: Iterable[object], durations_s: frozenset[float], built_up_s: frozenset[float]
    ) -> float:
        """The first moment, from `now` on, at which something may follow from what was read at `now`.

        `durations_s` are all that the deciders may compare the age of an instant with: see `figures`. `built_up_s` are what a
        state remembers to have waited already, which shifts a moment either way.
        """
        offsets = _offsets(durations_s, built_up_s)
        nearest = math.inf
        for instant in {instant for noun in read for instant in self._instants(noun)}:
            index = bisect_left(offsets, now - _SLACK_S - instant)
            if index < len(offsets):
                nearest = min(nearest, instant + offsets[index])
        return nearest - _SLACK_S

    def _instants(self, noun: object) -> tuple[float, ...]:
        known = self._known.get(id(noun))
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = noun, tuple({number for number in figures(noun) if number > _FIRST_INSTANT})
            self._known[id(noun)] = known
        return known[1]


@lru_cache(maxsize=256)  # it changes with the spec, and with a scaler's state
def _offsets(durations_s: frozenset[float], built_up_s: frozenset[float]) -> tuple[float, ...]:
    one = {0.0, *durations_s}
    return tuple(sorted({duration + shift for duration in one for s in {0.0, *built_up_s} for shift in (s, -s)}))


def figures(noun: object) -> Iterator[float]:
    """Every float in a value made of dataclasses and collections."""
    if isinstance(noun, float):
        yield noun
    elif isinstance(noun, str | int | None):
        return
    elif hasattr(type(noun), "__dataclass_fields__"):
        for name in _names(type(noun)):  # type: ignore[arg-type]  # mypy doubts that classes hash
            yield from figures(getattr(noun, name))
    elif isinstance(noun, Mapping):
        for value in noun.values():
            yield from figures(value)
    elif isinstance(noun, Iterable):
        for value in noun:
            yield from figures(value)


@cache
def _names(noun: type[Any]) -> tuple[str, ...]:
    """The fields that may hold a float, by their annotations. A router's counts are 1,200 numbers, and no float among them."""
    return tuple(field.name for field in fields(noun) if not _NO_FLOAT.fullmatch(str(field.type)))
