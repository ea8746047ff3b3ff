"""Rounds between two ticks: every service in its turn, no more messages than needed, and an end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chalicelib import passes
from chalicelib.passes.cadence import SHORTEST_S, Round, delay_s, next_round
from tests.fakes import World

_NAMES = [f"s{number}" for number in range(10)]
_INTERVALS = st.dictionaries(
    st.sampled_from(_NAMES), st.sampled_from([1.0, 2.0, 5.0, 10.0, 10.0, 30.0, 90.0]), min_size=1
)


def _report(name: str, next_at: float) -> passes.Report:
    return passes.Report(name, (), acted=False, next_at=next_at)


def _minute(intervals: dict[str, float], lasts_s: float) -> dict[str, list[float]]:
    """When each service is looked at in the minute after a tick at 0, if every round takes so long."""
    looked: dict[str, list[float]] = {name: [0.0] for name in intervals}
    now = lasts_s
    reports = [_report(name, now + every) for name, every in intervals.items()]
    upcoming = next_round(Round({}, 60.0), (), reports, now)
    while upcoming:
        this = Round.parse(upcoming.text)
        now += delay_s(this, now)
        names = this.names(now)
        assert names, "a message that has nothing to do"
        for name in names:
            looked[name].append(now)
        now += lasts_s
        upcoming = next_round(this, names, [_report(name, now + intervals[name]) for name in names], now)
    return looked


@given(intervals=_INTERVALS, lasts_s=st.floats(0.01, 5.0))
def test_every_service_has_its_turn_and_the_minute_its_end(intervals: dict[str, float], lasts_s: float) -> None:
    """Each is looked at when it wants to be, 2 s apart at the least, late by no more than a round takes; none after the minute."""
    for name, instants in _minute(intervals, lasts_s).items():
        wanted_s = max(intervals[name], SHORTEST_S)
        gaps = [after - before for before, after in zip(instants, [*instants[1:], 60.0], strict=True)]
        assert all(wanted_s - 1 <= gap for gap in gaps[:-1])
        assert all(gap <= wanted_s + 3 * lasts_s + 3 for gap in gaps)
        assert instants[-1] < 60


def test_services_go_together() -> None:
    """Ten with one interval cost as many messages as one: five a minute at 10 s, the sixth is the tick."""
    looked = _minute(dict.fromkeys(_NAMES, 10.0), 0.2)
    assert len({tuple(instants) for instants in looked.values()}) == 1
    assert len(looked["s0"]) == 1 + 5


def test_who_is_nearly_due_is_taken_along() -> None:
    """Two that are due within a second share a round, and from then on every one: a message costs the same for both."""
    together = Round({"now": 10.0, "soon": 10.9, "later": 11.5}, 60.0)
    assert together.names(10.0) == {"now", "soon"}


def test_what_is_due_with_the_tick_is_left_to_it() -> None:
    """A service that is probed once a minute, or less often, costs no message at all."""
    assert _minute({"slow": 60.0, "slower": 300.0}, 0.2) == {"slow": [0.0], "slower": [0.0]}


def test_who_is_gone_has_no_more_turns() -> None:
    """It was looked at and is not there; the others keep their turns."""
    last = Round({"gone": 10.0, "later": 20.0}, 60.0)
    (report,) = passes.tick(World().runtime, frozenset({"gone"}))
    assert next_round(last, last.names(10.0), [report], 10.1) == Round({"later": 20.0}, 60.0)
