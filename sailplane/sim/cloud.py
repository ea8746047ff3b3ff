"""A cloud with a bill: capacity and prices of its spot machines come from a market, everything else from the seed.

It behaves as the real ones have been seen to: what was launched is listed late, an idempotency token is remembered for good,
a machine that was just started may not be found by a call about it, one on its way out is billed until it is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import count
from random import Random

from chalicelib.errors import LaunchError, NoCapacity, Unreachable
from chalicelib.model import CapacityType, Instance, InstanceStatus, LaunchRequest, Location, Offer, Replica
from sailplane.sim.history import Counts
from sailplane.sim.market import Market, Zone
from sailplane.sim.scenario import ColdStart, Faults
from sailplane.sim.scheduler import Scheduler, to_ticks

# How long before it takes a spot machine a cloud says so, and how late it lists a new one at worst. Theirs, by their own word.
_NOTICE_S = {"aws": 120.0}
_NOTICE_ELSEWHERE_S = 30.0
_SHOWN_WHEN_GONE_S = {"aws": 3600.0}  # the others forget a machine at once
_STILLBORN_S = 300.0
_REUSED_SHARE = 0.2  # of addresses given to somebody else's machine at once


class Happening(StrEnum):
    """What becomes of a machine."""

    STARTED = "STARTED"  # billed from here on
    SEEN = "SEEN"  # its cloud lists it, or knows its address
    SERVES = "SERVES"  # its engine answers
    FAILS = "FAILS"  # its engine does not, for now
    NOTICED = "NOTICED"  # the cloud has said that it will take it
    DRAINS = "DRAINS"  # its agent was told to take no new requests
    DIES = "DIES"  # nothing on it answers any more


@dataclass
class Machine:
    """A machine, and the agent and engine on it."""

    id: str
    token: str
    replica: Replica  # as in the request: its tags, and what its agent says it is
    offer: Offer  # what was given
    url: str
    started_at: float
    listed_at: float
    status: InstanceStatus = InstanceStatus.RUNNING
    has_address: bool = False
    agent_up: bool = False
    engine_up: bool = False
    draining: bool = False
    hung: bool = False  # neither agent nor engine answer for now
    engine_fails: bool = False  # it answers no request for now
    exit_code: int | None = None
    interruption_at: float | None = None
    preempted: bool = False
    died_at: float | None = None
    ended_at: float | None = None  # no longer billed
    seen: Instance | None = None  # as a list has it
    is_hurt: bool = False  # something has befallen it
    notices: int = 0  # how often the cloud's word that it takes the machine is handed in

    @property
    def is_alive(self) -> bool:
        return self.died_at is None

    @property
    def is_told_by_agent(self) -> bool:
        """Whether the notice that was given stands in the machine's metadata. AWS's comes as an event."""
        return self.notices > 0 and self.offer.location.provider != "aws"

    @property
    def is_billed(self) -> bool:
        return self.ended_at is None

    @property
    def serves(self) -> bool:
        """Whether a request sent to it would be answered."""
        return self.is_alive and self.engine_up and not (self.hung or self.engine_fails) and self.exit_code is None


@dataclass
class Cloud:
    """All machines of one provider. `changed` is called when anything that it says has changed."""

    name: str
    market: Market
    scheduler: Scheduler
    random: Random
    start: float
    cold_start: ColdStart
    faults: Faults
    counts: Counts
    on_machine: Callable[[Machine, Happening], None]
    on_change: Callable[[], None]  # it answers otherwise, whatever it is asked
    on_removal: Callable[[Machine], None]  # somebody asks for it, it is still as it was
    on_refusal: Callable[[Location], None]  # there is no machine for who asks
    broken: frozenset[str] = frozenset()  # fingerprints whose engine ends at once
    listing_lag_s: float = 30.0  # at worst
    is_down: bool = False
    refusal: LaunchError | None = None
    answers_to_lose: int = 0  # so many launches do their work and answer nothing
    machines: dict[str, Machine] = field(default_factory=dict)  # by id; all that ever were
    by_token: dict[str, Machine] = field(default_factory=dict)
    shown: dict[str, Machine] = field(default_factory=dict)  # what a list may hold
    numbers: Iterator[int] = field(default_factory=count)
    strangers: dict[str, Machine] = field(default_factory=dict)  # who has the address of a machine that is gone

    def __post_init__(self) -> None:
        self.zones: dict[Location, Zone] = {
            zone.location: zone for zone in self.market.zones if zone.location.provider == self.name
        }
        for zone in self.zones.values():
            self._watch(zone, 0)

    # --- what a provider asks for

    def listed(self) -> tuple[Instance, ...]:
        """What a list holds now. Raises `Unreachable`."""
        self._answer()
        return self.seen()

    def seen(self) -> tuple[Instance, ...]:
        """What a list would hold, did the cloud answer."""
        now = self.scheduler.time
        return tuple(self._seen(machine) for machine in self.shown.values() if machine.listed_at <= now)

    def run_machine(self, token: str, request: LaunchRequest) -> Instance:
        """Start a machine, or return the one that the token has started before. Raises `LaunchError`, `Unreachable`."""
        self._answer()
        known = self.by_token.get(token)
        if known is None:
            known = self._start(token, request)
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise Unreachable(f"{self.name}: the answer was lost")
        return self._seen(known)

    def stop_machine(self, replica_id: str, instance_id: str) -> None:
        """Begin to remove a machine, by id or by tag; a young one is not found yet. Raises `Unreachable`."""
        self._answer()
        found = [
            machine
            for machine in self.shown.values()
            if (machine.id == instance_id if instance_id else machine.replica.id == replica_id)
            and machine.listed_at <= self.scheduler.time
        ]
        for machine in found:
            if machine.status is InstanceStatus.RUNNING:
                self.on_removal(machine)
                self._die(machine, InstanceStatus.STOPPING)
                self.scheduler.after(self.random.uniform(5, 40), partial(self._gone, machine))

    def _answer(self) -> None:
        if self.is_down:
            raise Unreachable(f"{self.name} does not answer")

    # --- the market

    def has_room(self, offer: Offer) -> bool:
        """Whether such a machine can be had now."""
        zone = self.zones[offer.location]
        if offer.capacity_type is CapacityType.ON_DEMAND:
            return True
        return len(self._spot_in(zone)) < zone.capacity_at(self.scheduler.time - self.start)

    def _spot_in(self, zone: Zone) -> list[Machine]:
        return [
            machine
            for machine in self.shown.values()
            if machine.is_alive
            and machine.offer.location == zone.location
            and machine.offer.capacity_type is CapacityType.SPOT
        ]

    def _watch(self, zone: Zone, step: int) -> None:
        """Be there when the zone's capacity falls next, and a notice's length before."""
        falls = next((i for i in range(step + 1, len(zone.capacity)) if zone.capacity[i] < zone.capacity[i - 1]), None)
        if falls is not None:
            at = self.start + falls * zone.step_s
            self.scheduler.at(at - self.notice_s, partial(self._announce, zone, falls))
            self.scheduler.at(at, partial(self._fall, zone, falls))

    @property
    def notice_s(self) -> float:
        """How long before it takes a spot machine this cloud says so."""
        return _NOTICE_S.get(self.name, _NOTICE_ELSEWHERE_S)

    def _announce(self, zone: Zone, step: int) -> None:
        for machine in self._surplus(zone, step):
            if machine.interruption_at is None:
                times = int(self.random.random() >= self.faults.unannounced_share)
                self.notify(machine, self.start + step * zone.step_s, times)

    def _fall(self, zone: Zone, step: int) -> None:
        for machine in self._surplus(zone, step):
            self.take(machine)
        self._watch(zone, step)

    def _surplus(self, zone: Zone, step: int) -> list[Machine]:
        """Who has to go, those that were told first."""
        present = self._spot_in(zone)
        self.random.shuffle(present)
        present.sort(key=lambda machine: machine.interruption_at is None)
        return present[: max(0, len(present) - zone.capacity[step])]

    def notify(self, machine: Machine, at: float, times: int) -> None:
        """Say that a machine will be taken: so many times, 0 being a notice that is lost."""
        machine.interruption_at, machine.notices = at, times
        self.counts.interruptions += bool(times)
        self._tell(machine, Happening.NOTICED)

    def take(self, machine: Machine) -> None:
        """Take a spot machine back."""
        if machine.is_alive:
            machine.preempted = True
            self.counts.preemptions += 1
            self._die(machine, InstanceStatus.GONE)
            self._gone(machine)

    # --- a machine's life

    def _start(self, token: str, request: LaunchRequest) -> Machine:
        replica, offer = request.replica, request.replica.offer
        refusal = self.refusal
        if refusal is None and not self.has_room(offer):
            refusal = NoCapacity(f"no {offer.instance_type} left in {offer.location}")
        if refusal is not None:
            self.counts.refusals += 1
            self.on_refusal(offer.location)
            raise refusal
        number, now = next(self.numbers), self.scheduler.time
        lag_s = to_ticks(self.random.uniform(0, self.listing_lag_s * 0.7))
        machine = Machine(f"i-{number:017x}", token, replica, offer, self._free_url(), now, listed_at=now + lag_s)
        self.machines[machine.id] = self.by_token[token] = self.shown[machine.id] = machine
        self.counts.launches += 1
        self.scheduler.after(lag_s, partial(self._tell, machine, Happening.SEEN))
        self.scheduler.after(self.random.choice((0.0, 3.0)), partial(self._addressed, machine))
        boot_s = self.random.uniform(*self.cold_start.boot_s)
        if now < self.start + self.faults.until_s and self.random.random() < self.faults.stillborn_share:
            boot_s, machine.is_hurt = boot_s + self.random.choice((_STILLBORN_S, math.inf)), True
        setup_s = self.random.uniform(*self.cold_start.setup_s)
        if boot_s < math.inf:
            self.scheduler.after(boot_s, partial(self._booted, machine))
            self.scheduler.after(boot_s + setup_s, partial(self._set_up, machine))
        self._tell(machine, Happening.STARTED)
        if replica.fingerprint in self.broken and boot_s < math.inf:
            self.scheduler.after(boot_s, partial(self._end_engine, machine))
        return machine

    def _free_url(self) -> str:
        """The lowest address that nobody has: clouds give an address to the next one as soon as it is free."""
        taken = {machine.url for machine in self.shown.values() if machine.is_billed} | self.strangers.keys()
        return next(
            url for number in count(1) if (url := f"http://10.0.{number >> 8}.{number & 255}:8081") not in taken
        )

    def _addressed(self, machine: Machine) -> None:
        machine.has_address = True
        self._tell(machine, Happening.SEEN)

    def _booted(self, machine: Machine) -> None:
        machine.agent_up = True
        self._tell(machine, Happening.FAILS)

    def _end_engine(self, machine: Machine) -> None:
        machine.exit_code = 1
        self._tell(machine, Happening.FAILS)

    def _set_up(self, machine: Machine) -> None:
        machine.engine_up = True
        if machine.serves:
            self._tell(machine, Happening.SERVES)

    def _die(self, machine: Machine, status: InstanceStatus) -> None:
        machine.status, machine.died_at = status, self.scheduler.time
        self._tell(machine, Happening.DIES)

    def _gone(self, machine: Machine) -> None:
        machine.status, machine.ended_at = InstanceStatus.GONE, self.scheduler.time
        self._tell(machine, Happening.DIES)
        if self.random.random() < _REUSED_SHARE:
            self.strangers[machine.url] = self._stranger(machine)
        self.scheduler.after(_SHOWN_WHEN_GONE_S.get(self.name, 0.0), partial(self._forget, machine))

    def _stranger(self, machine: Machine) -> Machine:
        """Another deployment's machine, or one made of this one's image: it serves, and is not ours."""
        name = self.random.choice((machine.replica.id, "other-u001-0-1"))
        replica = replace(machine.replica, id=name, boot_nonce="another")
        return Machine(
            "i-another", "", replica, machine.offer, machine.url, machine.started_at, 0.0, agent_up=True, engine_up=True
        )

    def _forget(self, machine: Machine) -> None:
        del self.shown[machine.id]
        self._tell(machine, Happening.DIES)

    def tell(self, machine: Machine) -> None:
        """Something has befallen a machine."""
        if machine.is_alive:
            self._tell(machine, Happening.SERVES if machine.serves else Happening.FAILS)

    def _tell(self, machine: Machine, happening: Happening) -> None:
        machine.seen = None
        self.on_machine(machine, happening)

    def _seen(self, machine: Machine) -> Instance:
        # The same one as long as nothing has changed: lists are asked for more often than anything happens.
        if machine.seen is None:
            machine.seen = self._instance(machine)
        return machine.seen

    def _instance(self, machine: Machine) -> Instance:
        return Instance(
            provider=self.name,
            id=machine.id,
            replica_id=machine.replica.id,
            service=machine.replica.service,
            status=machine.status,
            created_at=machine.started_at,
            url=machine.url if machine.has_address else "",
            preempted=machine.preempted,
        )


def spot_usd(zone: Zone, from_s: float, to_s: float) -> float:
    """What a spot machine costs between two instants of the market, at the price of each moment."""
    usd, t = 0.0, from_s
    while t < to_s:
        end = min(to_s, (1 + t // zone.step_s) * zone.step_s)
        usd += zone.spot_usd_per_hour_at(t) * (end - t) / 3600
        t = end
    return usd
