"""The packaged prices."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import date

import pytest

from chalicelib import catalog
from chalicelib.catalog import PACKAGED, snapshot
from chalicelib.model import CapacityType, Location, Offer

CLOUDS = ("aws", "azure", "gcp")


def test_every_accelerator_of_the_seed_is_there_on_demand_and_spot() -> None:
    """The accelerators that SkyServe's examples ask for can be planned, both ways of buying."""
    wanted = {"T4", "L4", "A10G", "A10", "A100", "A100-80GB", "H100", "V100"}
    kinds = {(offer.accelerator, offer.capacity_type) for offer in catalog.offers(CLOUDS)}
    assert {(name, kind) for name in wanted for kind in CapacityType} <= kinds
    assert wanted <= set(catalog.accelerators())


def test_each_cloud_has_a_choice_of_regions() -> None:
    """Every cloud offers many regions; Azure and GCP also plain machines, which the source of AWS has not."""
    assert catalog.providers() == ("aws", "azure", "gcp", "lambda")
    for cloud in CLOUDS:
        offers = catalog.offers((cloud,))
        assert len({offer.location.region for offer in offers}) >= 15
        assert any(not offer.accelerator for offer in offers) is (cloud != "aws")
        assert all(offer.location.provider == cloud for offer in offers)


def test_spot_is_cheaper_than_on_demand_everywhere() -> None:
    """No offer repeats the public catalogs' defect of a spot price at or above on-demand."""
    both = [
        (price.spot, price.on_demand)
        for cloud in catalog.providers()
        for price in snapshot.table(PACKAGED, cloud).prices()
        if price.spot is not None and price.on_demand is not None
    ]
    assert len(both) > 3000
    assert all(spot < on_demand for spot, on_demand in both)


def test_no_offer_is_listed_twice() -> None:
    """A machine type in a place has one price for each way of buying it."""
    offers = catalog.offers(catalog.providers())
    keys = {(one.location, one.instance_type, one.accelerators, one.capacity_type) for one in offers}
    assert len(keys) == len(offers)


@pytest.mark.parametrize(
    ("accelerators", "provider", "price"),
    [("A100-80GB:2", "gcp", 11.05), ("A100-80GB:2", "azure", 7.35), ("A100:4", "gcp", 14.69), ("A10G:8", "aws", 16.29)],
)
def test_prices_are_those_the_clouds_list(accelerators: str, provider: str, price: float) -> None:
    """The cheapest credible list prices; GCP's A100-80GB is not the wrong half price of public catalogs."""
    cheapest = min(
        offer.price_usd_per_hour
        for offer in catalog.offers((provider,))
        if offer.accelerators == accelerators and offer.capacity_type is CapacityType.ON_DEMAND
    )
    assert cheapest == pytest.approx(price, abs=0.01)


def test_the_price_date_is_that_of_the_oldest_cloud_asked_for() -> None:
    """Plans carry the date of their oldest price; a provider without packaged prices has none."""
    dates = [catalog.as_of((cloud,)) for cloud in CLOUDS]
    assert all(date(2025, 1, 1) < date.fromisoformat(one) < date(2027, 1, 1) for one in dates)
    assert catalog.as_of((*CLOUDS, "local")) == min(dates)
    assert catalog.as_of(("local",)) == ""


def test_offers_can_be_had_for_certain_accelerators_only() -> None:
    """Asking for some accelerators leaves the others unread; the empty name stands for plain machines."""
    everything = catalog.offers(CLOUDS)
    some = frozenset(("L4", ""))
    assert catalog.offers(CLOUDS, some) == tuple(one for one in everything if one.accelerator in some)


def test_market_asks_a_provider_that_knows_its_own_offers() -> None:
    """The local provider brings its own offer; clouds come from the catalog; nobody else is asked."""
    here = Offer(Location("local", "here"), "process", 2, 4, CapacityType.ON_DEMAND, 0.01)
    market = catalog.CatalogMarket({"local": lambda: [here], "aws": lambda: pytest.fail("not asked for")})
    assert market.offers(("local",)) == (here,)
    assert market.offers(("local", "gcp")) == (here, *catalog.offers(("gcp",)))


def test_the_tables_are_read_on_first_use_only() -> None:
    """Importing the catalog costs nothing until a price is wanted, and then only the clouds in question."""
    code = (
        "from chalicelib import catalog; assert catalog._packaged.cache_info().currsize == 0; catalog.offers(['gcp']);"
        "assert catalog._packaged.cache_info().currsize == 1"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_all_of_it_is_small_and_quick_to_read() -> None:
    """The packaged files stay under 100 kB, and making every offer of three clouds under 100 ms of CPU (measured: 15)."""
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) < 100_000

    def cost() -> float:
        before = time.process_time()
        assert sum(1 for cloud in CLOUDS for _ in snapshot.table(PACKAGED, cloud).offers()) > 7000
        return time.process_time() - before

    assert min(cost() for _ in range(5)) < 0.1
