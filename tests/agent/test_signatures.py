"""A command is taken once and while it is new, by the control plane's clock, whatever the machine's own clock says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_agent.signatures import Signatures
from replica_agent.times import ControlTime
from tests.agent.running import TOKEN, signed


class Clocks:
    """A machine's two clocks, of which the wall's may be wrong, and true time, which the control plane has."""

    def __init__(self, wrong_by_s: float = 0.0) -> None:
        self.true = 1_800_000_000.0
        self.wrong_by_s = wrong_by_s

    def wall(self) -> float:
        return self.true + self.wrong_by_s

    def steady(self) -> float:
        return self.true - 1_799_990_000.0


def taken(signatures: Signatures, at: float) -> bool:
    return given_again(signatures, signed("POST", "/_sailplane/drain", at=at)["Authorization"])


def given_again(signatures: Signatures, authorization: str) -> bool:
    return signatures.check(authorization.encode(), b"POST", b"/_sailplane/drain", b"") is not None


@pytest.mark.parametrize("wrong_by_s", [-1e6, -3_600.0, -31.0, 0.0, 31.0, 3_600.0, 1e6])
def test_a_machines_wrong_clock_does_not_matter(wrong_by_s: float) -> None:
    """The first command tells what time it is; from then on old ones are refused and grants end when they should."""
    clocks = Clocks(wrong_by_s)
    clock = ControlTime(clocks.wall, clocks.steady)
    signatures = Signatures(TOKEN, clock)
    assert clock.now() == clocks.wall()
    assert taken(signatures, clocks.true)
    assert abs(clock.now() - clocks.true) < 2
    clocks.true += 1_000
    assert not taken(signatures, clocks.true - 31)
    assert taken(signatures, clocks.true - 29)
    assert taken(signatures, clocks.true)
    assert abs(clock.now() - clocks.true) < 2


def test_a_clock_that_is_set_right_later_does_not_matter() -> None:
    """Machines boot with any time and ask for the right one a minute later."""
    clocks = Clocks(-86_400)
    clock = ControlTime(clocks.wall, clocks.steady)
    signatures = Signatures(TOKEN, clock)
    assert taken(signatures, clocks.true)
    clocks.wrong_by_s = 0
    assert abs(clock.now() - clocks.true) < 2
    assert taken(signatures, clocks.true)


def test_a_right_clock_is_believed_to_the_split_second() -> None:
    """A command's timestamp is cut to seconds and was on its way; a clock that agrees with it that far is better."""
    clocks = Clocks()
    clock = ControlTime(clocks.wall, clocks.steady)
    assert taken(Signatures(TOKEN, clock), clocks.true - 1)
    assert clock.now() == clocks.true


def test_commands_that_were_held_back_do_not_shut_the_others_out() -> None:
    """Who can delay messages may let an old one in first; it must not make the agent take new ones for strange."""
    clocks = Clocks()
    signatures = Signatures(TOKEN, ControlTime(clocks.wall, clocks.steady))
    assert taken(signatures, clocks.true - 600)
    assert taken(signatures, clocks.true)
    assert not taken(signatures, clocks.true - 600)


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 60), st.integers(0, 10)), max_size=60))
def test_nothing_is_taken_twice(events: list[tuple[float, int, int]]) -> None:
    """Whatever arrives, in whatever order, how late or how often."""
    clocks = Clocks()
    signatures = Signatures(TOKEN, ControlTime(clocks.wall, clocks.steady))
    sent: list[str] = []
    accepted: list[str] = []
    for pause_s, late_s, back in events:
        clocks.true += pause_s
        sent.append(signed("POST", "/_sailplane/drain", at=clocks.true - late_s)["Authorization"])
        accepted += [each for each in (sent[-1], sent[-1 - back % len(sent)]) if given_again(signatures, each)]
    assert len(accepted) == len(set(accepted))
