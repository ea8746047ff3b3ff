"""The shipped provider for a boxed cloud."""

from __future__ import annotations

from chalicelib.ports import Provider
from chalicelib.providers.aws.compute import AwsProvider
from chalicelib.providers.azure.compute import AzureProvider
from chalicelib.providers.gcp.compute import GcpProvider
from tests.clouds.box import Box
from tests.fakes import FakeClock


def provider_of(box: Box, clock: FakeClock, deployment: str = "test", regions: tuple[str, ...] = ()) -> Provider:
    """Made as `bootstrap` makes it."""
    url = "https://control.example"
    if box.name == "aws":
        return AwsProvider(
            deployment=deployment, control_url=url, clock=clock, endpoint_url=box.endpoint_url, regions=regions
        )
    if box.name == "gcp":
        return GcpProvider(
            deployment=deployment,
            control_url=url,
            clock=clock,
            endpoint_url=box.endpoint_url,
            project="sailplane-local",
            pause=clock.advance,
        )
    return AzureProvider(
        deployment=deployment,
        control_url=url,
        clock=clock,
        endpoint_url=box.endpoint_url,
        subscription="00000000-0000-0000-0000-000000000001",
        resource_group="sailplane",
        pause=clock.advance,
    )
