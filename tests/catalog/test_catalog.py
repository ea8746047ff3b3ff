"""The packaged price table."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import pytest

from chalicelib import catalog
from chalicelib.model import CapacityType, Location, Offer

CLOUDS = ("aws", "azure", "gcp")
HEADING = (
    "as_of,provider,region,zone,instance_type,vcpus,memory_gib,accelerator,accelerator_count,"
    "accelerator_memory_gib,on_demand_usd_per_hour,spot_usd_per_hour"
)


def test_every_accelerator_of_the_seed_is_there_on_demand_and_spot() -> None:
    """The accelerators that SkyServe's examples ask for can be planned, both ways of buying."""
    assert set(catalog.accelerators()) >= {"T4", "L4", "A10G", "A10", "A100", "A100-80GB", "H100", "V100", "L40S"}
    kinds = {(offer.accelerator, offer.capacity_type) for offer in catalog.offers(CLOUDS)}
    assert {(name, kind) for name in catalog.accelerators() for kind in CapacityType} <= kinds


def test_each_cloud_has_regions_and_plain_machines() -> None:
    """Every cloud offers a choice of regions, and machines without accelerators for CPU services."""
    assert catalog.providers() == CLOUDS
    for cloud in CLOUDS:
        offers = catalog.offers((cloud,))
        assert len({offer.location.region for offer in offers}) >= 3
        assert any(not offer.accelerator for offer in offers)
        assert all(offer.location.provider == cloud for offer in offers)


def test_spot_is_cheaper_than_on_demand_everywhere() -> None:
    """No row repeats the public catalogs' defect of a spot price at or above on-demand."""
    prices = {
        (offer.location, offer.instance_type, offer.accelerators, offer.capacity_type): offer.price_usd_per_hour
        for offer in catalog.offers(CLOUDS)
    }
    spot = [(key, price) for key, price in prices.items() if key[3] is CapacityType.SPOT]
    assert len(spot) > 100
    assert all(price < prices[*key[:3], CapacityType.ON_DEMAND] for key, price in spot)


def test_no_offer_is_listed_twice() -> None:
    """A machine type in a place has one price for each way of buying it."""
    keys = [(one.location, one.instance_type, one.accelerators, one.capacity_type) for one in catalog.offers(CLOUDS)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("accelerators", "provider", "price"),
    [("A100-80GB:2", "gcp", 10.06), ("A100-80GB:2", "azure", 7.35), ("A100:4", "gcp", 14.69), ("A10G:8", "aws", 16.29)],
)
def test_prices_are_those_the_clouds_list(accelerators: str, provider: str, price: float) -> None:
    """List prices that the seed documents hold; GCP's A100-80GB is not the wrong half price of public catalogs."""
    cheapest = min(
        offer.price_usd_per_hour
        for offer in catalog.offers((provider,))
        if offer.accelerators == accelerators and offer.capacity_type is CapacityType.ON_DEMAND
    )
    assert cheapest == pytest.approx(price, abs=0.01)


def test_the_price_date_is_a_date() -> None:
    """Plans carry the date of their oldest price."""
    assert date(2025, 1, 1) < date.fromisoformat(catalog.as_of()) < date(2027, 1, 1)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("2026-01-01,aws,r,z,t,4,16,,,,1.0,1.0", "spot is not cheaper"),
        ("2026-01-01,aws,r,z,t,4,16,,,,0,", "between"),
        ("2026-01-01,aws,r,z,t,4,16,,,,1.0,0.00", "between"),
        ("2026-01-01,aws,r,z,t,0,16,,,,1.0,", "vcpus is not positive"),
        ("2026-01-01,aws,r,z,t,4,16,L4,0,24,1.0,", "accelerator_count is not positive"),
        ("2026-01-01,aws,r,z,t,4,16,L4,1,,1.0,", "could not convert"),
    ],
)
def test_a_senseless_row_is_refused_by_its_line(row: str, complaint: str) -> None:
    """A table with a price that cannot be right is not read at all, and the error says where."""
    with pytest.raises(ValueError, match=f"line 2 of the price table: .*{complaint}"):
        catalog.read([HEADING, row])


def test_market_asks_a_provider_that_knows_its_own_offers() -> None:
    """The local provider brings its own offer; clouds come from the catalog; nobody else is asked."""
    here = Offer(Location("local", "here"), "process", 2, 4, CapacityType.ON_DEMAND, 0.01)
    market = catalog.CatalogMarket({"local": lambda: [here], "aws": lambda: pytest.fail("not asked for")})
    assert market.offers(("local",)) == (here,)
    assert market.offers(("local", "gcp")) == (here, *catalog.offers(("gcp",)))


def test_the_table_is_read_on_first_use_only() -> None:
    """Importing the catalog costs nothing until a price is wanted."""
    code = "from chalicelib import catalog; assert catalog._packaged.cache_info().currsize == 0; assert catalog.as_of()"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
