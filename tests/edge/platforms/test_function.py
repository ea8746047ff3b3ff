"""When a function refreshes its table and how long it holds a client, on a clock of ours."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.exchange import ExchangeFailed
from edge_router.messages import Request
from edge_router.platforms import function, settings
from edge_router.platforms.function import Function
from edge_router.router import Router
from edge_router.s3 import Role
from tests.edge.fakes import TOKEN, seal, table
from tests.waiting import until

READY = table(("hello", "round_robin", "READY", ["http://198.51.100.1"]))
HELLO = Request(b"POST", b"/hello/x", b"", {}, body=b"")


def waiting(wait_s: float) -> dict[str, Any]:
    """A table in which `hello` has no replica, and clients that wait so long."""
    starting = table(("hello", "round_robin", "STARTING", []), etag="starting")
    starting["services"]["hello"]["wait_for_replica_s"] = wait_s
    return starting


class Bench:
    """A function whose time goes by only while it sleeps or the control plane does not answer."""

    def __init__(self, random: float = 0.5, *, snapshot: str | None = None) -> None:
        self.now = 1000.0
        self.clock_reads = 0
        self.table: dict[str, Any] | None = READY
        self.exchanges: list[float] = []
        self.timeouts_s: list[float] = []
        self.counted: Counter[str] = Counter()
        self.slept: list[float] = []
        self.on_exchange: Callable[[], None] = lambda: None
        self.router = Router(clock=lambda: self.now, random=lambda: random, first_seq=1, token=TOKEN)
        self.function = Function(
            self.router,
            self._exchange,
            None if snapshot is None else lambda: self.router.accept(snapshot),
            refresh_s=3.0,
            clock=self._clock,
            sleep=self._sleep,
            random=lambda: random,
        )

    def fail(self) -> None:
        """The control plane takes a second to say nothing."""
        self.now += 1.0
        raise ExchangeFailed("no answer from the control plane")

    def status(self) -> int:
        """Of one request more."""
        return self.function.answer(HELLO).status

    def _exchange(self, timeout_s: float) -> None:
        self.exchanges.append(self.now)
        self.timeouts_s.append(timeout_s)
        batch = self.router.batch()
        self.on_exchange()
        for service, seconds in batch.requests.items():
            self.counted[service] += sum(count for _, count in seconds)
        self.router.acknowledge(batch)
        if self.table and self.table["etag"] != self.router.etag:
            self.router.accept(seal(self.table))

    def _clock(self) -> float:
        self.clock_reads += 1
        self.now += 1e-6  # no two readings are the same
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_first_request_brings_the_table_and_is_handed_over() -> None:
    """Two exchanges: one for the table, one for the count, as nobody knows whether a second request will come."""
    bench = Bench()
    assert bench.status() == 307
    assert len(bench.exchanges) == 2
    assert bench.counted["hello"] == 1


def test_a_router_without_table_waits_for_a_control_plane_that_is_as_cold() -> None:
    """5 s for the first table, where there is no stored one; with one to route on, or to read, a second is enough."""
    bench, restored = Bench(), Bench(snapshot=seal(READY))
    bench.status()
    restored.status()
    assert bench.timeouts_s == [5.0, 1.0]
    assert restored.timeouts_s == [1.0, 1.0]


def test_a_table_is_refreshed_when_it_is_old() -> None:
    """No exchange while it is younger than 3 s; then one, before the answer, which hands over that very request."""
    bench = Bench()
    bench.status()
    bench.now += 2.9
    bench.status()
    assert len(bench.exchanges) == 2
    assert bench.counted["hello"] == 1
    bench.now += 0.2
    bench.table = table(("hello", "round_robin", "READY", []), etag="gone")
    assert bench.status() == 503
    assert bench.counted["hello"] == 3


def test_a_lost_control_plane_costs_one_request_in_a_while() -> None:
    """Every request is answered from the last table. Of 500, one a second, some 25 wait for the timeout."""
    bench = Bench()
    bench.status()
    bench.on_exchange = bench.fail
    for _ in range(500):
        assert bench.status() == 307
        bench.now += 1.0
    assert 20 <= len(bench.exchanges) - 2 <= 28
    gaps = [after - before for before, after in zip(bench.exchanges[-6:], bench.exchanges[-5:], strict=False)]
    assert all(20 <= gap <= 27 for gap in gaps)
    bench.on_exchange = lambda: None
    for _ in range(2):  # first what was on its way, then what was counted since
        bench.now += 30
        bench.status()
    assert bench.counted["hello"] == 503  # none lost, none twice


def test_a_cold_function_without_control_plane_reads_the_snapshot() -> None:
    """One attempt, then the snapshot, and no second attempt for the count; a newer table is taken as soon as there is one."""
    bench = Bench(snapshot=seal(READY | {"etag": "stored", "issued_at": 1.0}))
    bench.on_exchange = bench.fail
    assert bench.status() == 307
    assert len(bench.exchanges) == 1
    assert bench.router.etag == "stored"
    bench.on_exchange = lambda: None
    for _ in range(2):
        bench.now += 10
        assert bench.status() == 307
        assert bench.router.etag == "one"
    assert bench.counted["hello"] == 3


def test_a_cold_function_that_finds_nothing_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """503 with a hold of a second, in which it tries on; the log names both failures once."""
    bench = Bench()
    bench.on_exchange = bench.fail

    def forged() -> None:
        raise ExchangeFailed("the snapshot of the table was refused")

    bench.function._read_snapshot = forged
    with caplog.at_level(logging.WARNING, "edge_router"):
        assert [bench.status(), bench.status()] == [503, 503]
    assert caplog.text.count("no answer from the control plane") == 1
    assert "the snapshot of the table was refused (nothing can be routed)" in caplog.text


def test_a_held_client_goes_on_as_soon_as_a_replica_is_there() -> None:
    """The knock is handed over at once; then there is a look every 0.75 s on average until one finds a replica."""
    bench = Bench()
    bench.table = waiting(60)
    bench.status()
    bench.now += 1.0
    bench.exchanges.clear()
    bench.slept.clear()

    def appear() -> None:
        if len(bench.exchanges) == 4:
            bench.table = READY | {"issued_at": 1_800_000_000.0}

    bench.on_exchange = appear
    assert bench.status() == 307
    assert bench.slept == [0.75, 0.75, 0.75]
    assert bench.counted["hello"] == 2


@given(wait_s=st.floats(0, 400), random=st.floats(0, 1, exclude_max=True), hop=st.integers(0, 8))
def test_a_client_is_held_as_long_as_the_router_says(wait_s: float, random: float, hop: int) -> None:
    """And no longer; with a look each 0.5 to 1 s, and counted at most once. Then it is sent round again, or 503."""
    bench = Bench(random)
    bench.table = waiting(wait_s)
    bench.status()
    bench.slept.clear()
    exchanges, counted, began = len(bench.exchanges), bench.counted["hello"], bench.now
    path = b"/hello/~wait.%d/x" % hop if hop else b"/hello/x"
    hold_s = bench.router.handle(Request(b"POST", path, b"", {})).hold_s
    response = bench.function.answer(Request(b"POST", path, b"", {}))
    assert bench.now - began == pytest.approx(hold_s, abs=0.01)
    assert hold_s <= 25
    assert all(0.5 <= pause_s <= 1.0 for pause_s in bench.slept[:-1])
    assert len(bench.exchanges) - exchanges == len(bench.slept) + 1
    assert bench.counted["hello"] - counted == (0 if hop else 2)  # `handle` above and `answer`
    assert response.status in (307, 503)


def test_a_hold_goes_on_while_the_control_plane_is_gone() -> None:
    """Until its time is over, at most a timeout longer; nothing is raised."""
    bench = Bench()
    bench.table = waiting(4)
    bench.status()
    bench.on_exchange = bench.fail
    began = bench.now
    assert bench.status() == 503
    assert 4.0 <= bench.now - began <= 5.1


def test_who_comes_while_a_cold_function_asks_shares_the_answer() -> None:
    """Eight requests at a time, one exchange for the table and one for the counts, and all are routed."""
    bench, release = Bench(), Event()
    bench.on_exchange = lambda: None if release.wait(10) else bench.fail()
    with ThreadPoolExecutor(8) as pool:
        statuses = [pool.submit(bench.status) for _ in range(8)]
        until(lambda: bench.clock_reads == 10)  # when it was made, eight when they came, and one by whoever asks
        release.set()
        assert [status.result(10) for status in statuses] == [307] * 8
    assert len(bench.exchanges) == 2


def test_who_comes_while_a_cold_function_asks_in_vain_does_not_ask_again() -> None:
    """Or the eighth would wait for eight timeouts."""
    bench, release = Bench(), Event()
    bench.on_exchange = lambda: bench.fail() if release.wait(10) else None
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(bench.function._warm_up) for _ in range(8)]
        until(lambda: bench.clock_reads == 10)
        release.set()
        for each in asking:
            each.result(10)
    assert len(bench.exchanges) == 1


def test_clients_who_knock_together_share_an_exchange() -> None:
    """One exchange is under way when two more clients come: it may have begun too early for them, one more is enough."""
    bench, release = Bench(), Event()
    bench.table = waiting(60)
    bench.status()
    bench.now += 1.0
    bench.exchanges.clear()
    bench.on_exchange = lambda: None if release.wait(10) else bench.fail()
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(bench.status)]
        until(lambda: len(bench.exchanges) == 1)
        reads = bench.clock_reads
        held += [pool.submit(bench.status) for _ in range(2)]
        until(lambda: bench.clock_reads == reads + 2)
        bench.table = READY | {"issued_at": 1_800_000_000.0}
        release.set()
        assert [each.result(10) for each in held] == [307] * 3
    assert len(bench.exchanges) == 2


def test_nobody_with_a_table_waits_for_another_ones_refresh() -> None:
    """While one request's exchange hangs, the next is answered from the last table."""
    bench, release = Bench(), Event()
    bench.status()
    bench.now += 10
    bench.on_exchange = lambda: None if release.wait(10) else bench.fail()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(bench.status)
        until(lambda: len(bench.exchanges) == 3)
        assert bench.status() == 307
        assert not slow.done()
        release.set()
        assert slow.result(10) == 307


