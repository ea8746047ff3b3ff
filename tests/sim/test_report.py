"""Figures and intervals against examples that were worked out by hand."""

from __future__ import annotations

import math
import re

import pytest

from chalicelib.model import CapacityType, Location, Offer
from sailplane.sim import extra, report, tables
from sailplane.sim.edge import Fates
from sailplane.sim.history import Billed, Counts, History, Step


def step(t: float, ready: int, target: int = 2) -> Step:
    return Step(t, target, ready, spot_ready=ready, on_demand_ready=0, billed=ready)


def billed(from_s: float, to_s: float, usd: float, kind: CapacityType = CapacityType.SPOT) -> Billed:
    place = Location("aws", "us-east-1", "us-east-1a")
    return Billed("i-1", "svc-1", Offer(place, "m", 8, 64, kind, 1.0), from_s, to_s, usd)


# Ready from 100 on; below target from 400 to 500 and from 700 to 1000. All within 1,000 s.
STEPS = [step(0, 0), step(100, 2), step(400, 1), step(450, 0), step(500, 3), step(700, 1)]


def test_availability_is_the_share_of_time_at_target() -> None:
    """Of a whole run, of a part of it, and of one that is met all the time."""
    assert report.availability(STEPS, 0, 1000) == pytest.approx((300 + 200) / 1000)
    assert report.availability(STEPS, 350, 550) == pytest.approx((50 + 50) / 200)
    assert report.availability(STEPS, 150, 350) == 1.0
    assert report.availability(STEPS, 800, 900) == 0.0


def test_recovery_counts_from_the_loss_to_the_target() -> None:
    """The first cold start is none; the one that the run's end cuts short is."""
    assert report.recoveries_s(STEPS, 1000) == [100, 300]
    assert report.recoveries_s([step(0, 0), step(50, 2)], 100) == []
    assert report.recoveries_s([step(0, 0)], 100) == []


def test_a_bill_is_spread_over_a_machine_s_life() -> None:
    """What falls into a window is its share of the life; windows add up to the whole."""
    bill = [billed(0, 100, 10.0), billed(50, 150, 20.0), billed(150, 150, 0.0)]
    assert report.cost_usd(bill, 0, 75) == pytest.approx(7.5 + 5.0)
    assert report.cost_usd(bill, 0, 75) + report.cost_usd(bill, 75, 200) == pytest.approx(30.0)


def test_the_figures_of_a_run() -> None:
    """Two wanted for 1,000 s at $3.60/h on demand would be $2."""
    history = History(
        bill=[billed(0, 750, 0.5), billed(0, 250, 0.5, CapacityType.ON_DEMAND)],
        steps=STEPS,
        counts=Counts(launches=5, refusals=1, preemptions=2, interruptions=2),
        until_s=1000.0,
    )
    fates = Fates()
    for latency_s in (3.0, 1.0, math.inf, 2.0, 4.0):
        fates.add(0.0, latency_s, 3 if math.isinf(latency_s) else 1)
    found = report.report("ours", history, 3.6, fates)
    assert (found.usd, found.relative_cost, found.spot_share) == pytest.approx((1.0, 0.5, 0.75))
    assert (found.launches_per_hour, found.preemptions) == (pytest.approx(18.0), 2)
    assert (found.recovery_median_s, found.recovery_longest_s) == (200, 300)
    assert found.requests == report.Requests(ended=5, failed=1, retried=1, p50_s=2.0, p90_s=4.0, p99_s=4.0)
    assert found.requests.failure_rate == 0.2


def test_a_run_without_requests_or_losses_has_no_such_figures() -> None:
    """None, not zero: nothing was measured."""
    history = History(steps=[step(0, 2)], until_s=100.0)
    found = report.report("idle", history, 1.0, Fates())
    assert (found.recovery_median_s, found.recovery_longest_s) == (None, None)
    assert found.requests == report.Requests(0, 0, 0, None, None, None)
    assert found.requests.failure_rate == 0.0
    assert report.report("idle", history, 1.0, None).requests is None


def test_the_interval_is_student_s() -> None:
    """Of 1, 2, 3, 4, 5: mean 3, deviation 1.5811, t(0.975, 4) = 2.7764, half width 2.7764 * 1.5811 / sqrt(5) = 1.9632."""
    found = report.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.mean, found.windows) == (3.0, 5)
    assert (found.low, found.high) == (pytest.approx(1.0368, abs=1e-4), pytest.approx(4.9632, abs=1e-4))


def test_runs_are_compared_window_by_window() -> None:
    """A difference that is the same in every window has no width, however much the windows differ."""
    late = Fates()
    for came_at in (10.0, 110.0, 210.0, 310.0, 410.0, 510.0, 610.0, 710.0):
        late.add(came_at, math.inf, 3)
        late.add(came_at, 1.0, 1)
    dear = History(bill=[billed(0, 400, 4.0), billed(400, 800, 40.0)], steps=[step(0, 2)], until_s=800.0)
    cheap = History(bill=[billed(0, 400, 3.0), billed(400, 800, 39.0)], steps=[step(0, 1)], until_s=800.0)
    (found,) = tables.differences([report.report("dear", dear, 3.6, Fates()), report.report("cheap", cheap, 3.6, late)])
    assert (found.policy, found.than) == ("cheap", "dear")
    for interval, expected in (
        (found.usd_per_hour, -9.0),
        (found.availability_points, -100.0),
        (found.failure_points, 50.0),
    ):
        assert interval is not None
        assert (interval.mean, interval.low, interval.high) == pytest.approx((expected,) * 3)
        assert interval.windows == 8
    assert tables.sentence(found).startswith("cheap against dear: -9.000 [-9.000, -9.000] $/h, -100.000 [")


def test_windows_are_days_or_eighths() -> None:
    """Whole days, of a run that has eight of them."""
    days = report.windows(9.5 * report.DAY_S)
    assert (len(days), days[-1]) == (9, (8 * report.DAY_S, 9 * report.DAY_S))
    assert report.windows(80.0)[-1] == (70.0, 80.0)


def test_without_the_extra_the_command_that_installs_it_is_named() -> None:
    """Whoever has no scipy is told what needs it and how to get it."""
    told = re.escape("A plot needs no_such_library, which is not installed: `make setup` or `pip install '.[sim]'`")
    with pytest.raises(extra.MissingExtra, match=told):
        extra.check("no_such_library", "A plot")
