"""What may happen around a call of a pass: the process dies, the answer is lost, time passes, somebody comes between.

Everything is drawn from the seed, and only by calls that a pass without anything to do does not make, so that skipping such passes
changes nothing. What may befall those too is armed beforehand, as an event in the world: a strike at the n-th call from then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from chalicelib.errors import Unreachable
from sailplane.sim.scheduler import Scheduler

# Calls that only a pass with something to do makes.
ACTING = frozenset({"acquire_lease", "release_lease", "commit", "delete_service", "launch", "terminate", "drain"})
_LONG = frozenset({"launch", "terminate", "probe", "acquire_lease"})  # calls that somebody else waits behind
_NEVER_LOST = frozenset({"probe", "drain"})  # silence is one of their answers
# In a process that stops for long between draining and publishing, clients meet the drain: nobody can stand up to that.
_SHORT_ONLY = frozenset({"commit", "table"})
_DEPTH = 3  # of passes between a pass's calls


class Crash(BaseException):
    """The process is gone."""


class Interposed:
    """A port with something happening before and after each of its calls."""

    def __init__(self, port: object, happens: Callable[[str, str], None]) -> None:
        self._port, self._happens = port, happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*args: object, **kwargs: object) -> object:
            self._happens("before", name)
            answer = found(*args, **kwargs)
            self._happens("after", name)
            return answer

        # The next time it is found at once.
        setattr(self, name, call)
        return call


@dataclass
class Disturber:
    """Decides what happens around a call. `disturbances` counts what did; a pass that saw none may be judged strictly."""

    random: Random
    scheduler: Scheduler
    strength: float
    pass_time: Callable[[float], None]
    run_pass: Callable[[], None]
    owner_acts: Callable[[], None]
    note: Callable[[str], None]
    is_on: bool = True
    depth: int = 0  # passes that are under way
    disturbances: int = 0
    disturbed_at: float = -math.inf
    strikes: list[int] = field(default_factory=list)  # how many calls each of them is away

    @property
    def is_armed(self) -> bool:
        """Whether a strike is on its way, so that every pass counts."""
        return bool(self.strikes)

    @property
    def is_deep(self) -> bool:
        """Whether there are as many passes under way as there may be."""
        return self.depth > _DEPTH

    @property
    def quiet_s(self) -> float:
        """How long ago the last thing happened."""
        return self.scheduler.time - self.disturbed_at

    def arm(self) -> None:
        """Something will happen around one of the next calls."""
        self.strikes.append(self.random.randint(1, 30))

    def happens(self, moment: str, call: str, *, is_acting: bool) -> None:
        """Around every call that a pass makes; `is_acting` when it has something to do. Raises `Crash` or `Unreachable`."""
        if not self.is_on or self.is_deep:
            return
        if self.strikes:
            self.strikes = [calls - 1 for calls in self.strikes]
            if 0 in self.strikes:
                self.strikes.remove(0)
                self._strike(moment, call)
                return
        if is_acting:
            self._roll(moment, call)

    def _roll(self, moment: str, call: str) -> None:
        # Odds of each thing at strength 1, the likelier first: time passes, another pass, no answer, death, the owner.
        is_long = call in _LONG
        for odds, happen in (
            (0.05 if is_long else 0.01, self._delay),
            (0.02 if is_long and moment == "before" else 0.005, self._overlap),
            (0.006, self._lose),
            (0.004, self._crash),
            (0.003, self._owner),
        ):
            if self.random.random() < odds * self.strength:
                happen(f"{moment} {call}", call)

    def _strike(self, moment: str, call: str) -> None:
        happen = self.random.choice((self._delay, self._overlap, self._lose, self._crash))
        happen(f"{moment} {call}", call)

    def _delay(self, where: str, call: str) -> None:
        seconds = self.random.choice((0.125, 1.0) if call in _SHORT_ONLY else (0.125, 1.0, 6.0, 40.0, 80.0))
        self.disturb(f"{seconds:g} s pass {where}")
        self.pass_time(seconds)

    def _overlap(self, where: str, _call: str) -> None:
        self.disturb(f"another pass {where}")
        self.run_pass()

    def _lose(self, where: str, call: str) -> None:
        if call not in _NEVER_LOST:
            self.disturb(f"no answer {where}")
            raise Unreachable(where)

    def _crash(self, where: str, _call: str) -> None:
        self.disturb(f"CRASH {where}")
        raise Crash(where)

    def _owner(self, where: str, _call: str) -> None:
        self.disturb(f"the owner comes {where}")
        self.owner_acts()

    def disturb(self, text: str) -> None:
        """Something has happened that a plane may need a while to get over."""
        self.disturbances += 1
        self.disturbed_at = self.scheduler.time
        self.note(text)
