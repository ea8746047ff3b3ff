"""SkyServe's answers to a sample of the traces, as facts to be kept with the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from itertools import accumulate, groupby
from typing import Any

from benchmarks.skyserve import ours
from benchmarks.skyserve.check import ask, compare, name_of
from benchmarks.skyserve.defects import Tick
from benchmarks.skyserve.environment import Peer
from benchmarks.skyserve.traces import SAME, TICK_S, Trace, on_and_off, sample, wandering

AT_ZERO_TICK_S = 5  # SkyServe's, at a target of zero


def record(peer: Peer) -> str:
    """JSON: 150 traces to be followed to the end, and 50 up to the first difference, with its name."""
    recorded = []
    for trace in [*sample(SAME, 150), *sample((on_and_off, wandering), 50)]:
        ticks, _ = ask(peer, trace)
        difference = next(compare(trace, ticks, ours.begin(trace)), None)
        looks = difference.ticks if difference else ticks
        name = name_of(difference) if difference else None
        recorded.append({"trace": _fields(_until(trace, looks[-1].at)), "looks": _shortened(looks), "difference": name})
    return "[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in recorded) + "\n]\n"


def _until(trace: Trace, at: int) -> Trace:
    """The trace without what comes after second `at`."""
    ends = accumulate(seconds for seconds, _ in trace.stretches)
    needed = 1 + sum(end <= at for end in ends)
    return replace(trace, stretches=trace.stretches[:needed])


def _fields(trace: Trace) -> dict[str, Any]:
    """What the trace has of its own."""
    defaults = {field.name: field.default for field in fields(Trace)}
    return {name: value for name, value in asdict(trace).items() if value != defaults[name]}


def _shortened(ticks: Sequence[Tick]) -> list[list[int]]:
    """[how many looks in a row, target, wanted]."""
    return [[len(list(same)), *key] for key, same in groupby(ticks, key=lambda tick: (tick.target, tick.wanted))]


def recorded(text: str) -> Iterator[tuple[Trace, list[Tick], str | None]]:
    """Each trace, SkyServe's looks, and the name of the difference at the last of them, if there is one."""
    for entry in json.loads(text):
        stretches = tuple((seconds, rate) for seconds, rate in entry["trace"].pop("stretches"))
        yield Trace(stretches=stretches, **entry["trace"]), list(_looks(entry["looks"])), entry["difference"]


def _looks(shortened: Sequence[Sequence[int]]) -> Iterator[Tick]:
    at = 0
    for looks, target, wanted in shortened:
        for _ in range(looks):
            yield Tick(at, target, wanted, up=0, down=0)
            at += TICK_S if target else AT_ZERO_TICK_S
