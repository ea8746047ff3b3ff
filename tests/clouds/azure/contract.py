"""What Azure Resource Manager accepts: operations and the fields of their bodies.

Microsoft.Compute's come from azure-mgmt-compute, which Microsoft generates from the published specification: its request
builders say method, path and version, its models every field. The few fields of Microsoft.Network that a control plane
without azure-mgmt-network sends are listed here, from https://learn.microsoft.com/rest/api/virtualnetwork/.
"""

from __future__ import annotations

import enum
import importlib
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from azure.mgmt.compute import models
from azure.mgmt.compute.operations import _operations as sdk

NETWORK = "2022-11-01"
RESOURCES = "2021-04-01"


@dataclass(frozen=True)
class Operation:
    """One operation of the interface. `query` are the parameters it knows besides `api-version`."""

    name: str
    method: str
    path: str  # with {sub}, {group}, {name}
    api_version: str
    query: frozenset[str] = frozenset()
    body: Any = None  # a model's class, or a table of fields

    def match(self, method: str, path: str) -> Mapping[str, str] | None:
        """The path's parameters when this is the operation that is asked for; Azure's paths know no case."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        found = re.fullmatch(pattern, path, re.IGNORECASE)
        return found.groupdict() if found and method == self.method else None


def built(name: str, builder: Callable[..., Any], *arguments: str, query: str = "", body: Any = None) -> Operation:
    """An operation as an SDK's builder of requests has it; `body` is a model's class."""
    request = builder(*arguments)
    url = urlsplit(request.url)
    return Operation(
        name,
        request.method,
        unquote(url.path),
        dict(parse_qsl(url.query))["api-version"],
        frozenset(query.split()),
        body,
    )


def _network(name: str, method: str, path: str, body: Any = None) -> Operation:
    prefix = "/subscriptions/{sub}/resourceGroups/{group}/providers/Microsoft.Network"
    return Operation(name, method, f"{prefix}/{path}", NETWORK, body=body)


_SUBNET = {"name": str, "properties": {"addressPrefix": str}}
_RULE = {
    "name": str,
    "properties": {
        "access": {"Allow", "Deny"},
        "destinationAddressPrefix": str,
        "destinationPortRange": str,
        "direction": {"Inbound", "Outbound"},
        "priority": int,
        "protocol": {"*", "Ah", "Esp", "Icmp", "Tcp", "Udp"},
        "sourceAddressPrefix": str,
        "sourcePortRange": str,
    },
}
_TRACKED = {"location": str, "tags": dict[str, str]}
_VNET = {**_TRACKED, "properties": {"addressSpace": {"addressPrefixes": list[str]}, "subnets": [_SUBNET]}}
_FIREWALL = {**_TRACKED, "properties": {"securityRules": [_RULE]}}
_MACHINE = ("{group}", "{name}", "{sub}")

OPERATIONS = (
    built(
        "virtualMachines.createOrUpdate",
        sdk.build_virtual_machines_create_or_update_request,
        *_MACHINE,
        body=models.VirtualMachine,
    ),
    built("virtualMachines.get", sdk.build_virtual_machines_get_request, *_MACHINE, query="$expand"),
    built("virtualMachines.delete", sdk.build_virtual_machines_delete_request, *_MACHINE, query="forceDeletion"),
    built("virtualMachines.list", sdk.build_virtual_machines_list_request, "{group}", "{sub}", query="$filter $expand"),
    built(
        "virtualMachines.retrieveBootDiagnosticsData",
        sdk.build_virtual_machines_retrieve_boot_diagnostics_data_request,
        *_MACHINE,
        query="sasUriExpirationTimeInMinutes",
    ),
    Operation(
        "operations.get",
        "GET",
        "/subscriptions/{sub}/providers/Microsoft.Compute/locations/{location}/operations/{name}",
        built("", sdk.build_virtual_machines_get_request, *_MACHINE).api_version,
    ),
    built("disks.delete", sdk.build_disks_delete_request, *_MACHINE),
    *(
        operation
        for kind, body in (
            ("virtualNetworks", _VNET),
            ("networkSecurityGroups", _FIREWALL),
            ("networkInterfaces", None),
            ("publicIPAddresses", None),
        )
        for operation in (
            _network(f"{kind}.createOrUpdate", "PUT", f"{kind}/{{name}}", body),
            _network(f"{kind}.get", "GET", f"{kind}/{{name}}"),
            _network(f"{kind}.delete", "DELETE", f"{kind}/{{name}}"),
            _network(f"{kind}.list", "GET", kind),
        )
        if operation.method != "PUT" or body
    ),
    Operation(
        "resources.list",
        "GET",
        "/subscriptions/{sub}/resourceGroups/{group}/resources",
        RESOURCES,
        frozenset({"$expand", "$top"}),
    ),
)


def problem(shape: Any, value: Any) -> str:
    """What is wrong with a body, in the words Azure has for it; empty when nothing is."""
    return next(_problems(shape, value, ""), "")


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    if isinstance(shape, dict):
        yield from _members(shape, shape.keys() & {"name", "location"}, value, path)
    elif isinstance(shape, set):
        if value not in shape:
            yield f"The value '{value}' of '{path}' is none of {', '.join(sorted(shape))}."
    elif isinstance(shape, list):
        yield from _items(shape[0], value, path)
    elif _is_model(shape):
        yield from _members(*_fields(shape), value, path)
    else:
        yield from _typed(shape, value, path)


def _members(fields: Mapping[str, Any], required: typing.Collection[str], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"Error converting value to an object. Path '{path}'."
        return
    for name, member in value.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in fields:
            yield f"Could not find member '{name}' on object. Path '{where}'."
        else:
            yield from _problems(fields[name], member, where)
    yield from (
        f"Required property '{name}' not found. Path '{path}'." for name in sorted(set(required) - value.keys())
    )


def _items(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"Error converting value to an array. Path '{path}'."
        return
    for index, item in enumerate(value):
        yield from _problems(shape, item, f"{path}[{index}]")


def _typed(shape: Any, value: Any, path: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(shape), typing.get_args(shape)
    if origin in (typing.Union, types.UnionType):
        yield from _either(arguments, value, path)
    elif origin is list:
        yield from _items(arguments[0], value, path)
    elif origin is dict:
        yield from _members(dict.fromkeys(value, arguments[1]) if isinstance(value, dict) else {}, (), value, path)
    elif isinstance(shape, type) and not _is_a(shape, value):
        yield f"Error converting value '{value}' to type '{shape.__name__}'. Path '{path}'."


def _either(shapes: tuple[Any, ...], value: Any, path: str) -> Iterator[str]:
    """An optional field, or a string of which all values are known."""
    if value is None:
        if type(None) not in shapes:
            yield f"Required property is null. Path '{path}'."
        return
    shapes = tuple(shape for shape in shapes if shape is not type(None))
    known = next((shape for shape in shapes if isinstance(shape, type) and issubclass(shape, enum.Enum)), None)
    # Azure sells sizes that the enumeration has never heard of; whether one exists is the box's to say.
    if known is None or known is models.VirtualMachineSizeTypes:
        yield from _problems(shapes[0], value, path)
    elif value not in [member.value for member in known]:
        yield f"The value '{value}' of '{path}' is none of {', '.join(member.value for member in known)}."


def _is_model(shape: Any) -> bool:
    """Each of Microsoft's SDKs has a base class of its own for them."""
    return isinstance(shape, type) and getattr(shape, "_is_model", False)


def _is_a(shape: type, value: Any) -> bool:
    if shape is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))


@cache
def _fields(model: Any) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The fields that may be sent, by their names on the wire, and those that must be."""
    package = importlib.import_module(model.__module__.rpartition(".")[0])  # of the SDK that the model is of
    hints = typing.get_type_hints(model, localns={"_models": package})
    sendable = {
        field._rest_name: hints[name]
        for name, field in model({})._attr_to_rest_field.items()
        if field._visibility != ["read"]
    }
    required = tuple(name for name, hint in sendable.items() if type(None) not in typing.get_args(hint))
    return sendable, required
