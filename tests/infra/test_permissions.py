"""Each function on AWS may do exactly what the code that it can reach calls: no call is refused, and no right is spare."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NoReturn

import pytest

from chalicelib.api.app import create_app
from chalicelib.api.auth import Caller
from infra.package import is_owners
from infra.permissions import GRANTS, policy
from tests.infra.sources import Call, Definition, Sources

EC2 = ("chalicelib.providers.aws.compute", "AwsProvider", "ec2")
# The adapter behind each port, by the name that its receiver has (`runtime.schedule`, `provider`), and its methods' client.
ADAPTERS = {
    "provider": EC2,
    "janitor": EC2,
    "each": EC2,  # of the janitors
    "schedule": ("chalicelib.schedules.aws", "AwsSchedule", ""),
    "relay": ("chalicelib.schedules.aws", "AwsRelay", ""),
    "snapshot": ("chalicelib.snapshots.s3", "S3Snapshots", ""),
    "meter": ("chalicelib.meters.cloudwatch", "CloudWatchMeter", ""),
    "secret": ("chalicelib.secrets.ssm", "SsmSecrets", "ssm"),
}
# Requests that are signed by hand, where the address tells what they are.
BY_HAND = {
    ("lambda", "GET"): "lambda:GetEventSourceMapping",
    ("lambda", "PUT"): "lambda:UpdateEventSourceMapping",
    ("lambda", "POST"): "lambda:InvokeFunction",
    ("monitoring", "POST"): "cloudwatch:GetMetricData",
}
# What a call takes where that is more, or other, than the right of its name.
MEANS = {
    # Tags at launch; `resolve:ssm:` images; the role that an account's first spot instance needs.
    "ec2:RunInstances": ("ec2:RunInstances", "ec2:CreateTags", "ssm:GetParameters", "iam:CreateServiceLinkedRole"),
    "ec2:CreateSecurityGroup": ("ec2:CreateSecurityGroup", "ec2:CreateTags"),
    "dynamodb:TransactWriteItems": tuple(
        f"dynamodb:{each}" for each in ("ConditionCheckItem", "DeleteItem", "PutItem", "UpdateItem")
    ),
}
# What Lambda does with a function's role: logs, takes messages for it, sends on what failed.
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
TAKES = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
FAILS = {"sqs:SendMessage of FailedQueue"}
BY_LAMBDA = {
    "tick": LOGS | FAILS,
    "interrupt": LOGS | FAILS,
    "relay": LOGS | FAILS | TAKES,
}
HANDLERS = {"tick": "on_schedule", "relay": "on_relay", "interrupt": "on_ec2_event"}


@pytest.mark.parametrize("function", sorted(set(GRANTS) - {"edge"}))
def test_a_function_may_do_what_it_calls_and_nothing_else(function: str) -> None:
    """The calls that its code can reach, each as a right; nothing more."""
    rights = {right for call in sources().calls(entries(function)) for right in rights_of(call)}
    wanted, granted = rights | table() | BY_LAMBDA.get(function, LOGS), allowed(function)
    assert {"missing": wanted - granted, "spare": granted - wanted} == {"missing": set(), "spare": set()}


def test_the_edge_may_read_the_table_and_nothing_else() -> None:
    """A router knows the control plane by its address, and of AWS the one object that stands in for it while it is gone."""
    assert allowed("edge") == LOGS | {"s3:GetObject"}


def test_every_right_is_over_something_of_ours() -> None:
    """A statement names what belongs to the deployment, or demands its tag; what only looks may look everywhere."""
    for function in GRANTS:
        for statement in policy(function)["Statement"]:
            text = json.dumps([statement["Resource"], statement.get("Condition")])
            ours = "Deployment" in text or "GetAtt" in text or "${Bucket.Arn}" in text
            looks = all(re.search(":(Describe|GetMetricData)", action) for action in actions(statement))
            assert (
                ours
                or looks
                or statement["Sid"] in {"LaunchFrom", "LaunchFirstSpot", "FindImages", "MakeGroupsInNetworks"}
            ), statement
            assert "*" not in "".join(actions(statement))


def test_what_changes_machines_demands_our_tag() -> None:
    """On EC2, whose resources are not ours by name, every right that changes something is bound to the deployment's tag.

    Images and networks, which somebody else has made, carry no tag of ours.
    """
    unbound = {
        statement["Sid"]
        for function in GRANTS
        for statement in policy(function)["Statement"]
        if any(action.startswith("ec2:") and ":Describe" not in action for action in actions(statement))
        and "sailplane-deployment" not in json.dumps(statement.get("Condition", {}))
    }
    assert unbound == {"LaunchFrom", "MakeGroupsInNetworks"}


def test_secrets_are_shut_for_who_does_not_read_them() -> None:
    """Who reads none of users' secrets cannot decrypt any, whatever path it may read."""
    shut = {name for name in GRANTS if any(each["Effect"] == "Deny" for each in policy(name)["Statement"])}
    assert shut == {name for name in GRANTS if "ssm:GetParameters of secrets" not in allowed(name)} - {"edge"}
    assert "api_handler" in shut


