"""The offline bound: what nobody can do better who knows the whole market in advance. A linear programme.

For every step and zone it chooses how many spot machines serve, and how many on-demand machines do, so that the target is
met in every step at the lowest cost. It is relaxed in favour of the bound, so that no policy is ever below it:

- machines are divisible, hence so are the starts;
- a machine costs what it serves plus one cold start a start, at the lowest price within that time;
- a cold start shorter than a step of the trace costs money and no time; a longer one needs room in the zone for the whole
  steps in it;
- nothing is ever drained, probed, noticed late or refused.

The first cold start is left out, for nobody can be ready earlier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.errors import SailplaneError
from sailplane.sim import extra
from sailplane.sim.market import Market


@dataclass(frozen=True, slots=True)
class Bound:
    """The lowest cost at which the target can be met all the time, and the share of machine hours that is spot."""

    usd: float
    spot_share: float


@dataclass(frozen=True, slots=True)
class _Pool:
    """Machines of one kind in one place: room and $ for a whole step, for a start, step by step."""

    room: Sequence[float]
    usd: Sequence[float]
    usd_of_start: Sequence[float]


def offline(market: Market, target: int, until_s: float, cold_start_s: float) -> Bound:
    """The bound over [0, until_s) for a fixed target. Raises `MissingExtra` without scipy."""
    with extra.wanted_for("The offline bound"):
        import numpy as np  # noqa: PLC0415 - belongs to the extra
        from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - same
        from scipy.sparse import coo_array  # noqa: PLC0415 - same

    step_s = min(zone.step_s for zone in market.zones)
    steps = math.ceil(until_s / step_s)
    pools = _pools(market, steps, step_s, cold_start_s)
    first = math.ceil(cold_start_s / step_s)
    size = steps * len(pools)  # serving[pool, step], then started[pool, step]

    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    # serving[t] - serving[t - 1] - started[t] <= 0
    for index in range(size):
        rows += [index, index]
        columns += [index, size + index]
        values += [1.0, -1.0]
        if index % steps:
            rows.append(index)
            columns.append(index - 1)
            values.append(-1.0)
    # -sum of serving[t] over the pools <= -target
    for step in range(first, steps):
        for pool in range(len(pools)):
            rows.append(size + step - first)
            columns.append(pool * steps + step)
            values.append(-1.0)
    demands = max(0, steps - first)
    wanted = coo_array((values, (rows, columns)), shape=(size + demands, 2 * size)).tocsr()
    solved = milp(  # all of it continuous: HiGHS's linear solver, by the interface that takes sparse matrices
        c=np.concatenate([*(pool.usd for pool in pools), *(pool.usd_of_start for pool in pools)]),
        constraints=LinearConstraint(wanted, ub=np.concatenate([np.zeros(size), np.full(demands, -float(target))])),
        bounds=Bounds(0.0, np.concatenate([*(pool.room for pool in pools), np.full(size, math.inf)])),
    )
    if not solved.success:
        raise SailplaneError(f"the offline bound was not found: {solved.message}")
    served = float(solved.x[:size].sum())
    on_demand = float(solved.x[size - steps : size].sum())
    return Bound(float(solved.fun), (served - on_demand) / served if served else 0.0)


def _pools(market: Market, steps: int, step_s: float, cold_start_s: float) -> list[_Pool]:
    """One of each zone's spot machines; the last is all that is bought on demand."""
    whole, begun = math.floor(cold_start_s / step_s), math.ceil(cold_start_s / step_s)
    spot = []
    for zone in market.zones:
        # Each step at its middle: zones may have steps of other lengths.
        room = [zone.capacity_at((step + 0.5) * step_s) for step in range(steps)]
        price = [zone.spot_usd_per_hour_at((step + 0.5) * step_s) for step in range(steps)]
        spot.append(
            _Pool(
                room=[min(room[max(0, step - whole) : step + 1]) for step in range(steps)],
                usd=[usd * step_s / 3600 for usd in price],
                usd_of_start=[
                    min(price[max(0, step - begun) : step + 1]) * cold_start_s / 3600 for step in range(steps)
                ],
            )
        )
    usd_per_hour = market.on_demand_usd_per_hour
    on_demand = _Pool(
        [math.inf] * steps, [usd_per_hour * step_s / 3600] * steps, [usd_per_hour * cold_start_s / 3600] * steps
    )
    return [*spot, on_demand]
