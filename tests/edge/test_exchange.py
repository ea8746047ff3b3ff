"""Counts out, table in, over real sockets, with a control plane that fails in every way."""

from __future__ import annotations

import itertools
import json
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_router.ask import NoAnswer
from edge_router.ask import ask as ask_over_http
from edge_router.counts import REPORT_S, Counts
from edge_router.exchange import ControlPlane, ExchangeFailed
from edge_router.messages import Request
from edge_router.refresh import KNOCK_GAP_S, Refresher, pauses_s
from edge_router.router import Router
from tests.edge.fakes import BEARER, FAULTS, KEY_ID, TOKEN, FakeControl, table
from tests.waiting import until

READY = table(("hello", "round_robin", "READY", ["http://10.0.0.1"]))

REQUEST = Request(b"GET", b"/hello/x", b"", BEARER, "192.0.2.1", 4711)


@pytest.fixture(scope="module")
def control() -> Iterator[FakeControl]:
    with FakeControl().running() as running:
        yield running


_router_ids = (f"edge-{number}" for number in itertools.count())


def connect(control: FakeControl, timeout_s: float = 5.0) -> tuple[Router, ControlPlane]:
    """A router of its own, so that examples do not meet in the control plane's books, with the table READY."""
    router = Router(clock=time.time, random=random.random, first_seq=1, token=TOKEN)
    plane = ControlPlane(control.url, TOKEN, next(_router_ids), timeout_s)
    control.fault, control.table = "", READY
    control.recorded.clear()
    control.questions.clear()
    plane.exchange(router)
    return router, plane


def ask(router: Router, times: int) -> None:
    for _ in range(times):
        router.handle(REQUEST)


def test_an_exchange_hands_over_counts_and_brings_a_table(control: FakeControl) -> None:
    """The wire format: nothing known, then every known service by second, idle ones as []; the etag saves the table."""
    router, plane = connect(control)
    plane.exchange(router)
    before = int(time.time())
    ask(router, 3)
    plane.exchange(router)
    first, idle, busy = control.questions
    same = {"router_id": first["router_id"], "used": {}, "on_demand": False}
    assert first == same | {"seq": 1, "requests": {}, "etag": None}
    assert idle == same | {"seq": 2, "requests": {"hello": []}, "etag": "one"}
    assert sum(count for _, count in busy["requests"]["hello"]) == 3
    assert all(before <= second <= time.time() for second, _ in busy["requests"]["hello"])
    assert busy["seq"] == 3
    assert list(busy["used"]) == [KEY_ID]
    assert before <= busy["used"][KEY_ID] <= time.time()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5) | st.sampled_from(("", *FAULTS)), max_size=14))
def test_no_fault_loses_or_doubles_a_count(control: FakeControl, steps: list[int | str]) -> None:
    """Requests and failing exchanges in any order: once the control plane is well, it has every request exactly once."""
    router, plane = connect(control)
    asked = 0
    for step in steps:
        if isinstance(step, int):
            ask(router, step)
            asked += step
            continue
        control.fault = step
        try:
            plane.exchange(router)
        except ExchangeFailed:
            assert step != ""
        else:
            assert step == ""
    control.fault = ""
    plane.exchange(router)  # what was on its way
    router.hurry()
    plane.exchange(router)  # what was counted meanwhile
    assert control.recorded["hello"] == asked


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_costs_the_table(control: FakeControl, fault: str) -> None:
    """After any failed exchange the router routes as before, and the error carries no token."""
    router, plane = connect(control)
    control.table = table(etag="empty", issued_at=READY["issued_at"] + 1)
    control.fault = fault
    with pytest.raises(ExchangeFailed) as failure:
        plane.exchange(router)
    assert TOKEN not in str(failure.value)
    assert router.etag == "one"
    assert router.handle(REQUEST).status == 307


def test_a_refused_table_does_not_refuse_the_counts(control: FakeControl) -> None:
    """The counts were taken by an answer with a bad table: they are acknowledged, the table is not used."""
    router, plane = connect(control)
    ask(router, 4)
    for bad in ({**READY, "etag": "bad", "services": {"hello": {}}}, {**table(etag="lost store"), "issued_at": 0}):
        control.table = bad
        with pytest.raises(ExchangeFailed, match="table was refused"):
            plane.exchange(router)
    assert control.recorded["hello"] == 4
    assert router.handle(REQUEST).status == 307


