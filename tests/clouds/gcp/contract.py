"""Google's published contracts: an API's discovery document, as JSON requests and answers are held against it.

The documents are those that google-api-python-client carries; https://developers.google.com/discovery/v1/reference/apis.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

_DOCUMENTS = "discovery_cache/documents"
_DIGITS = re.compile(r"-?\d+")
_PYTHON: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "object": dict,
    "array": list,
    "number": (int, float),
    "integer": int,
}


@dataclass(frozen=True)
class Method:
    """One method of the API, and the names in its path."""

    id: str  # e.g. compute.instances.insert
    spec: Mapping[str, Any]
    path: Mapping[str, str]


class Contract:
    """What may be sent and answered, by a discovery document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas = document["schemas"]
        self._common = document["parameters"]
        base = f"/{document['servicePath']}"
        self._methods = [
            (spec["httpMethod"], _pattern(base + spec.get("flatPath", spec["path"])), spec)
            for spec in _methods(document)
        ]

    def find(self, http_method: str, path: str) -> Method | None:
        """The method that a request is for."""
        for verb, pattern, spec in self._methods:
            if verb == http_method and (match := pattern.fullmatch(path)):
                return Method(spec["id"], spec, match.groupdict())
        return None

    def faults(self, method: Method, query: Mapping[str, str], body: Any) -> list[str]:
        """All that is wrong with a request."""
        known = {**self._common, **method.spec.get("parameters", {})}
        unknown = [f'unknown parameter "{name}"' for name in query if name not in known]
        mistyped = [fault for name, text in query.items() if name in known for fault in _parameter(name, text, known)]
        request = method.spec.get("request")
        wrong = list(self._check(request, body, "resource")) if request else ["no body is expected"] * bool(body)
        return unknown + mistyped + wrong

    def named(self, method: Method, body: Any) -> Any:
        """A request's body with names where it has the numbers of an enumeration, which JSON of protobuf may have.

        https://protobuf.dev/programming-guides/json/
        """
        request = method.spec.get("request")
        return self._named(request, body) if request else body

    def _named(self, schema: Mapping[str, Any], value: Any) -> Any:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        if isinstance(value, dict):
            fields = schema.get("properties", {})
            return {name: self._named(fields.get(name, {}), item) for name, item in value.items()}
        if isinstance(value, int) and value < len(schema.get("enum", ())):
            return schema["enum"][value]
        return value

    def faults_of_answer(self, method: Method, body: Any) -> list[str]:
        """All that is wrong with what a stand-in answers."""
        return list(self._check(method.spec["response"], body, "answer"))

    def _check(self, schema: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        kind = schema["type"]
        if kind == "any":
            return
        if not _is(kind, schema, value):
            yield f"Invalid value at '{where}' ({kind} {schema.get('format', '')}), {json.dumps(value)}"
        elif kind == "object":
            yield from self._check_object(schema, value, where)
        elif kind == "array":
            for index, item in enumerate(value):
                yield from self._check(schema["items"], item, f"{where}[{index}]")
        elif "enum" in schema and value not in schema["enum"]:
            yield f"Invalid value at '{where}' (enum), {json.dumps(value)}"

    def _check_object(self, schema: Mapping[str, Any], value: Mapping[str, Any], where: str) -> Iterator[str]:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            if name in properties:
                yield from self._check(properties[name], item, f"{where}.{name}")
            elif others is not None:
                yield from self._check(others, item, f"{where}.{name}")
            else:
                yield f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."


@cache
def published(api: str = "compute.v1") -> Contract:
    """The contract of an API as of the installed google-api-python-client."""
    document = importlib.resources.files("googleapiclient").joinpath(_DOCUMENTS, f"{api}.json").read_bytes()
    return Contract(json.loads(document))


def _methods(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Those of a resource and of all that are within it."""
    yield from resource.get("methods", {}).values()
    for inner in resource.get("resources", {}).values():
        yield from _methods(inner)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\+?(\w+)\}", r"(?P<\1>[^/:]+)", template))


def _parameter(name: str, text: str, known: Mapping[str, Any]) -> Iterator[str]:
    spec = known[name]
    is_whole = spec["type"] == "integer" or spec.get("format") in ("int64", "uint64")
    if spec["type"] == "boolean" and text not in ("true", "false"):
        yield f"Invalid value for parameter {name}: {text}"
    if is_whole and not _DIGITS.fullmatch(text):
        yield f"Invalid value for parameter {name}: {text}"


def _is(kind: str, schema: Mapping[str, Any], value: Any) -> bool:
    if kind == "string" and schema.get("format") in ("int64", "uint64"):
        return isinstance(value, str) and bool(_DIGITS.fullmatch(value))
    return isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))
