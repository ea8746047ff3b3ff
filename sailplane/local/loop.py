"""What EventBridge is to the deployed app: calls the passes when they are due, on the wall clock."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from chalicelib.passes import Report
from chalicelib.ports import Clock

# The whole deployment is looked at this often even when nobody asks: orphans, services made behind our back.
FULL_EVERY_S = 10.0
# A service that always wants its next pass "now" gets five a second.
SHORTEST_S = 0.2

Tick = Callable[[frozenset[str] | None], Sequence[Report]]

_log = logging.getLogger(__name__)


class Agenda:
    """Which services want a pass, and when. Poked from the API's threads, read by the pass loop's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._all_due = 0.0
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

    def turns(self) -> Iterator[frozenset[str] | None]:
        """Wait until something is due and yield it: names, or None for everything. Ends when closed."""
        while True:
            with self._changed:
                while not self._closed and (wait_s := self._next_at() - self._clock.now()) > 0:
                    self._changed.wait(wait_s)
                if self._closed:
                    return
                turn = self._take(self._clock.now())
            yield turn

    def done(self, reports: Sequence[Report]) -> None:
        """Note when the services that were just looked at want to be looked at again."""
        with self._changed:
            self._failures = 0
            earliest = self._clock.now() + SHORTEST_S
            for report in reports:
                if not report.service:  # trouble of the deployment as a whole
                    self._all_due = min(self._all_due, max(report.next_at, earliest))
                    continue
                poked = self._due.get(report.service, math.inf)
                self._due[report.service] = min(poked, max(report.next_at, earliest))

    def failed(self) -> None:
        """Note that the pass broke: everything again after 1 s, 2 s, 4 s … 10 s."""
        with self._changed:
            self._all_due = self._clock.now() + min(2.0**self._failures, FULL_EVERY_S)
            self._failures += 1

    def _next_at(self) -> float:
        return min(self._all_due, *self._due.values()) if self._due else self._all_due

    def _take(self, now: float) -> frozenset[str] | None:
        if self._all_due <= now:
            self._all_due = now + FULL_EVERY_S
            self._due.clear()
            return None
        names = frozenset(name for name, at in self._due.items() if at <= now)
        for name in names:
            del self._due[name]
        return names


def run(agenda: Agenda, tick: Tick) -> None:
    """Run passes until the agenda is closed. Failures are printed; none of them ends the loop."""
    with ThreadPoolExecutor(1, "pass") as worker:
        for names in agenda.turns():
            # `tick` reports every failure it knows of. Whatever it raises is a defect of ours: it costs this one pass, as
            # it would cost one Lambda invocation, and must not leave the services of this machine without a control plane.
            result = worker.submit(tick, names)
            if defect := result.exception():
                _log.error("A pass broke; this is a defect of Sailplane.", exc_info=defect)
                agenda.failed()
                continue
            agenda.done(result.result())
            for report in result.result():
                for failure in report.failures:
                    _log.warning("%s: %s", report.service or "the deployment", failure)