def test_counts_that_are_handed_over_again_say_how_old_they_are(control: FakeControl) -> None:
    """Those that arrive at the first attempt need not."""
    now = [time.time()]
    router = Router(clock=lambda: now[0], random=random.random, first_seq=1, token=TOKEN)
    plane = ControlPlane(control.url, TOKEN, next(_router_ids))
    control.fault, control.table = "", READY
    plane.exchange(router)
    ask(router, 3)
    control.fault = "error_before"
    with pytest.raises(ExchangeFailed):
        plane.exchange(router)
    control.fault = ""
    now[0] += 50.0
    plane.exchange(router)
    assert control.questions[-1]["age_s"] == 50.0
    plane.exchange(router)
    assert "age_s" not in control.questions[-1]


def test_a_control_plane_that_hangs_is_left_after_the_timeout(control: FakeControl) -> None:
    """An answer that does not come is a failure like any other; the counts go out again."""
    router, plane = connect(control, timeout_s=0.1)
    ask(router, 2)
    control.released.clear()
    control.fault = "hang"
    with pytest.raises(ExchangeFailed, match="no answer from the control plane at 127"):
        plane.exchange(router)
    control.released.set()
    control.fault = ""
    plane.exchange(router)
    assert control.recorded["hello"] == 2


def test_an_answer_that_comes_byte_by_byte_is_left_too() -> None:
    """Each byte is in time and all of them never are; a function has one thread, and clients wait behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=_drip, args=(listener,), daemon=True).start()
        with pytest.raises(NoAnswer, match="127"):
            ask_over_http("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.1)


def _drip(listener: socket.socket) -> None:
    """A good answer in 10 s."""
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 960\r\n\r\n" + b" " * 960:
            connection.send(bytes([byte]))
            time.sleep(0.01)


@pytest.mark.parametrize("url", ["http://a..b/", f"http://{'a' * 64}.example/"])
def test_a_host_that_is_no_name_does_not_end_the_refresh(url: str) -> None:
    """It is a failure like any other, and not one that ends the thread that keeps the table fresh."""
    with pytest.raises(NoAnswer, match="Unicode"):
        ask_over_http("GET", url, timeout_s=1.0)


def test_the_wrong_token_is_explained(control: FakeControl) -> None:
    """401 ends in an error that says where to look."""
    router, _ = connect(control)
    with pytest.raises(ExchangeFailed, match="answered 401; is the router token the control plane's"):
        ControlPlane(control.url, "wrong", "edge-x").exchange(router)


def test_a_control_plane_that_changes_its_token_is_followed(control: FakeControl) -> None:
    """Of several tokens the first is shown; an answer without a table says that the router's is the newest."""
    control.fault, control.table = "", READY
    now = 1_700_000_000.0
    router = Router(clock=lambda: now, random=random.random, first_seq=1, token=f" {TOKEN} , old")
    plane = ControlPlane(control.url, f" {TOKEN} , old", next(_router_ids))
    plane.exchange(router)
    now += 5.0
    assert router.age_s == 5.0
    plane.exchange(router)
    assert router.age_s == 0.0


@pytest.mark.parametrize("url", ["", "127.0.0.1:7480", "ftp://host", "http://", "http://host?x=1", "http://host:99999"])
def test_a_wrong_url_is_refused_at_once(url: str) -> None:
    """Not at the first exchange, when nobody looks any more."""
    with pytest.raises(ValueError, match=r"http\(s\)|[Pp]ort"):
        ControlPlane(url, TOKEN, "edge-x")


@pytest.mark.parametrize("token", ["", "a\r\nb", "tokén"])
def test_a_token_that_no_header_can_carry_is_refused_without_printing_it(token: str) -> None:
    """The message does not hold the token."""
    with pytest.raises(ValueError, match="the router token is empty or holds"):
        ControlPlane("http://host", token, "edge-x")


def test_ten_minutes_of_counts_are_kept() -> None:
    """Nobody listens for an hour: memory stays bounded, the last ten minutes are still there, younger ones all of them."""
    counts = Counts(first_seq=7)
    batch = lost = counts.freeze(["hello"], 1000.0)
    for second in range(1000, 4600):
        counts.add("hello", second + 0.5)
        batch = counts.freeze(["hello"], second + 0.9)
        kept = len(batch.requests["hello"]) + sum(map(len, counts._counting.values()))
        assert kept <= 1202  # a batch on its way and the counts since, ten minutes each
    assert batch.seq > lost.seq
    counts.acknowledge(batch)
    rest = counts.freeze(["hello"], 4600.0)
    seconds = [second for second, _ in (*batch.requests["hello"], *rest.requests["hello"])]
    assert seconds == list(range(seconds[0], 4600))
    assert seconds[0] <= 4000


