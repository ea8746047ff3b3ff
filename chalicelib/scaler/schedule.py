"""Which bounds hold now? Cron expressions in their timezones, read backwards from `now`.

As in Debian's cron, an instant that summer time skips comes when the gap ends, and one that winter time repeats comes the
first time only; expressions with `*` for the hour or the minute follow the time that passes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from chalicelib.model import ScalingSpec, ScheduledBounds

# Further back no entry counts: every expression that comes at all by date or weekday comes once a year, but for 29 February.
_LOOK_BACK_S = 366 * 86_400.0


class Bounds(NamedTuple):
    """How few and how many replicas a service may have, and the schedule's entry behind it, if any."""

    min_replicas: int
    max_replicas: int
    entry: ScheduledBounds | None = None

    def clamp(self, replicas: int) -> int:
        """The number within the bounds that is nearest to `replicas`."""
        return min(max(replicas, self.min_replicas), self.max_replicas)

    def __str__(self) -> str:
        by = f" (schedule {self.entry.cron}, {self.entry.timezone})" if self.entry else ""
        return f"{self.min_replicas}..{self.max_replicas}{by}"


def bounds(spec: ScalingSpec, now: float) -> Bounds:
    """The bounds in force at `now` (epoch seconds).

    The entry whose instant came last rules; of several at one instant, the last in the file. Before the first instant of all,
    and of an entry for every bound that it leaves out, the bounds beside the schedule hold.
    """
    instants = [(last_instant(entry, now), place) for place, entry in enumerate(spec.schedule)]
    come = [(instant, place) for instant, place in instants if instant is not None]
    if not come:
        return Bounds(spec.min_replicas, spec.max_replicas)
    entry = spec.schedule[max(come)[1]]
    return Bounds(
        spec.min_replicas if entry.min_replicas is None else entry.min_replicas,
        spec.max_replicas if entry.max_replicas is None else entry.max_replicas,
        entry,
    )


def last_instant(entry: ScheduledBounds, now: float) -> float | None:
    """When the entry's expression came last, at `now` or before; None if not within a year."""
    return _last_instant(entry.cron, entry.timezone, int(now // 60))


# Takes 0.01 to 1 ms, and passes ask up to a hundred times a minute.
@lru_cache(maxsize=1024)
def _last_instant(cron: str, timezone: str, minute: int) -> float | None:
    zone = ZoneInfo(timezone)
    now = 60 * minute
    start = datetime.fromtimestamp(now + 1, zone)
    if start.fold:
        # The hour comes a second time. Its first coming lies behind us as a whole, but cronsim goes by the time on the wall.
        repeated = _offset(start.replace(fold=0)) - _offset(start)
        start = datetime.fromtimestamp(now + 1 + repeated.total_seconds(), zone)
    for instant in CronSim(cron, start, reverse=True):
        at = instant.timestamp()
        if at <= now:
            return at if now - at <= _LOOK_BACK_S else None
    return None


def _offset(instant: datetime) -> timedelta:
    return instant.utcoffset() or timedelta()
