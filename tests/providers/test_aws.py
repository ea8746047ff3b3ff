"""The AWS provider: boto3 over HTTP against EC2 in a box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from chalicelib.model import CapacityType, Instance, Location, Offer
from chalicelib.providers.aws.compute import AwsProvider
from tests.clouds.aws import AwsBox
from tests.clouds.box import OnPaper
from tests.fakes import FakeClock
from tests.providers.contract import FIRST, LAST, KeepsLog, ProviderContract

REGIONS = ("us-east-1", "us-west-2")
CONTROL_URL = "https://control.example"


@dataclass
class AwsCloud:
    """`contract.Cloud` in a box."""

    box: AwsBox
    clock: FakeClock
    paper: OnPaper
    provider: AwsProvider
    offer: Offer

    def another_deployment(self) -> AwsProvider:
        return self.another("another")

    def another(self, deployment: str = "test", regions: tuple[str, ...] = REGIONS) -> AwsProvider:
        """A provider without memory of this one."""
        return AwsProvider(
            deployment=deployment,
            control_url=CONTROL_URL,
            clock=self.clock,
            regions=regions,
            endpoint_url=self.box.endpoint_url,
        )

    def run_out(self) -> None:
        self.box.faults.capacity[""] = 0

    def until_logged(self, instance: Instance) -> None:
        self.paper.write(instance.id, f"{FIRST}\r\n{LAST}\r\n")  # as a serial console ends its lines


def offer(zone: str = "use1-az1", kind: str = "g5.2xlarge", accelerator: str = "A10G", *, spot: bool = False) -> Offer:
    """Something that EC2 sells in us-east-1."""
    capacity_type = CapacityType.SPOT if spot else CapacityType.ON_DEMAND
    return Offer(
        Location("aws", "us-east-1", zone), kind, 8.0, 32.0, capacity_type, 1.2, accelerator, bool(accelerator)
    )


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    clock, paper = FakeClock(), OnPaper()
    box = AwsBox(paper, clock)
    provider = AwsProvider(
        deployment="test", control_url=CONTROL_URL, clock=clock, regions=REGIONS, endpoint_url=box.endpoint_url
    )
    yield AwsCloud(box, clock, paper, provider, offer())
    box.close()


class TestAws(ProviderContract, KeepsLog):
    """The contract."""
