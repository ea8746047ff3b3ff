"""SpotHedge beside SkyServe's: how many replicas of which kind, and which zone next."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from benchmarks.skyserve.check import UNEXPLAINED, Tally
from benchmarks.skyserve.environment import Peer
from chalicelib import optimizer
from chalicelib.model import (
    SPOTHEDGE,
    CapacityType,
    EngineSpec,
    Location,
    Offer,
    ProbeSpec,
    Reason,
    Requirement,
    ResourceRequest,
    RoutingSpec,
    ScalingSpec,
    ServiceSpec,
    SpotSpec,
    ZoneMemory,
)
from chalicelib.optimizer import zones

SPOT = ResourceRequest(((Requirement(accelerators=(("L4", 1),), use_spot=True),),))
STATUSES = ("PENDING", "PROVISIONING", "STARTING", "READY", "READY", "NOT_READY", "SHUTTING_DOWN", "PREEMPTED")

Replicas = tuple[tuple[bool, str], ...]  # (is spot, SkyServe's status)
Wants = tuple[int, int]  # spot, on demand


# --- how many of which kind -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mixes:
    """A policy, and (target, replicas) that it has to judge. One judgement does not depend on another."""

    seed: int
    num_overprovision: int
    base: int
    dynamic: bool
    steps: tuple[tuple[int, Replicas], ...]


@dataclass(frozen=True, slots=True)
class MixDifference:
    """`theirs` is None where SkyServe's autoscaler failed on an assertion of its own."""

    mixes: Mixes
    target: int
    replicas: Replicas
    theirs: Wants | None
    ours: Wants


def random_mixes(seed: int, lowest_target: int) -> Mixes:
    """Policies with any fallback; replicas of both kinds in any status. The base exceeds no target unless that is 0."""
    chance = random.Random(seed)
    base, dynamic = chance.choice([(0, True), (0, True), (1, True), (2, True), (1, False), (2, False)])
    steps = []
    for _ in range(20):
        target = chance.randrange(lowest_target, 9) if lowest_target == 0 else chance.randrange(max(1, base), 9)
        rows = tuple((chance.random() < 0.7, chance.choice(STATUSES)) for _ in range(chance.randrange(12)))
        steps.append((target, rows))
    return Mixes(seed, chance.randrange(3), base, dynamic, tuple(steps))


def mixes(peer: Peer, traces: Iterable[Mixes]) -> Tally:
    """The numbers wanted, each judgement by itself."""
    tally = Tally()
    for trace in traces:
        theirs, seconds = ask_mixes(peer, trace)
        tally.their_seconds += seconds
        found, seconds = compare_mixes(trace, theirs)
        tally.our_seconds += seconds
        tally.add([(mix_name(difference), difference) for difference in found])
        tally.decisions += len(trace.steps)
    return tally


def ask_mixes(peer: Peer, trace: Mixes) -> tuple[list[Wants | None], float]:
    """What SkyServe wants at each step, and the seconds that it took."""
    policy = {
        "min_replicas": 1,
        "num_overprovision": trace.num_overprovision,
        "base_ondemand_fallback_replicas": trace.base,
        "dynamic_ondemand_fallback": trace.dynamic,
    }
    answer = peer.ask({"kind": "mix", "spec": policy, "steps": trace.steps})
    return [tuple(wants) if wants else None for wants in answer["wants"]], answer["seconds"]


def ready_spot(replicas: Replicas) -> int:
    """How many of them are spot and ready."""
    return sum(is_spot and status == "READY" for is_spot, status in replicas)


def compare_mixes(trace: Mixes, theirs: list[Wants | None]) -> tuple[list[MixDifference], float]:
    """The differences, and the seconds that our decisions took."""
    spot = SpotSpec(trace.num_overprovision, trace.dynamic, trace.base, SPOTHEDGE)
    spec = ServiceSpec(ProbeSpec(), ScalingSpec(), RoutingSpec(), SPOT, EngineSpec(port=8080), spot)
    found, spent_s = [], 0.0
    for (target, replicas), their_wants in zip(trace.steps, theirs, strict=True):
        ready = ready_spot(replicas)
        started = time.perf_counter()
        mix = optimizer.mix(spec, target, ready)
        spent_s += time.perf_counter() - started
        wants = (mix.own, mix.fallback)
        if wants != their_wants:
            found.append(MixDifference(trace, target, replicas, their_wants, wants))
    return found, spent_s


