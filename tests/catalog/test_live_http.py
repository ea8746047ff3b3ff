"""Google's and Microsoft's price lists, as their documentation shows them, from a real server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.catalog.snapshot import Price, Quarantined, Shape
from sailplane.catalog import facts, quarantine
from sailplane.catalog.live import azure, gcp
from sailplane.catalog.live.source import ATTEMPTS, MAX_PAGE_BYTES, Endpoint, Source, SourceFailed
from sailplane.catalog.quarantine import Row
from tests.catalog.recorded import Answer, Recorded, Request

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NC48 = Shape("Standard_NC48ads_A100_v4", 48, 440, "A100-80GB", 2, 80)
ULTRA = Shape("a2-ultragpu-2g", 24, 340, "A100-80GB", 2, 80)
N1_T4 = Shape("n1-standard-4", 4, 15, "T4", 1, 16)


def meter(**changes: Any) -> dict[str, Any]:
    """One item of the Retail Prices API, all of its fields."""
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": 7.346,
        "unitPrice": 7.346,
        "armRegionName": "eastus",
        "location": "US East",
        "effectiveStartDate": "2023-02-01T00:00:00Z",
        "meterId": "0b6bb1f8-7bd5-5a3b-8a5b-cd9d1d2f2f2a",
        "meterName": "NC48ads A100 v4",
        "productId": "DZH318Z08QXC",
        "skuId": "DZH318Z08QXC/006K",
        "productName": "Virtual Machines NCadsA100v4 Series",
        "skuName": "NC48ads A100 v4",
        "serviceName": "Virtual Machines",
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": "Standard_NC48ads_A100_v4",
    } | changes


SPOT = {"retailPrice": 1.4934, "skuName": "NC48ads A100 v4 Spot", "meterName": "NC48ads A100 v4 Spot"}


def page(items: Iterable[Any], link: str | None = None) -> Answer:
    listed = list(items)
    return Answer({"BillingCurrency": "USD", "Items": listed, "NextPageLink": link, "Count": len(listed)})


def sku(text: str, usd: float, regions: tuple[str, ...] = ("us-central1",), usage: str = "OnDemand") -> dict[str, Any]:
    """One SKU of the Cloud Billing catalog."""
    group = "GPU" if "Nvidia" in text else "RAM" if " Ram " in text else "CPU"
    price = {"currencyCode": "USD", "units": str(int(usd)), "nanos": round((usd - int(usd)) * 1e9)}
    return {
        "name": "services/6F81-5844-456A/skus/0000-0000-0000",
        "skuId": "0000-0000-0000",
        "description": text,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": "GiBy.h" if group == "RAM" else "h",
                    "displayQuantity": 1,
                    "tieredRates": [{"startUsageAmount": 0, "unitPrice": price}],
                },
                "currencyConversionRate": 1,
                "effectiveTime": "2026-11-21T08:00:00Z",
            }
        ],
        "serviceProviderName": "Google",
    }


SKUS = [
    sku("A2 Instance Core running in Americas", 0.031611),
    sku("A2 Instance Ram running in Americas", 0.004237),
    sku("Nvidia Tesla A100 80GB GPU running in Americas", 3.92812),
    sku("Spot Preemptible A2 Instance Core running in Americas", 0.0092, usage="Preemptible"),
    sku("Spot Preemptible A2 Instance Ram running in Americas", 0.0012, usage="Preemptible"),
    sku("Nvidia Tesla A100 80GB GPU attached to Spot Preemptible VMs running in Americas", 1.1, usage="Preemptible"),
]
# Everything here is cheaper than the price of the same machine on demand, and none of it is that price.
NOT_ON_DEMAND = [
    sku("Nvidia Tesla A100 80GB GPU attached to DWS Defined Duration VMs running in Americas", 1.8462),
    sku("Reserved Nvidia Tesla A100 80GB GPU in Americas in Calendar Mode", 1.9),
    sku("Reserved A2 Ram in Americas", 0.0001),
    sku("Commitment v1: Nvidia Tesla A100 80GB GPU running in Americas for 3 Years", 1.4, usage="Commit3Yr"),
    sku("Nvidia Tesla A100 80GB GPU running in Americas", 1.5, usage="Commit1Yr"),
    sku("Committed Use Discount Premium for A2 Instance Core running in Americas", 0.001, usage="CmtCudPremium"),
    sku("Nvidia Tesla A100 GPU running in Americas", 2.9339),
    sku("A2 Custom Instance Core running in Americas", 0.0001),
    sku("Sole Tenancy Premium for A2 Instance Core running in Americas", 0.003),
]


def reading(server: Recorded, waits: list[float] | None = None) -> Source:
    kept = waits if waits is not None else []
    return Source(server.url, lambda _: None, kept.append, {"X-Goog-Api-Key": "a-key"})


def azure_rows(server: Recorded, waits: list[float] | None = None) -> tuple[list[Row], list[Quarantined]]:
    with reading(server, waits) as source:
        return azure.rows(source, [Price(NC48, "eastus", "", 7.3, None)], NOW)


def gcp_rows(
    server: Recorded, *known: Price, quarantined: tuple[Quarantined, ...] = (), waits: list[float] | None = None
) -> tuple[list[Row], list[Quarantined]]:
    with reading(server, waits) as source:
        return gcp.rows(source, known or [Price(ULTRA, "us-central1", "us-central1-a", 11.0, None)], quarantined)


def machines(rows: Iterable[Row]) -> list[tuple[str, str, float | None, float | None]]:
    sound, _ = quarantine.sift(rows)
    return [(row.instance_type, row.zone, row.on_demand, row.spot) for row in facts.with_hosts(sound)]


def prices(rows: Iterable[Row]) -> list[tuple[str, float | None, float | None]]:
    return [(row.region, row.on_demand, row.spot) for row in rows]


# --- Azure ------------------------------------------------------------------------------------------------------------


def test_azure_on_demand_and_spot_of_linux_are_told_from_the_rest() -> None:
    """Windows, low priority, Cloud Services, reservations, other currencies and units, and prices of next month are left."""
    others: list[dict[str, Any]] = [
        {"productName": "Virtual Machines NCadsA100v4 Series Windows"},
        {"productName": "NCadsA100v4 Series Cloud Services"},
        {"skuName": "NC48ads A100 v4 Low Priority"},
        {"type": "Reservation", "reservationTerm": "1 Year"},
        {"type": "DevTestConsumption"},
        {"unitOfMeasure": "1/Month"},
        {"currencyCode": "EUR"},
        {"effectiveStartDate": "2026-12-01T00:00:00Z"},
        {"armSkuName": "Standard_NC24ads_A100_v4"},
    ]
    items = [meter(), meter(**SPOT), *(meter(retailPrice=0.01) | other for other in others)]
    with Recorded(lambda _: page(items)) as server:
        rows, unreadable = azure_rows(server)
    assert prices(rows) == [("eastus", 7.346, 1.4934)]
    assert (rows[0].accelerator, rows[0].accelerator_count, rows[0].vcpus, rows[0].memory_gib) == (
        "A100-80GB",
        2,
        48,
        440,
    )
    assert unreadable == []
    (request,) = server.requests
    assert request.query["currencyCode"] == "USD"
    assert "armSkuName eq 'Standard_NC48ads_A100_v4'" in request.query["$filter"]


def test_azure_follows_pages_to_the_last() -> None:
    """Regions of the second page are there; a link to another host is not followed; a list without end is given up."""
    with Recorded(lambda _: Answer()) as server:
        link = f"{server.url}/api/retail/prices?$skip=1000"
        server.answer = lambda request: (
            page([meter(armRegionName="westus")]) if "$skip" in request.query else page([meter()], link)
        )
        assert prices(azure_rows(server)[0]) == [("eastus", 7.346, None), ("westus", 7.346, None)]
        server.answer = lambda _: page([meter()], "https://prices.example/api/retail/prices?$skip=1000")
        with pytest.raises(SourceFailed, match="another server"):
            azure_rows(server)
        server.answer = lambda _: page([], link)
        with pytest.raises(SourceFailed, match="no last page"):
            azure_rows(server)


def test_azure_the_price_that_took_effect_last_is_todays_and_two_at_once_are_doubted() -> None:
    """A meter of last year does not count beside this year's; two of the same day that differ are both disbelieved."""
    old = meter(retailPrice=1.0, effectiveStartDate="2022-01-01T00:00:00Z")
    twice = [meter(armRegionName="westus"), meter(armRegionName="westus", retailPrice=3.0)]
    with Recorded(lambda _: page([meter(), old, *twice])) as server:
        sound, doubted = quarantine.sift(azure_rows(server)[0])
    assert prices(sound) == [("eastus", 7.346, None)]
    assert {(verdict.row.region, verdict.reason) for verdict in doubted} == {("westus", "duplicated")}


