"""Averages are exact, whatever came before and however long ago."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_agent.average import LONGEST_WINDOW_S, SampleAverage, StepAverage

START = 5_000.0
# Quarters of a second are exact in binary; the gaps reach from "at the same instant" past everything remembered.
GAPS = st.integers(0, 2_800) | st.integers(0, 8)
STEPS = st.lists(st.tuples(GAPS.map(lambda quarters: quarters / 4), st.integers(0, 50)), max_size=40)


def area(steps: list[tuple[float, int]], first: float, last: float) -> float:
    """Under a step function given as (instant, value from then on), by going through all of it."""
    ends = [at for at, _ in steps[1:]] + [last]
    return sum(value * max(0.0, min(end, last) - max(at, first)) for (at, value), end in zip(steps, ends, strict=True))


@given(STEPS, GAPS.map(lambda quarters: quarters / 4), st.integers(1, 600))
def test_the_average_is_that_of_the_whole_history(steps: list[tuple[float, int]], rest_s: float, window_s: int) -> None:
    """Equal to integrating everything that ever happened, over a window that begins at a whole second."""
    average, now, history = StepAverage(), START, [(0.0, 0)]
    for gap_s, count in steps:
        now += gap_s
        average.change(count, now)
        history.append((now, count))
    now += rest_s
    first = floor(now - window_s)
    assert average.average(window_s, now) == pytest.approx(area(history, first, now) / (now - first), abs=1e-9)


def test_asking_changes_nothing() -> None:
    """Two questions at one instant, or a question more in between, get the same answer."""
    asked, left_alone = StepAverage(), StepAverage()
    for second in range(700):
        for each in (asked, left_alone):
            each.change(second % 7, START + second * 1.25)
        asked.average(60, START + second * 1.25 + 0.5)
    now = START + 900
    assert asked.average(60, now) == asked.average(60, now) == pytest.approx(left_alone.average(60, now))


def test_a_young_replica_was_idle_before() -> None:
    """So that the averages of a service's replicas add up: the past of one that has just begun counts as nothing."""
    average = StepAverage()
    average.change(10, START)
    assert average.average(60, START + 6) == pytest.approx(1.0)
    assert average.average(6, START + 6) == pytest.approx(10.0)


def test_a_window_is_cut_at_what_is_remembered() -> None:
    """Ten minutes."""
    average = StepAverage()
    average.change(3, START)
    now = START + 10 * LONGEST_WINDOW_S
    assert average.average(1e9, now) == pytest.approx(3.0)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 1_000)), min_size=1, max_size=200), st.integers(1, 600))
def test_the_mean_of_samples_is_that_of_the_window(samples: list[tuple[int, int]], window_s: int) -> None:
    """Equal to keeping every sample for ever, where there is one in the window."""
    average, now, kept = SampleAverage(), START, []
    for gap_s, value in samples:
        now += gap_s
        average.add(value, now)
        kept.append((now, value))
    inside = [value for at, value in kept if at > now - window_s]
    assert average.average(window_s, now) == pytest.approx(sum(inside) / len(inside))


def test_no_sample_is_not_zero() -> None:
    """Not known before the first sample, nor once 15 s have gone without one."""
    average = SampleAverage()
    assert average.average(60, START) is None
    average.add(4, START)
    average.add(8, START + 5)
    assert average.average(60, START + 19) == 6
    assert average.average(60, START + 20) is None


def test_a_window_shorter_than_the_pause_between_samples_has_the_newest() -> None:
    """A panic window of 2 s between two samples 5 s apart."""
    average = SampleAverage()
    average.add(4, START)
    average.add(8, START + 5)
    assert average.average(2, START + 9) == 8
