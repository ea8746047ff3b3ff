"""What in a price table is not believed."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.catalog.snapshot import Suspect
from sailplane.catalog.quarantine import CONFIRM_S, Reason, Row, Verdict, sift, steady

ROW = Row(2, "g6.xlarge", 4, 16, "L4", 1, "r1", "r1-a", 0.8, 0.3)
ELSEWHERE = [replace(ROW, line=10 + n, region=f"e{n}", zone=f"e{n}-a", on_demand=0.8 + n / 100) for n in range(4)]


def verdicts(*rows: Row) -> list[tuple[int, str, Reason]]:
    return [(one.row.line, one.price, one.reason) for one in sift(rows)[1]]


@pytest.mark.parametrize(
    ("changes", "price", "reason"),
    [
        ({"on_demand": None}, "both", Reason.MISSING),
        ({"on_demand": 0.0}, "both", Reason.NOT_POSITIVE),
        ({"on_demand": -0.8}, "both", Reason.NOT_POSITIVE),
        ({"on_demand": 12345.0}, "both", Reason.ABSURD),
        ({"spot": 0.0}, "spot", Reason.NOT_POSITIVE),
        ({"spot": -0.1}, "spot", Reason.NOT_POSITIVE),
        ({"spot": 0.01}, "spot", Reason.ABSURD),
        ({"spot": 0.8}, "spot", Reason.SPOT_EQUALS_ON_DEMAND),
        ({"on_demand": 23.62246, "spot": 23.6225}, "spot", Reason.SPOT_EQUALS_ON_DEMAND),
        ({"spot": 0.9}, "both", Reason.BELOW_SPOT),
        ({"vcpus": 0}, "both", Reason.ABSURD),
        ({"memory_gib": -1}, "both", Reason.ABSURD),
        ({"vcpus": 1e6}, "both", Reason.ABSURD),
        ({"accelerator_count": 0}, "both", Reason.ABSURD),
        ({"accelerator_count": 4000}, "both", Reason.ABSURD),
    ],
)
def test_each_trap_is_seen_on_the_row_alone(changes: dict[str, Any], price: str, reason: Reason) -> None:
    """Negative, zero, absurd, missing, spot at or above on-demand: the price named and no other is taken out."""
    row = replace(ROW, **changes)
    sound, found = sift([row])
    assert [(one.row.line, one.price, one.reason) for one in found] == [(2, price, reason)]
    assert sound == (() if price == "both" else (replace(row, spot=None),))


@pytest.mark.parametrize(
    ("changes", "price"),
    [({"on_demand": 0.376}, "on-demand"), ({"on_demand": 2.6}, "on-demand"), ({"spot": 0.05}, "spot")],
)
def test_an_outlier_against_other_regions_is_seen(changes: dict[str, Any], price: str) -> None:
    """0.47 of the list price, three times it, a sixth of the usual spot price: each is taken out, the other price stays."""
    assert verdicts(replace(ROW, **changes), *ELSEWHERE) == [(2, price, Reason.OUTLIER)]


def test_a_zone_that_undercuts_its_region_is_seen() -> None:
    """On-demand prices are the region's: 0.7 of what its other zones say is wrong though another region sells at that."""
    zones = [replace(ROW, line=20 + n, zone=f"r1-{n}") for n in range(2)]
    cheap_region = replace(ELSEWHERE[0], on_demand=0.56)
    assert verdicts(replace(ROW, on_demand=0.56), *zones, cheap_region) == [(2, "on-demand", Reason.OUTLIER)]


def test_a_wrong_price_in_most_regions_does_not_become_the_measure() -> None:
    """GCP's H200 at half price in two regions of three: the half price is the outlier, not the list price."""
    wrong = [replace(row, on_demand=0.39, spot=None) for row in ELSEWHERE]
    right = [replace(ROW, line=n, region=f"r{n}", spot=None) for n in range(2)]
    sound, found = sift([*wrong, *right])
    assert {one.row for one in found} == set(wrong)
    assert set(sound) == set(right)


def test_of_two_regions_the_dearer_is_believed() -> None:
    """Where nobody can say which of two prices is right, doubt goes against the cheap one, which would win."""
    assert verdicts(replace(ROW, on_demand=8.0, spot=None), replace(ELSEWHERE[0], spot=None)) == [
        (10, "on-demand", Reason.OUTLIER)
    ]


def test_repeated_and_contradicting_lines() -> None:
    """Of equal lines one stays; of lines that differ in anything none does."""
    assert verdicts(ROW, replace(ROW, line=3)) == [(3, "both", Reason.DUPLICATED)]
    assert verdicts(ROW, replace(ROW, line=3, spot=0.2)) == [(line, "both", Reason.DUPLICATED) for line in (2, 3)]


def test_a_type_that_is_another_machine_in_one_place_is_not_believed_there() -> None:
    """A line that gives a type more accelerators or less memory than most lines do is wrong about it."""
    for changes in ({"accelerator_count": 8}, {"memory_gib": 15}, {"vcpus": 96}, {"accelerator": "H100"}):
        assert verdicts(replace(ROW, **changes), *ELSEWHERE) == [(2, "both", Reason.CONTRADICTED)]


