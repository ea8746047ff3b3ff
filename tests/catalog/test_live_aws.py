"""AWS's machines and prices through boto3, from a server that speaks EC2's and the price list's wire forms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.catalog.snapshot import Quarantined
from sailplane.catalog import quarantine
from sailplane.catalog.live.aws import Market
from sailplane.catalog.live.source import Endpoint, SourceFailed
from sailplane.catalog.quarantine import Row
from tests.catalog.price_list_aws import PriceListAws, machine, product, spot
from tests.catalog.recorded import Answer, Recorded

NOW = datetime(2026, 11, 22, tzinfo=UTC)
T4 = machine("g4dn.xlarge", "T4", 1, 16384)
L40S = machine("g6e.xlarge", "L40S", 1, 45776)
PLAIN = machine("m6i.xlarge")
PRODUCTS = [product("g4dn.xlarge", "0.5260000000"), product("g6e.xlarge", "1.8610"), product("m6i.xlarge", "0.192")]


def asked(aws: PriceListAws, faults: list[Answer] | None = None) -> tuple[list[Row], list[Quarantined]]:
    told: list[str] = []
    with Recorded(aws, faults) as server:
        found = Market(told.append, Endpoint(server.url, "AKIDEXAMPLE"), attempts=3).rows(NOW)
    assert f"{len(aws.regions)} of {len(aws.regions)} regions" in told[-1]
    return found


def one_region(**changes: Any) -> PriceListAws:
    facts: dict[str, Any] = {"regions": ("us-east-1",), "machines": [T4], "products": PRODUCTS[:1], "page": 100}
    return PriceListAws(**facts | changes)


def prices(rows: list[Row]) -> list[tuple[str, float | None, float | None]]:
    return [(row.zone, row.on_demand, row.spot) for row in rows]


def test_every_region_type_and_zone_is_there_with_both_prices() -> None:
    """T4, L40S and plain machines, page by page, in each zone by its id; spot prices find their zone though names differ."""
    spots = {"us-east-1": [spot("g4dn.xlarge", "us-east-1a", "0.2100"), spot("g4dn.xlarge", "us-east-1b", "0.1900")]}
    aws = PriceListAws(machines=[T4, L40S, PLAIN], products=PRODUCTS, spots=spots, page=1)
    rows, unreadable = asked(aws)
    assert unreadable == []
    assert len(rows) == 2 * 2 * 3
    assert len({row.line for row in rows}) == len(rows)
    t4 = {(row.region, row.zone): row for row in rows if row.accelerator == "T4"}
    assert (t4["us-east-1", "use1-az2"].on_demand, t4["us-east-1", "use1-az2"].spot) == (0.526, 0.21)
    assert t4["us-east-1", "use1-az1"].spot == 0.19
    assert t4["eu-west-1", "euw1-az1"].spot is None
    assert {(row.accelerator, row.accelerator_count, row.vcpus, row.memory_gib) for row in rows} == {
        ("T4", 1, 4, 16),
        ("L40S", 1, 4, 16),
        ("", 0, 4, 16),
    }
    terms = [form for form in aws.asked if "regionCode" in form]
    assert {form["regionCode"] for form in terms} == {"us-east-1", "eu-west-1"}
    assert all(form["tenancy"] == "Shared" and form["operatingSystem"] == "Linux" for form in terms)


def test_a_zone_that_does_not_offer_the_type_has_no_price() -> None:
    """Prices are the region's; where a type is, is asked for."""
    rows, _ = asked(one_region(offered={"g4dn.xlarge": ["use1-az1"]}))
    assert prices(rows) == [("use1-az1", 0.526, None)]


def test_the_newest_spot_price_of_a_zone_counts() -> None:
    """The history holds older ones, in any order."""
    times = {"0.30": "2026-11-20T00:00:00Z", "0.20": "2026-11-21T23:00:00Z", "0.25": "2026-11-21T00:00:00Z"}
    spots = {"us-east-1": [spot("g4dn.xlarge", "us-east-1a", usd, time) for usd, time in times.items()]}
    rows, _ = asked(one_region(spots=spots))
    assert [row.spot for row in rows] == [0.2, None]


