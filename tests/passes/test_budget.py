"""A service's budget, kept by the shipped passes in virtual time; the judge is the cloud's own book."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from chalicelib import passes
from chalicelib.model import BudgetSpec
from tests.fakes import FakeClock, FakeCloud, World, spec

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
MINUTE = 60.0


def world(replicas: int, now: float = NOVEMBER, **limits: Any) -> World:
    """Machines at $1 an hour in zone a."""
    made = World(cloud=FakeCloud(FakeClock(now)))
    bounds = spec(min_replicas=replicas, max_replicas=replicas)
    made.create(wanted=replace(bounds, budget=BudgetSpec(**limits)))
    return made


def bills(w: World, minutes: int) -> Iterator[float]:
    """What the cloud bills (USD) for each minute, a tick a minute."""
    for _ in range(minutes):
        w.tick(every_s=MINUTE)
        yield len(w.cloud.machines) * MINUTE / 3600


def said(w: World) -> list[str]:
    return [event.message for event in w.store.events("svc") if "budget" in event.message]


def test_no_more_machines_than_the_hour_affords() -> None:
    """Two of three fit $2.50 an hour; `events` tell it once and `why` as long as it lasts. A raised budget starts the third."""
    w = world(3, max_usd_per_hour=2.5)
    w.tick(20)
    assert len(w.cloud.machines) == 2
    assert said(w) == ["held by the budget: one more at $1 would make it $3 of $2.5 an hour"]
    assert any("held by the budget" in line for line in passes.preview(w.runtime, "svc"))
    w.update(replace(w.state().service.spec, budget=BudgetSpec(3.0)))
    w.tick(3)
    assert len(w.cloud.machines) == 3
    assert said(w)[1:] == ["the budget has room again"]


def test_a_lost_machine_is_replaced_within_the_hour() -> None:
    """What the cloud took is not billed, so it makes room for its replacement; the cloud never bills a third."""
    w = world(2, max_usd_per_hour=2.0)
    w.tick(5)
    del w.cloud.machines[w.replicas()[0].id]
    for _ in range(10):
        w.tick()
        assert len(w.cloud.machines) <= 2
    assert len(w.routed()) == 2


def test_a_month_that_is_spent_shuts_down_and_the_next_begins_anew() -> None:
    """With `shut_down` the cloud's bill stays within the budget, drains included, and on the first the service comes back."""
    w = world(2, max_usd_per_month=10.0, shut_down=True)
    bill = sum(bills(w, 10 * 60))
    assert 9 < bill <= 10
    assert w.cloud.machines == {}
    assert not w.state().service.deleting
    assert 9 < w.state().service.spend.usd <= 10
    w.clock.time = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    w.tick(5)
    assert len(w.cloud.machines) == 2


def test_a_service_that_is_held_back_is_looked_at_as_one_at_rest() -> None:
    """Nothing but its probes is due while the money is spent: every 2 s here and not every second for the rest of the month."""
    w = world(3, max_usd_per_hour=2.5)
    w.tick(20)
    (report,) = w.tick()
    assert report.next_at - w.clock.now() == w.state().service.spec.probe.interval_s


def test_stop_scaling_takes_nothing_away() -> None:
    """What runs goes on and is billed beyond the budget; what is lost then is not replaced before the month ends."""
    w = world(2, max_usd_per_month=10.0)
    assert sum(bills(w, 6 * 60)) > 10
    assert len(w.routed()) == 2
    del w.cloud.machines[w.replicas()[0].id]
    w.tick(20)
    assert len(w.cloud.machines) == len(w.routed()) == 1
    assert said(w) == [
        "held by the budget: $11.97 of $10.00 are spent this month, which leaves less than an hour of one more"
    ]


def test_spending_outlives_machines_and_versions() -> None:
    """Machines come and go, versions too: the record adds up to what the cloud billed, to a minute for each machine."""
    w = world(2, max_usd_per_month=1000.0)
    bill = 0.0
    for turn in range(6):
        bill += sum(bills(w, 60))
        w.update(replace(w.state().service.spec, fingerprint=f"v{turn + 2}"))
    assert w.state().service.spend.usd > bill - 2
    counted = w.state().service.spend.usd + sum((w.clock.now() - each.created_at) / 3600 for each in w.replicas())
    assert bill <= counted <= bill + 14 * 2 * MINUTE / 3600