def test_a_slice_that_is_listed_as_a_whole_accelerator_is_seen() -> None:
    """A quarter in vCPUs, memory and price is a quarter of the accelerator; a small host of a whole one is not."""
    whole = replace(ROW, line=3, instance_type="g6.4xlarge", vcpus=16, memory_gib=64, on_demand=3.2, spot=1.2)
    assert verdicts(ROW, whole) == [(2, "both", Reason.SLICE)]
    assert verdicts(ROW, replace(whole, on_demand=1.3, spot=0.5)) == []


def flapped(row: Row, suspects: tuple[Suspect, ...] = (), now: float = 0.0) -> tuple[list[str], tuple[Suspect, ...]]:
    """Which of the row's prices are not believed beside $0.8 and $0.3, and the suspects for the next table."""
    known = {(row.key, one.price): one for one in suspects}
    _, found, left = steady([row], {ROW.key: (0.8, 0.3)}, known, now)
    assert {one.reason for one in found} <= {Reason.FLAPPING}
    return [one.price for one in found], left


def test_a_flapping_price_is_left_out_until_it_is_confirmed() -> None:
    """A list price that jumped by half is left out beside its spot price until it has been the same for a day."""
    jumped = replace(ROW, on_demand=1.2)
    sound, _, _ = steady([jumped], {ROW.key: (0.8, 0.3)}, {}, 0.0)
    assert sound == (replace(jumped, on_demand=None),)
    kinds, suspects = flapped(jumped)
    assert kinds == ["on-demand"]
    kinds, suspects = flapped(jumped, suspects, 5 * 3600.0)
    assert (kinds, [one.since for one in suspects]) == (["on-demand"], [0.0])
    assert flapped(jumped, suspects, CONFIRM_S) == ([], ())
    assert flapped(replace(ROW, spot=0.9))[0] == ["spot"]
    assert flapped(replace(ROW, on_demand=0.82, spot=0.5)) == ([], ())


def test_a_price_that_goes_on_jumping_stays_left_out() -> None:
    """Every jump begins the day anew, also after a table that did not list the price; what reverts is believed at once."""
    _, suspects = flapped(replace(ROW, on_demand=1.2))
    _, suspects = flapped(replace(ROW, on_demand=0.5), suspects, CONFIRM_S)
    assert [(one.believed, one.said, one.since) for one in suspects] == [(0.8, 0.5, CONFIRM_S)]
    _, _, unlisted = steady([], {}, {(ROW.key, "on-demand"): suspects[0]}, CONFIRM_S + 1)
    assert unlisted == suspects
    assert flapped(ROW, suspects, CONFIRM_S + 3600) == ([], ())


prices = st.one_of(st.none(), st.sampled_from((-1.0, 0.0, 0.01, 0.3, 0.5, 0.8, 0.80001, 1.6, 9.0, 5000.0)))
rows = st.lists(
    st.builds(
        Row,
        line=st.integers(2, 10**6),
        instance_type=st.sampled_from(("a", "b", "")),
        vcpus=st.sampled_from((0.0, 4.0, 8.0)),
        memory_gib=st.sampled_from((16.0, 32.0)),
        accelerator=st.sampled_from(("", "L4")),
        accelerator_count=st.integers(0, 2),
        region=st.sampled_from(("r1", "r2", "r3")),
        zone=st.just(""),
        on_demand=prices,
        spot=prices,
    ),
    max_size=14,
    unique_by=lambda row: row.line,
)


@given(rows)
def test_no_quarantined_price_is_ever_offered(table: list[Row]) -> None:
    """What has a verdict is not among the sound prices, what is sound is unchanged, and nothing vanishes without a verdict."""
    sound, found = sift(table)

    def every(lines: list[Row]) -> set[tuple[int, str]]:
        return {
            (row.line, kind)
            for row in lines
            for kind, usd in (("on-demand", row.on_demand), ("spot", row.spot))
            if usd is not None
        }

    def doubted(verdict: Verdict) -> set[tuple[int, str]]:
        kinds = ("on-demand", "spot") if verdict.price == "both" else (verdict.price,)
        return {(verdict.row.line, kind) for kind in kinds}

    bad = set[tuple[int, str]]().union(*(doubted(verdict) for verdict in found))
    assert not every(list(sound)) & bad
    assert every(list(sound)) | bad >= every(table)
    originals = {row.line: row for row in table}
    for row in sound:
        assert row.on_demand in (None, originals[row.line].on_demand)
        assert row.spot in (None, originals[row.line].spot)


@given(rows, st.randoms())
def test_the_order_of_the_rows_never_matters(table: list[Row], shuffler: random.Random) -> None:
    """The same lines in another order give the same offers and the same verdicts."""
    shuffled = list(table)
    shuffler.shuffle(shuffled)
    assert sift(shuffled)[0] == sift(table)[0]
    assert set(sift(shuffled)[1]) == set(sift(table)[1])