def test_a_policy_fits_into_a_role() -> None:
    """IAM takes 10,240 characters of inline policies a role, spaces not counted."""
    for name in GRANTS:
        assert len(json.dumps(policy(name), separators=(",", ":"))) < 10_240


# --- what is granted


def allowed(function: str) -> set[str]:
    """Rights by name, and what they are over where another statement has the same over something else."""
    statements = [each for each in policy(function)["Statement"] if each["Effect"] == "Allow"]
    return {f"{action}{over(statement)}" for statement in statements for action in actions(statement)}


def over(statement: Any) -> str:
    text = json.dumps(statement["Resource"])
    return next((f" of {thing}" for thing in ("secrets", "FailedQueue") if thing in text), "")


def actions(statement: Any) -> list[str]:
    named = statement["Action"]
    return [named] if isinstance(named, str) else list(named)


# --- what is called


@cache
def sources() -> Sources:
    return Sources("chalicelib")


def entries(function: str) -> Iterator[Definition]:
    """Where a function's code begins: its configuration, and a trigger or the handlers of the routes that it answers."""
    yield found("chalicelib.parameters", "read")
    if function in HANDLERS:
        yield found("chalicelib.api.triggers", HANDLERS[function])
        return
    for path, methods in create_app(no_runtime).routes.items():
        for method in methods.values():
            route = method.view_function.route
            answers = is_owners(path, route.caller) if function == "api_handler" else route.caller is not Caller.ADMIN
            if answers:
                yield found(route.handler.__module__, route.handler.__qualname__.partition(".")[0])


def found(module: str, name: str) -> Definition:
    definition = sources().definition(module, name)
    assert definition is not None, f"{module}.{name} is gone"
    return definition


def no_runtime() -> NoReturn:
    raise AssertionError


def rights_of(call: Call) -> Iterable[str]:
    """The rights that a call on a port takes, or one to Amazon itself; none when it is on neither."""
    receiver = re.sub(r"\[.*\]", "", call.receiver).rpartition(".")[2].strip("_").removesuffix("s")
    if call.method == "poke" and receiver == "runtime":
        return adapter_rights("relay", "send_now")
    if receiver in ADAPTERS and call.method in sources().methods(*ADAPTERS[receiver][:2]):
        return adapter_rights(receiver, call.method)
    return amazon_rights(call)


@cache
def adapter_rights(port: str, method: str) -> frozenset[str]:
    """The rights that a method of a port's adapter takes, with whatever it reaches in its own module."""
    module, owner, service = ADAPTERS[port]
    calls = sources().calls([sources().method(module, owner, method)], owner)
    rights = (right for call in calls for right in (*sdk_rights(call, service), *amazon_rights(call)))
    return frozenset(f"{right} of secrets" if port == "secret" else right for right in rights)


def table() -> set[str]:
    """The store's, which every function has whole; the table itself is the stack's to make."""
    module = "chalicelib.store.table"
    used = sources().methods(module, "Table") - {"create"}
    calls = sources().calls((sources().method(module, "Table", name) for name in used), "Table")
    return {right for call in calls for right in sdk_rights(call, "dynamodb")}


def sdk_rights(call: Call, service: str) -> Iterable[str]:
    """Of a call on a client of boto3's or pynamodb's."""
    if call.method == "get_paginator":
        return rights_named(service, call.texts[0]) if call.texts else ()
    is_client = re.search(r"(_client|_connection|^client|\.ec2\(.*\))$", call.receiver)
    return rights_named(service, call.method) if is_client and call.method not in NO_CALLS else ()


NO_CALLS = {"get_paginator", "paginate", "get_operation_kwargs", "client", "meta", "ec2", "pop"}


def rights_named(service: str, method: str) -> Iterable[str]:
    right = f"{service}:{method.title().replace('_', '')}"
    return MEANS.get(right, (right,))


def amazon_rights(call: Call) -> Iterable[str]:
    """Of a request to Amazon that is signed by hand."""
    if not call.receiver.endswith("amazon"):
        return ()
    match call.method, call.texts:
        case "act", (service, action, *_):
            return (f"{service}:{action.rpartition('.')[2]}",)
        case "ask", (service, method, *_):
            return (BY_HAND[service, method],)
        case (("get_object" | "put_object"), _):
            return rights_named("s3", call.method)
    return ()
