"""Random loads and markets. A trace is a plain value, made of its family's name and a seed and of nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

TICK_S = 20  # SkyServe's

Stretch = tuple[int, float]  # seconds, requests per second


@dataclass(frozen=True, slots=True)
class Trace:
    """A load on a service. With `poisson_seed` requests come at random, else evenly spaced.

    `gpus` are what a cloud gives, in turns, to an instance-aware service; a new replica is ready after `ready_after`
    ticks, and one that was scaled down stays in SkyServe's table for `dead_for`.
    """

    family: str
    seed: int
    target_qps: float | Mapping[str, float]
    stretches: tuple[Stretch, ...]
    min_replicas: int = 1
    max_replicas: int = 10
    upscale_delay_s: int = 300
    downscale_delay_s: int = 1200
    poisson_seed: int | None = None
    gpus: tuple[str, ...] = ("L4",)
    ready_after: int = 6
    dead_for: int = 0

    def counts(self) -> list[int]:
        """Requests in each second."""
        rates = [rate for seconds, rate in self.stretches for _ in range(seconds)]
        if self.poisson_seed is not None:
            chance = random.Random(self.poisson_seed)
            return [_poisson(rate, chance) for rate in rates]
        counts, served, due = [], 0, 1e-9
        for rate in rates:
            due += rate
            counts.append(int(due) - served)
            served = int(due)
        return counts


def _poisson(rate: float, chance: random.Random) -> int:
    """Knuth's: how many uniform numbers can be multiplied until the product falls below e^-rate."""
    floor, product, count = math.exp(-rate), chance.random(), 0
    while product > floor:
        product *= chance.random()
        count += 1
    return count


# --- loads in which none of SkyServe's defects shows ----------------------------------------------------------------
#
# Levels lie half-way between two numbers of replicas, where one request more or less in the window decides nothing, and
# are held for longer than the delay of the way there.


def held_steps(seed: int) -> Trace:
    """Up and down, each level held until it has been followed; SkyServe's delays or others."""
    chance = random.Random(seed)
    up_s, down_s = chance.choice([(300, 1200), (300, 1200), (20, 60), (60, 300), (300, 300)])
    levels = _levels(chance, chance.randrange(3, 7), lowest=1)
    stretches = [(max(up_s, down_s) + chance.randrange(90, 400), level) for level in levels]
    return _trace("held steps", seed, chance, stretches, upscale_delay_s=up_s, downscale_delay_s=down_s)


def staircase(seed: int) -> Trace:
    """Ever more (or ever less) load in steps that follow each other faster than they are followed."""
    chance = random.Random(seed)
    levels = sorted(_levels(chance, chance.randrange(4, 9), lowest=1), reverse=chance.random() < 0.5)
    hold_s = 1800 if levels[0] > levels[-1] else 500
    stretches = [(hold_s, levels[0]), *((chance.randrange(20, 200), level) for level in levels), (hold_s, levels[-1])]
    return _trace("staircase", seed, chance, stretches)


def sleep_and_wake(seed: int) -> Trace:
    """Nothing for long enough that the service goes to zero, then load again."""
    chance = random.Random(seed)
    stretches: list[Stretch] = []
    for level in _levels(chance, 2, lowest=1):
        stretches += [(chance.randrange(400, 900), level), (chance.randrange(1300, 2000), 0.0)]
    stretches.append((chance.randrange(400, 900), 2.5))
    return _trace("sleep and wake", seed, chance, stretches, min_replicas=0)


def lone_pulses(seed: int) -> Trace:
    """Peaks too short to be followed, far enough apart that a bucket is empty again when the next one comes."""
    chance = random.Random(seed)
    base = chance.randrange(1, 4) - 0.5
    stretches: list[Stretch] = [(500, base)]
    for _ in range(chance.randrange(3, 8)):
        pulse_s = chance.randrange(20, 160)
        stretches += [(pulse_s, base + chance.randrange(1, 4)), (pulse_s + chance.randrange(200, 400), base)]
    return _trace("lone pulses", seed, chance, stretches)


def beyond_the_bounds(seed: int) -> Trace:
    """Levels below the minimum and above the maximum."""
    chance = random.Random(seed)
    stretches = [(chance.randrange(1300, 1700), chance.choice([0.0, 0.5, 2.5, 4.5, 9.5])) for _ in range(4)]
    return _trace("beyond the bounds", seed, chance, stretches, min_replicas=2, max_replicas=5)


# --- any load: every difference has to be explained -----------------------------------------------------------------


