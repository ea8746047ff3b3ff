"""Runs the shipped passes when the shipped cadence says so, and skips those that can do nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache, partial
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim

from chalicelib import passes
from chalicelib.errors import Conflict, Unreachable
from chalicelib.lifecycle import budget
from chalicelib.model import InterruptionNotice, ScalingSpec, Service, ServiceSpec, State
from chalicelib.optimizer import zones
from chalicelib.optimizer.fleet import PLANNED_EVERY_S
from chalicelib.ports import Runtime
from chalicelib.store.documents import HISTORY_KEPT_S, LOAD_HEARTBEAT_S, LOAD_KEPT_S, REFUSALS_KEPT_S
from sailplane.sim.cloud import Cloud
from sailplane.sim.faults import Crash, Disturber
from sailplane.sim.history import History
from sailplane.sim.horizon import Horizon, figures
from sailplane.sim.judges import Judges
from sailplane.sim.ports import MarketPrices, WatchedStore
from sailplane.sim.scheduler import Scheduler

# Whoever calls passes does so this often without being asked: a pass that hangs or died is not waited for.
FULL_EVERY_S = 10.0
# What a store forgets by age.
_KEPT_S = (HISTORY_KEPT_S, LOAD_KEPT_S, LOAD_HEARTBEAT_S, REFUSALS_KEPT_S)
_LONGEST_S = 1e9  # a duration; above it is an instant


@dataclass
class Driver:
    """What calls the passes. `changes` rises with everything that a pass could read, except for the time and prices."""

    service: str
    runtime: Runtime
    scheduler: Scheduler
    store: WatchedStore
    clouds: Mapping[str, Cloud]
    prices: MarketPrices
    disturber: Disturber
    history: History
    in_flight: Callable[[], Mapping[str, int]]
    judges: Judges
    skips: bool
    until: float = math.inf
    changes: int = 0
    _planned_at: float = math.inf
    _rest_s: float = FULL_EVERY_S
    _idle_since: int = -1  # the value of `changes` that the last pass found nothing to do about
    _in_flight_seen: Mapping[str, int] = field(default_factory=dict)
    _idle_until: Callable[[], float] = lambda: -math.inf
    _horizon: Horizon = field(default_factory=Horizon)
    _durations: tuple[ServiceSpec | None, frozenset[float]] = (None, frozenset())

    def poke(self) -> None:
        """Somebody asks for a pass at once."""
        self._plan(self.scheduler.time)

    def run_another(self) -> None:
        """A pass of some other process, which may die."""
        self._tick()

    def tell(self, notice: InterruptionNotice) -> None:
        """Hand in a cloud's notice, as its event bus does: one that is not taken is not repeated."""
        self._begin()
        try:
            passes.interrupt(self.runtime, (notice,), self.pass_time)
        except (Conflict, Unreachable):
            return
        except Crash:
            self.runtime.asked.clear()
        finally:
            self.disturber.depth -= 1

    def pass_time(self, seconds: float) -> None:
        """Let the world go on during a call."""
        self.scheduler.run_until(self.scheduler.time + seconds)

    # --- its turns

    def _plan(self, at: float) -> None:
        self._planned_at = at
        self.scheduler.at(at, partial(self._turn, at), last=True)

    def _turn(self, planned_at: float) -> None:
        if planned_at != self._planned_at:
            return  # another one was planned since
        now = self.scheduler.time
        if self.disturber.is_deep:
            self._plan(now + FULL_EVERY_S)
            return
        if self._nothing_new():
            self._plan(self._skip(now))
            return
        self._plan(now + FULL_EVERY_S)
        self.judges.judged(partial(self._look, now))

    def _look(self, started: float) -> None:
        """One pass over everything. The next one is when the shipped cadence says."""
        before, self.prices.were_read = self.changes, False
        reports = self._tick()
        self._idle_since = -1
        if reports is None:
            return
        ended = self.scheduler.time
        wanted = [report.next_at for report in reports if report.next_at < math.inf]  # who is gone wants none
        next_at = min(wanted, default=ended + FULL_EVERY_S)
        self._rest_s = next_at - ended
        is_idle = ended == started and self.changes == before and not any(map(_did_something, reports))
        if is_idle and self.skips:
            self._idle_since = before
            # Read now and worked out when it is asked for: by then something else may have happened.
            self._idle_until = cache(partial(self._next_moment, ended, self._read(ended), self.prices.were_read))
            self._in_flight_seen = self.in_flight()
        self._plan(next_at)

    def _tick(self) -> tuple[passes.Report, ...] | None:
        """None when the process died."""
        self.history.passes_run += 1
        self._begin()
        try:
            reports = passes.tick(self.runtime)
        except Crash:
            self.runtime.asked.clear()
            return None
        finally:
            self.disturber.depth -= 1
        for report in reports:
            self.history.violations += [failure for failure in report.failures if "Traceback" in failure]
        return reports

    def _begin(self) -> None:
        self.disturber.depth += 1
        self.judges.on_pass(self.disturber.depth)

    # --- what may be skipped

    def _nothing_new(self) -> bool:
        return (
            self._idle_since == self.changes
            and not self.disturber.is_armed
            and self._in_flight_seen == self.in_flight()
            and self.scheduler.time < self._idle_until()
        )

    def _skip(self, now: float) -> float:
        """When the first pass comes that may matter. The ones before have the same instants as if they had been run."""
        limit = min(self.scheduler.next_at, self._idle_until(), self.until)
        next_at = now + self._rest_s
        self.history.passes_skipped += 1
        while next_at < limit:
            next_at += self._rest_s
            self.history.passes_skipped += 1
        return next_at

    def _read(self, now: float) -> tuple[State | None, tuple[object, ...]]:
        instances = [instance for cloud in self.clouds.values() for instance in cloud.seen()]
        return self.store.load(self.service), (*instances, *self.store.refusals(now))

    def _next_moment(self, now: float, found: tuple[State | None, tuple[object, ...]], prices_were_read: bool) -> float:
        state, others = found
        if state is None:
            return math.inf
        service = state.service
        read = (service, *state.replicas, *state.load, *others, *_held(service))
        waited_s = frozenset((service.scaler.up_s, service.scaler.down_s))
        known = self._horizon.after(now, (*read, *_asked(state)), self._durations_s(service.spec), waited_s)
        known = min(known, *_scheduled(service.spec.scaling, now), _paid_until(state, now), self._free_at(now))
        if not prices_were_read:
            return known
        return min(known, self.prices.next_change_at(now), (now // PLANNED_EVERY_S + 1) * PLANNED_EVERY_S)

    def _free_at(self, now: float) -> float:
        """When the lease ends that somebody holds, perhaps one who is dead: until then all that a pass can do is to ask for it."""
        held_until = self.store.leased_until(self.service)
        return held_until if held_until > now else math.inf

    def _durations_s(self, spec: ServiceSpec) -> frozenset[float]:
        if self._durations[0] is not spec:
            settings = (spec, self.runtime.settings.limits)
            self._durations = spec, frozenset((*_KEPT_S, *(one for one in figures(settings) if 0 < one < _LONGEST_S)))
        return self._durations[1]


def _held(service: Service) -> tuple[object, ...]:
    """Until when the service itself leaves zones alone, which its record does not say in so many instants."""
    spot = service.spec.spot
    return *zones.refusals(service.zones, spot), zones.paused_until(service.zones, spot)


def _asked(state: State) -> Iterator[float]:
    """When each router had its last request: counts go by whole seconds, which are no floats."""
    for router in state.load:
        yield from islice((float(second) for second, count in reversed(router.counts) if count), 1)


def _scheduled(scaling: ScalingSpec, now: float) -> Iterator[float]:
    """The next instant of each of the schedule's expressions. A trend, if one is followed, is another at every moment."""
    for entry in scaling.schedule:
        yield _next_instant(entry.cron, entry.timezone, int(now // 60))
    yield now if scaling.look_ahead else math.inf


@lru_cache(maxsize=1024)
def _next_instant(cron: str, timezone: str, minute: int) -> float:
    return next(CronSim(cron, datetime.fromtimestamp(60 * minute, ZoneInfo(timezone)))).timestamp()


def _paid_until(state: State, now: float) -> float:
    """When the month's money comes to its end, which is no instant plus a duration: from an hour before, every pass counts."""
    limit, usd_per_hour = state.service.spec.budget, budget.usd_per_hour(state.replicas)
    if limit.max_usd_per_month is None or not limit.shut_down or not usd_per_hour:
        return math.inf
    left = limit.max_usd_per_month - budget.usd_this_month(state.service, state.replicas, now)
    return max(now, now + (left / usd_per_hour - 1) * 3600)


def _did_something(report: passes.Report) -> bool:
    return report.acted or bool(report.failures)