@pytest.mark.parametrize(
    "broken",
    [
        *({"retailPrice": value} for value in ("7.3", None, True, 10**400)),
        {"armRegionName": "US East"},
        {"armRegionName": None},
        {"skuName": None},
        {"effectiveStartDate": "soon"},
        {"effectiveStartDate": "2023-02-01T00:00:00"},
    ],
)
def test_azure_a_meter_in_another_form_spoils_no_other(broken: dict[str, Any]) -> None:
    """Numbers as text, nulls, regions that are none, dates without meaning: quarantined, and the next meter is read."""
    with Recorded(lambda _: page([meter() | broken, meter(armRegionName="westus"), "text", {}])) as server:
        rows, unreadable = azure_rows(server)
    assert prices(rows) == [("westus", 7.346, None)]
    assert [one.reason for one in unreadable] == ["malformed"] * 3


@pytest.mark.parametrize("usd", [0.0, -7.0, 5000.0, float("nan"), float("inf")])
def test_azure_an_impossible_price_is_not_believed(usd: float) -> None:
    """What is read is judged like any table: zero, negative and absurd numbers are in no offer."""
    with Recorded(lambda _: page([meter(retailPrice=usd), meter(armRegionName="westus")])) as server:
        sound, _ = quarantine.sift(azure_rows(server)[0])
    assert prices(sound) == [("westus", 7.346, None)]


