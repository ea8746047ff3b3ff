"""Requests as EC2's published contract (botocore's model of it) has them. What is not in the contract is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape

_INTEGER = re.compile(r"-?\d+")
_PROTOCOL = ("Action", "Version")


class Refused(Exception):
    """An answer of EC2's that is an error."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@cache
def service() -> ServiceModel:
    """EC2's contract. Takes a second to load."""
    model: ServiceModel = botocore.session.get_session().get_service_model("ec2")
    return model


def parameters(model: ServiceModel, form: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a request, nested and typed as the contract says.

    Raises `Refused` for an unknown action or parameter, a wrong type, an unknown value of an enumeration, and for what is
    required and not there.
    """
    action = form.get("Action", "")
    if action not in model.operation_names:
        raise Refused("InvalidAction", f"The action {action} is not valid for this web service.")
    operation: OperationModel = model.operation_model(action)
    if not isinstance(operation.input_shape, StructureShape):
        raise Refused("InvalidAction", f"The action {action} takes nothing.")
    used: set[str] = set()
    read = _structure(operation.input_shape, "", form, used)
    if unknown := sorted(set(form) - used - set(_PROTOCOL)):
        raise Refused("UnknownParameter", f"The parameter {unknown[0]} is not recognized")
    return read


def _structure(shape: StructureShape, prefix: str, form: Mapping[str, str], used: set[str]) -> dict[str, Any]:
    found = {}
    for name, member in shape.members.items():
        key = f"{prefix}{_wire_name(name, member)}"
        value = _value(member, key, form, used)
        if value is not None:
            found[name] = value
        elif name in shape.required_members:
            raise Refused("MissingParameter", f"The request must contain the parameter {key}")
    return found


def _wire_name(name: str, member: Shape) -> str:
    """botocore.serialize.EC2Serializer's rule, read backwards."""
    if query_name := member.serialization.get("queryName"):
        return str(query_name)
    located = str(member.serialization.get("name", name))
    return located[0].upper() + located[1:]


def _value(shape: Shape, key: str, form: Mapping[str, str], used: set[str]) -> Any:
    if isinstance(shape, StructureShape):
        inside = any(name.startswith(f"{key}.") for name in form)
        return _structure(shape, f"{key}.", form, used) if inside else None
    if isinstance(shape, ListShape):
        items: list[Any] = []
        while (item := _value(shape.member, f"{key}.{len(items) + 1}", form, used)) is not None:
            items.append(item)
        return items or None
    if key not in form:
        return None
    used.add(key)
    return _scalar(shape, key, form[key])


def _scalar(shape: Shape, key: str, text: str) -> Any:
    match shape.type_name:
        case "integer" | "long":
            if not _INTEGER.fullmatch(text):
                raise Refused("InvalidParameterValue", f"Invalid value '{text}' for {key}: not an integer")
            return int(text)
        case "boolean":
            if text not in ("true", "false"):
                raise Refused("InvalidParameterValue", f"Invalid value '{text}' for {key}: not a boolean")
            return text == "true"
    values = shape.metadata.get("enum")
    if values and text not in values:
        raise Refused("InvalidParameterValue", f"Invalid value '{text}' for {key}.")
    return text
