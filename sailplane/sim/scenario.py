"""What a simulation is of: the service, the market, the faults, and the seed that decides all else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chalicelib.model import Limits, ServiceSpec
from sailplane.sim.market import Market
from sailplane.sim.traffic import Traffic

# The market's first instant. Any whole number will do; the simulation's reports count from it.
START = 1_800_000_000.0


@dataclass(frozen=True, slots=True)
class ColdStart:
    """From a launch to its first request, drawn evenly between two bounds, in seconds."""

    boot_s: tuple[float, float] = (20.0, 60.0)  # until the agent answers
    setup_s: tuple[float, float] = (60.0, 180.0)  # from then until the engine is ready


@dataclass(frozen=True, slots=True)
class Faults:
    """How badly the world behaves until `until_s`, then not at all. The defaults are a world without a fault.

    `disturbance` scales what may happen around a call of a pass that acts, 1 being a rough sea (see `faults.Disturber`);
    `strikes_per_hour` are such things around any call, a steady pass's reads too. The others befall the world, whoever calls it.
    """

    disturbance: float = 0.0
    strikes_per_hour: float = 0.0
    misfortunes_per_hour: float = 0.0  # of each machine: it dies, hangs, fails, ends, is taken
    outages_per_hour: float = 0.0  # of each cloud: it does not answer, refuses, loses its answers
    owner_acts_per_hour: float = 0.0
    stillborn_share: float = 0.0  # of machines: they boot minutes later than anybody waits for, or never
    unannounced_share: float = 0.0  # of preemptions: no notice is given, or it is lost
    until_s: float = math.inf

    @property
    def is_storm(self) -> bool:
        """Whether something goes wrong every few seconds, so that nothing can be said of how soon all is well again."""
        return self.strikes_per_hour > 10


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation. The same scenario has the same history, bit by bit."""

    spec: ServiceSpec
    market: Market
    traffic: Traffic | None = None
    seed: int = 0
    faults: Faults = Faults()
    cold_start: ColdStart = ColdStart()
    listing_lag_s: float = 30.0  # how late a cloud may list what was launched
    broken: frozenset[str] = frozenset()  # fingerprints of versions whose engine ends as soon as it starts
    limits: Limits = field(default_factory=Limits)
    # Passes that can decide nothing new are counted and not run; see `horizon`.
    skips_idle_passes: bool = True
    ends_at_verdict: bool = False  # what follows the first is of no interest