# --- GCP --------------------------------------------------------------------------------------------------------------


def test_gcp_a_machine_is_the_sum_of_its_parts() -> None:
    """24 cores, 340 GiB and two accelerators, on demand and spot; the key is in a header and in no URL."""
    with Recorded(lambda _: Answer({"skus": [*SKUS, *NOT_ON_DEMAND]})) as server:
        rows, unreadable = gcp_rows(server)
    ((name, zone, on_demand, spot),) = machines(rows)
    assert (name, zone) == ("a2-ultragpu-2g", "us-central1-a")
    assert on_demand == pytest.approx(24 * 0.031611 + 340 * 0.004237 + 2 * 3.92812)
    assert spot == pytest.approx(24 * 0.0092 + 340 * 0.0012 + 2 * 1.1)
    assert unreadable == []
    (request,) = server.requests
    assert request.headers["x-goog-api-key"] == "a-key"
    assert "a-key" not in str(request.query)


def test_gcp_nothing_but_the_on_demand_sku_is_the_on_demand_price() -> None:
    """Flex start, calendar mode, reservations, commitments and premiums, at half the price, make no offer at all."""
    with Recorded(lambda _: Answer({"skus": NOT_ON_DEMAND})) as server:
        assert machines(gcp_rows(server)[0]) == []


