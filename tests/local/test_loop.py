"""The pass loop: who gets a pass, when, and what a broken pass costs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from chalicelib.bootstrap import SystemClock
from chalicelib.passes import Report
from sailplane.local.loop import FULL_EVERY_S, SHORTEST_S, Agenda, Tick, run
from tests.fakes import FakeClock
from tests.waiting import until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def report(service: str, next_at: float, *failures: str) -> Report:
    return Report(service, failures, acted=False, next_at=next_at)


def due(agenda: Agenda) -> frozenset[str] | None:
    """What is due now, without waiting."""
    return next(agenda.turns())


def test_everything_is_due_at_first_and_every_ten_seconds(clock: FakeClock) -> None:
    """With no service known, the deployment is looked at as a whole, at least every `FULL_EVERY_S`."""
    agenda = Agenda(clock)
    for _ in range(2):
        assert due(agenda) is None
        agenda.told(report("calm", clock.now() + 3600))
        agenda.ended(None)
        clock.advance(FULL_EVERY_S)


def test_everything_has_one_turn_at_a_time(clock: FakeClock) -> None:
    """While a turn of all services lasts, no second one begins; single services have theirs."""
    agenda = Agenda(clock)
    due(agenda)
    agenda.told(report("calm", clock.now() + 1))
    clock.advance(3 * FULL_EVERY_S)
    assert due(agenda) == {"calm"}
    agenda.ended(frozenset({"calm"}))
    agenda.ended(None)
    assert due(agenda) is None


def test_a_service_comes_when_its_report_said_so_and_alone(clock: FakeClock) -> None:
    """Only who is due gets a pass."""
    agenda = Agenda(clock)
    due(agenda)
    agenda.told(report("soon", clock.now() + 1))
    agenda.told(report("later", clock.now() + 5))
    agenda.ended(None)
    clock.advance(1)
    assert due(agenda) == {"soon"}
    clock.advance(4)
    assert due(agenda) == {"later"}


def test_a_poke_comes_at_once_and_one_during_a_pass_is_not_lost(clock: FakeClock) -> None:
    """A poke that arrives while the service is being looked at is good for one more pass."""
    agenda = Agenda(clock)
    due(agenda)
    agenda.poke("svc")
    assert due(agenda) == {"svc"}
    agenda.poke("svc")
    agenda.told(report("svc", clock.now() + 5))
    assert due(agenda) == {"svc"}


def test_a_service_that_is_always_due_does_not_spin(clock: FakeClock) -> None:
    """However early a report wants the next pass, `SHORTEST_S` passes first."""
    agenda = Agenda(clock)
    due(agenda)
    agenda.told(report("eager", 0.0))
    agenda.poke("other")
    assert due(agenda) == {"other"}
    clock.advance(SHORTEST_S)
    assert due(agenda) == {"eager"}


def test_a_service_that_is_gone_is_forgotten(clock: FakeClock) -> None:
    """A pass that reports nothing about a service asks for none."""
    agenda = Agenda(clock)
    due(agenda)
    agenda.ended(None)
    agenda.poke("gone")
    agenda.ended(due(agenda))
    agenda.poke("other")
    clock.advance(FULL_EVERY_S - 1)
    assert due(agenda) == {"other"}


def test_trouble_of_the_deployment_brings_everything_back_early(clock: FakeClock) -> None:
    """A report without a service (the store is away) is followed by a pass over everything when it says."""
    agenda = Agenda(clock)
    due(agenda)
    agenda.told(report("", clock.now() + 1))
    clock.advance(1)
    assert due(agenda) is None


def test_broken_passes_come_back_with_growing_pauses(clock: FakeClock) -> None:
    """1, 2, 4, 8, 10, 10 s; a pass that ends well starts over at 1."""
    agenda = Agenda(clock)
    pauses = []
    for _ in range(6):
        due(agenda)
        agenda.failed()
        pauses.append(agenda._next_at() - clock.now())
        clock.advance(pauses[-1])
    assert pauses == [1, 2, 4, 8, 10, 10]
    agenda.ended(None)
    agenda.failed()
    assert agenda._next_at() - clock.now() == 1


def test_the_loop_survives_a_broken_pass_and_prints_failures(caplog: pytest.LogCaptureFixture) -> None:
    """A defect costs one pass and leaves its traceback in the log; what a report tells is logged with the service's name."""
    turns: list[frozenset[str] | None] = []

    def tick(only: frozenset[str] | None, told: Callable[[Report], None]) -> None:
        turns.append(only)
        if len(turns) == 1:
            raise ZeroDivisionError("a defect")
        told(report("svc", 0.0, "NoCapacity: none left"))

    agenda = Agenda(SystemClock())
    with running(agenda, tick), caplog.at_level(logging.WARNING):
        agenda.poke("svc")
        until(lambda: len(turns) > 2)
    assert turns[0] is None
    assert "a defect" in caplog.text
    assert "svc: NoCapacity: none left" in caplog.text


def test_a_poke_wakes_the_loop_at_once() -> None:
    """Nobody waits for the next full pass after a change."""
    seen = threading.Event()

    def tick(only: frozenset[str] | None, _told: Callable[[Report], None]) -> None:
        if only == {"svc"}:
            seen.set()

    agenda = Agenda(SystemClock())
    with running(agenda, tick):
        agenda.poke("svc")
        assert seen.wait(FULL_EVERY_S / 2)


def test_a_service_that_waits_does_not_delay_the_others() -> None:
    """One service's pass hangs in a turn of all; another one, done in the same turn, has its next pass meanwhile."""
    answered, seen_again = threading.Event(), threading.Event()

    def tick(only: frozenset[str] | None, told: Callable[[Report], None]) -> None:
        if only is None:
            told(report("healthy", 0.0))
            answered.wait(FULL_EVERY_S)
        elif "healthy" in only:
            seen_again.set()

    agenda = Agenda(SystemClock())
    with running(agenda, tick):
        assert seen_again.wait(FULL_EVERY_S / 2)
        assert not answered.is_set()
        answered.set()


@contextmanager
def running(agenda: Agenda, tick: Tick) -> Iterator[None]:
    thread = threading.Thread(target=run, args=(agenda, tick))
    thread.start()
    try:
        yield
    finally:
        agenda.close()
        thread.join()
