"""From what the routers counted to one figure the scaler can follow."""

from __future__ import annotations

from collections.abc import Sequence

from chalicelib.model import LoadSample, RouterLoad


def sample(routers: Sequence[RouterLoad], window_s: float, stale_after_s: float, now: float) -> LoadSample:
    """Requests per second over the last `window_s` seconds, all routers together.

    The sample is valid while at least one router has reported within `stale_after_s`: silence means that nobody knows
    the load, which is not the same as no load.
    """
    valid = any(now - router.reported_at <= stale_after_s for router in routers)
    requests = sum(count for router in routers for second, count in router.counts if now - window_s < second <= now)
    return LoadSample(qps=requests / window_s, valid=valid)
