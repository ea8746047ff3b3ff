"""Bounds by the time of the day, and what summer time does to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import LoadSample, ScalingSpec, ScheduledBounds
from chalicelib.scaler import bounds, decide
from chalicelib.scaler.schedule import last_instant
from tests.fakes import START
from tests.scaler.worlds import follow, service

DAY = ScheduledBounds("0 8 * * 1-5", "Europe/Berlin", min_replicas=5)
NIGHT = ScheduledBounds("0 20 * * *", "Europe/Berlin", max_replicas=2)
SPEC = ScalingSpec(min_replicas=1, max_replicas=9, target_qps_per_replica=1.0, schedule=(DAY, NIGHT))


def at(text: str) -> float:
    """The epoch second of an ISO 8601 instant."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("instant", "low", "high"),
    [
        ("2026-07-10T07:59:59+02:00", 1, 2),
        ("2026-07-10T08:00:00+02:00", 5, 9),
        ("2026-07-10T19:59:59.9+02:00", 5, 9),
        ("2026-07-10T20:00:00+02:00", 1, 2),
        ("2026-07-11T12:00:00+02:00", 1, 2),  # a Saturday
        ("2026-01-12T08:00:00+01:00", 5, 9),
    ],
)
def test_the_newest_entry_rules(instant: str, low: int, high: int) -> None:
    """From its instant on, in its own timezone, winter and summer; a bound it leaves out is the one beside the schedule."""
    assert bounds(SPEC, at(instant))[:2] == (low, high)


def test_before_any_entry_has_come_the_bounds_beside_the_schedule_hold() -> None:
    """So they do without a schedule, and for an entry that has not come within a year."""
    rare = ScheduledBounds("0 0 29 2 *", min_replicas=5)
    spec = ScalingSpec(min_replicas=1, max_replicas=9, schedule=(rare,))
    assert bounds(spec, at("2027-12-31T00:00:00+00:00"))[:2] == (1, 9)
    assert bounds(spec, at("2028-12-31T00:00:00+00:00"))[:2] == (5, 9)
    assert bounds(ScalingSpec(min_replicas=1, max_replicas=9), START)[:2] == (1, 9)


def test_of_two_entries_at_one_instant_the_last_rules() -> None:
    """The order of the file decides, whatever the entries say."""
    twice = (ScheduledBounds("0 8 * * *", min_replicas=3), ScheduledBounds("* 8 * * *", min_replicas=2))
    for schedule in (twice, twice[::-1]):
        spec = ScalingSpec(min_replicas=1, max_replicas=9, schedule=schedule)
        assert bounds(spec, at("2026-07-10T08:00:30+00:00")).min_replicas == schedule[-1].min_replicas


@pytest.mark.parametrize(
    ("zone", "cron", "now", "came"),
    [
        # Spring: 02:00 to 03:00 is skipped in Berlin on 2026-03-29. What was due then comes as the gap ends.
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T01:59:59+01:00", "2026-03-28T02:30:00+01:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T03:00:00+02:00", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29T03:40:00+02:00", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "*/20 * * * *", "2026-03-29T03:10:00+02:00", "2026-03-29T03:00:00+02:00"),
        # Autumn: 02:00 to 03:00 comes twice on 2026-10-25. What is due then comes the first time.
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:29:59+02:00", "2026-10-24T02:30:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:29:00+01:00", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:30:00+01:00", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T03:00:00+01:00", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "*/20 * * * *", "2026-10-25T02:10:00+01:00", "2026-10-25T02:00:00+01:00"),
        # Half an hour comes twice.
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05T01:31:00+10:30", "2026-04-05T01:45:00+11:00"),
        ("UTC", "* * * * *", "2026-03-29T01:00:59.999+00:00", "2026-03-29T01:00:00+00:00"),
    ],
)
def test_summer_time(zone: str, cron: str, now: str, came: str) -> None:
    """An instant in the gap comes when the gap ends, one in the overlap the first time; `*` follows the time that passes."""
    assert last_instant(ScheduledBounds(cron, zone), at(now)) == at(came)


CRONS = ["30 2 * * *", "0 0 * * *", "15 1,2,3 * * *", "*/20 * * * *", "5 */2 * * *", "0 3 * * 0", "59 23 * * 6"]
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "UTC"]
# Around every change of the clocks of 2026 in these zones, to the minute, and anywhere else.
CHANGES = [
    "2026-03-29T01:00",
    "2026-10-25T01:00",
    "2026-03-08T07:00",
    "2026-11-01T06:00",
    "2026-04-04T15:00",
    "2026-09-06T04:00",
]
INSTANTS = st.builds(
    lambda change, minutes: at(f"{change}:00+00:00") + 60 * minutes + 0.25,
    st.sampled_from(CHANGES),
    st.integers(-300, 300),
) | st.floats(at("2026-01-01T00:00:00+00:00"), at("2027-01-01T00:00:00+00:00"))


@given(st.sampled_from(CRONS), st.sampled_from(ZONES), INSTANTS)
def test_backwards_finds_what_forwards_has_passed(cron: str, zone: str, now: float) -> None:
    """The last instant read backwards is the last one that cron's own forward iteration reaches before `now`."""
    start = datetime.fromtimestamp(now, ZoneInfo(zone)) - timedelta(days=9)
    passed = 0.0
    for instant in CronSim(cron, start):
        if instant.timestamp() > now:
            break
        passed = instant.timestamp()
    assert last_instant(ScheduledBounds(cron, zone), now) == passed


def test_raised_bounds_are_followed_at_once_and_lowered_ones_by_the_load() -> None:
    """At 8:00 the target is the new minimum in the first pass; at 20:00 a maximum cuts, and a minimum that ends only lets go."""
    subject = service(1, min_replicas=1, max_replicas=9, schedule=(DAY, NIGHT))
    idle = LoadSample(0.0, valid=True)
    assert decide(subject, idle, at("2026-07-10T08:00:00+02:00")).state.target == 5
    (five,) = follow(service(5, min_replicas=1, max_replicas=9), [idle])
    assert five.scaler.target == 5
    busy = service(7, min_replicas=1, max_replicas=9, schedule=(DAY, NIGHT))
    night = decide(busy, LoadSample(7.0, valid=True), at("2026-07-10T20:00:00+02:00"))
    assert night.state.target == 2
    assert "1..2 (schedule 0 20 * * *, Europe/Berlin)" in night.why


def test_a_fixed_number_may_differ_by_the_hour() -> None:
    """Equal bounds without a target: the schedule alone moves the number."""
    entries = (
        ScheduledBounds("30 8 * * *", min_replicas=4, max_replicas=4),
        ScheduledBounds("0 9 * * *", min_replicas=1, max_replicas=1),
    )
    subject = service(1, min_replicas=1, max_replicas=1, target_qps_per_replica=None, schedule=entries)
    day = datetime.fromtimestamp(START, UTC).replace(hour=8, minute=0, second=0).timestamp()
    assert [
        decide(subject, LoadSample(0.0, valid=False), day + 60 * minute).state.target for minute in (0, 30, 59, 60)
    ] == [1, 4, 4, 1]
