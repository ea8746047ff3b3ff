"""SkyServe's side of the comparison: its own autoscalers and spot placer in virtual time, asked over stdin and stdout.

Run by the Python of `environment.py`; a JSON document a line in, one out. SkyServe's code reads the clock as
`time.time()`: in this process, and only here, its module's `time` is a clock that stands where the trace is. Its log is
switched off, which flatters its speed.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever SkyPilot prints must not look like an answer
logging.disable(logging.CRITICAL)

from sky import clouds  # type: ignore[import-not-found]  # noqa: E402  # lives in the environment of its own only
from sky.serve import autoscalers, spot_placer  # type: ignore[import-not-found]  # noqa: E402  # as above
from sky.serve.serve_state import ReplicaStatus  # type: ignore[import-not-found]  # noqa: E402  # as above
from sky.serve.service_spec import SkyServiceSpec  # type: ignore[import-not-found]  # noqa: E402  # as above

START = 1_700_000_000  # epoch second of a trace's beginning


class Clock:
    """Stands in for the module `time` in SkyServe's autoscalers."""

    now = 0.0

    def time(self) -> float:
        return self.now


CLOCK = Clock()
autoscalers.time = CLOCK


@dataclass
class Row:
    """A replica as the autoscalers read it."""

    replica_id: int
    status: Any
    gpu: str = ""
    is_spot: bool = False
    version: int = 1
    cluster_name: str = ""

    @property
    def is_ready(self) -> bool:
        return bool(self.status == ReplicaStatus.READY)

    @property
    def is_terminal(self) -> bool:
        return self.status in ReplicaStatus.terminal_statuses()

    @property
    def status_property(self) -> Any:
        return SimpleNamespace(unrecoverable_failure=lambda: False)

    def handle(self) -> Any:
        return SimpleNamespace(launched_resources=SimpleNamespace(accelerators={self.gpu: 1} if self.gpu else None))


def new_autoscaler(spec: dict[str, Any]) -> Any:
    """The autoscaler that SkyServe itself chooses for this `replica_policy`."""
    defaults = {
        "readiness_path": "/",
        "initial_delay_seconds": 1200,
        "readiness_timeout_seconds": 15,
        "endpoint_probe_interval_seconds": 10,
        "lb_stream_timeout_seconds": 120,
    }
    return autoscalers.Autoscaler.from_spec("service", SkyServiceSpec(**defaults, **spec))


class Replicas:
    """A cloud without trouble: what the autoscaler asks for is there, and ready some ticks later."""

    def __init__(self, gpus: list[str], ready_after: int, dead_for: int) -> None:
        self.rows: list[Row] = []
        self._gpus, self._ready_after, self._dead_for = gpus, ready_after, dead_for
        self._launched = 0
        self._due: list[tuple[int, Row]] = []

    def advance(self, tick: int) -> None:
        for due, row in self._due:
            if due == tick and row in self.rows:
                if row.is_terminal:
                    self.rows.remove(row)
                else:
                    row.status = ReplicaStatus.READY

    def follow(self, decisions: list[Any], tick: int) -> None:
        for decision in decisions:
            if decision.operator == autoscalers.AutoscalerDecisionOperator.SCALE_UP:
                gpu = self._gpus[self._launched % len(self._gpus)]
                self._launched += 1
                self.rows.append(Row(self._launched, ReplicaStatus.PROVISIONING, gpu))
                self._due.append((tick + self._ready_after, self.rows[-1]))
            else:
                row = next(row for row in self.rows if row.replica_id == decision.target)
                if not self._dead_for:
                    self.rows.remove(row)
                    continue
                row.status = ReplicaStatus.SHUTTING_DOWN
                self._due.append((tick + self._dead_for, row))


def wanted(autoscaler: Any, rows: list[Row]) -> int:
    """What the load of this moment asks for, before hysteresis: a copy of the autoscaler at zero follows at once."""
    asked = copy.copy(autoscaler)
    asked.target_num_replicas = 0
    if isinstance(autoscaler, autoscalers.InstanceAwareRequestRateAutoscaler):
        asked._set_target_num_replicas_with_instance_aware_logic(rows)  # noqa: SLF001  # there is no other way to see it
    else:
        asked._set_target_num_replicas_with_hysteresis()  # noqa: SLF001  # as above
    return int(asked.target_num_replicas)


