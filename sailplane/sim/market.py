"""What a market of spot and on-demand machines does over time: capacity and prices, zone by zone.

Instants are seconds since the market's first instant. A trace is a step function: its value at `t` is that of the step
`floor(t / step_s)`, and the last step lasts for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.model import Location


@dataclass(frozen=True, slots=True)
class Zone:
    """One zone's spot machines of one type. `capacity[i]` and `spot_usd_per_hour[i]` hold during step i."""

    location: Location
    step_s: float
    capacity: tuple[int, ...]  # how many of our machines the zone can hold
    spot_usd_per_hour: tuple[float, ...]

    def capacity_at(self, t: float) -> int:
        """How many of our machines the zone can hold at `t`; those beyond are taken."""
        return self.capacity[self._step(t, len(self.capacity))]

    def spot_usd_per_hour_at(self, t: float) -> float:
        """The spot price at `t`."""
        return self.spot_usd_per_hour[self._step(t, len(self.spot_usd_per_hour))]

    def _step(self, t: float, steps: int) -> int:
        return min(max(0, int(t // self.step_s)), steps - 1)


@dataclass(frozen=True, slots=True)
class Market:
    """One type of machine in several zones. On-demand machines can always be had, in each zone, at one price."""

    name: str
    instance_type: str
    accelerator: str
    accelerator_count: int
    on_demand_usd_per_hour: float
    zones: tuple[Zone, ...]
    duration_s: float
