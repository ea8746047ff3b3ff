"""What each endpoint key may use of this replica. Routers say how much with every grant. Time is an argument, in seconds.

A key's limits are those of the whole service; every router splits them over the replicas in the same way, so that all of them
together keep a limit that none of them could keep alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from replica_agent.grants import Grant

# Clients are spread at random, so a replica sees bursts that the service does not: ten requests may come at once, if they
# are not more than ten seconds' worth, or a second's worth of those that come faster.
_BURST_REQUESTS, _BURST_S, _FAST_BURST_S = 10.0, 10.0, 1.0
_SLOWEST_PER_S = 0.001  # what a grant can say; below it is 0, which lets a single request through
_RETRY_S = 1  # for a place among those in flight: nobody knows when one ends


@dataclass(slots=True)
class _Use:
    at: float
    in_flight: int = 0
    credit: float = math.inf  # requests that may come at once


class Quotas:
    """Counts for one replica. Keys come from authentic grants only, so they are as many as the service has."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._uses: dict[bytes, _Use] = {}

    def enter(self, grant: Grant) -> int:
        """0: a request more is inside, until `leave`. Otherwise it is not, and may be tried again after so many seconds."""
        if not _is_limited(grant):
            return 0
        now = self._now()
        use = self._uses.setdefault(grant.key_id, _Use(now))
        if grant.concurrency_share is not None and use.in_flight >= grant.concurrency_share:
            return _RETRY_S
        if grant.rate_share is not None and (wait_s := _wait_s(use, grant.rate_share / 1_000, now)):
            return wait_s
        use.in_flight += 1
        return 0

    def leave(self, grant: Grant) -> None:
        """The request that `enter` let in with this grant has ended."""
        if _is_limited(grant):
            self._uses[grant.key_id].in_flight -= 1


def _is_limited(grant: Grant) -> bool:
    return grant.rate_share is not None or grant.concurrency_share is not None


def _wait_s(use: _Use, rate_per_s: float, now: float) -> int:
    """Take one request off the credit and return 0, or return the seconds until there is one."""
    burst = max(1.0, min(_BURST_REQUESTS, _BURST_S * rate_per_s), _FAST_BURST_S * rate_per_s)
    use.credit = min(burst, use.credit + (now - use.at) * rate_per_s)
    use.at = now
    if use.credit < 1:
        return math.ceil((1 - use.credit) / max(rate_per_s, _SLOWEST_PER_S))
    use.credit -= 1
    return 0