def follow_load(question: dict[str, Any]) -> dict[str, Any]:
    """Ticks as [second, target, wanted, counter up, counter down, [[gpu, status], …]], and seconds per decision."""
    autoscaler = new_autoscaler(question["spec"])
    world = Replicas(question["gpus"], question["ready_after"], question["dead_for"])
    counts, ticks, at, fetched, tick, spent_s = question["counts"], [], 0, 0, 0, 0.0
    while at < len(counts):
        CLOCK.now = START + at
        arrived = [START + second + 0.5 for second in range(fetched, at) for _ in range(counts[second])]
        fetched = at
        world.advance(tick)
        rows = [[row.gpu, row.status.value] for row in world.rows]
        started = time.perf_counter()
        autoscaler.collect_request_information({"timestamps": arrived})
        decisions = autoscaler.generate_scaling_decisions(world.rows, [1])
        spent_s += time.perf_counter() - started
        counters = [autoscaler.upscale_counter, autoscaler.downscale_counter]
        ticks.append([at, autoscaler.target_num_replicas, wanted(autoscaler, world.rows), *counters, rows])
        world.follow(decisions, tick)
        at += autoscaler.get_decision_interval()
        tick += 1
    return {"ticks": ticks, "seconds": spent_s}


def mix(question: dict[str, Any]) -> dict[str, Any]:
    """[spot, on demand] that SkyServe wants alive, for each [target, [[is spot, status], …]]; null where it fails."""
    autoscaler = new_autoscaler(question["spec"])
    wants: list[list[int] | None] = []
    spent_s = 0.0
    for target, replicas in question["steps"]:
        rows = [Row(i, ReplicaStatus(status), is_spot=spot) for i, (spot, status) in enumerate(replicas)]
        autoscaler.target_num_replicas = autoscaler.min_replicas = autoscaler.max_replicas = target
        started = time.perf_counter()
        try:
            decisions = autoscaler.generate_scaling_decisions(rows, [1])
        except AssertionError:
            wants.append(None)
            continue
        spent_s += time.perf_counter() - started
        alive = {spot: sum(row.is_spot == spot and not row.is_terminal for row in rows) for spot in (True, False)}
        for decision in decisions:
            if decision.operator == autoscalers.AutoscalerDecisionOperator.SCALE_UP:
                alive[decision.target["use_spot"]] += 1
            else:
                alive[rows[decision.target].is_spot] -= 1
        wants.append([alive[True], alive[False]])
    return {"wants": wants, "seconds": spent_s}


def place(question: dict[str, Any]) -> dict[str, Any]:
    """For each step its zone (the chosen one of a `select`) and the zones that are active afterwards; seconds spent."""
    cloud = clouds.AWS()
    zones = {name: spot_placer.Location(cloud, "us-east-1", name) for name in question["prices"]}
    placer = object.__new__(spot_placer.DynamicFallbackSpotPlacer)  # its constructor would ask the clouds
    placer.location2status = dict.fromkeys(zones.values(), spot_placer.LocationStatus.ACTIVE)
    placer.location2cost = {zones[name]: price for name, price in question["prices"].items()}
    steps, spent_s = [], 0.0
    for kind, what in question["steps"]:
        started = time.perf_counter()
        if kind == "select":
            chosen = placer.select_next_location([zones[name] for name in what]).zone
        else:
            chosen = what
            change = placer.set_active if kind == "ready" else placer.set_preemptive
            change(zones[what])
        spent_s += time.perf_counter() - started
        steps.append([chosen, "".join(sorted(location.zone for location in placer.active_locations()))])
    return {"steps": steps, "seconds": spent_s}


def main() -> None:
    kinds = {"load": follow_load, "mix": mix, "place": place}
    for line in sys.stdin:
        question = json.loads(line)
        ANSWERS.write(json.dumps(kinds[question.pop("kind")](question)) + "\n")
        ANSWERS.flush()


main()
