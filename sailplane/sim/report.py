"""What a simulation is worth, in figures, and whether two differ. Reads the history alone: bill, steps, requests' fates.

Statistics: a run is cut into windows of equal length; two policies on the same market, traffic and seed are compared by the
differences in each window, of which Student's t gives the 95 % interval of the mean (a paired t interval). Neighbouring
windows are not quite independent; a day or more in each keeps that small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from sailplane.sim import extra
from sailplane.sim.edge import Fates
from sailplane.sim.history import Billed, History, Step

DAY_S = 86400.0
# So many windows at least, or an interval says little: a t of 2.3 instead of 12.7 with two.
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that ended. Percentiles are of the served ones, by nearest rank, in seconds; None when none was."""

    ended: int
    failed: int
    retried: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None

    @property
    def failure_rate(self) -> float:
        return self.failed / self.ended if self.ended else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """One part of a run. `failure_rate` is of the requests that came in it; None without traffic."""

    usd_per_hour: float
    availability: float
    failure_rate: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """One policy on one market. `windows` are what two runs are compared by, see `windows`."""

    policy: str
    hours: float
    availability: float  # share of the time with ready >= target
    usd: float
    relative_cost: float  # to the target's machines on demand all the time
    spot_share: float  # of the machine hours
    launches_per_hour: float
    preemptions: int
    recovery_median_s: float | None  # of the times that ready stayed below target after having reached it
    recovery_longest_s: float | None
    requests: Requests | None
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference per window and its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    windows: int


def report(policy: str, history: History, on_demand_usd_per_hour: float, fates: Fates | None) -> Report:
    """All figures of one run."""
    until_s = history.until_s
    wanted_usd = sum(step.target * (end - step.t) for step, end in _spans(history.steps, 0.0, until_s))
    wanted_usd *= on_demand_usd_per_hour / 3600
    machine_s = sum(one.to_s - one.from_s for one in history.bill)
    spot_s = sum(one.to_s - one.from_s for one in history.bill if one.offer.capacity_type == "SPOT")
    usd = sum(one.usd for one in history.bill)
    times_s = recoveries_s(history.steps, until_s)
    return Report(
        policy=policy,
        hours=until_s / 3600,
        availability=availability(history.steps, 0.0, until_s),
        usd=usd,
        relative_cost=usd / wanted_usd if wanted_usd else 0.0,
        spot_share=spot_s / machine_s if machine_s else 0.0,
        launches_per_hour=history.counts.launches / (until_s / 3600),
        preemptions=history.counts.preemptions,
        recovery_median_s=median(times_s) if times_s else None,
        recovery_longest_s=max(times_s, default=None),
        requests=None if fates is None else requests(fates),
        windows=tuple(_window(history, fates, *span) for span in windows(until_s)),
    )


def _window(history: History, fates: Fates | None, from_s: float, to_s: float) -> Window:
    return Window(
        cost_usd(history.bill, from_s, to_s) / ((to_s - from_s) / 3600),
        availability(history.steps, from_s, to_s),
        None if fates is None else failure_rate(fates, from_s, to_s),
    )


def availability(steps: Sequence[Step], from_s: float, to_s: float) -> float:
    """The share of [from_s, to_s) in which at least as many replicas were ready as were wanted."""
    return sum(end - begin for begin, end in _met(steps, from_s, to_s)) / (to_s - from_s)


def recoveries_s(steps: Sequence[Step], until_s: float) -> list[float]:
    """How long each time ready stayed below the target, once it had been reached; the last may have been cut short."""
    met = list(_met(steps, 0.0, until_s))
    gaps = [after - before for (_, before), (after, _) in itertools.pairwise(met)]
    if met and met[-1][1] < until_s:
        gaps.append(until_s - met[-1][1])
    return gaps


def cost_usd(bill: Sequence[Billed], from_s: float, to_s: float) -> float:
    """What of the bill falls into [from_s, to_s), each machine's spread evenly over its life."""
    return sum(
        one.usd * (min(to_s, one.to_s) - max(from_s, one.from_s)) / (one.to_s - one.from_s)
        for one in bill
        if one.to_s > from_s and one.from_s < to_s and one.to_s > one.from_s
    )


def failure_rate(fates: Fates, from_s: float, to_s: float) -> float:
    """Of the requests that came in [from_s, to_s), the share that failed; 0 if none came."""
    here = [
        math.isinf(latency_s)
        for came_at, latency_s in zip(fates.came_at, fates.latency_s, strict=True)
        if from_s <= came_at < to_s
    ]
    return sum(here) / len(here) if here else 0.0


def requests(fates: Fates) -> Requests:
    """What became of the requests, in figures."""
    served = sorted(latency_s for latency_s in fates.latency_s if not math.isinf(latency_s))
    p50_s, p90_s, p99_s = (_percentile(served, share) for share in (0.5, 0.9, 0.99))
    return Requests(
        ended=len(fates.latency_s),
        failed=len(fates.latency_s) - len(served),
        retried=sum(attempts > 1 for attempts in fates.attempts),
        p50_s=p50_s,
        p90_s=p90_s,
        p99_s=p99_s,
    )


def windows(until_s: float) -> list[tuple[float, float]]:
    """Whole windows of a day, or of an eighth of a run that has fewer than eight days. What remains is left out."""
    length_s = min(DAY_S, until_s / _FEWEST)
    return [(index * length_s, (index + 1) * length_s) for index in range(int(until_s / length_s + 1e-9))]


def interval(differences: Sequence[float]) -> Interval:
    """Student's t interval of the mean of at least two differences. Raises `MissingExtra` without scipy."""
    with extra.wanted_for("A confidence interval"):
        from scipy.special import stdtrit  # noqa: PLC0415 - belongs to the extra; scipy.stats takes 2 s to import
    count, mean = len(differences), fmean(differences)
    half = float(stdtrit(count - 1, 0.975)) * stdev(differences) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def _spans(steps: Sequence[Step], from_s: float, to_s: float) -> Iterator[tuple[Step, float]]:
    """Each step that begins before `to_s` and ends after `from_s`, and its end."""
    for step, end in zip(steps, [*(step.t for step in steps[1:]), to_s], strict=True):
        if step.t < to_s and end > from_s:
            yield step, min(end, to_s)


def _met(steps: Sequence[Step], from_s: float, to_s: float) -> Iterator[tuple[float, float]]:
    """The longest spans within [from_s, to_s) in which at least as many replicas were ready as were wanted."""
    begun: float | None = None
    for step, _ in _spans(steps, from_s, to_s):
        is_met = step.ready >= step.target
        if is_met and begun is None:
            begun = max(step.t, from_s)
        if not is_met and begun is not None:
            yield begun, step.t
            begun = None
    if begun is not None:
        yield begun, to_s


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