def test_gcp_spot_is_what_the_description_says() -> None:
    """A spot SKU that is filed under OnDemand is a spot price, not a low on-demand one."""
    filed_wrong = [one | {"category": one["category"] | {"usageType": "OnDemand"}} for one in SKUS]
    with Recorded(lambda _: Answer({"skus": filed_wrong})) as server:
        ((_, _, on_demand, spot),) = machines(gcp_rows(server)[0])
    assert on_demand == pytest.approx(10.05548)
    assert spot == pytest.approx(2.8288)


def test_gcp_hosts_come_with_each_accelerator_that_fits() -> None:
    """N1 hosts and a T4 are summed zone by zone; a plain machine is itself; an accelerator without its host is nothing."""
    skus = [
        sku("N1 Predefined Instance Core running in Americas", 0.03),
        sku("N1 Predefined Instance Ram running in Americas", 0.004),
        sku("Nvidia Tesla T4 GPU running in Americas", 0.35),
        sku("E2 Instance Core running in Americas", 0.02),
        sku("E2 Instance Ram running in Americas", 0.003),
        sku("Nvidia L4 GPU running in Americas", 0.56),
    ]
    known = [
        *(Price(N1_T4, "us-central1", f"us-central1-{zone}", 0.5, None) for zone in "ab"),
        Price(Shape("e2-standard-4", 4, 16), "us-central1", "us-central1-a", 0.1, None),
        Price(Shape("g2-standard-4", 4, 16, "L4", 1, 24), "us-central1", "us-central1-a", 0.7, None),
    ]
    with Recorded(lambda _: Answer({"skus": skus})) as server:
        found = machines(gcp_rows(server, *known)[0])
    assert sorted(found) == [
        ("e2-standard-4", "us-central1-a", 0.128, None),
        ("n1-standard-4", "us-central1-a", 0.53, None),
        ("n1-standard-4", "us-central1-b", 0.53, None),
    ]


def test_gcp_a_place_whose_price_was_not_believed_comes_back_with_a_right_one() -> None:
    """A100-80GB in us-central1 is in quarantine in the packaged prices: the live list prices it again."""
    elsewhere = Price(ULTRA, "us-east5", "us-east5-a", 11.0, None)
    doubted = Quarantined(7, "A100-80GB:2 us-central1/us-central1-a", "both", "below its own spot price", "")
    with Recorded(lambda _: Answer({"skus": SKUS})) as server:
        rows, _ = gcp_rows(server, elsewhere, quarantined=(doubted,))
    assert [(name, zone) for name, zone, *_ in machines(rows)] == [("a2-ultragpu-2g", "us-central1-a")]


def test_gcp_follows_pages_to_the_last() -> None:
    """Parts on the second page are found by its token; a token that leads nowhere ends in a refusal."""

    def two_pages(request: Request) -> Answer:
        if request.query.get("pageToken") == "more":
            return Answer({"skus": SKUS[2:], "nextPageToken": ""})
        return Answer({"skus": SKUS[:2], "nextPageToken": "more"})

    with Recorded(two_pages) as server:
        assert len(machines(gcp_rows(server)[0])) == 1
        server.answer = lambda _: Answer({"skus": [], "nextPageToken": "more"})
        with pytest.raises(SourceFailed, match="no last page"):
            gcp_rows(server)


def test_gcp_two_skus_for_one_part_are_both_disbelieved() -> None:
    """Nobody knows which of two list prices of the same thing holds, so a machine with that part has none."""
    other = sku("Nvidia Tesla A100 80GB GPU running in Iowa", 1.9)
    with Recorded(lambda _: Answer({"skus": [*SKUS, other]})) as server:
        rows, unreadable = gcp_rows(server)
    assert machines(rows) == []
    assert [(one.what, one.reason) for one in unreadable] == [("A100-80GB GPU us-central1", "duplicated")]


def _without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda found: {key: value for key, value in found.items() if key != name}


