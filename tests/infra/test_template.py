"""The stack that is deployed into AWS: what it is made of, what that costs at rest, and that its parts know each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.api.app import create_app
from chalicelib.cost import memory
from chalicelib.store import table
from infra import cost, lint, package, template
from infra.permissions import GRANTS, policy
from tests.infra.test_permissions import no_runtime

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
NAMES = {
    "api_handler": "APIHandler",
    "machines": "Machines",
    "tick": "Tick",
    "relay": "Relay",
    "interrupt": "Interrupt",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build_template(tmp_path_factory.mktemp("template") / "template.json", "3.12", "arm64")


@pytest.fixture(scope="module")
def stack(path: Path) -> Json:
    made: Json = json.loads(path.read_text())
    return made


def test_nothing_in_it_costs_by_the_month(stack: Json) -> None:
    """At rest it costs nothing but the zips in its bucket: a tenth of a cent for two versions."""
    assert cost.idle_usd(stack) == 0.0
    assert cost.idle_usd(stack, code_bytes=2 * 42_000_000) < 0.005
    text = json.dumps(stack)
    assert not re.findall("ProvisionedConcurrency|KmsKey|KMSMasterKey|VpcConfig|CacheCluster|PointInTime", text)
    assert set(re.findall(r'"Tier": "(\w+)"', text)) == {"Standard"}


def test_nothing_wakes_a_function_at_rest(stack: Json) -> None:
    """The rules and the mapping are made switched off: at least 43,200 calls a month, and a queue that is asked all day."""
    events = {
        name: event["Properties"]
        for each in stack["Resources"].values()
        for name, event in each["Properties"].get("Events", {}).items()
    }
    state = {"Fn::If": ["IsAwake", "ENABLED", "DISABLED"]}
    assert events["TickEvent"]["State"] == events["InterruptEvent"]["State"] == state
    assert events["RelaySqsEventSource"]["Enabled"] == {"Fn::If": ["IsAwake", True, False]}
    assert len(events) == 3
    assert stack["Parameters"]["Awake"]["Default"] == "no"


@pytest.mark.parametrize("function", ["tick", "relay", "interrupt"])
def test_a_pass_is_not_run_twice_nor_late(stack: Json, function: str) -> None:
    """Lambda would try again twice, up to six hours later; what failed is told to a queue instead."""
    assert stack["Resources"][NAMES[function]]["Properties"]["EventInvokeConfig"] == {
        "MaximumEventAgeInSeconds": 60,
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {"OnFailure": {"Type": "SQS", "Destination": {"Fn::GetAtt": ["FailedQueue", "Arn"]}}},
    }


@pytest.mark.parametrize("function", GRANTS)
def test_every_function_is_made_alike(stack: Json, function: str) -> None:
    """Its name, its Python, processor and memory, its own role and log, kept two weeks, its share of what runs at once."""
    logical = NAMES.get(function, "Edge")
    made, name = stack["Resources"][logical]["Properties"], function.removesuffix("_handler")
    role = stack["Resources"][made["Role"]["Fn::GetAtt"][0]]
    log = stack["Resources"][f"{logical}Logs"]["Properties"]
    assert made["FunctionName"] == {"Fn::Sub": f"sailplane-${{Deployment}}-{name}"}
    assert (made["Runtime"], made["Architectures"]) == ("python3.12", ["arm64"])
    assert first(made["MemorySize"]) == memory(["aws"])[name]
    assert otherwise(made["MemorySize"]) == memory(["aws", "gcp"])[name]
    assert made["ReservedConcurrentExecutions"]["Fn::If"][0] == "ReservesConcurrency"
    assert [each["PolicyDocument"] for each in role["Properties"]["Policies"]] == [
        json.loads(json.dumps(policy(function)))
    ]
    assert made["LoggingConfig"]["LogGroup"] == {"Ref": f"{logical}Logs"}
    assert log["LogGroupName"] == {"Fn::Sub": f"/aws/lambda/sailplane-${{Deployment}}-{name}"}
    assert log["RetentionInDays"] == 14


def first(value: Any) -> Any:
    """What a condition chooses on AWS alone."""
    return value["Fn::If"][1] if isinstance(value, dict) else value


def otherwise(value: Any) -> Any:
    """What it chooses with other clouds."""
    return value["Fn::If"][2] if isinstance(value, dict) else value


@pytest.mark.parametrize("function", ["Machines", "Edge"])
def test_a_function_url_takes_both_permissions(stack: Json, function: str) -> None:
    """Since October 2025 a URL for anyone answers 403 without the right to invoke its function by that URL."""
    rights = [
        each["Properties"]
        for each in stack["Resources"].values()
        if each["Type"] == "AWS::Lambda::Permission" and each["Properties"]["FunctionName"] == {"Ref": function}
    ]
    anyone = {"FunctionName": {"Ref": function}, "Principal": "*"}
    assert sorted(rights, key=lambda each: str(each["Action"])) == [
        {**anyone, "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
        {**anyone, "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
    ]


def test_the_gateway_answers_owners_only(stack: Json) -> None:
    """Every route that takes an owner's key, and none of those for machines, which would cost $3.50 a million there."""
    paths = stack["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["paths"]
    routes = create_app(no_runtime).routes
    owners = {
        path
        for path, methods in routes.items()
        if any(package.is_owners(path, each.view_function.route.caller) for each in methods.values())
    }
    assert paths.keys() == owners
    assert routes.keys() - owners >= {"/v1/boot", "/v1/edge/exchange", "/v1/replicas/{replica_id}/interruption"}


def test_the_gateway_has_one_address_and_a_limit(stack: Json) -> None:
    """SAM makes a second stage without limits unless it is told the document's version; a stranger could run up the bill."""
    gateway = stack["Resources"]["RestAPI"]["Properties"]
    assert gateway["OpenApiVersion"] == gateway["DefinitionBody"]["swagger"] == "2.0"
    assert [(each["ResourcePath"], each["ThrottlingRateLimit"]) for each in gateway["MethodSettings"]] == [("/*", 50)]


def test_the_gateway_s_own_errors_have_the_form_of_all_others(stack: Json) -> None:
    """A path that is not there, too many requests, no answer: problem+json, once the gateway has put its words in."""
    gateway = stack["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    answers = gateway["x-amazon-apigateway-gateway-responses"]
    assert answers.keys() == {"MISSING_AUTHENTICATION_TOKEN", "DEFAULT_4XX", "DEFAULT_5XX"}
    for answer in answers.values():
        assert answer["responseParameters"] == {"gatewayresponse.header.Content-Type": "'application/problem+json'"}
        said = answer["responseTemplates"]["application/json"].replace("$context.error.messageString", '"why"')
        assert {"type", "title", "detail"} <= json.loads(said).keys()
    assert answers["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == "404"


def test_policies_name_what_the_stack_makes(stack: Json) -> None:
    """Functions and rules are called what the policies call them."""
    meant = {
        resource
        for function in GRANTS
        for resource in re.findall(
            r"(?:function:|rule/)sailplane-\$\{Deployment\}-[a-z]+", json.dumps(policy(function))
        )
    }
    assert meant == {"function:sailplane-${Deployment}-relay", *(f"rule/{name}" for name in rules(stack))}
    assert stack["Resources"]["Relay"]["Properties"]["FunctionName"]["Fn::Sub"] == "sailplane-${Deployment}-relay"


def rules(stack: Json) -> Iterator[str]:
    for each in stack["Resources"].values():
        for event in each["Properties"].get("Events", {}).values():
            yield from (
                event["Properties"][key]["Fn::Sub"] for key in ("Name", "RuleName") if key in event["Properties"]
            )


def test_the_first_phase_is_part_of_the_second(stack: Json) -> None:
    """So that the second leaves the bucket and the table as they are; and it fits into a request, having no bucket yet."""
    first = json.loads(json.dumps(template.foundation()))
    assert len(json.dumps(first)) < 51_200
    for part in ("Parameters", "Resources", "Outputs"):
        assert first[part].items() <= stack[part].items()


def test_the_table_is_the_stores(stack: Json) -> None:
    """Keys and the attribute by which items expire are those that the store makes on a laptop."""
    made = stack["Resources"]["Table"]["Properties"]
    assert {name: made[name] for name in table._SCHEMA} == table._SCHEMA
    assert made["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_functions_are_told_what_the_configuration_reads(stack: Json) -> None:
    """Every variable and every parameter of the stack has a reader by that name."""
    readers = (ROOT / "chalicelib" / "config.py").read_text() + (ROOT / "edge_router/platforms/settings.py").read_text()
    told = set(re.findall(r"SAILPLANE_[A-Z_]+", json.dumps(stack)))
    assert told > {"SAILPLANE_TABLE", "SAILPLANE_CONTROL_URL", "SAILPLANE_EDGE_URL"}
    assert [name for name in told if f'"{name}"' not in readers] == []


def test_the_edge_is_told_all_that_it_can_be_told(stack: Json) -> None:
    """But how often to look, for which it has a default, and an id, which each instance draws for itself."""
    read = set(re.findall(r"SAILPLANE_[A-Z_]+", (ROOT / "edge_router/platforms/settings.py").read_text()))
    told = stack["Resources"]["Edge"]["Properties"]["Environment"]["Variables"].keys()
    assert read - told == {"SAILPLANE_REFRESH_S", "SAILPLANE_ROUTER_ID"}


def test_the_stack_tells_what_bootstrap_asks(stack: Json, path: Path) -> None:
    """Outputs by the contract's names; and a template that a bucket may hold (1 MB)."""
    assert stack["Outputs"].keys() == {"ApiUrl", "Bucket", "ControlUrl", "EdgeUrl", "Table", "Version"}
    assert path.stat().st_size < 1_000_000


def test_a_policy_can_be_read_outside_of_a_stack() -> None:
    """What the IAM linter reads has no function of CloudFormation's left in it."""
    for function in GRANTS:
        assert not re.search(r'"(Fn::|Ref)|\$\{', json.dumps(lint.resolved(policy(function))))
