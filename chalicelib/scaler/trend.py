"""What will the load be when a replica that is launched now is ready?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from chalicelib.model import Replica, RouterLoad

# Stores keep 10 minutes of counts; the routers' reports of the last one may differ by 20 s. Minutes, because requests come in
# bunches: the spread of whole minutes tells noise from a trend, that of seconds would not.
_MINUTES = 9
# Student's t for 7 degrees of freedom: a load without any trend is taken for a rising one 2.5 % of the time.
_SIGNIFICANT = 2.365


def cold_start_s(replicas: Sequence[Replica]) -> float | None:
    """How long replicas take from the intent to the first READY: the median of those that live, None when none has got there."""
    took = sorted(replica.ready_at - replica.created_at for replica in replicas if replica.ready_at is not None)
    return (took[(len(took) - 1) // 2] + took[len(took) // 2]) / 2 if took else None


def expected_qps(routers: Sequence[RouterLoad], end: int, since: float, ahead_s: float) -> float | None:
    """Requests per second `ahead_s` after `end`, along the straight line through the last 9 minutes.

    None unless these lie after `since`, from when on there is a history, and rise by more than chance explains: a least-squares
    slope that differs from zero at the level of 2.5 %.
    """
    start = end - 60 * _MINUTES
    if start < since:
        return None
    counts = [0] * _MINUTES
    for router in routers:
        for second, count in router.counts:
            if start <= second < end:
                counts[(second - start) // 60] += count
    ages_s = [
        60.0 * minute + 30.0 - 30.0 * _MINUTES for minute in range(_MINUTES)
    ]  # of its centre, from the middle one's
    mean = sum(counts) / _MINUTES
    spread = math.fsum(age * age for age in ages_s)
    slope = math.fsum(age * count for age, count in zip(ages_s, counts, strict=True)) / spread
    residuals = [count - mean - slope * age for age, count in zip(ages_s, counts, strict=True)]
    error = math.sqrt(math.fsum(residual**2 for residual in residuals) / (_MINUTES - 2) / spread)
    if slope <= 0 or slope < _SIGNIFICANT * error:
        return None
    return (mean + slope * (30.0 * _MINUTES + ahead_s)) / 60
