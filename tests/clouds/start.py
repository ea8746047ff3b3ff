"""The clouds by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from chalicelib.ports import Clock
from tests.clouds.azure.box import AzureBox
from tests.clouds.box import Box, Hypervisor
from tests.clouds.gcp.box import GcpBox

OnEvent = Callable[[Mapping[str, Any]], None]


class Start(Protocol):
    """Opens a cloud on this machine. Only AWS speaks through events; the others tell the machine itself."""

    def __call__(self, hypervisor: Hypervisor, clock: Clock, *, on_event: OnEvent) -> Box: ...


def _aws(hypervisor: Hypervisor, clock: Clock, *, on_event: OnEvent) -> Box:
    from tests.clouds.aws.box import AwsBox  # noqa: PLC0415 - moto takes a second, which only AWS need pay

    box = AwsBox(hypervisor, clock, on_event=on_event)
    # Those that `sailplane local start --clouds` launches in, and one in which only leftovers are looked for.
    box.enable_only("us-east-1", "us-east-2", "us-west-2", "eu-west-1")
    return box


def _gcp(hypervisor: Hypervisor, clock: Clock, *, on_event: OnEvent) -> Box:
    del on_event
    return GcpBox(hypervisor, clock)


def _azure(hypervisor: Hypervisor, clock: Clock, *, on_event: OnEvent) -> Box:
    del on_event
    return AzureBox(hypervisor, clock)


CLOUDS: Mapping[str, Start] = {"aws": _aws, "gcp": _gcp, "azure": _azure}
