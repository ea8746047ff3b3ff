"""Reports as people read them: one row a policy, one sentence a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sailplane.sim import report
from sailplane.sim.compare import Outcome
from sailplane.sim.report import Interval, Report, Requests

HEADING = ("POLICY", "AVAILABLE", "COST ($)", "OF ON-DEMAND", "SPOT", "LAUNCHES/h", "PREEMPTED", "RECOVERY", "LONGEST")
HEADING_OF_REQUESTS = ("REQUESTS", "FAILED", "RETRIED", "P50 (s)", "P90 (s)", "P99 (s)")
FLUSH_RIGHT = (*HEADING[1:], *HEADING_OF_REQUESTS)


@dataclass(frozen=True, slots=True)
class Difference:
    """What `policy` costs more than `than`, and how much more often it is available; negative is less."""

    policy: str
    than: str
    usd_per_hour: Interval
    availability_points: Interval


def row(one: Report) -> tuple[str, ...]:
    """Cells under `HEADING`, and under `HEADING_OF_REQUESTS` if there were any."""
    of_replicas = (
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
    return of_replicas if one.requests is None else of_replicas + _of_requests(one.requests)


def differences(outcomes: Mapping[str, Outcome]) -> list[Difference]:
    """Of each policy from the first one. Raises `MissingExtra` without scipy."""
    first, *others = outcomes
    return [
        Difference(
            policy,
            first,
            report.compare(outcomes[policy].history, outcomes[first].history, report.usd_per_hour),
            report.compare(outcomes[policy].history, outcomes[first].history, report.availability_points),
        )
        for policy in others
    ]


def sentence(one: Difference) -> str:
    """A difference in words."""
    usd, points = one.usd_per_hour, one.availability_points
    return (
        f"{one.policy} against {one.than}: {usd.mean:+.3f} $/h [{usd.low:+.3f}, {usd.high:+.3f}], "
        f"{points.mean:+.3f} points of availability [{points.low:+.3f}, {points.high:+.3f}]"
    )


def _of_requests(of: Requests) -> tuple[str, ...]:
    times_s = (of.p50_s, of.p90_s, of.p99_s)
    shares = (f"{of.failure_rate:.3%}", f"{of.retried:,}")
    return (f"{of.ended:,}", *shares, *("-" if one is None else f"{one:.1f}" for one in times_s))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 36000
        else f"{seconds / 3600:.0f} h"
    )
