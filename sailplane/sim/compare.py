"""Several policies on one market, traffic and seed, side by side in processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from chalicelib.errors import SailplaneError
from chalicelib.model import ServiceSpec
from sailplane.sim.edge import Fates, RequestEdge
from sailplane.sim.history import History
from sailplane.sim.scenario import Scenario
from sailplane.sim.world import Simulation

Progress = Callable[[str, float], None]  # policy, simulated seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy led to. `fates` is None when there was no traffic."""

    history: History
    fates: Fates | None


def run(scenario: Scenario, until_s: float, progress: Callable[[float], None] = lambda _t: None) -> Outcome:
    """One simulation in this process."""
    edge = None
    if scenario.traffic is not None:
        scaling = scenario.spec.scaling
        is_fixed = scaling.min_replicas == scaling.max_replicas
        edge = RequestEdge(scenario.traffic, seed=scenario.seed, reports_load=not is_fixed)
    history = Simulation(scenario, edge).run(until_s, progress)
    if edge is not None:
        edge.end()
    return Outcome(history, edge.fates if edge else None)


def run_all(
    scenario: Scenario, specs: Mapping[str, ServiceSpec], until_s: float, *, processes: int, progress: Progress
) -> dict[str, Outcome]:
    """The scenario with each spec in turn, by policy, in their order; otherwise as `each`."""
    outcomes = dict(each(scenario, specs, until_s, processes=processes, progress=progress))
    return {policy: outcomes[policy] for policy in specs}


def each(
    scenario: Scenario, specs: Mapping[str, ServiceSpec], until_s: float, *, processes: int, progress: Progress
) -> Iterator[tuple[str, Outcome]]:
    """Each policy's outcome as soon as it is there, so many running at a time. The outcomes do not depend on how many.

    Raises `SailplaneError` when a process ends without an outcome.
    """
    scenarios = {policy: replace(scenario, spec=spec) for policy, spec in specs.items()}
    if processes == 1 or len(scenarios) <= 1:
        for policy, one in scenarios.items():
            yield policy, run(one, until_s, partial(progress, policy))
        return
    waiting, running = list(scenarios), dict[Connection, tuple[str, BaseProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                policy = waiting.pop(0)
                ours, process = _start(scenarios[policy], until_s)
                running[ours] = policy, process
            said = wait(list(running))
            for ours, (policy, process) in [one for one in running.items() if one[0] in said]:
                match _received(ours, policy):
                    case Outcome() as outcome:
                        del running[ours]
                        process.join()
                        yield policy, outcome
                    case t:
                        progress(policy, t)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _start(scenario: Scenario, until_s: float) -> tuple[Connection, BaseProcess]:
    # Spawned, not forked: a fork of a process with threads may hang, and macOS has no other way that is safe.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, scenario, until_s))
    process.start()
    theirs.close()  # so that its end is seen here
    return ours, process


def _work(parent: Connection, scenario: Scenario, until_s: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    parent.send(run(scenario, until_s, parent.send))


def _received(ours: Connection, policy: str) -> Outcome | float:
    try:
        received: Outcome | float = ours.recv()
    except EOFError as error:
        raise SailplaneError(f"the simulation of {policy} ended early; what it said stands above") from error
    return received
