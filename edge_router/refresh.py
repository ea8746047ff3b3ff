"""When to exchange with the control plane: regularly, at once when somebody waits, seldom while nobody answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from edge_router.exchange import ExchangeFailed

_log = logging.getLogger("edge_router")

# However many clients knock, the control plane is asked at most this often on top of the regular refresh.
KNOCK_GAP_S = 0.25
# Eight times slower at most: with a refresh of 1 s, a control plane that is back is found within 8 s.
MAX_SLOWDOWN = 8


class Refresher:
    """A thread that calls `exchange` again and again.

    A thread and not a task of the server's event loop: `http.client` blocks, and asyncio alone takes 48 ms to import.

    Args:
        exchange: one exchange; raises `ExchangeFailed`.
        then: called on the thread after every attempt, good or bad, with its number.
        refresh_s: from the end of one exchange to the start of the next.
        random: uniform in [0, 1); routers that lost the control plane together do not come back together.
    """

    def __init__(
        self,
        exchange: Callable[[], None],
        then: Callable[[int], object],
        refresh_s: float,
        random: Callable[[], float],
    ) -> None:
        self._exchange = exchange
        self._then = then
        self._refresh_s = refresh_s
        self._random = random
        self._attempts = 0
        self._failures = 0
        self._complaint = ""
        self._wake = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="sailplane-refresh", daemon=True)

    def start(self) -> None:
        """Begin with an exchange at once."""
        self._thread.start()

    def knock(self) -> int:
        """Somebody waits for a replica: exchange as soon as the gap allows. Returns at once.

        Returns:
            The number of an attempt that begins after this call: what it brings is news to whoever knocked.
        """
        attempt = self._attempts + 1
        self._wake.set()
        return attempt

    def stop(self) -> None:
        """End, after a last exchange with the remaining counts; without one while the control plane is gone."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self._attempt()
            gap_s, rest_s = pauses_s(self._refresh_s, self._failures, self._random())
            if not self._stopping.wait(gap_s):
                self._wake.wait(rest_s)
        if not self._failures:
            self._attempt()

    def _attempt(self) -> None:
        self._attempts += 1
        self._try()
        self._then(self._attempts)

    def _try(self) -> None:
        """Exchange. Says so when things change for the worse or the better, not at every attempt."""
        try:
            self._exchange()
        except ExchangeFailed as failure:
            self._failures += 1
            if str(failure) != self._complaint:
                _log.warning("%s (routing goes on with the last table)", failure)
            self._complaint = str(failure)
            return
        if self._failures:
            _log.warning("the control plane answers again, after %d failed exchanges", self._failures)
        self._failures, self._complaint = 0, ""


def pauses_s(refresh_s: float, failures: int, random: float) -> tuple[float, float]:
    """Seconds to wait whatever happens, and then seconds to wait for a knock.

    Together `refresh_s` while all is well. Both double with every failure in a row, up to eightfold, less up to a
    quarter at random.
    """
    slowdown = min(2.0 ** min(failures, 10), MAX_SLOWDOWN)
    if failures:
        slowdown *= 1 - random / 4
    gap_s = min(KNOCK_GAP_S, refresh_s)
    return gap_s * slowdown, (refresh_s - gap_s) * slowdown
