"""Figures as people say them."""

from __future__ import annotations

import pytest

from chalicelib.words import lasting


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (599, "599 s"),
        (600, "10 min"),
        (35_999, "600 min"),
        (86_385, "24 h"),
        (259_199, "72 h"),
        (90 * 86_400, "90 days"),
    ],
)
def test_a_duration_is_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    """Never more than three digits of seconds, minutes or hours, so that nobody has to divide."""
    assert lasting(seconds) == words
