"""Which zones does a service buy its next spot machine in? What it remembers of each, and what events change.

Z, the zones of all feasible spot offers, is the union of the active and the preempting ones (SpotHedge: "SkyServe: Serving
AI Models across Regions and Clouds with Spot Instances", EuroSys 2025; SkyServe 0.14.1, `DynamicFallbackSpotPlacer`). A machine
taken back or refused makes a zone preempting, a ready replica makes it active, and when fewer than two would be
active all are: a memory that leaves no choice is worth nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import replace

from chalicelib.model import RISK_AWARE, SPOTHEDGE, CapacityType, Location, Reason, SpotSpec, Unavailable, ZoneMemory
from chalicelib.optimizer import fleet, placers
from chalicelib.words import lasting

# An active zone's past is forgotten after this long; the record has at most one entry for each zone of Z.
_KEPT_S = 7 * 86_400.0
# Under `risk_aware` a zone that refused is asked again after 60 s, then after twice as long, up to a quarter of an hour.
_RETRY_S, _RETRY_CAP_S = 60.0, 900.0
_ONE_EVENT_S = 30.0  # machines that a zone takes within this time are one loss
# SkyServe decides every 20 s. Who asks zones again that have just refused is held to that pace, or would ask at every pass.
_PACE_S = 20.0
_TAKEN = (Reason.PREEMPTED, Reason.INTERRUPTED)
# The policies that ask.
_REMEMBERING = (SPOTHEDGE, RISK_AWARE, placers.ROUND_ROBIN)


def are_remembered(spot: SpotSpec) -> bool:
    """Whether the service's policy needs to know what became of earlier machines."""
    return spot.placer in _REMEMBERING


def preempting(
    known: Iterable[ZoneMemory], zones: Collection[Location], spot: SpotSpec, now: float
) -> frozenset[Location]:
    """Those of Z (`zones`) to avoid; all others are active, two of them at least if there are two."""
    lost = {one.place for one in known if _is_avoided(one, spot, now) and one.place in zones}
    return frozenset(lost) if len(zones) - len(lost) >= 2 else frozenset()


def lost(
    known: Iterable[ZoneMemory], loss: ZoneMemory, zones: Collection[Location], spot: SpotSpec
) -> tuple[ZoneMemory, ...]:
    """What is known after a zone has taken a spot machine back, or refused one (`loss`, as the first in a row)."""
    now = loss.since
    latest = {
        one.place: one for one in known if one.place in zones and (one.is_preempting or now - one.since < _KEPT_S)
    }
    if loss.place in zones:
        latest[loss.place] = _counted(loss, latest.get(loss.place, replace(loss, failures=0)))
    if preempting(latest.values(), zones, spot, now):
        return tuple(latest.values())
    return tuple(replace(one, is_preempting=False) for one in latest.values())


def _counted(loss: ZoneMemory, before: ZoneMemory) -> ZoneMemory:
    losses, lost_at, is_taken = before.losses, before.lost_at, loss.reason in _TAKEN
    if is_taken and loss.since - lost_at > _ONE_EVENT_S:
        losses, lost_at = losses * math.exp((lost_at - loss.since) / fleet.LOSSES_FADE_S) + 1, loss.since
    # That a zone takes machines again and again is a matter of its risk: by itself it may be asked again after a minute.
    return replace(loss, failures=1 if is_taken else before.failures + 1, losses=losses, lost_at=lost_at)


def refusals(known: Iterable[ZoneMemory], spot: SpotSpec) -> tuple[Unavailable, ...]:
    """The service's own refusals by zone, where no others hold (`SpotSpec.backs_off`) and the policy backs off."""
    if spot.placer != RISK_AWARE:
        return ()
    return tuple(
        Unavailable(
            provider=one.place.provider,
            region=one.place.region,
            zone=one.place.zone,
            instance_type="",
            capacity_type=CapacityType.SPOT,
            reason=one.reason,
            message="the zone has taken or refused a machine of this service",
            since=one.since,
            until=one.since + min(_RETRY_CAP_S, _RETRY_S * 2.0 ** min(one.failures - 1, 30)),
            failures=one.failures,
        )
        for one in known
        if one.failures
    )


def accepted(known: Iterable[ZoneMemory], place: Location) -> tuple[ZoneMemory, ...]:
    """What is known after `place` has given a spot machine: it refuses no more, and may yet take it back."""
    return tuple(replace(one, failures=0) if one.place == place else one for one in known)


def ready(known: Iterable[ZoneMemory], place: Location) -> tuple[ZoneMemory, ...]:
    """What is known after a spot replica in `place` has become ready."""
    return tuple(replace(one, failures=0, is_preempting=False) if one.place == place else one for one in known)


def paused_until(known: Iterable[ZoneMemory], spot: SpotSpec) -> float:
    """The earliest instant of the next spot launch, where no zone's own back-off holds it; 0 = at once."""
    if not _is_paced(spot):
        return 0.0
    return max((one.since + _PACE_S for one in known if one.reason not in _TAKEN), default=0.0)


def doubted(known: Iterable[ZoneMemory], spot: SpotSpec) -> frozenset[Location]:
    """Zones held to the pace whose last word was a refusal: to be asked for one machine at a time until they give one.

    An empty market is asked a third as often by three replicas, and the second machine comes a pass after the first.
    """
    if not _is_paced(spot):
        return frozenset()
    return frozenset(one.place for one in known if one.failures and one.reason not in _TAKEN)


def described(known: Iterable[ZoneMemory], spot: SpotSpec, now: float) -> str:
    """The preempting zones in words, the last first; empty when there is none."""
    avoided = sorted((one for one in known if _is_avoided(one, spot, now)), key=lambda one: -one.since)
    return "; ".join(
        f"{one.place} for {lasting(now - one.since)} ({one.reason}{_until(one, spot, now)})" for one in avoided
    )


def _is_paced(spot: SpotSpec) -> bool:
    return spot.placer == SPOTHEDGE and not spot.backs_off


def _is_avoided(one: ZoneMemory, spot: SpotSpec, now: float) -> bool:
    return one.is_preempting and (not spot.zone_memory_s or now - one.since < spot.zone_memory_s)


def _until(one: ZoneMemory, spot: SpotSpec, now: float) -> str:
    left_s = one.since + spot.zone_memory_s - now
    return (
        f", {lasting(left_s)} more"
        if spot.zone_memory_s
        else ", until a replica is ready there or too few zones are left"
    )