def test_accelerators_are_named_as_the_catalog_does() -> None:
    """EC2's A100 of 80 GB is the A100-80GB; slices, several kinds, ARM hosts, bare metal and unknown names are no offer."""
    machines = [
        machine("p4d.24xlarge", "A100", 8, 40960),
        machine("p4de.24xlarge", "A100", 8, 81920),
        machine("p3dn.24xlarge", "V100", 8, 32768),
        machine("g5.xlarge", "A10G", 1, 24576),
        machine("g6f.large", "L4", 1, 2861),
        machine("g3s.xlarge", "M60", 1, 8192),
        machine("x9.large", "B9000", 1, 8192),
        machine("g5g.xlarge", "T4g", 1, 16384, processorInfo={"supportedArchitectures": ["arm64"]}),
        machine("g4dn.metal", "T4", 8, 16384, bareMetal=True),
        machine("m5.large"),
    ]
    products = [product(each["instanceType"], "9.0") for each in machines]
    rows, unreadable = asked(one_region(machines=machines, products=products))
    assert {(row.instance_type, row.accelerator, row.accelerator_count) for row in rows} == {
        ("p4d.24xlarge", "A100", 8),
        ("p4de.24xlarge", "A100-80GB", 8),
        ("p3dn.24xlarge", "V100-32GB", 8),
        ("g5.xlarge", "A10G", 1),
        ("g3s.xlarge", "M60", 1),
    }
    assert [(one.what, one.reason) for one in unreadable] == [
        ("g6f.large", "wrong accelerator memory"),
        ("x9.large", "unknown accelerator"),
    ]


def test_what_is_no_list_price_is_not_taken_for_one() -> None:
    """Unused reservations cost $0 and dedicated hosts are other things; two prices for a type are both disbelieved."""
    others = [product("g4dn.xlarge", "0.0000", "UnusedBox"), product("g4dn.xlarge", "0.01", "DedicatedUsage")]
    assert prices(asked(one_region(products=[*others, *PRODUCTS]))[0]) == [
        ("use1-az2", 0.526, None),
        ("use1-az1", 0.526, None),
    ]
    rows, _ = asked(one_region(products=[*PRODUCTS, product("g4dn.xlarge", "0.1", "USE1-BoxUsage")]))
    sound, doubted = quarantine.sift(rows)
    assert sound == ()
    assert {verdict.reason for verdict in doubted} == {"duplicated"}


@pytest.mark.parametrize(
    "spoilt",
    [
        "{",
        "[]",
        "{}",
        product("g4dn.xlarge", "free"),
        product("g4dn.xlarge", "380", unit="Mo"),
        {"product": {"attributes": {}}},
    ],
)
def test_a_product_in_another_form_spoils_no_other(spoilt: Any) -> None:
    """Broken JSON, missing fields, words for numbers, months for hours: quarantined, and the next one is read."""
    rows, unreadable = asked(one_region(machines=[T4, L40S], products=[spoilt, *PRODUCTS[1:]]))
    assert {row.instance_type: row.on_demand for row in rows} == {"g4dn.xlarge": None, "g6e.xlarge": 1.861}
    assert [one.reason for one in unreadable] == ["malformed"]


def test_a_spot_price_in_another_form_spoils_no_other() -> None:
    """A zone that is not the account's and words for numbers: quarantined, and the next one is read."""
    entries = [("us-east-1z", "0.2"), ("us-east-1a", "cheap"), ("us-east-1b", "0.2")]
    rows, unreadable = asked(one_region(spots={"us-east-1": [spot("g4dn.xlarge", *entry) for entry in entries]}))
    assert [row.spot for row in rows] == [None, 0.2]
    assert [one.reason for one in unreadable] == ["malformed"] * 2


def test_nothing_at_all_is_no_price() -> None:
    """An account without regions, and regions without machines, make no rows, which judging refuses."""
    assert asked(one_region(machines=[], products=[])) == ([], [])


THROTTLED = Answer("<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>", 503)


def test_throttling_and_server_errors_are_waited_out() -> None:
    """RequestLimitExceeded and a 500 cost a moment."""
    rows, _ = asked(one_region(), [THROTTLED, Answer("", 500)])
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (THROTTLED, "RequestLimitExceeded"),
        (Answer("<Response><Errors><Error><Code>AuthFailure</Code></Error></Errors></Response>", 401), "AuthFailure"),
        (Answer("<html>", 200), "AWS"),
        (Answer("<DescribeRegionsResponse/>"), "another form"),
    ],
)
def test_what_stays_so_is_told(answer: Answer, complaint: str) -> None:
    """Throttling without end, refused credentials, garbage and a missing field: told, and nothing is taken."""
    with Recorded(lambda _: answer) as server, pytest.raises(SourceFailed, match=complaint) as failure:
        Market(lambda _: None, Endpoint(server.url, "AKIDEXAMPLE"), attempts=2).rows(NOW)
    assert "AKIDEXAMPLE" not in str(failure.value)