def mix_name(difference: MixDifference) -> str:
    """What explains it, read from the policy, the target and SkyServe's answer."""
    mixes, target = difference.mixes, difference.target
    if target == 0 and difference.ours == (0, 0):
        return "keeps the extra at zero"
    if difference.theirs is None and difference.ours == (0, target) and mixes.base > target + mixes.num_overprovision:
        return "fails below the base"
    return UNEXPLAINED


# --- which zone next ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hunt:
    """Zones, a letter each, with their prices, and what happens: (preempt | fail | ready, zone) or (select, zones that host)."""

    seed: int
    prices: Mapping[str, float]
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HuntDifference:
    """After `step` of the hunt: the zone and the active zones, theirs and ours."""

    hunt: Hunt
    step: int
    theirs: tuple[str, str]
    ours: tuple[str, str]


def random_hunt(seed: int) -> Hunt:
    """Up to nine zones at different prices, sixty events."""
    chance = random.Random(seed)
    names = "abcdefghi"[: chance.randrange(1, 10)]
    prices = {name: cents / 100 for name, cents in zip(names, chance.sample(range(50, 400), len(names)), strict=True)}
    steps = []
    for _ in range(60):
        kind = chance.choice(["preempt", "fail", "ready", "select", "select"])
        count = chance.randrange(6) if kind == "select" else 1
        steps.append((kind, "".join(chance.choice(names) for _ in range(count))))
    return Hunt(seed, prices, tuple(steps))


def hunts(peer: Peer, traces: Iterable[Hunt]) -> Tally:
    """Zone sets and choices, event by event."""
    tally = Tally()
    for hunt in traces:
        theirs, seconds = ask_hunt(peer, hunt)
        tally.their_seconds += seconds
        started = time.perf_counter()
        ours = list(follow(hunt))
        tally.our_seconds += time.perf_counter() - started
        tally.decisions += len(hunt.steps)
        both = enumerate(zip(theirs, ours, strict=True))
        tally.add([(UNEXPLAINED, HuntDifference(hunt, step, *pair)) for step, pair in both if pair[0] != pair[1]])
    return tally


def ask_hunt(peer: Peer, hunt: Hunt) -> tuple[list[tuple[str, str]], float]:
    """The same as `follow`, by SkyServe, and the seconds that it took."""
    answer = peer.ask({"kind": "place", "prices": hunt.prices, "steps": hunt.steps})
    return [(zone, active) for zone, active in answer["steps"]], answer["seconds"]


def follow(hunt: Hunt) -> Iterator[tuple[str, str]]:
    """The zone of each step (the chosen one of a `select`) and the zones that are active afterwards."""
    spot = SpotSpec(placer=SPOTHEDGE)
    market = [_offer(name, price) for name, price in hunt.prices.items()]
    places = {offer.location.zone: offer.location for offer in market}
    request = optimizer.Request(SPOT, ("aws",), spot=spot)
    z = optimizer.spot_zones(request, market)
    for step, (kind, what) in enumerate(hunt.steps):
        if kind == "select":
            request = replace(request, hosting=tuple(places[name] for name in what))
            chosen = optimizer.decide(request, market, step).ranked[0].location.zone
        else:
            chosen = what
            request = replace(request, known=CHANGES[kind](request.known, places[what], z, spot, step))
        preempting = zones.preempting(request.known, z, spot, step)
        yield chosen, "".join(place.zone for place in z if place not in preempting)


def _offer(zone: str, price: float) -> Offer:
    return Offer(Location("aws", "us-east-1", zone), "g6.xlarge", 4, 16, CapacityType.SPOT, price, "L4", 1, 24)


Known = tuple[ZoneMemory, ...]


def _lost(reason: Reason) -> Callable[[Known, Location, tuple[Location, ...], SpotSpec, float], Known]:
    def change(known: Known, place: Location, z: tuple[Location, ...], spot: SpotSpec, now: float) -> Known:
        return zones.lost(known, ZoneMemory(place, now, reason), z, spot)

    return change


def _ready(known: Known, place: Location, _z: tuple[Location, ...], _spot: SpotSpec, _now: float) -> Known:
    return zones.ready(known, place)


CHANGES = {"preempt": _lost(Reason.PREEMPTED), "fail": _lost(Reason.NO_CAPACITY), "ready": _ready}
