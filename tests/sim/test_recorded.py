"""A service's own events become the market that it met."""

from __future__ import annotations

import re

import pytest

from chalicelib.errors import Invalid
from chalicelib.model import Event
from sailplane.sim import recorded

T = 1_800_000_000.0
EAST, WEST = "aws/us-east-1/us-east-1a", "aws/us-west-2/us-west-2c"


def pending(
    at: float, replica: str, place: str, price: str = "spot at $1.2/h", machine: str = "g6.xlarge (L4:1)"
) -> Event:
    return Event(T + at, "replica.pending", f"{replica}: {place} {machine} {price}: the cheapest of 4", replica)


def given(at: float, replica: str, place: str) -> Event:
    return Event(T + at, "replica.provisioning", f"{replica}: {place} gave g6.xlarge (i-1)", replica)


def refused(at: float, replica: str, place: str) -> Event:
    return Event(T + at, "replica.terminated", f"{replica}: {place}: NO_CAPACITY: none left; not asked again", replica)


EVENTS = (
    pending(0, "a", EAST),
    given(1, "a", EAST),
    Event(T + 21, "replica.starting", "a: agent is up", "a"),
    Event(T + 91, "replica.ready", "a: readiness probe passed", "a"),
    pending(100, "b", EAST),
    refused(101, "b", EAST),
    pending(102, "c", WEST, "spot at $1.4/h"),
    given(103, "c", WEST),
    pending(150, "d", WEST, "on-demand at $1,004/h"),
    given(151, "d", WEST),
    Event(T + 200, "replica.notice", "a: aws gives notice that it takes the machine in 120 s", "a"),
    pending(400, "e", EAST, "spot at $1.3/h"),
    given(401, "e", EAST),
    Event(T + 500, "replica.terminating", "c: the cloud took the machine", "c"),
    Event(T + 600, "service", "something else"),
)


def test_zones_have_room_until_they_refuse_or_take() -> None:
    """Plenty at first; what was left alive after a refusal, a notice's instant, a loss; plenty again once one is given."""
    recording = recorded.read(EVENTS)
    east, west = recording.market.zones
    rooms = {t: east.capacity_at(t) for t in (0, 100, 101, 319, 320, 400, 401, 600)}
    plenty = rooms[0]
    assert plenty > 100
    assert rooms == {0: plenty, 100: plenty, 101: 1, 319: 1, 320: 0, 400: 0, 401: plenty, 600: plenty}
    assert [west.capacity_at(t) for t in (0, 499, 500, 600)] == [plenty, plenty, 0, 0]
    assert [east.spot_usd_per_hour_at(t) for t in (0, 399, 400)] == [1.2, 1.2, 1.3]
    assert recording.until_s == 601


def test_a_machine_is_what_was_launched() -> None:
    """Type, accelerator, on-demand price and cold start come from the events."""
    recording = recorded.read(EVENTS)
    market = recording.market
    assert (market.instance_type, market.accelerator, market.accelerator_count) == ("g6.xlarge", "L4", 1)
    assert market.on_demand_usd_per_hour == 1004.0
    assert recorded.read(EVENTS, on_demand_usd_per_hour=2.0).market.on_demand_usd_per_hour == 2.0
    assert recording.cold_start.boot_s == (20.0, 20.0)
    assert recording.cold_start.setup_s == (70.0, 70.0)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((), "No launch is among the events"),
        ((pending(0, "a", EAST),), "--on-demand-usd"),
        ((pending(0, "a", EAST), pending(1, "b", EAST, machine="p3.2xlarge (V100:1)")), "g6.xlarge, p3.2xlarge"),
        ((Event(T, "replica.pending", "somewhere", "a"),), "'somewhere'"),
    ],
)
def test_what_cannot_be_replayed_is_refused(events: tuple[Event, ...], told: str) -> None:
    """With the reason, and the remedy where there is one."""
    with pytest.raises(Invalid, match=re.escape(told)):
        recorded.read(events)
