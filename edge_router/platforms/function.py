"""What the functions of all three clouds have in common: no thread between requests, so a request refreshes the table.

A function is frozen as soon as it has answered (Lambda) or gets next to no CPU then (Cloud Run, Azure), so a thread that
refreshes all the time would lie still just when nobody asks. Instead the first request to find the table older than
`refresh_s` exchanges before it is answered. It has been counted by then, so the only request in a long time is handed
over too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from random import random
from threading import Lock

from edge_router import snapshot
from edge_router.exchange import ExchangeFailed
from edge_router.messages import Request, Response
from edge_router.platforms import settings
from edge_router.router import Router

_log = logging.getLogger("edge_router")

# Within the 2 to 5 s that the control plane reckons with; each exchange costs it one invocation.
REFRESH_S = 3.0
# Of each step of an exchange. It stands between a client and its answer, and the last table is as good an answer.
TIMEOUT_S = 1.0
# The same for a router that has no table and nowhere else to get one from: without it, it has no answer at all, and the
# control plane's function may be as cold as this one. That starts within 1 to 2 s.
FIRST_TIMEOUT_S = 5.0
# While the control plane is gone, on each instance one request pays the timeout after 6, 12, 24, 24 … s.
MAX_DOUBLINGS = 3
# From one look for a replica to the next while a client is held; each is an exchange.
POLL_S = (0.5, 1.0)


class Function:
    """Answers requests, one or several at a time, and refreshes the router's table while it does.

    Args:
        router: whose table is refreshed.
        exchange: one exchange of this router with the control plane, each step of which may take so many seconds; raises
            `ExchangeFailed`.
        read_snapshot: gives a router without table the one that was stored last; raises `ExchangeFailed`.
        refresh_s: how old the table may get before a request refreshes it.
        clock: seconds, steady.
        sleep: waits for so many seconds.
        random: uniform in [0, 1).
    """

    def __init__(
        self,
        router: Router,
        exchange: Callable[[float], None],
        read_snapshot: Callable[[], None] | None,
        *,
        refresh_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        random: Callable[[], float],
    ) -> None:
        self._router = router
        self._exchange = exchange
        self._read_snapshot = read_snapshot
        self._refresh_s = refresh_s
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._lock = Lock()
        self._began_at = self._ended_at = self._due_at = clock()
        self._failures = 0
        self._complaint = ""

    def answer(self, request: Request) -> Response:
        """The response. Takes as long as the first one says (`hold_s`) while no replica is there for the client."""
        if self._router.etag is None:
            self._warm_up()
        asked_at = self._clock()
        response = self._router.handle(request)
        if response.hold_s or asked_at >= self._due_at:
            self._refresh(asked_at)
            response = self._router.handle(request, again=response.counted)
        until = asked_at + response.hold_s
        while response.hold_s and (left_s := until - self._clock()) > 0:
            asked_at = self._clock()
            least_s, most_s = POLL_S
            self._sleep(min(left_s, least_s + (most_s - least_s) * self._random()))
            self._refresh(asked_at)
            response = self._router.handle(request, again=response.counted)
        return response

    def _warm_up(self) -> None:
        """A first table: the control plane's or the stored one. Who comes meanwhile waits, and shares what came of it."""
        asked_at = self._clock()
        with self._lock:
            if self._router.etag is not None or self._ended_at > asked_at:
                return
            self._attempt()
            if self._failures and self._read_snapshot is not None:
                try:
                    self._read_snapshot()
                except ExchangeFailed as failure:
                    _log.warning("%s (nothing can be routed)", failure)
            if not self._failures:
                self._due_at = self._began_at  # the request is yet to be counted, and may be the last for long

    def _refresh(self, asked_at: float) -> None:
        """An exchange that began after `asked_at`, this thread's or another's."""
        with self._lock:
            if self._began_at <= asked_at:
                self._attempt()

    def _attempt(self) -> None:
        """One exchange. Says so when things change for the worse or the better, not at every attempt."""
        self._began_at = self._clock()
        self._due_at = self._began_at + self._refresh_s
        try:
            self._exchange(TIMEOUT_S if self._router.etag or self._read_snapshot else FIRST_TIMEOUT_S)
        except ExchangeFailed as failure:
            self._failures += 1
            pause_s = self._refresh_s * 2 ** min(self._failures, MAX_DOUBLINGS)
            self._due_at = self._clock() + pause_s * (1 - self._random() / 4)
            if str(failure) != self._complaint:
                _log.warning("%s (routing goes on with the last table)", failure)
            self._complaint = str(failure)
        else:
            if self._failures:
                _log.warning("the control plane answers again, after %d failed exchanges", self._failures)
            self._failures, self._complaint = 0, ""
        self._ended_at = self._clock()


def from_env(platform: str, *, max_body_bytes: int) -> Function:
    """The function as its environment says.

    Every instance draws an id of its own, whatever SAILPLANE_ROUTER_ID says: all instances of a function share one
    environment, and counts are kept apart by the id.

    Args:
        platform: begins the id.
        max_body_bytes: what the platform takes.

    Raises:
        WrongSetting: a variable is missing or makes no sense; the message names it.
    """
    env = settings.from_env(refresh_s=REFRESH_S)
    control = env.control_plane(f"{platform}-{os.urandom(4).hex()}", TIMEOUT_S, on_demand=True)
    router = Router(
        clock=time.time,
        random=random,
        first_seq=time.time_ns() // 1_000_000,
        token=env.token,
        location=env.location,
        max_body_bytes=max_body_bytes,
    )
    read_snapshot = (lambda: snapshot.read(env.snapshot_url, router, env.role)) if env.snapshot_url else None
    return Function(
        router,
        lambda timeout_s: control.exchange(router, timeout_s),
        read_snapshot,
        refresh_s=env.refresh_s,
        clock=time.monotonic,
        sleep=time.sleep,
        random=random,
    )