def test_what_changes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line when the control plane is lost and one when it is back, whatever happens between."""
    bench = Bench()
    bench.status()
    with caplog.at_level(logging.WARNING, "edge_router"):
        for each in (bench.fail, bench.fail, bench.fail, lambda: None, lambda: None):
            bench.on_exchange = each
            bench.now += 30
            bench.status()
    assert [record.getMessage() for record in caplog.records] == [
        "no answer from the control plane (routing goes on with the last table)",
        "the control plane answers again, after 3 failed exchanges",
    ]


WELL = {"SAILPLANE_CONTROL_URL": "https://control.example/api", "SAILPLANE_ROUTER_TOKEN": TOKEN}


def test_settings_have_defaults_for_all_but_two() -> None:
    """The control plane and the token are what nobody can guess."""
    found = settings.from_env(refresh_s=function.REFRESH_S, env=WELL)
    assert found == settings.Settings("https://control.example/api", TOKEN, 3.0, "", "", "", None)
    named = {"REFRESH_S": "2", "ROUTER_ID": "edge-1", "SNAPSHOT_URL": "file:///t", "LOCATION": "aws/us-east-1"}
    found = settings.from_env(refresh_s=3, env=WELL | {f"SAILPLANE_{name}": value for name, value in named.items()})
    assert (found.refresh_s, found.router_id, found.snapshot_url) == (2.0, "edge-1", "file:///t")
    assert found.location == "aws/us-east-1"
    of_lambda = {
        "REGION": "eu-west-1",
        "ACCESS_KEY_ID": "AKIA",
        "SECRET_ACCESS_KEY": "secret",
        "SESSION_TOKEN": "session",
    }
    env = WELL | {f"AWS_{name}": value for name, value in of_lambda.items()}
    assert settings.from_env(refresh_s=3, env=env).role is None
    found = settings.from_env(refresh_s=3, env=env | {"SAILPLANE_SNAPSHOT_URL": "s3://bucket/table"})
    assert found.role == Role("eu-west-1", "AKIA", "secret", "session")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"SAILPLANE_CONTROL_URL": ""}, "SAILPLANE_CONTROL_URL is not set"),
        ({"SAILPLANE_ROUTER_TOKEN": ""}, "SAILPLANE_ROUTER_TOKEN is not set"),
        ({"SAILPLANE_CONTROL_URL": "localhost"}, "'localhost' is not of the form http(s)://host"),
        (
            {"SAILPLANE_ROUTER_TOKEN": f"{TOKEN}\n"},
            "the router token is empty or holds characters that no header may carry",
        ),
        ({"SAILPLANE_ROUTER_TOKEN": " , "}, "the router token is empty or holds characters that no header may carry"),
        ({"SAILPLANE_SNAPSHOT_URL": "s3://bucket/table"}, "SAILPLANE_SNAPSHOT_URL: s3:// is read with AWS_REGION"),
        ({"SAILPLANE_REFRESH_S": "0"}, "SAILPLANE_REFRESH_S: '0' is not a number of seconds"),
        ({"SAILPLANE_REFRESH_S": "often"}, "SAILPLANE_REFRESH_S: 'often' is not a number of seconds"),
        ({"SAILPLANE_REFRESH_S": "nan"}, "SAILPLANE_REFRESH_S: 'nan' is not a number of seconds"),
    ],
)
def test_a_wrong_setting_is_named(wrong: dict[str, str], message: str) -> None:
    """The variable and what is wrong with it, and never the token."""
    with pytest.raises(settings.WrongSetting) as caught:
        settings.from_env(refresh_s=3, env=WELL | wrong).control_plane("edge-1", 1.0)
    assert message in str(caught.value)
    assert TOKEN not in str(caught.value)
