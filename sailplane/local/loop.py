"""What EventBridge is to the deployed app: calls the passes when they are due, on the wall clock."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from chalicelib.passes import Report
from chalicelib.ports import Clock

# The whole deployment is looked at this often even when nobody asks: orphans, services made behind our back.
FULL_EVERY_S = 10.0
# A service that always wants its next pass "now" gets five a second.
SHORTEST_S = 0.2

# A service that waits for a slow cloud keeps its turn until that answers; the others go on meanwhile.
_TURNS_AT_ONCE = 32

Turn = frozenset[str] | None  # these services, or everything
Tick = Callable[[Turn, Callable[[Report], None]], object]

_log = logging.getLogger(__name__)


class Agenda:
    """Which services want a pass, and when. Poked from the API's threads, told by the passes', read by the loop's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._all_due = 0.0  # never, while all services have their turn
        self._all_taken_at = 0.0
        self._failures = 0
        self._closed = False

    def poke(self, service: str) -> None:
        """Ask for a pass over `service` now. A poke during a pass over it is good for one more."""
        with self._changed:
            self._due[service] = 0.0
            self._changed.notify()

    def close(self) -> None:
        """End `turns`; a pass that is running is let finish."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def turns(self) -> Iterator[Turn]:
        """Wait until something is due and yield it: names, or None for everything. Ends when closed."""
        while True:
            with self._changed:
                while not self._closed and (wait_s := self._next_at() - self._clock.now()) > 0:
                    self._changed.wait(min(wait_s, FULL_EVERY_S))
                if self._closed:
                    return
                turn = self._take(self._clock.now())
            yield turn

    def told(self, report: Report) -> None:
        """Note when the service that was just looked at wants to be looked at again."""
        with self._changed:
            at = max(report.next_at, self._clock.now() + SHORTEST_S)
            if report.service:
                self._due[report.service] = min(self._due.get(report.service, math.inf), at)
            else:  # trouble of the deployment as a whole
                self._all_due = min(self._all_due, at)
            self._changed.notify()

    def ended(self, turn: Turn) -> None:
        """Note that a turn came to its end."""
        with self._changed:
            self._failures = 0
            if turn is None:
                self._all_due = min(self._all_due, self._all_taken_at + FULL_EVERY_S)
            self._changed.notify()

    def failed(self) -> None:
        """Note that a turn broke: everything again after 1 s, 2 s, 4 s … 10 s."""
        with self._changed:
            self._all_due = self._clock.now() + min(2.0**self._failures, FULL_EVERY_S)
            self._failures += 1
            self._changed.notify()

    def _next_at(self) -> float:
        return min(self._all_due, *self._due.values()) if self._due else self._all_due

    def _take(self, now: float) -> Turn:
        if self._all_due <= now:
            self._all_due, self._all_taken_at = math.inf, now
            self._due.clear()
            return None
        names = frozenset(name for name, at in self._due.items() if at <= now)
        for name in names:
            del self._due[name]
        return names


def run(agenda: Agenda, tick: Tick) -> None:
    """Run passes until the agenda is closed, turns side by side. Failures are printed; none of them ends the loop.

    Two turns may meet over one service, when it is poked or everything has its turn: the second finds the lease, and leaves.
    """
    with ThreadPoolExecutor(_TURNS_AT_ONCE, "turn") as workers:
        for turn in agenda.turns():
            result = workers.submit(tick, turn, partial(_tell, agenda))
            result.add_done_callback(partial(_end, agenda, turn))


def _tell(agenda: Agenda, report: Report) -> None:
    agenda.told(report)
    for failure in report.failures:
        _log.warning("%s: %s", report.service or "the deployment", failure)


def _end(agenda: Agenda, turn: Turn, result: Future[object]) -> None:
    # `tick` reports every failure it knows of. Whatever it raises is a defect of ours: it costs this one turn, as it would
    # cost one Lambda invocation, and must not leave the services of this machine without a control plane.
    if defect := result.exception():
        _log.error("A pass broke; this is a defect of Sailplane.", exc_info=defect)
        agenda.failed()
    else:
        agenda.ended(turn)
