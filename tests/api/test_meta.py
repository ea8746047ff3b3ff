"""What the control plane says of itself, and what importing it costs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pydantic
import pytest
from chalice.app import CloudWatchEventConfig, ScheduledEventConfig

import app
from chalicelib import __version__
from chalicelib.api import schemas
from chalicelib.api.auth import Caller
from tests.api.conftest import Api

ROOT = Path(app.__file__).parent


def test_info_names_the_deployment(api: Api) -> None:
    """What a client needs to know before it plans."""
    assert api.get("/v1/info").json_body == {
        "version": __version__,
        "deployment": "sailplane",
        "providers": ["local"],
        "edge_url": "http://127.0.0.1:7490",
    }


def test_every_route_is_described(api: Api) -> None:
    """The OpenAPI document has exactly the app's routes, each with a summary, its answer and its errors."""
    document = api.client.http.get("/openapi.json").json_body
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(method, path) for path, methods in api.app.routes.items() for method in methods}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert {"500", "503"} < operation["responses"].keys()
            assert any(status.startswith("2") for status in operation["responses"])
            named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


def test_every_reference_of_the_document_resolves(api: Api) -> None:
    """And operation ids are unique, so that clients can be generated from it."""
    response = api.client.http.get("/openapi.json")
    schemas_named = response.json_body["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', response.body.decode()))
    assert references
    assert references <= schemas_named.keys()
    ids = [
        operation["operationId"] for methods in response.json_body["paths"].values() for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))


def test_protected_routes_say_which_key_they_take(api: Api) -> None:
    """The router's route takes the router's token, the owner's routes the admin key, two routes none."""
    paths = api.client.http.get("/openapi.json").json_body["paths"]
    assert paths["/v1/edge/exchange"]["post"]["security"] == [{"router_token": []}]
    assert paths["/v1/services"]["post"]["security"] == [{"admin_key": ["deploy"]}]
    assert "security" not in paths["/healthz"]["get"]


def test_the_document_says_what_heads_requests_and_answers(api: Api) -> None:
    """Idempotency-Key on every write of an owner's, If-Match where something can be changed, ETag where it is told."""
    paths = api.client.http.get("/openapi.json").json_body["paths"]
    for route in (entry.view_function.route for methods in api.app.routes.values() for entry in methods.values()):
        operation = paths[route.path][route.method.lower()]
        taken = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"}
        answered = operation["responses"][str(route.status.value)].get("headers", {}).keys()
        is_write = route.caller is Caller.ADMIN and route.method != "GET"
        assert ("Idempotency-Key" in taken) == ("Idempotency-Replayed" in answered) == is_write, route
        assert not is_write or {"400", "403", "409", "422"} <= operation["responses"].keys(), route
        assert ("If-Match" in taken) == ("412" in operation["responses"] and "ETag" in answered), route
    assert "If-Match" in {parameter["name"] for parameter in paths["/v1/services/{name}"]["put"]["parameters"]}


def test_what_was_made_leads_to_what_can_be_done_with_it(api: Api) -> None:
    """By links, of which every one names an operation and what to put into its path."""
    paths = api.client.http.get("/openapi.json").json_body["paths"]
    operations = {one["operationId"] for methods in paths.values() for one in methods.values()}
    links = paths["/v1/services"]["post"]["responses"]["201"]["links"]
    assert {"show", "update", "delete", "why", "kill"} <= links.keys() <= operations
    assert links["show"] == {"operationId": "show", "parameters": {"name": "$response.body#/name"}}
    assert paths["/v1/keys"]["post"]["responses"]["201"]["links"]["rotate_key"]["parameters"] == {
        "key_id": "$response.body#/id"
    }


def test_answers_keep_to_their_schema() -> None:
    """Every answer model is closed under JSON: what it writes it reads."""
    info = schemas.Info(version="1", deployment="d", providers=("local",), edge_url="http://e")
    assert schemas.Info.model_validate_json(info.model_dump_json()) == info
    with pytest.raises(pydantic.ValidationError):
        schemas.Info.model_validate_json("{}")


def test_importing_the_app_loads_no_cloud_and_does_nothing() -> None:
    """No SDK of any cloud, not even Amazon's, and no HTTP client: they are loaded by the first request that needs them."""
    code = (
        "import os, sys; before = set(sys.modules); import app; assert 'AWS_EXECUTION_ENV' not in os.environ;"
        "print(*(sys.modules.keys() - before))"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error"}
    modules = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    tops = {name.partition(".")[0] for name in modules}
    assert "chalice" in tops
    assert not tops & {"google", "azure", "boto3", "botocore", "pynamodb", "httpx", "psutil", "aiohttp", "click"}


def test_lambda_finds_every_handler() -> None:
    """What Chalice writes into the function's configuration is a name that exists, and calls what was registered."""
    sources = [*app.app.event_sources, *app.app.pure_lambda_functions]
    handlers = {source.name: source.handler_string for source in sources}
    assert handlers.keys() == {"tick", "interrupt", "relay", "machines"}
    for name, handler in handlers.items():
        module, _, attribute = handler.partition(".")
        assert getattr(importlib.import_module(module), attribute) is app.app.handler_map[name]


def test_the_schedule_and_the_events_are_amazons(api: Api) -> None:
    """EventBridge takes these expressions; a typo in one would be silence in production."""
    by_type = {type(source): source for source in api.app.event_sources}
    assert by_type[ScheduledEventConfig].schedule_expression == "rate(1 minute)"
    assert by_type[CloudWatchEventConfig].event_pattern == {
        "source": ["aws.ec2"],
        "detail-type": [
            "EC2 Spot Instance Interruption Warning",
            "EC2 Instance Rebalance Recommendation",
            "EC2 Instance State-change Notification",
        ],
    }


def test_lambdas_packages_are_the_projects() -> None:
    """requirements.txt asks for what pyproject.toml asks for, and leaves out what Lambda must not carry."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {line for line in lines if line and not line.startswith("#")}
    assert required <= set(project)
    assert not any(line.startswith(("chalice", "aiohttp", "click", "uvicorn")) for line in required)
