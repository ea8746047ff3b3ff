"""Launching for the load that will be there when a new replica is."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import LoadSample
from chalicelib.scaler.trend import cold_start_s, expected_qps
from tests.fakes import START
from tests.scaler.worlds import follow, replica, router, seen, service, targets

SECOND = int(START)
LONG_AGO = START - 86_400


def ramp(first: float, last: float) -> list[tuple[int, int]]:
    """Counts that rise evenly from `first` to `last` requests a second over the 10 minutes before START."""
    return [(SECOND - 600 + second, round(first + (last - first) * second / 600)) for second in range(600)]


def test_the_cold_start_is_the_median_of_what_was_measured() -> None:
    """From the intent to the first READY, of live replicas; not known before one has been ready."""
    starts = [replica(number, ready_at=START + took) for number, took in enumerate((90.0, 100.0, 900.0))]
    assert cold_start_s(starts) == 100.0
    assert cold_start_s(starts[:2]) == 95.0
    assert cold_start_s([replica(1)]) is None


def test_a_straight_rise_is_carried_on() -> None:
    """From 10 to 70 a second in 10 minutes: 100 are expected 5 minutes later, from any number of routers."""
    counts = ramp(10, 70)
    for routers in ([router(counts, START)], [router(counts[::2], START), router(counts[1::2], START, "b")]):
        assert expected_qps(routers, SECOND, LONG_AGO, 300.0) == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(("first", "last"), [(50, 50), (70, 10), (0, 0)])
def test_a_load_that_does_not_rise_is_not_looked_ahead_of(first: float, last: float) -> None:
    """A falling trend never lowers what the load of now wants, so there is none."""
    assert expected_qps([router(ramp(first, last), START)], SECOND, LONG_AGO, 300.0) is None


def test_a_young_service_has_no_trend() -> None:
    """Before its first 9 minutes are over, the time in which it did not exist is no time without requests."""
    assert expected_qps([router(ramp(10, 70), START)], SECOND, START - 500, 300.0) is None


def test_chance_is_rarely_taken_for_a_trend() -> None:
    """Five requests a second at random, 1,000 times: a rise is seen in 4 % of them at the most, where 2.5 % are due to chance."""
    random = Random(7)
    found = 0
    for _ in range(1000):
        counts = [(SECOND - 540 + 60 * minute, round(random.gauss(300, 17.3))) for minute in range(9)]
        found += expected_qps([router(counts, START)], SECOND, LONG_AGO, 300.0) is not None
    assert found <= 40


def test_it_is_off_unless_asked_for_and_known() -> None:
    """Without `look_ahead`, without a replica that has been ready, or with a silent router, nothing is expected."""
    counts, warm = ramp(10, 70), [(replica(1, ready_at=START + 300), None)]
    ahead = replace(service(look_ahead=True), created_at=LONG_AGO)
    load = seen(ahead, START, routers=[router(counts, START)], loads=warm)
    assert load.expected == pytest.approx(100, rel=0.01)
    plain = replace(service(), created_at=LONG_AGO)
    assert seen(plain, START, routers=[router(counts, START)], loads=warm).expected is None
    assert seen(ahead, START, routers=[router(counts, START)], loads=[(replica(1), None)]).expected is None
    silent = router(ramp(10, 70), START - 61, "b")
    assert seen(ahead, START, routers=[router(counts, START), silent], loads=warm).expected is None


def test_a_ramp_is_followed_a_cold_start_earlier() -> None:
    """The target rises as many ticks earlier as the load needs to grow from now's to the expected one, delay included."""
    rate = [1.0 + tick * 0.02 for tick in range(200)]
    behind = targets(follow(service(), [LoadSample(qps, valid=True) for qps in rate]))
    ahead = targets(follow(service(), [LoadSample(qps, valid=True, expected=qps + 0.3) for qps in rate]))
    assert behind.index(2) - ahead.index(2) in (1, 2)  # the first rise is due from the first tick on
    assert behind.index(4) - ahead.index(4) == pytest.approx(0.3 / 0.02, abs=1)


@given(st.floats(0, 30), st.floats(0, 30))
def test_it_only_ever_raises(now: float, later: float) -> None:
    """An expectation below the load of now changes nothing, one above it never lowers a target, and max stays max."""
    plain = targets(follow(service(), [LoadSample(now, valid=True)] * 100))
    ahead = targets(follow(service(), [LoadSample(now, valid=True, expected=later)] * 100))
    assert all(one <= other <= 10 for one, other in zip(plain, ahead, strict=True))
    assert plain == ahead or later > now
