"""What befalls the world by itself: machines die and hang, clouds do not answer, notices are lost or come twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from chalicelib.errors import NoCapacity, QuotaExceeded, Unauthorized
from sailplane.sim.cloud import Cloud, Machine
from sailplane.sim.faults import Disturber
from sailplane.sim.scenario import Faults
from sailplane.sim.scheduler import Scheduler


@dataclass
class Weather:
    """Draws what happens, and when, until the faults' end."""

    faults: Faults
    start: float
    scheduler: Scheduler
    random: Random
    clouds: Mapping[str, Cloud]
    disturber: Disturber
    owner_acts: Callable[[], None]
    warn: Callable[[Machine], None]  # the cloud says that a machine is at risk
    note: Callable[[str], None]

    def begin(self) -> None:
        """From now on."""
        self._again_and_again(self.faults.strikes_per_hour, self.disturber.arm)
        self._again_and_again(self.faults.owner_acts_per_hour, self.owner_acts)
        for cloud in self.clouds.values():
            self._again_and_again(self.faults.outages_per_hour, partial(self._outage, cloud))
        if self.faults.until_s < math.inf:
            self.scheduler.at(self.ends_at, self._clear_up)

    @property
    def ends_at(self) -> float:
        """When it clears up."""
        return self.start + self.faults.until_s

    def on_start(self, cloud: Cloud, machine: Machine) -> None:
        """Another machine that something may befall."""
        self._again_and_again(self.faults.misfortunes_per_hour, partial(self._misfortune, cloud, machine))

    def _again_and_again(self, per_hour: float, happen: Callable[[], object]) -> None:
        if not per_hour:
            return
        at = self.scheduler.time + self.random.expovariate(per_hour / 3600)
        if at < self.ends_at:
            self.scheduler.at(at, partial(self._once_more, per_hour, happen))

    def _once_more(self, per_hour: float, happen: Callable[[], object]) -> None:
        if happen() is not False:  # it may be over: a machine that is gone
            self._again_and_again(per_hour, happen)

    def _clear_up(self) -> None:
        """No more faults. Who hangs answers again; what is broken stays broken."""
        self.note("it clears up")
        self.disturber.is_on = False
        self.disturber.strikes.clear()
        for cloud in self.clouds.values():
            self._restore(cloud)
            for machine in [*cloud.shown.values()]:
                self._heal(cloud, machine)

    # --- one machine

    def _misfortune(self, cloud: Cloud, machine: Machine) -> bool:
        if not machine.is_alive:
            return False
        fault = self.random.choice(("die", "notice", "exit", "hang", "fail", "warn"))
        self.note(f"{fault} {machine.replica.id}")
        machine.is_hurt = machine.is_hurt or fault != "warn"
        match fault:
            case "warn":
                self.warn(machine)
            case "die":
                cloud.take(machine)
            case "notice":
                self._notice(cloud, machine)
            case "exit":
                machine.exit_code = 1
                cloud.tell(machine)
            case "hang":
                machine.hung = True
                self._for_a_while(cloud, machine)
            case "fail":
                machine.engine_fails = True
                self._for_a_while(cloud, machine)
        return True

    def _notice(self, cloud: Cloud, machine: Machine) -> None:
        at = self.scheduler.time + self.random.choice((5.0, 30.0, 120.0))
        times = self.random.choice((0, 1, 1, 2))
        cloud.notify(machine, at, times)
        self.scheduler.at(at, partial(cloud.take, machine))

    def _for_a_while(self, cloud: Cloud, machine: Machine) -> None:
        cloud.tell(machine)
        seconds = self.random.choice((3.0, 15.0, 60.0, math.inf))
        if seconds < math.inf:
            self.scheduler.after(seconds, partial(self._heal, cloud, machine))

    def _heal(self, cloud: Cloud, machine: Machine) -> None:
        if machine.is_alive and (machine.hung or machine.engine_fails):
            machine.hung = machine.engine_fails = False
            cloud.tell(machine)

    # --- one cloud

    def _outage(self, cloud: Cloud) -> None:
        kind = self.random.choice(("down", "refuses", "loses answers"))
        seconds = self.random.choice((2.0, 20.0, 60.0))
        self.disturber.disturb(f"{cloud.name} {kind} for {seconds:g} s")
        match kind:
            case "down":
                cloud.is_down = True
            case "refuses":
                cloud.refusal = self.random.choice((NoCapacity("none"), QuotaExceeded("0"), Unauthorized("who?")))
            case "loses answers":
                cloud.answers_to_lose = self.random.randint(1, 3)
        cloud.on_change()
        self.scheduler.after(seconds, partial(self._restore, cloud))

    def _restore(self, cloud: Cloud) -> None:
        self.disturber.disturb(f"{cloud.name} is well")
        cloud.is_down, cloud.refusal, cloud.answers_to_lose = False, None, 0
        cloud.on_change()
