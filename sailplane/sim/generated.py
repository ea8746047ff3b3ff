"""A market and traffic of Sailplane's own making, so that a simulation needs no file.

The figures are invented and lie in the range of public traces: zones that give spot machines between half and nine tenths
of the time, outages of an hour to a day, sometimes of a whole region at once, prices at a quarter to a half of on-demand.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from chalicelib.model import Location
from sailplane.sim.arrivals import renewal, tokens
from sailplane.sim.market import Market, Zone
from sailplane.sim.traffic import Request, Traffic

STEP_S = 300.0
DAY_S = 86400.0
MEAN_QPS = 0.1


@dataclass(frozen=True, slots=True)
class _Place:
    region: str
    zone: str
    up_h: float  # mean time for which machines can be had
    down_h: float  # mean time for which none can
    spot_share: float  # of the on-demand price, at first


_ON_DEMAND_USD_PER_HOUR = 4.0
_MOST = 6  # machines that a zone ever has for us
_PLACES = (
    _Place("us-east-1", "us-east-1a", up_h=6, down_h=10, spot_share=0.28),
    _Place("us-east-1", "us-east-1b", up_h=12, down_h=6, spot_share=0.33),
    _Place("us-west-2", "us-west-2a", up_h=30, down_h=6, spot_share=0.38),
    _Place("eu-west-1", "eu-west-1a", up_h=40, down_h=5, spot_share=0.44),
)
# A whole region: about once in five days, for two hours.
_REGION_UP_H, _REGION_DOWN_H = 120.0, 2.0
# Of a step at which the number of machines to be had rises or falls, of one at which the price moves.
_CAPACITY_MOVES, _PRICE_MOVES = 0.05, 0.01


def market(seed: int, days: float = 14.0) -> Market:
    """Four zones in three regions of a cloud, as Markov chains; the same for the same seed."""
    draw = random.Random(f"market {seed}")
    steps = max(1, math.ceil(days * DAY_S / STEP_S))
    outages = {
        region: _alternating(draw, steps, _REGION_UP_H, _REGION_DOWN_H)
        for region in sorted({place.region for place in _PLACES})
    }
    return Market(
        name=f"generated-{seed}",
        instance_type="gpu-1x",
        accelerator="L4",
        accelerator_count=1,
        on_demand_usd_per_hour=_ON_DEMAND_USD_PER_HOUR,
        zones=tuple(_zone(draw, place, outages[place.region], steps) for place in _PLACES),
        duration_s=steps * STEP_S,
    )


def traffic(seed: int, days: float, mean_qps: float = MEAN_QPS) -> Traffic:
    """Requests with a day's rhythm: half the mean at night, one and a half times at noon, and a ten-minute burst a day."""
    draw = random.Random(f"traffic {seed}")
    bursts = [(day + draw.random()) * DAY_S for day in range(math.ceil(days))]

    def rates() -> Iterator[tuple[float, float, float]]:
        for at in range(0, int(days * DAY_S), 600):
            daily = 1 - 0.5 * math.cos(2 * math.pi * at / DAY_S)
            busy = 4.0 if any(at <= burst < at + 600 for burst in bursts) else 1.0
            yield at, 600.0, mean_qps * daily * busy

    arrivals = itertools.chain.from_iterable(renewal(draw, *rate, cv=1.0) for rate in rates())
    return Traffic("generated", tuple(Request(at, *tokens(draw)) for at in arrivals))


def _zone(draw: random.Random, place: _Place, region_is_up: list[bool], steps: int) -> Zone:
    is_up = _alternating(draw, steps, place.up_h, place.down_h)
    machines, price = draw.randint(2, _MOST), place.spot_share * _ON_DEMAND_USD_PER_HOUR
    capacity, prices = [], []
    for step in range(steps):
        if draw.random() < _CAPACITY_MOVES:
            machines = min(_MOST, max(1, machines + draw.choice((-1, 1))))
        if draw.random() < _PRICE_MOVES:
            usual = place.spot_share * _ON_DEMAND_USD_PER_HOUR
            price = min(2 * usual, max(usual / 2, price * draw.choice((0.9, 0.95, 1.05, 1.1))))
        capacity.append(machines if is_up[step] and region_is_up[step] else 0)
        prices.append(round(price, 4))
    return Zone(Location("aws", place.region, place.zone), STEP_S, tuple(capacity), tuple(prices))


def _alternating(draw: random.Random, steps: int, up_h: float, down_h: float) -> list[bool]:
    """Whether a thing is up at each step, times up and down being exponential."""
    is_up, states = draw.random() < up_h / (up_h + down_h), []
    for _ in range(steps):
        states.append(is_up)
        mean_h = up_h if is_up else down_h
        if draw.random() < 1 - math.exp(-STEP_S / 3600 / mean_h):
            is_up = not is_up
    return states
