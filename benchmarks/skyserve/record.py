"""SkyServe's answers to a sample of the traces, as facts to be kept with the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from benchmarks.skyserve import ours, spot
from benchmarks.skyserve.check import ask, compare, name_of
from benchmarks.skyserve.defects import Tick
from benchmarks.skyserve.environment import Peer
from benchmarks.skyserve.traces import (
    BY_ACCELERATOR_ANY,
    BY_ACCELERATOR_SAME,
    SAME,
    TICK_S,
    Trace,
    on_and_off,
    sample,
    wandering,
)

AT_ZERO_TICK_S = 5  # SkyServe's, at a target of zero
FORGETFUL = (on_and_off, wandering)
LOADS, WANTED = "scaler/skyserve_loads.json", "scaler/skyserve_wanted.json"
MIXES, HUNTS = "optimizer/skyserve_mixes.json", "optimizer/skyserve_hunts.json"


def record(peer: Peer, tests: Path) -> None:
    """Write the files that the tests read."""
    traces = [*sample(SAME, 100), *sample(BY_ACCELERATOR_SAME, 10), *sample(FORGETFUL, 40)]
    (tests / LOADS).write_text(_lines(_load(peer, trace) for trace in traces))
    (tests / WANTED).write_text(_lines(_wanted(peer, trace) for trace in sample(BY_ACCELERATOR_ANY, 12)))
    (tests / MIXES).write_text(_lines(_mixes(peer, spot.random_mixes(seed, seed % 2)) for seed in range(40)))
    (tests / HUNTS).write_text(_lines(_hunt(peer, spot.random_hunt(seed)) for seed in range(20)))


def _lines(entries: Iterable[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n"


def _load(peer: Peer, trace: Trace) -> dict[str, Any]:
    """The trace and SkyServe's looks, up to the first difference, with its name, or to the end."""
    ticks, _ = ask(peer, trace)
    difference = next(compare(trace, ticks, ours.begin(trace)), None)
    looks = difference.ticks if difference else ticks
    name = name_of(difference) if difference else None
    if not difference:  # then nobody asks what was wanted
        looks = [replace(tick, wanted=tick.target) for tick in looks]
    if isinstance(trace.target_qps, float):
        looks = [replace(tick, rows=()) for tick in looks]
    return {"trace": _fields(_until(trace, looks[-1].at)), "looks": _shortened(looks), "difference": name}


def _wanted(peer: Peer, trace: Trace) -> dict[str, Any]:
    """The trace and SkyServe's looks, to the end."""
    return {"trace": _fields(trace), "looks": _shortened(ask(peer, trace)[0])}


def _mixes(peer: Peer, mixes: spot.Mixes) -> dict[str, Any]:
    """The policy and, at each step, [target, ready spot replicas, SkyServe's [spot, on demand]]."""
    wants, _ = spot.ask_mixes(peer, mixes)
    steps = [(target, spot.ready_spot(rows), theirs) for (target, rows), theirs in zip(mixes.steps, wants, strict=True)]
    return asdict(mixes) | {"steps": steps}


def _hunt(peer: Peer, hunt: spot.Hunt) -> dict[str, Any]:
    """The prices and, at each step, [what happens, to which zones, SkyServe's zone, its active ones]."""
    theirs, _ = spot.ask_hunt(peer, hunt)
    return asdict(hunt) | {"steps": [(*step, *answer) for step, answer in zip(hunt.steps, theirs, strict=True)]}


def _until(trace: Trace, at: int) -> Trace:
    """The trace without what comes after second `at`."""
    ends = accumulate(seconds for seconds, _ in trace.stretches)
    needed = 1 + sum(end <= at for end in ends)
    return replace(trace, stretches=trace.stretches[:needed])


def _fields(trace: Trace) -> dict[str, Any]:
    """What the trace has of its own."""
    defaults = {field.name: field.default for field in fields(Trace)}
    return {name: value for name, value in asdict(trace).items() if value != defaults[name]}


def _shortened(ticks: Sequence[Tick]) -> list[list[Any]]:
    """[how many looks in a row, target, wanted, replicas]."""
    same = groupby(ticks, key=lambda tick: (tick.target, tick.wanted, tick.rows))
    return [[len(list(looks)), *key] for key, looks in same]


def loads(tests: Path) -> Iterator[tuple[Trace, list[Tick], str | None]]:
    """Each recorded trace, SkyServe's looks, and the name of the difference at the last of them, if there is one."""
    for entry in json.loads((tests / LOADS).read_text()):
        yield _trace(entry), list(_looks(entry["looks"])), entry["difference"]


def wanted(tests: Path) -> Iterator[tuple[Trace, list[Tick]]]:
    """Each recorded trace with targets by accelerator in which something differs, and SkyServe's looks."""
    for entry in json.loads((tests / WANTED).read_text()):
        yield _trace(entry), list(_looks(entry["looks"]))


def mixes(tests: Path) -> Iterator[tuple[spot.Mixes, list[spot.Wants | None]]]:
    """Each recorded policy with its steps, and what SkyServe wanted."""
    for entry in json.loads((tests / MIXES).read_text()):
        steps = entry.pop("steps")
        replicas = [(target, ((True, "READY"),) * ready) for target, ready, _ in steps]
        yield spot.Mixes(steps=tuple(replicas), **entry), [tuple(wants) if wants else None for *_, wants in steps]


def hunts(tests: Path) -> Iterator[tuple[spot.Hunt, list[tuple[str, str]]]]:
    """Each recorded hunt for zones, and SkyServe's zone and active zones at each step."""
    for entry in json.loads((tests / HUNTS).read_text()):
        steps = entry.pop("steps")
        hunt = spot.Hunt(steps=tuple((kind, what) for kind, what, *_ in steps), **entry)
        yield hunt, [(zone, active) for *_, zone, active in steps]


def _trace(entry: dict[str, Any]) -> Trace:
    stretches = tuple((seconds, rate) for seconds, rate in entry["trace"].pop("stretches"))
    return Trace(stretches=stretches, **entry["trace"])


def _looks(shortened: Sequence[Sequence[Any]]) -> Iterator[Tick]:
    at = 0
    for looks, target, wanted_, rows in shortened:
        for _ in range(looks):
            yield Tick(at, target, wanted_, up=0, down=0, rows=rows)
            at += TICK_S if target else AT_ZERO_TICK_S
