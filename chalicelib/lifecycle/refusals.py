"""What does a cloud's refusal say about other launches, and for how long? Pure.

Capacity is a matter of a type in a zone, and so is a spot machine that was taken back; quota is one of a region; both differ
between spot and on-demand. Refused credentials shut a whole cloud. A request that is unacceptable as such (a field, an image)
says nothing about other services: it shuts the cloud, or where that says so the region (EC2's images live in regions), to replicas
of the same fingerprint only, until their owner changes the file. A launch that was never answered speaks against the region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chalicelib.model import CapacityType, Reason, Replica, ReplicaStatus, Unavailable

# Spot capacity comes and goes within minutes, and a region that does not answer comes back within the hour. Quota and
# credentials need a person, who wants to see the change taken up within minutes as well.
_FIRST_S = {
    Reason.NO_CAPACITY: 60.0,
    Reason.INTERRUPTED: 60.0,
    Reason.PREEMPTED: 60.0,
    Reason.QUOTA: 600.0,
    Reason.LAUNCH_REFUSED: 600.0,
    Reason.LOST: 300.0,
}
# Doubling ends here: one refused call an hour for each scope costs nothing, while what has become available is used within
# the hour, however long it was not. After 60 s that is the seventh refusal in a row, after 600 s the fourth.
_CAP_S = 3600.0
# What says that the cloud has taken a machine back, which it had given before.
_TAKEN = (Reason.INTERRUPTED, Reason.PREEMPTED)


def refusal(
    replica: Replica,
    reason: Reason,
    message: str,
    known: Sequence[Unavailable],
    now: float,
    *,
    is_of_cloud: bool = False,
    is_regional: bool = False,
) -> Unavailable:
    """What to remember when `replica` was refused, or taken, for `reason`.

    Each refusal in a row doubles the time that the next one is remembered. Launches that were under way together are
    refused together: while an earlier refusal holds, that one is returned. `known` are the refusals that are
    remembered (see `ports.Store.refusals`); `is_of_cloud` says that the cloud refuses us and not this request, `is_regional`
    that it would perhaps take the same request in another region.
    """
    place, is_of_zone = replica.offer.location, reason is Reason.NO_CAPACITY or reason in _TAKEN
    is_everywhere = is_of_cloud or (reason is Reason.LAUNCH_REFUSED and not is_regional)
    found = Unavailable(
        provider=place.provider,
        region="" if is_everywhere else place.region,
        zone=place.zone if is_of_zone else "",
        instance_type=replica.offer.instance_type if is_of_zone else "",
        capacity_type=replica.offer.capacity_type if is_of_zone or reason is Reason.QUOTA else "",
        fingerprint=replica.fingerprint if reason is Reason.LAUNCH_REFUSED and not is_of_cloud else "",
        reason=reason,
        message=message,
        since=now,
        until=now,
    )
    last = next((one for one in known if one.scope == found.scope), None)
    if last is not None and now < last.until:
        return last
    failures = last.failures + 1 if last else 1
    # The exponent is bounded so that months of refusals do not overflow a float.
    held_s = min(_CAP_S, _FIRST_S[reason] * 2.0 ** min(failures - 1, 30))
    return replace(found, failures=failures, until=now + held_s)


def is_worth_avoiding(replica: Replica, reason: Reason) -> bool:
    """Whether a replica that leaves for `reason` speaks against its place, told once a replica.

    Spot machines like its own are being taken, or the cloud never said what became of its launch.
    """
    is_taken = reason in _TAKEN and replica.offer.capacity_type is CapacityType.SPOT
    is_unanswered = reason is Reason.LOST and replica.status is ReplicaStatus.PENDING
    return replica.reason is None and (is_taken or is_unanswered)


def disproved(replica: Replica, known: Sequence[Unavailable]) -> tuple[Unavailable, ...]:
    """The refusals that a successful launch of `replica` puts an end to.

    Not that machines like it were taken back: every one of those had been launched successfully.
    """
    return tuple(
        one
        for one in known
        if one.covers(replica.offer) and one.fingerprint in ("", replica.fingerprint) and one.reason not in _TAKEN
    )
