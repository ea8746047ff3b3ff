"""What a service costs, and what its budget lets it launch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.actions import Launch, SaveService
from chalicelib.lifecycle import budget, new_service
from chalicelib.model import BudgetSpec, Reason, Replica, ReplicaStatus, Spend, State
from tests import fakes
from tests.store import nouns

HOUR = 3600.0
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
NOON = NOVEMBER + 12 * HOUR


def replica(slot: int = 0, usd: float = 1.0, **fields: Any) -> Replica:
    """A machine that has been there since the month began."""
    base: dict[str, Any] = {
        "status": ReplicaStatus.READY,
        "created_at": NOVEMBER,
        "instance_id": "i-1",
        "version": 1,
    }
    return nouns.replica(slot, offer=fakes.offer(usd=usd), **(base | fields))


def state(*replicas: Replica, held: bool = False, **limits: Any) -> State:
    spec = replace(fakes.spec(), budget=BudgetSpec(**limits))
    return State(replace(new_service("hello", "u1", spec, NOVEMBER), held_by_budget=held), replicas)


def launches(count: int, usd: float = 1.0, version: int = 0) -> list[Launch]:
    return [
        Launch(replica(slot + 10, usd, created_at=NOON, version=version, status=ReplicaStatus.PENDING), "wanted")
        for slot in range(count)
    ]


def launched(of: State, wanted: list[Launch], now: float = NOON) -> int:
    return sum(isinstance(action, Launch) for action in budget.affordable(of, wanted, now)[0])


@given(st.floats(0, 8e9))
def test_months_begin_when_the_calendar_says(now: float) -> None:
    """A machine counts from the first of the month in which `now` lies, 00:00 UTC."""
    began = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
    since_long_ago = replica(created_at=began - 1e6)
    assert abs(budget.usd_this_month(state().service, [since_long_ago], now) - (now - began) / HOUR) < 1e-6


def test_what_ended_this_month_is_remembered_and_last_months_forgotten() -> None:
    """Both in the service's record, written with the end itself; the part of a life before the first is last month's."""
    began = replica(created_at=NOVEMBER - 5 * HOUR)
    before = state(began)
    after = budget.settled(before, None, [replace(began, status=ReplicaStatus.TERMINATED)], NOVEMBER + 2 * HOUR)
    assert after is not None
    assert after.spend == Spend(NOVEMBER, 2.0, usd_ever=7.0)
    assert budget.usd_this_month(after, [replica(usd=3)], NOVEMBER + 3 * HOUR) == 2 + 9
    assert budget.usd_this_month(after, [], NOVEMBER + 40 * 24 * HOUR) == 0


def test_what_a_service_has_ever_cost_outlives_months() -> None:
    """The whole lives of machines gone and alive, whatever month another one ends in."""
    first = replica(created_at=NOVEMBER)
    before = state(first)
    after = budget.settled(before, None, [replace(first, status=ReplicaStatus.TERMINATED)], NOVEMBER + HOUR)
    assert after is not None
    december = NOVEMBER + 30 * 24 * HOUR
    second = replica(1, created_at=december - HOUR)
    ended = [replace(second, status=ReplicaStatus.TERMINATED)]
    last = budget.settled(State(after, (second,)), None, ended, december + HOUR)
    assert last is not None
    assert last.spend == Spend(december, 1.0, usd_ever=3.0)
    assert budget.usd_ever(last, [replica(created_at=december)], december + 2 * HOUR) == 5.0


def test_the_forecast_is_what_is_spent_and_what_runs_to_the_months_end() -> None:
    """Of November, 30 days: a day at $1 an hour with one machine that runs on, and nothing more once it is gone."""
    day = NOVEMBER + 24 * HOUR
    spent = replace(state().service, spend=Spend(NOVEMBER, 5.0))
    assert budget.usd_forecast(spent, [replica()], day) == 5 + 30 * 24
    assert budget.usd_forecast(spent, [], day) == 5


def test_what_never_came_costs_nothing() -> None:
    """A refused launch writes no spending."""
    refused = replica(status=ReplicaStatus.TERMINATED, reason=Reason.NO_CAPACITY)
    assert budget.settled(state(), None, [refused], NOON) is None


def test_what_was_decided_earlier_takes_nothing_back() -> None:
    """A service decided on before a replica of the same pass ended is written with the money that this one has cost."""
    spent = state()
    ended = ((Reason.LOST, 1),)
    spent = replace(spent, service=replace(spent.service, spend=Spend(NOVEMBER, 7.0), ended=ended))
    stale = replace(spent.service, spend=Spend(), ended=(), deleting=True)
    written = budget.settled(spent, stale, [], NOON)
    assert written is not None
    assert (written.spend.usd, written.ended, written.deleting) == (7.0, ended, True)


def test_no_launch_takes_the_hour_above_its_limit() -> None:
    """Machines that drain, or are being removed, are still billed; one that the cloud took without notice is not."""
    leaving = replica(1, status=ReplicaStatus.DRAINING, reason=Reason.INTERRUPTED)
    assert launched(state(replica(), leaving, max_usd_per_hour=4.0), launches(5)) == 2
    gone = replica(1, status=ReplicaStatus.TERMINATING, reason=Reason.PREEMPTED)
    assert launched(state(replica(), gone, max_usd_per_hour=4.0), launches(5)) == 3
    assert launched(state(replica(), leaving), launches(5)) == 5


def test_a_cheaper_machine_may_fit_where_a_dearer_does_not() -> None:
    """Each launch is judged by itself, knowing of those before it."""
    assert launched(state(max_usd_per_hour=2.5), [*launches(1, usd=3), *launches(1, usd=2), *launches(1, usd=1)]) == 1


def test_what_was_asked_for_already_is_asked_again() -> None:
    """An intent without an outcome may have its machine: it is counted and completed, and not left in doubt."""
    pending = launches(2, version=1)
    known = state(*(each.replica for each in pending), max_usd_per_hour=2.0)
    assert launched(known, [*pending, *launches(1)]) == 2


def test_a_month_needs_an_hour_for_one_more() -> None:
    """All that runs and the new one, for an hour, or for what is left of the month."""
    assert launched(state(replica(), max_usd_per_month=12 + 2.0), launches(3)) == 1
    assert launched(state(replica(), max_usd_per_month=12 + 1.9), launches(3)) == 0
    late = NOVEMBER + 30 * 24 * HOUR - HOUR / 2
    assert launched(state(max_usd_per_month=0.6), launches(1), late) == 1


def test_being_held_back_is_an_event_once() -> None:
    """Written on the service when it begins and when it ends, and not by every pass in between."""
    held, free = state(replica(), max_usd_per_hour=1.0), state(replica(), max_usd_per_hour=9.0, held=True)
    (told,), why = budget.affordable(held, launches(1), NOON)
    assert isinstance(told, SaveService)
    assert told.service.held_by_budget
    assert why == told.why == "held by the budget: one more at $1 would make it $2 of $1 an hour"
    assert budget.affordable(replace(held, service=told.service), launches(1), NOON) == ([], why)
    first, *others = budget.affordable(free, launches(1), NOON)[0]
    assert isinstance(first, SaveService)
    assert not first.service.held_by_budget
    assert len(others) == 1
    assert budget.affordable(free, [], NOON) == ([], "")


def test_a_shut_down_begins_while_draining_can_be_paid() -> None:
    """Wanted are none once less is left than the machines cost until they have been drained (30 s) and removed (120 s)."""
    removal_usd = 150 / HOUR
    enough, spent = 12 + removal_usd * 1.01, 12 + removal_usd * 0.99
    assert budget.within(state(replica(), max_usd_per_month=enough, shut_down=True), NOON).scaler.target == 2
    assert budget.within(state(replica(), max_usd_per_month=spent, shut_down=True), NOON).scaler.target == 0
    assert budget.within(state(replica(), max_usd_per_month=spent), NOON).scaler.target == 2


@given(
    st.lists(st.floats(0.01, 40), max_size=6),
    st.lists(st.floats(0.01, 40), max_size=6),
    st.floats(0.1, 200),
    st.floats(0.1, 2000),
)
def test_never_more_than_the_budget_is_committed(
    running: list[float], wanted: list[float], per_hour: float, per_month: float
) -> None:
    """Property: after any launch the hour's limit holds, and the month's for an hour to come."""
    of = state(
        *(replica(i, usd) for i, usd in enumerate(running)), max_usd_per_hour=per_hour, max_usd_per_month=per_month
    )
    asked = [launch for usd in wanted for launch in launches(1, usd)]
    new = [action.replica for action in budget.affordable(of, asked, NOON)[0] if isinstance(action, Launch)]
    if new:
        hourly = budget.usd_per_hour([*of.replicas, *new])
        assert hourly <= per_hour
        assert budget.usd_this_month(of.service, of.replicas, NOON) + hourly <= per_month + 1e-9
