"""The scaler in the passes: what agents report, what the clock says, and what is written about it."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib import passes
from chalicelib.model import Metric, ReplicaLoad, ReplicaStatus, ScheduledBounds
from tests.fakes import START, World, spec

BUSY: dict[str, Any] = {
    "metric": Metric.CONCURRENCY,
    "target_per_replica": 4.0,
    "upscale_delay_s": 5.0,
    "downscale_delay_s": 10.0,
}


def world(**scaling: Any) -> World:
    """A service that follows its replicas' concurrency, its first replica ready, its router quiet."""
    made = World()
    made.create(wanted=spec(**{"min_replicas": 0, "max_replicas": 5, **BUSY, **scaling}))
    run(made, 4)
    return made


def run(w: World, ticks: int, *, each: float | None = 0.0, requests: int = 0) -> None:
    """Ticks of a second in which every agent reports a load of `each`, and a router so many requests."""
    for _ in range(ticks):
        now = w.clock.now()
        w.store.record_load("svc", "a", int(now), [(int(now), requests)] if requests else (), now)
        for machine in w.cloud.machines.values():
            machine.load = None if each is None else ReplicaLoad(each, each)
        w.tick()


def ready(w: World) -> int:
    return len(w.replicas(ReplicaStatus.READY))


def test_replicas_follow_what_their_agents_report() -> None:
    """Ten requests at once on one replica are work for three; a silence of the agents keeps them; calm takes them down."""
    w = world()
    assert ready(w) == 1
    run(w, 7, each=10.0)
    run(w, 3, each=3.5)
    assert ready(w) == 3
    run(w, 30, each=None)
    assert ready(w) == 3, "what is not known never scales down"
    run(w, 130, each=0.0)
    assert w.state().service.scaler.target == 0
    assert not w.cloud.machines


def test_a_request_wakes_a_service_whose_metric_lives_on_replicas() -> None:
    """At zero there is nobody to report: the request that a router counted is enough."""
    w = world()
    run(w, 160)
    assert w.state().service.scaler.target == 0
    run(w, 4, requests=1)
    assert ready(w) == 1


def test_a_burst_on_the_agents_is_followed_in_the_same_pass() -> None:
    """With a panic window nothing waits for the upscale delay."""
    w = world(upscale_delay_s=300.0, panic_window_s=6.0)
    run(w, 4, each=8.0)
    assert ready(w) >= 2


def test_bounds_follow_the_clock() -> None:
    """The minute in which an entry's instant comes has its bounds, on every replica's bill."""
    assert START % 3600 == 0
    hour, later = ScheduledBounds("0 * * * *", min_replicas=1), ScheduledBounds("2 * * * *", min_replicas=3)
    w = world(schedule=(hour, later))
    assert ready(w) == 1
    w.clock.time = START + 118.5
    run(w, 1)
    assert ready(w) == 1
    run(w, 4)
    assert ready(w) == 3


@pytest.mark.parametrize(
    "scaling", [{}, {"panic_window_s": 6.0}, {"schedule": (ScheduledBounds("* * * * *", min_replicas=1),)}]
)
def test_a_steady_load_writes_nothing(scaling: dict[str, Any]) -> None:
    """An hour of it leaves the service's record as it was, whichever switches are on."""
    w = world(**scaling)
    run(w, 120, each=3.0, requests=1)
    before = w.state().service.version
    run(w, 300, each=3.0, requests=1)
    assert w.state().service.version == before


def test_why_tells_the_figures() -> None:
    """`sailplane why` shows load, target, what it wants and how long it still waits."""
    w = world(upscale_delay_s=300.0)
    run(w, 3, each=10.0)
    (line,) = (line for line in passes.preview(w.runtime, "svc") if line.startswith("autoscale"))
    expected = "autoscale: 10.00 requests at once at 4 per replica want 3, target 1: waiting to scale up, 2 of 300 s"
    assert line == expected


def test_an_update_keeps_to_the_bounds_in_force() -> None:
    """A new version by day does not drain what the day's higher maximum had brought."""
    day: dict[str, Any] = {"max_replicas": 2, "schedule": (ScheduledBounds("* * * * *", max_replicas=5),)}
    w = world(**day)
    run(w, 8, each=20.0)
    assert w.state().service.scaler.target == 5
    w.update(spec(**{"min_replicas": 0, **BUSY, **day, "downscale_delay_s": 60.0}))
    assert w.state().service.scaler.target == 5