@pytest.mark.parametrize(
    "spoil",
    [
        _without("category"),
        _without("serviceRegions"),
        _without("pricingInfo"),
        lambda found: found | {"pricingInfo": []},
        lambda found: found | {"pricingInfo": [{"pricingExpression": {"usageUnit": "mo", "tieredRates": []}}]},
        lambda found: found | {"description": None},
        lambda found: json.loads(json.dumps(found).replace('"units": "3"', f'"units": "{10**400}"')),
        lambda _: "text",
    ],
)
def test_gcp_a_sku_in_another_form_spoils_no_other(spoil: Callable[[dict[str, Any]], Any]) -> None:
    """Missing fields and other units: quarantined, and the machine has no on-demand price, not one without that part."""
    with Recorded(lambda _: Answer({"skus": [spoil(SKUS[2]), *SKUS[:2], *SKUS[3:]]})) as server:
        rows, unreadable = gcp_rows(server)
    assert machines(rows) == []
    assert [one.reason for one in unreadable] == ["malformed"]


# --- whatever the server --------------------------------------------------------------------------------------------


def test_a_busy_or_broken_server_is_asked_again_and_obeyed() -> None:
    """429 with Retry-After, 503, a body cut short, garbage and a list instead of an object: then the answer is taken."""
    faults = [
        Answer("slow down", 429, {"Retry-After": "7"}),
        Answer("unavailable", 503),
        Answer('{"skus": [', cut=50),
        Answer("<html>proxy</html>"),
    ]
    waits: list[float] = []
    with Recorded(lambda _: Answer({"skus": SKUS}), faults) as server:
        assert len(machines(gcp_rows(server, waits=waits)[0])) == 1
    assert waits == [7, 2, 4, 8]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (Answer("busy", 429, {"Retry-After": "86400"}), "answers 429, 5 times"),
        (Answer("", 500), "answers 500, 5 times"),
        (Answer("[]"), "no JSON object, 5 times"),
        (Answer('{"Items": ['), "not JSON, 5 times"),
        (Answer("{", cut=9), "does not answer"),
        (Answer({}), "without `Items`"),
        (Answer({"error": "bad key"}, 403), "refuses with 403"),
    ],
)
def test_a_server_that_stays_so_is_told_of(answer: Answer, complaint: str) -> None:
    """After five times, waiting half a minute at most each, the reason is told; a refusal is not asked again."""
    waits: list[float] = []
    with Recorded(lambda _: answer) as server, pytest.raises(SourceFailed, match=complaint):
        azure_rows(server, waits)
    assert all(wait <= 30 for wait in waits)
    assert len(server.requests) == (ATTEMPTS if "times" in complaint or answer.cut else 1)


def test_an_empty_answer_is_no_price_at_all() -> None:
    """An empty list makes no rows, which judging refuses."""
    with Recorded(lambda _: page([])) as server:
        assert azure_rows(server) == ([], [])


def test_a_stand_ins_key_is_kept_out_of_sight() -> None:
    """The key in an endpoint's URL is neither in what is shown nor in what a wrong one is answered with."""
    endpoint = Endpoint.parse("http://se-cret@127.0.0.1:8080/")
    assert (endpoint.url, endpoint.key) == ("http://127.0.0.1:8080", "se-cret")
    assert "se-cret" not in repr(endpoint)
    with pytest.raises(ValueError, match="expected") as refusal:
        Endpoint.parse("ftp://se-cret@host")
    assert "se-cret" not in str(refusal.value)


def test_a_page_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    """2 MB of gzip could fill the memory; pages end at 64 MB, and the server is not asked again."""
    bomb = gzip.compress(b"[" * MAX_PAGE_BYTES * 2, compresslevel=9)
    with Recorded(lambda _: Answer(bomb, headers={"Content-Encoding": "gzip"})) as server:
        with pytest.raises(SourceFailed, match="more than 64 MB"):
            azure_rows(server)
        assert len(server.requests) == 1


def test_json_without_bottom_is_no_json() -> None:
    """A hundred thousand brackets would end Python's parser by recursion."""
    with Recorded(lambda _: Answer(b"[" * 100_000)) as server, pytest.raises(SourceFailed, match="not JSON"):
        azure_rows(server)
