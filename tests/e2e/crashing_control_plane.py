"""A control plane that is killed with SIGKILL after each of its calls in turn, over a real database and real processes.

    python -m tests.e2e.crashing_control_plane SCENARIO DATABASE_URL ROOT AGENT_PYTHON

Before whichever line a process dies, it leaves behind what its last call to the database or the cloud has left. So for each of
these calls one child of this process runs a tick and kills itself after it; then two passes by another child, after the
dead one's lease has expired, have to put things right. Prints the number of calls.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from chalicelib import passes
from chalicelib.model import (
    InstanceStatus,
    ProbeResult,
    ProbeSpec,
    Replica,
    RouteTable,
    ScalingSpec,
    Service,
    SpecVersion,
)
from chalicelib.providers.local import processes
from chalicelib.providers.local.compute import LocalProvider
from chalicelib.store.documents import from_json, to_json
from chalicelib.store.dynamodb import DynamoDBStore
from tests.fakes import FakeClock, Interposed, World, spec
from tests.store import nouns
from tests.store.nouns import RandomIds

# Longer than a lease and a drain last, shorter than the cloud's answer to a launch is waited for.
RECOVERS_AFTER_S = 150.0
ONE = spec(min_replicas=1, max_replicas=1)


@dataclass(frozen=True)
class LifeProber:
    """An agent is ready while it lives."""

    provider: LocalProvider
    clock: FakeClock

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        del scaling
        running = {
            machine.replica_id for machine in self.provider.list_instances() if machine.status is InstanceStatus.RUNNING
        }
        now = self.clock.now()
        return {
            replica.id: ProbeResult(replica.id, now, identified=replica.id in running, ready=replica.id in running)
            for replica, _ in targets
        }

    def drain(self, replica: Replica) -> None:
        """Nothing to finish."""

    def read_log(self, _replica: Replica, _tail: int) -> str | None:
        return None


class Stage:
    """A service and a directory of machines for one death, so that none inherits the last one's trouble."""

    def __init__(self, store: DynamoDBStore, clock: FakeClock, root: Path, python: str, number: int) -> None:
        self.name = f"death{number}"
        self.clock = clock
        self.root = root / str(number)
        self.provider = LocalProvider(self.root, "drill", python, os.environ, clock)
        self.store = store
        self.world = World(clock=clock, store=store)
        self.runtime = replace(
            self.world.runtime,
            ids=RandomIds(),
            providers={"local": self.provider},
            prober=LifeProber(self.provider, clock),
        )

    def tick(self, times: int = 1) -> tuple[passes.Report, ...]:
        reports: tuple[passes.Report, ...] = ()
        for _ in range(times):
            self.clock.advance(1)
            reports = passes.tick(self.runtime, frozenset({self.name}))
        return reports

    def agents(self) -> Counter[str]:
        """How many agents live for each replica id, by the kernel's book and not by ours."""
        living: Counter[str] = Counter()
        for directory in self.root.iterdir():
            if directory.is_dir() and not directory.name.startswith("."):
                members = processes.processes_of(directory, None)
                living[directory.name] += sum(os.getsid(process.pid) == process.pid for process in members)
        return +living


def launch(stage: Stage) -> None:
    stage.world.create(stage.name, ONE)


def shut_down(stage: Stage) -> None:
    stage.world.create(stage.name, ONE)
    stage.tick(2)
    stage.world.delete(stage.name)
    stage.tick()  # draining
    stage.clock.advance(10)


SCENARIOS = {"launch": (launch, 1), "shut_down": (shut_down, 0)}


def die_after(call: int, stage: Stage) -> None:
    """Run a tick in this process, which ends as soon as its call number `call` to the database or the cloud has been answered."""
    answered = count(1)

    def happens(when: str) -> None:
        if when.startswith("after") and next(answered) == call:
            os.kill(os.getpid(), signal.SIGKILL)

    store: Any = Interposed(stage.store, happens)
    cloud: Any = Interposed(stage.provider, happens)
    stage.runtime = replace(stage.runtime, store=store, providers={"local": cloud})
    stage.tick()


def recover(stage: Stage, wanted: int) -> None:
    """Two passes after the dead process's lease has expired. Raises `AssertionError` when not all is as wanted then."""
    stage.clock.advance(RECOVERS_AFTER_S)
    reports = stage.tick(2)
    assert not [failure for report in reports for failure in report.failures], reports
    state, living = stage.store.load(stage.name), stage.agents()
    known = [replica.id for replica in state.replicas] if state else []
    assert living == Counter(known), f"{living} live, {known} are known"
    assert living.total() == wanted, living
    for replica in living:
        stage.provider.terminate(replica, replica)


def in_a_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its wait status. This process never opens a connection that both would share."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def know_the_documents() -> None:
    """How each noun is read and written is worked out once, and not by every child: 0.2 s of CPU each."""
    from_json(SpecVersion, to_json(nouns.spec()))
    from_json(Service, to_json(nouns.service()))
    from_json(Replica, to_json(nouns.replica()))
    from_json(RouteTable, to_json(nouns.table()))
    to_json(nouns.event())


def drill(scenario: str, store: DynamoDBStore, clock: FakeClock, root: Path, python: str) -> int:
    """Every call in turn; the number of calls. Ends the process when something was lost or doubled."""
    prepare, wanted = SCENARIOS[scenario]
    call, status = 0, signal.SIGKILL.value
    while status == signal.SIGKILL:
        call += 1
        stage = Stage(store, clock, root, python, call)

        def crash(stage: Stage = stage, call: int = call) -> None:
            prepare(stage)
            die_after(call, stage)

        status = in_a_child(crash)
        if in_a_child(partial(recover, stage, wanted)):
            raise SystemExit(f"killed after call {call} of {scenario}: see above")
    assert status == 0, f"call {call}: the control plane ended with {status}"
    return call - 1


if __name__ == "__main__":
    name, url, directory, agent_python = sys.argv[1:]
    virtual = FakeClock()
    table = DynamoDBStore(f"drill-{name}", "us-east-1", clock=virtual, ids=RandomIds(), endpoint_url=url)
    in_a_child(table.create_table)
    know_the_documents()
    sys.stdout.write(f"{drill(name, table, virtual, Path(directory), agent_python)}\n")
