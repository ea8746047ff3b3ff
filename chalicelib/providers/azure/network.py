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
        """Make it unless it is there. The firewall comes first, so that a network is never without one."""
        if arm.get(client, self.network, API_VERSION) is None:
            arm.put(client, self.firewall, API_VERSION, self._resource(tags, {"securityRules": [_RULE]}))
            subnet = {"name": _SUBNET, "properties": {"addressPrefix": _ADDRESSES}}
            properties = {"addressSpace": {"addressPrefixes": [_ADDRESSES]}, "subnets": [subnet]}
            arm.put(client, self.network, API_VERSION, self._resource(tags, properties))

    def _resource(self, tags: Mapping[str, str], properties: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"location": self.region, "tags": dict(tags), "properties": properties}

    @property
    def _microsoft(self) -> str:
        return f"{self.group}/providers/Microsoft.Network"

    @property
    def _name(self) -> str:
        return f"sailplane-{self.deployment}-{self.region}"


_RULE = {
    "name": "agent",
    "properties": {
        "direction": "Inbound",
        "access": "Allow",
        "priority": 100,
        "protocol": "Tcp",
        "sourceAddressPrefix": "*",
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "destinationPortRange": str(AGENT_PORT),
    },
}
