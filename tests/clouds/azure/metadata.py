"""The metadata service that every machine finds at 169.254.169.254.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service
https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.clouds.box import Metadata

if TYPE_CHECKING:
    from tests.clouds.azure.cloud import Cloud, Machine

_Answer = tuple[int, dict[str, str], bytes]


def service(cloud: Cloud, machine: Machine) -> Metadata:
    """The service as one machine sees it."""

    def answer(method: str, path: str, headers: dict[str, str]) -> _Answer:
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in headers:
            return _json(400, {"error": "Bad request. Required metadata header not specified"})
        if "api-version" not in query:
            return _json(400, {"error": "Bad request. api-version was not specified in the request"})
        with cloud.lock:
            cloud.advance()
            if url.path.rstrip("/") == "/metadata/scheduledevents":
                return _json(200, _events(machine, acknowledge=method == "POST"))
            if url.path.startswith("/metadata/instance"):
                return _instance(cloud, machine, url.path, query)
        return _json(404, {"error": "Not found"})

    return answer


def _events(machine: Machine, *, acknowledge: bool) -> dict[str, Any]:
    # The body of an acknowledgement names the event; there is never more than one.
    if acknowledge and machine.taken_at is not None:
        machine.acknowledged = True
    return {"DocumentIncarnation": (machine.taken_at is not None) + machine.acknowledged, "Events": machine.events()}


def _instance(cloud: Cloud, machine: Machine, path: str, query: dict[str, str]) -> _Answer:
    found: Any = _document(cloud, machine)
    for part in path.removeprefix("/metadata/instance").strip("/").split("/"):
        if part:
            children = dict(enumerate(found)) if isinstance(found, list) else found
            key: Any = int(part) if isinstance(found, list) and part.isdigit() else part
            if not isinstance(children, dict) or key not in children:
                return _json(404, {"error": "Not found"})
            found = children[key]
    if query.get("format") == "text":
        if isinstance(found, dict | list):
            return _json(400, {"error": "Bad request. Only leaf nodes have the format text"})
        return 200, {"Content-Type": "text/plain; charset=utf-8"}, str(found).encode()
    return _json(200, found)


def _document(cloud: Cloud, machine: Machine) -> dict[str, Any]:
    _, _, subscription, _, group = cloud.group.split("/")
    properties = machine.body["properties"]
    return {
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "customData": "",  # Azure shows it to cloud-init only
            "evictionPolicy": properties.get("evictionPolicy", ""),
            "location": machine.location,
            "name": machine.name,
            "osType": "Linux",
            "priority": properties.get("priority", ""),
            "provider": "Microsoft.Compute",
            "resourceGroupName": group,
            "resourceId": machine.id,
            "subscriptionId": subscription,
            "tags": ";".join(f"{name}:{value}" for name, value in sorted(machine.tags.items())),
            "tagsList": [{"name": name, "value": value} for name, value in sorted(machine.tags.items())],
            "userData": "",
            "vmId": machine.vm_id,
            "vmSize": properties["hardwareProfile"]["vmSize"],
            "zone": "",
        },
        "network": {
            "interface": [
                {
                    "ipv4": {
                        "ipAddress": [{"privateIpAddress": machine.address, "publicIpAddress": machine.address}],
                        "subnet": [{"address": "10.77.0.0", "prefix": "16"}],
                    },
                    "macAddress": "000D3AF806EC",
                }
            ]
        },
    }


def _json(status: int, document: Any) -> _Answer:
    return status, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(document).encode()
