"""Reports as people read them: one row a policy, one sentence a difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chalicelib.words import lasting
from sailplane.sim import report
from sailplane.sim.report import Interval, Report, Window

HEADING = ("POLICY", "AVAILABLE", "COST ($)", "OF ON-DEMAND", "SPOT", "LAUNCHES/h", "LOST", "RECOVERY", "LONGEST")
HEADING_OF_REQUESTS = ("POLICY", "REQUESTS", "FAILED", "RETRIED", "P50 (s)", "P90 (s)", "P99 (s)")
FLUSH_RIGHT = (*HEADING[1:], *HEADING_OF_REQUESTS[1:])


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much `policy` exceeds `than` in a window, on average; negative is less. Points are percent."""

    policy: str
    than: str
    usd_per_hour: Interval
    availability_points: Interval
    failure_points: Interval | None  # of requests, if there were any


def row(one: Report) -> tuple[str, ...]:
    """Cells under `HEADING`."""
    return (
        one.policy,
        f"{one.availability:.3%}",
        f"{one.usd:,.2f}",
        f"{one.relative_cost:.1%}",
        f"{one.spot_share:.0%}",
        f"{one.launches_per_hour:.2f}",
        f"{one.preemptions:,}",
        _duration(one.recovery_median_s),
        _duration(one.recovery_longest_s),
    )


def row_of_requests(one: Report) -> tuple[str, ...]:
    """Cells under `HEADING_OF_REQUESTS`; the name alone without traffic."""
    of = one.requests
    if of is None:
        return (one.policy,)
    times_s = (of.p50_s, of.p90_s, of.p99_s)
    shares = (f"{of.failure_rate:.3%}", f"{of.retried:,}")
    return (one.policy, f"{of.ended:,}", *shares, *("-" if time_s is None else f"{time_s:.1f}" for time_s in times_s))


def differences(reports: Sequence[Report]) -> list[Difference]:
    """Of each policy from the first one, window by window. Raises `MissingExtra` without scipy."""
    first, *others = reports
    return [_difference(one, first) for one in others]


def _difference(ours: Report, theirs: Report) -> Difference:
    def paired(figure: Callable[[Window], float]) -> Interval:
        return report.interval(
            [figure(one) - figure(other) for one, other in zip(ours.windows, theirs.windows, strict=True)]
        )

    return Difference(
        ours.policy,
        theirs.policy,
        paired(lambda window: window.usd_per_hour),
        paired(lambda window: 100 * window.availability),
        paired(lambda window: 100 * (window.failure_rate or 0.0)) if ours.requests else None,
    )


def sentence(one: Difference) -> str:
    """A difference in words."""
    parts = [f"{_shown(one.usd_per_hour)} $/h", f"{_shown(one.availability_points)} points of availability"]
    if one.failure_points:
        parts.append(f"{_shown(one.failure_points)} points of failed requests")
    return f"{one.policy} against {one.than}: {', '.join(parts)}"


def _shown(of: Interval) -> str:
    return f"{of.mean:+.3f} [{of.low:+.3f}, {of.high:+.3f}]"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else lasting(seconds)
