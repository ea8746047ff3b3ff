"""One trace, both answers; every difference gets a name or fails the comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.skyserve import ours
from benchmarks.skyserve.accelerators import Wanted, names_of
from benchmarks.skyserve.defects import DEFECTS, Difference, Tick
from benchmarks.skyserve.environment import Peer
from benchmarks.skyserve.traces import Trace

UNEXPLAINED = "unexplained"


@dataclass
class Tally:
    """What comparing some traces has shown. `examples` holds the first few differences that nobody can name."""

    traces: int = 0
    equal: int = 0
    decisions: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    examples: list[object] = field(default_factory=list)
    our_seconds: float = 0.0
    their_seconds: float = 0.0

    def add(self, found: Sequence[tuple[str, object]]) -> None:
        """One more trace and its differences, each with its name."""
        self.traces += 1
        self.equal += not found
        self.differences.update(name for name, _ in found)
        self.examples += [difference for name, difference in found if name == UNEXPLAINED][: 3 - len(self.examples)]


def loads(peer: Peer, traces: Iterable[Trace], first_look_s: float = ours.FIRST_LOOK_S) -> Tally:
    """Both scalers under every trace."""
    tally = Tally()
    for trace in traces:
        ticks, seconds = ask(peer, trace)
        service = ours.begin(trace, first_look_s)
        tally.add([(name_of(difference), difference) for difference in compare(trace, ticks, service)])
        tally.decisions += len(ticks)
        tally.our_seconds += service.seconds
        tally.their_seconds += seconds
    return tally


def ask(peer: Peer, trace: Trace) -> tuple[list[Tick], float]:
    """SkyServe's looks, and the seconds that they took."""
    target = trace.target_qps
    spec = {
        "min_replicas": trace.min_replicas,
        "max_replicas": trace.max_replicas,
        "target_qps_per_replica": target if isinstance(target, float) else dict(target),
        "upscale_delay_seconds": trace.upscale_delay_s,
        "downscale_delay_seconds": trace.downscale_delay_s,
    }
    world = {"gpus": trace.gpus, "ready_after": trace.ready_after, "dead_for": trace.dead_for}
    answer = peer.ask({"kind": "load", "spec": spec, "counts": trace.counts(), **world})
    return [Tick(*look) for look in answer["ticks"]], answer["seconds"]


def compare(trace: Trace, ticks: Sequence[Tick], service: ours.Clocked) -> Iterator[Difference]:
    """Every difference in turn. After each one ours goes on from SkyServe's state, so that the next stands for itself."""
    counts, begin = trace.counts(), 0
    for number, tick in enumerate(ticks):
        before = service.service.scaler.target
        target = service.look(counts, tick.at, tick.rows)
        if target != tick.target:
            yield Difference(trace, ticks[begin : number + 1], before, target)
            service.agree(tick.at, tick.target, tick.up, tick.down)
            begin = number + 1 - max(tick.up, tick.down)


def name_of(difference: Difference) -> str:
    """The first defect that explains it."""
    return next((defect.name for defect in DEFECTS if defect.explains(difference)), UNEXPLAINED)


def accelerators(peer: Peer, traces: Iterable[Trace]) -> Tally:
    """What both want at every look of a service with targets by accelerator, hysteresis aside."""
    tally = Tally()
    for trace in traces:
        ticks, seconds = ask(peer, trace)
        service = ours.begin(trace)
        differences = list(compare_wanted(trace, ticks, service))
        tally.add([(name, one) for one in differences for name in names_of(one) or [UNEXPLAINED]])
        tally.decisions += len(ticks)
        tally.our_seconds += service.seconds
        tally.their_seconds += seconds
    return tally


def compare_wanted(trace: Trace, ticks: Sequence[Tick], service: ours.Clocked) -> Iterator[Wanted]:
    """Every look at which the numbers wanted differ, each by itself."""
    counts = trace.counts()
    for tick in ticks:
        wanted = service.wanted(counts, tick.at, tick.rows)
        if wanted != tick.wanted:
            qps = sum(counts[max(0, tick.at - 60) : tick.at]) / 60
            yield Wanted(trace, tick.rows, qps, tick.wanted, wanted)