def on_and_off(seed: int) -> Trace:
    """Peaks and pauses of some minutes: what SkyServe's counters forget."""
    chance = random.Random(seed)
    on_s, off_s, low, high = chance.randrange(60, 290), chance.randrange(20, 200), 0.5, chance.randrange(2, 6) - 0.5
    return _trace("on and off", seed, chance, [(on_s, high), (off_s, low)] * (5400 // (on_s + off_s)))


def wandering(seed: int) -> Trace:
    """Levels of any height, held for any time, with Poisson's noise."""
    chance = random.Random(seed)
    stretches = [(chance.randrange(20, 900), round(chance.uniform(0, 8), 2)) for _ in range(14)]
    delays = chance.choice([(300, 1200), (60, 120), (100, 300)])
    made = _trace("wandering", seed, chance, stretches, upscale_delay_s=delays[0], downscale_delay_s=delays[1])
    return replace(made, min_replicas=chance.choice([0, 1, 2]), poisson_seed=seed)


def at_the_edge(seed: int) -> Trace:
    """Poisson's noise around a load that exactly fills a number of replicas: wanted flickers at every look."""
    chance = random.Random(seed)
    stretches = [(2400, float(chance.randrange(1, 6))) for _ in range(3)]
    return _trace("at the edge", seed, chance, stretches, poisson_seed=seed)


def day(seed: int) -> Trace:
    """A day's curve, pressed into three hours, with noise."""
    chance = random.Random(seed)
    middle, swing, phase = chance.uniform(1, 5), chance.uniform(0.3, 1.0), chance.uniform(0, math.tau)
    rates = [middle * (1 + swing * math.sin(phase + math.tau * minute / 180)) for minute in range(180)]
    return _trace("day", seed, chance, [(60, rate) for rate in rates], min_replicas=0, poisson_seed=seed)


# --- targets by accelerator -----------------------------------------------------------------------------------------

TARGETS = {"L4": 0.5, "A100-80GB": 2.0, "H100": 3.5}


def one_kind(seed: int) -> Trace:
    """A map with a single kind in it, and held levels.

    They change at a look, so that no window holds exactly what some replicas take: there SkyServe wants one more.
    """
    chance = random.Random(seed)
    gpu, target = chance.choice(list(TARGETS.items()))
    stretches = [(TICK_S * chance.randrange(70, 85), level * target) for level in _levels(chance, 4, lowest=1)]
    return Trace("one kind", seed, {gpu: target}, tuple(stretches), gpus=(gpu,))


def climbing(seed: int) -> Trace:
    """Several kinds, and a load that is always a little more than the replicas of the moment can take."""
    chance = random.Random(seed)
    gpus = tuple(chance.choice(list(TARGETS)) for _ in range(6))
    capacities = accumulate(TARGETS[gpu] for gpu in gpus)
    stretches = tuple((chance.randrange(500, 800), capacity + 0.25) for capacity in capacities)
    return Trace("climbing", seed, TARGETS, stretches, gpus=gpus)


def several_kinds(seed: int) -> Trace:
    """Several kinds and any load, which is now and then exactly what some of them take."""
    return _several("several kinds", seed, dead_for=0)


def dead_rows(seed: int) -> Trace:
    """The same while what was scaled down stays in SkyServe's table for a quarter of an hour; what failed stays for good."""
    return _several("dead rows", seed, dead_for=45)


def from_zero(seed: int) -> Trace:
    """Several kinds and a minimum of zero."""
    chance = random.Random(seed)
    stretches = tuple((chance.randrange(100, 300), chance.randrange(1, 25) / 2) for _ in range(3))
    return Trace("from zero", seed, TARGETS, stretches, min_replicas=0)


def _several(family: str, seed: int, *, dead_for: int) -> Trace:
    chance = random.Random(seed)
    gpus = tuple(chance.choice(list(TARGETS)) for _ in range(7))
    stretches = tuple((chance.randrange(1400, 2000), chance.randrange(25) / 2) for _ in range(4))
    return Trace(family, seed, TARGETS, stretches, gpus=gpus, dead_for=dead_for)


def _levels(chance: random.Random, count: int, *, lowest: int) -> list[float]:
    """Different neighbours, in replicas."""
    levels = [chance.randrange(lowest, 9) - 0.5]
    while len(levels) < count:
        level = chance.randrange(lowest, 9) - 0.5
        if level != levels[-1]:
            levels.append(level)
    return levels


def _trace(family: str, seed: int, chance: random.Random, levels: list[Stretch], **fields: Any) -> Trace:
    """Levels are in replicas; what one replica takes is drawn here."""
    target = chance.choice([0.5, 0.75, 1.0])
    stretches = tuple((seconds, round(level * target, 4)) for seconds, level in levels)
    return Trace(family, seed, target, stretches, **fields)


SAME: tuple[Callable[[int], Trace], ...] = (held_steps, staircase, sleep_and_wake, lone_pulses, beyond_the_bounds)
ANY: tuple[Callable[[int], Trace], ...] = (on_and_off, wandering, at_the_edge, day)
BY_ACCELERATOR_SAME: tuple[Callable[[int], Trace], ...] = (one_kind, climbing)
BY_ACCELERATOR_ANY: tuple[Callable[[int], Trace], ...] = (several_kinds, dead_rows, from_zero)


def sample(families: tuple[Callable[[int], Trace], ...], count: int) -> Iterator[Trace]:
    """`count` traces, the families in turns."""
    for seed in range(count):
        yield families[seed % len(families)](seed)
