"""Bursts that must not wait."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import LoadSample, Metric
from chalicelib.scaler.panic import follow as follow_panic
from tests.fakes import START
from tests.scaler.worlds import follow, service, targets

PANIC: dict[str, Any] = {"panic_window_s": 6.0, "panic_threshold": 2.0}


def load(stable: float, panic: float, ready: int = 1, *, valid: bool = True) -> LoadSample:
    return LoadSample(stable, valid=valid, panic=panic, asked=stable > 0, ready=ready)


def test_a_burst_is_followed_at_once() -> None:
    """Twice the ready replicas within the panic window: scaled up in the same pass, without the upscale delay."""
    assert targets(follow(service(**PANIC), [load(1.0, 4.5)])) == [5]
    assert targets(follow(service(), [load(1.0, 4.5)])) == [1], "off unless asked for"
    assert targets(follow(service(**PANIC), [load(1.0, 1.9)])) == [2], "1.9 requests/s take two replicas"
    assert targets(follow(service(2, **PANIC), [load(2.0, 2.9, ready=2)])) == [2], "three are not twice two"


def test_a_burst_on_what_replicas_report_is_followed_too() -> None:
    """The rule is the same for concurrency."""
    subject = service(
        metric=Metric.CONCURRENCY, target_per_replica=4.0, target_qps_per_replica=None, max_replicas=9, **PANIC
    )
    assert targets(follow(subject, [load(4.0, 30.0)])) == [8]


def test_nothing_goes_down_in_a_panic_nor_sooner_after_it() -> None:
    """A burst of one tick keeps what it brought for the stable window, and then for the whole downscale delay."""
    calm = load(1.0, 1.0, ready=6)
    after = targets(follow(service(**PANIC), [load(1.0, 6.0), *[calm] * 70]))
    assert after[0] == 6
    # Tick 2 is the first calm one; 60 s later, at tick 5, the panic is over and the pull down begins.
    assert after.index(1) == 4 + 1200 // 20


def test_a_panic_that_lasts_writes_nothing() -> None:
    """State changes when the burst begins, ends, and is over; not in between, however many passes look at it."""
    burst, calm = load(1.0, 20.0), load(10.0, 10.0, ready=10)
    states = [one.scaler for one in follow(service(**PANIC), [*[burst] * 100, *[calm] * 100])]
    assert states[0] == states[99]
    assert len(set(states)) == 3


def test_a_load_that_is_not_known_may_begin_a_panic_and_never_calms_one() -> None:
    """What is known of a burst suffices; silence is not calm."""
    unknown = load(0.0, 0.0, valid=False)
    services = follow(service(**PANIC), [load(1.0, 6.0, valid=False), *[unknown] * 200])
    assert targets(services) == [6] * 201
    assert all(one.scaler.panicking for one in services)


def test_a_panic_ends_with_its_mode() -> None:
    """An owner who takes the panic window out of the file is not left in a panic."""
    (panicking,) = follow(service(**PANIC), [load(1.0, 6.0)])
    spec = service().spec.scaling
    assert not follow_panic(spec, panicking.scaler, load(1.0, 0.0), 0, START).panicking


TICKS = st.lists(st.tuples(st.floats(1, 40), st.integers(0, 8), st.integers(0, 4)), max_size=40)


@given(TICKS)
def test_the_rule_is_the_naive_one(ticks: list[tuple[float, int, int]]) -> None:
    """Panic at a tick: the burst is there, or it was once and the ticks without it since reach back less than 60 s."""
    spec, state, now = service(**PANIC).spec.scaling, service(**PANIC).scaler, START
    history: list[tuple[float, bool]] = []
    for passed_s, urgent, ready in ticks:
        now += passed_s
        state = follow_panic(spec, state, load(1.0, 1.0, ready), urgent, now)
        history.append((now, urgent >= 2.0 * max(1, ready)))
        bursts = [index for index, (_, is_burst) in enumerate(history) if is_burst]
        calm_since = history[bursts[-1] + 1][0] if bursts and bursts[-1] + 1 < len(history) else now
        assert state.panicking == (bool(bursts) and now - calm_since < 60.0)
