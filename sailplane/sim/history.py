"""What a simulation leaves behind: the cloud's bill, how many replicas there were when, and what happened.

Instants are seconds since the market's first one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chalicelib.model import Event, Offer


@dataclass(frozen=True, slots=True)
class Billed:
    """One machine on the bill. `to_s` is None while it is still there when the simulation ends."""

    machine_id: str
    replica_id: str
    offer: Offer  # what the cloud gave, at the price of that moment
    from_s: float
    to_s: float
    usd: float


@dataclass(frozen=True, slots=True)
class Step:
    """Holds from `t` until the next step.

    `ready` are machines that serve and are in the published table; `billed` are all that cost money.
    """

    t: float
    target: int
    ready: int
    spot_ready: int
    on_demand_ready: int
    billed: int


@dataclass
class Counts:
    """How often each thing happened."""

    launches: int = 0  # machines started
    refusals: int = 0  # launches that the cloud turned down
    preemptions: int = 0
    interruptions: int = 0  # notices given


@dataclass
class History:
    """One simulation's outcome."""

    bill: list[Billed] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    events: list[Event] = field(default_factory=list)  # their instants are the store's: epoch seconds
    violations: list[str] = field(default_factory=list)
    until_s: float = 0.0
    # Not part of what happened: how much work it was.
    passes_run: int = field(default=0, compare=False)
    passes_skipped: int = field(default=0, compare=False)
