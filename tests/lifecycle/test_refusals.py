"""What a refusal says about other launches, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.lifecycle import disproved, is_worth_avoiding, refusal
from chalicelib.model import CapacityType, Offer, Reason, ReplicaStatus
from tests.fakes import offer
from tests.lifecycle.test_reconcile import NOW, replica

ONE = replica(ReplicaStatus.PENDING)
SPOT = replace(offer(), capacity_type=CapacityType.SPOT)
OTHERS = {
    "zone": offer(zone="b"),
    "region": replace(offer(), location=replace(offer().location, region="there")),
    "type": replace(offer(), instance_type="other"),
    "spot": SPOT,
    "cloud": offer("aws"),
}


@pytest.mark.parametrize(
    ("reason", "is_of_cloud", "blocked"),
    [
        (Reason.NO_CAPACITY, False, set()),
        (Reason.PREEMPTED, False, set()),
        (Reason.QUOTA, False, {"zone", "type"}),
        (Reason.LAUNCH_REFUSED, False, {"zone", "type", "spot", "region"}),
        (Reason.LAUNCH_REFUSED, True, {"zone", "type", "spot", "region"}),
    ],
)
def test_a_refusal_blocks_as_much_as_it_says(reason: Reason, *, is_of_cloud: bool, blocked: set[str]) -> None:
    """Capacity this type in this zone; quota the region; an unacceptable request the cloud, to its like; credentials all."""
    found = refusal(ONE, reason, "no", (), NOW, is_of_cloud=is_of_cloud)
    assert found.blocks(ONE.offer, NOW)
    assert {name for name, other in OTHERS.items() if found.blocks(other, NOW)} == blocked
    assert bool(found.fingerprint) == (reason is Reason.LAUNCH_REFUSED and not is_of_cloud)


@pytest.mark.parametrize(
    ("reason", "lengths_s"),
    [
        (Reason.NO_CAPACITY, [60, 120, 240, 480, 960, 1920, 3600, 3600]),
        (Reason.QUOTA, [600, 1200, 2400, 3600, 3600]),
        (Reason.LAUNCH_REFUSED, [600, 1200, 2400, 3600, 3600]),
    ],
)
def test_refusals_in_a_row_are_remembered_for_longer(reason: Reason, lengths_s: list[float]) -> None:
    """Doubling, an hour at the most."""
    last, now = refusal(ONE, reason, "no", (), NOW), NOW
    lengths = [last.until - now]
    for _ in lengths_s[1:]:
        now = last.until
        last = refusal(ONE, reason, "no", (last,), now)
        lengths.append(last.until - now)
    assert lengths == lengths_s
    assert last.failures == len(lengths_s)


def test_what_was_asked_together_is_refused_once() -> None:
    """Ten launches under way at once when capacity ends are one refusal, not ten in a row."""
    first = refusal(ONE, Reason.NO_CAPACITY, "no", (), NOW)
    assert refusal(ONE, Reason.NO_CAPACITY, "still no", (first,), NOW + 5) == first
    elsewhere = refusal(replace(ONE, offer=OTHERS["zone"]), Reason.NO_CAPACITY, "no", (first,), first.until)
    assert elsewhere.failures == 1


@given(st.integers(0, 5000))
def test_years_of_refusals_overflow_nothing(failures: int) -> None:
    """However many there were, the next one is remembered for an hour at most."""
    last = replace(refusal(ONE, Reason.QUOTA, "no", (), NOW), failures=failures + 1)
    assert refusal(ONE, Reason.QUOTA, "no", (last,), last.until).until - last.until <= 3600


def test_a_success_disproves_what_it_shows_to_be_wrong() -> None:
    """Every refusal that the launched machine would have met, for its own version; not that machines like it are taken back."""

    def refused(reason: Reason, of: Offer = ONE.offer, *, is_of_cloud: bool = False, fingerprint: str = "v1") -> object:
        asked = replace(ONE, offer=of, fingerprint=fingerprint)
        return refusal(asked, reason, "no", (), NOW, is_of_cloud=is_of_cloud)

    wrong = [
        refused(Reason.NO_CAPACITY),
        refused(Reason.QUOTA),
        refused(Reason.LAUNCH_REFUSED),
        refused(Reason.LAUNCH_REFUSED, is_of_cloud=True),
    ]
    right = [
        refused(Reason.NO_CAPACITY, OTHERS["zone"]),
        refused(Reason.QUOTA, SPOT),
        refused(Reason.LAUNCH_REFUSED, fingerprint="v2"),
        refused(Reason.PREEMPTED),
    ]
    assert list(disproved(ONE, [*right, *wrong])) == wrong  # type: ignore[list-item]  # all of them are Unavailable


def test_only_spot_machines_that_were_taken_warn_of_their_place() -> None:
    """Once each: a machine that was given notice of is not counted again when it goes."""
    spot = replace(ONE, offer=SPOT)
    assert is_worth_avoiding(spot, Reason.PREEMPTED)
    assert is_worth_avoiding(spot, Reason.INTERRUPTED)
    assert not is_worth_avoiding(ONE, Reason.PREEMPTED)
    assert not is_worth_avoiding(spot, Reason.SCALED_DOWN)
    assert not is_worth_avoiding(replace(spot, reason=Reason.INTERRUPTED), Reason.PREEMPTED)


def test_an_image_that_lives_in_a_region_is_asked_for_in_the_next() -> None:
    """Where the cloud says so; everywhere else forty regions would refuse the same request in the same words."""
    regional = refusal(ONE, Reason.LAUNCH_REFUSED, "no such AMI", (), NOW, is_regional=True)
    assert not regional.blocks(OTHERS["region"], NOW)
    assert regional.fingerprint == ONE.fingerprint


def test_a_region_that_never_answered_a_launch_is_left_alone() -> None:
    """So that the replica in its stead goes elsewhere; one that was lost later says nothing about its region."""
    unanswered = replace(ONE, status=ReplicaStatus.PENDING)
    assert is_worth_avoiding(unanswered, Reason.LOST)
    assert not is_worth_avoiding(replace(ONE, status=ReplicaStatus.READY), Reason.LOST)
    silent = refusal(unanswered, Reason.LOST, "no answer", (), NOW)
    assert (silent.region, silent.zone, silent.instance_type) == (ONE.offer.location.region, "", "")