def test_counts_are_reported_when_they_are_news() -> None:
    """A first request and a load that grows at once; else every nine seconds, each service for itself, the idle ones too."""
    counts, told = Counts(first_seq=1), []
    arrivals = {0: "", 1: "a", 2: "a", 3: "aa", 6: "aab", 11: "", 12: "", 15: "", 16: "a"}
    for second, asked in arrivals.items():
        for service in asked:
            counts.add(service, second)
        batch = counts.freeze(["a", "b"], second)
        counts.acknowledge(batch)
        told.append({name: sum(count for _, count in seconds) for name, seconds in batch.requests.items()})
    assert told == [{"a": 0, "b": 0}, {"a": 1}, {}, {"a": 3}, {"b": 1}, {}, {"a": 2}, {"b": 0}, {}]


def test_a_clock_that_is_set_back_silences_no_router() -> None:
    """Its last report lies in the future then, and is no reason to wait for that."""
    counts = Counts(first_seq=1)
    counts.acknowledge(counts.freeze(["a"], 5000.0))
    assert counts.freeze(["a"], 1000.0).requests == {"a": ()}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 500)), max_size=50))
def test_a_batch_is_the_same_until_it_is_acknowledged(requests: list[tuple[str, int]]) -> None:
    """Counting goes on beside a frozen batch, which goes out again byte for byte; afterwards the rest follows, sorted."""
    counts = Counts(first_seq=1)
    counts.add("a", 0.0)
    batch = counts.freeze(["a"], 500.0)
    sent = json.dumps(batch.requests)
    for service, second in requests:
        counts.add(service, float(second))
    assert json.dumps(counts.freeze(["a", "b"], 500.0).requests) == sent
    counts.acknowledge(batch)
    rest = counts.freeze(["a", "b"], 500.0 + REPORT_S)
    assert rest.seq == batch.seq + 1
    assert {"a", "b"} <= set(rest.requests)
    assert Counter({name: sum(count for _, count in seconds) for name, seconds in rest.requests.items()}) == Counter(
        service for service, _ in requests
    )
    assert all(list(seconds) == sorted(seconds) for seconds in rest.requests.values())


@given(st.floats(0.01, 3600), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_are_polite_and_bounded(refresh_s: float, failures: int, fraction: float) -> None:
    """The refresh interval while all is well; longer with failures, never above eight times; knocks wait for the gap."""
    gap_s, rest_s = pauses_s(refresh_s, failures, fraction)
    assert rest_s >= 0
    if failures == 0:
        assert gap_s + rest_s == pytest.approx(refresh_s)
        assert gap_s == min(KNOCK_GAP_S, refresh_s)
    else:
        assert 1.5 * refresh_s <= (gap_s + rest_s) * 1.000001
        assert gap_s + rest_s <= 8.000001 * refresh_s


def test_knocks_are_answered_at_once_and_together() -> None:
    """With an hour between refreshes: a knock brings an exchange within the gap, a storm of them one in each gap.

    Who knocks is told the number of an attempt that has not begun.
    """
    exchanges: list[float] = []
    done: list[int] = []
    refresher = Refresher(lambda: exchanges.append(time.monotonic()), done.append, 3600.0, random.random)
    refresher.start()
    until(lambda: len(exchanges) == 1)
    knocked_at = time.monotonic()
    assert refresher.knock() == 2
    until(lambda: done == [1, 2])
    assert time.monotonic() - knocked_at < KNOCK_GAP_S + 1
    while len(exchanges) < 5:
        assert refresher.knock() > len(done)
        time.sleep(0.001)
    refresher.stop()
    assert done == list(range(1, len(exchanges) + 1))
    assert all(later - earlier >= 0.95 * KNOCK_GAP_S for earlier, later in itertools.pairwise(exchanges[:5]))


def test_a_gone_control_plane_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line when it goes, one when it is back, not one a second; stopping then hands over a last time."""
    failing = True
    attempts = 0

    def exchange() -> None:
        nonlocal attempts
        attempts += 1
        if failing:
            raise ExchangeFailed("no answer")

    refresher = Refresher(exchange, int, 0.01, random.random)
    with caplog.at_level(logging.WARNING, "edge_router"):
        refresher.start()
        until(lambda: attempts >= 4)
        failing = False
        until(lambda: len(caplog.messages) == 2)
        refresher.stop()
    assert caplog.messages[0] == "no answer (routing goes on with the last table)"
    assert caplog.messages[1].startswith("the control plane answers again, after ")
    assert len(caplog.messages) == 2


def test_stopping_does_not_wait_for_a_gone_control_plane() -> None:
    """The last hand-over is left out when the exchange before it failed."""
    attempts = []

    def exchange() -> None:
        attempts.append(1)
        raise ExchangeFailed("no answer")

    refresher = Refresher(exchange, int, 3600.0, random.random)
    refresher.start()
    until(lambda: attempts)
    refresher.stop()
    assert len(attempts) == 1
