"""What the machines of one region share: a virtual network with one subnet, and a firewall that lets in the agent's port.

https://learn.microsoft.com/rest/api/virtualnetwork/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azure.mgmt.compute import ComputeManagementClient

from chalicelib.providers.azure import arm
from chalicelib.providers.boot import AGENT_PORT

# The one that azure-mgmt-compute names for the interfaces which machines bring with them.
API_VERSION = "2022-11-01"
_ADDRESSES = "10.77.0.0/16"  # private to each region's network, nothing is peered
_SUBNET = "machines"


@dataclass(frozen=True, slots=True)
class Network:
    """The ids of one region's network. `group` is the resource group's id."""

    group: str
    deployment: str
    region: str

    @property
    def firewall(self) -> str:
        return f"{self._microsoft}/networkSecurityGroups/{self._name}"

    @property
    def network(self) -> str:
        return f"{self._microsoft}/virtualNetworks/{self._name}"

    @property
    def subnet(self) -> str:
        return f"{self.network}/subnets/{_SUBNET}"

    def ensure(self, client: ComputeManagementClient, tags: Mapping[str, str]) -> None:
        """Make what is not there."""
        for path, properties in ((self.firewall, _FIREWALL), (self.network, _NETWORK)):
            if arm.get(client, path, API_VERSION) is None:
                body = {"location": self.region, "tags": dict(tags), "properties": properties}
                arm.put(client, path, API_VERSION, body)

    @property
    def _microsoft(self) -> str:
        return f"{self.group}/providers/Microsoft.Network"

    @property
    def _name(self) -> str:
        return f"sailplane-{self.deployment}-{self.region}"


_AGENT = {
    "direction": "Inbound",
    "access": "Allow",
    "priority": 100,
    "protocol": "Tcp",
    "sourceAddressPrefix": "*",
    "sourcePortRange": "*",
    "destinationAddressPrefix": "*",
    "destinationPortRange": str(AGENT_PORT),
}
_FIREWALL: Mapping[str, Any] = {"securityRules": [{"name": "agent", "properties": _AGENT}]}
_NETWORK: Mapping[str, Any] = {
    "addressSpace": {"addressPrefixes": [_ADDRESSES]},
    "subnets": [{"name": _SUBNET, "properties": {"addressPrefix": _ADDRESSES}}],
}
