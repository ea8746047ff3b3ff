"""`sailplane check aws`, with answers that botocore checks against AWS's own models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sailplane.deploy.checks.finding import Finding, Verdict

if TYPE_CHECKING:
    import boto3

ARN = "arn:aws:sts::123456789012:assumed-role/Admins/me"
ROLE = "arn:aws:iam::123456789012:role/people/Admins"


class Account:
    """A session whose clients answer what they are told, in that order, and nothing else."""

    region_name = "us-east-1"

    def __init__(self, session: boto3.Session) -> None:
        from botocore.stub import Stubber  # noqa: PLC0415 other tests need no botocore

        self._session: Any = session
        self._stubbed = Stubber
        self._stubs: dict[str, Any] = {}
        self._active = ExitStack()

    def client(self, service: str, **options: Any) -> Any:
        return self.stub(service, **options).client

    def stub(self, service: str, **options: Any) -> Any:
        if service not in self._stubs:
            self._stubs[service] = self._stubbed(self._session.client(service, **options))
            self._active.enter_context(self._stubs[service])
        return self._stubs[service]

    def close(self) -> None:
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()
        self._active.close()


@pytest.fixture
def account() -> Iterator[Account]:
    import boto3  # noqa: PLC0415 as above

    made = Account(boto3.Session("key", "secret", region_name="us-east-1"))
    yield made
    made.close()


def findings(account: Account) -> dict[str, Finding]:
    from sailplane.deploy.checks import aws  # noqa: PLC0415 as above

    return {one.what: one for one in aws.findings(account, None)}  # type: ignore[arg-type]  # all of a session that it uses


def tell(account: Account, *, denied: str = "", at_once: int = 1000, vcpus: float = 64.0, quotas: bool = True) -> None:
    from sailplane.deploy.checks.aws import ACTIONS, QUOTAS  # noqa: PLC0415 as above

    caller = {"Arn": ARN, "Account": "123456789012", "UserId": "A" * 20}
    account.stub("sts").add_response("get_caller_identity", caller, {})
    role = {
        "Path": "/people/",
        "RoleName": "Admins",
        "RoleId": "A" * 20,
        "Arn": ROLE,
        "CreateDate": "2026-01-01T00:00:00Z",
    }
    account.stub("iam").add_response("get_role", {"Role": role}, {"RoleName": "Admins"})
    results = [
        {"EvalActionName": action, "EvalDecision": "implicitDeny" if action == denied else "allowed"}
        for action in ACTIONS
    ]
    asked = {"PolicySourceArn": ROLE, "ActionNames": list(ACTIONS)}
    account.stub("iam").add_response("simulate_principal_policy", {"EvaluationResults": results}, asked)
    settings = {"AccountLimit": {"ConcurrentExecutions": at_once}}
    account.stub("lambda").add_response("get_account_settings", settings, {})
    for code in QUOTAS if quotas else ():
        asked = {"ServiceCode": "ec2", "QuotaCode": code}
        account.stub("service-quotas").add_response("get_service_quota", {"Quota": {"Value": vcpus}}, asked)


def test_every_call_of_ours_is_a_right_that_is_asked_for() -> None:
    """Read from the source. What CloudFormation does for the user comes on top."""
    from sailplane.deploy import aws  # noqa: PLC0415 as above
    from sailplane.deploy.checks.aws import ACTIONS  # noqa: PLC0415 as above

    source = Path(aws.__file__).read_text()
    services = dict(re.findall(r'def (_\w+)\(self\).*\n +return self\._session\.client\("(\w+)"', source))
    called = re.findall(r'self\.(_\w+)\.(?:get_paginator\(")?(\w+)["(]', source)
    needed = {right for client, call in called if client in services for right in _rights(services[client], call)}
    assert needed - set(ACTIONS) == set()
    assert {right.partition(":")[0] for right in needed} == set(services.values()) != set()


def _rights(service: str, call: str) -> tuple[str, ...]:
    """What a call needs: the right of its own name, where AWS has given it no other or one more."""
    others = {
        "list_objects_v2": ("s3:ListBucket",),
        "delete_objects": ("s3:DeleteObject",),
        "put_parameter": ("ssm:PutParameter", "ssm:AddTagsToResource"),  # ours come with tags
    }
    return others.get(call, (f"{service}:{call.title().replace('_', '')}",))


def test_an_account_that_has_everything(account: Account) -> None:
    """Every line says so; a role's session is judged by its role, whose path the session's name does not tell."""
    tell(account)
    found = findings(account)
    assert {one.verdict for one in found.values()} == {Verdict.FINE}
    assert len(found) == 3 + 4
    assert found["credentials"].found == ARN


def test_what_is_missing_comes_with_the_command_that_gets_it(account: Account) -> None:
    """A right by its name and for whom; a quota by its code, its service and its region."""
    tell(account, denied="iam:PassRole", at_once=10, vcpus=0.0)
    found = findings(account)
    assert {one.what for one in found.values() if one.verdict is Verdict.FINE} == {"credentials"}
    assert found["permissions"].fix == f"have an administrator allow iam:PassRole to {ARN}"
    assert "--service-code lambda --quota-code L-B99A9384 --desired-value 1000 --region us-east-1" in (
        found["functions at once"].fix
    )
    spot = found["vCPUs spot P (V100, A100, H100)"]
    assert spot.found == "0 in us-east-1; the smallest machine has 8"
    assert "--service-code ec2 --quota-code L-7212CCBC " in spot.fix


def test_credentials_that_are_no_good_are_all_there_is_to_say(account: Account) -> None:
    """Nothing else is asked with them."""
    account.stub("sts").add_client_error("get_caller_identity", "ExpiredToken", "The security token has expired")
    found = findings(account)
    assert list(found) == ["credentials"]
    assert found["credentials"].verdict is Verdict.MISSING
    assert "has expired" in found["credentials"].found


def test_what_may_not_be_asked_is_unknown_and_not_missing(account: Account) -> None:
    """Who may not look at policies may well be allowed to bootstrap."""
    from sailplane.deploy.checks.aws import QUOTAS  # noqa: PLC0415 as above

    caller = {"Arn": "arn:aws:iam::123456789012:user/me", "Account": "123456789012", "UserId": "A" * 20}
    account.stub("sts").add_response("get_caller_identity", caller, {})
    account.stub("iam").add_client_error("simulate_principal_policy", "AccessDenied", "not you")
    account.stub("lambda").add_client_error("get_account_settings", "AccessDeniedException", "not you")
    for _ in QUOTAS:
        account.stub("service-quotas").add_client_error("get_service_quota", "AccessDeniedException", "not you")
    found = findings(account)
    assert "servicequotas:GetServiceQuota" in found["vCPUs spot P (V100, A100, H100)"].fix
    verdicts = {one.what: one.verdict for one in found.values()}
    assert verdicts.pop("credentials") is Verdict.FINE
    assert set(verdicts.values()) == {Verdict.UNKNOWN}


def test_what_aws_refuses_for_another_reason_is_no_missing_right(account: Account) -> None:
    """Nobody is sent for rights that they have."""
    tell(account, quotas=False)
    for _ in range(4):
        account.stub("service-quotas").add_client_error("get_service_quota", "400", "", 400)
    spot = findings(account)["vCPUs spot P (V100, A100, H100)"]
    assert (spot.verdict, spot.found) == (Verdict.UNKNOWN, "AWS refuses GetServiceQuota: 400, without a reason.")
    assert "allow" not in spot.fix


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("ExpiredToken", "NoAccess", "aws sso login"),
        ("AccessDenied", "NoAccess", "docs/deploy.md"),
        ("Throttling", "CloudUnreachable", "cannot answer DescribeStacks now"),
        ("SubscriptionRequired", "CloudRefused", r"refuses DescribeStacks: no \(SubscriptionRequired\)"),
    ],
)
def test_refusals_say_what_to_do(code: str, kind: str, says: str) -> None:
    """Credentials, rights and patience are three different things to see to; the rest is told in AWS's own words."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 as above

    from sailplane.deploy import account as errors  # noqa: PLC0415 as above
    from sailplane.deploy.aws import told  # noqa: PLC0415 as above

    with pytest.raises(getattr(errors, kind), match=says), told():
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeStacks")


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (403, "NoAccess", r"does not allow GetServiceQuota: 403, without a reason\. Have it allowed"),
        (400, "CloudRefused", r"refuses GetServiceQuota: 400, without a reason\.$"),
        (502, "CloudUnreachable", r"now: Bad Gateway\.$"),
    ],
)
def test_a_refusal_without_a_word_is_told_as_what_it_is(status: int, kind: str, says: str) -> None:
    """As botocore itself reads an empty answer, by its status."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 as above
    from botocore.model import StructureShape  # noqa: PLC0415 as above
    from botocore.parsers import JSONParser  # noqa: PLC0415 as above

    from sailplane.deploy import account as errors  # noqa: PLC0415 as above
    from sailplane.deploy.aws import told  # noqa: PLC0415 as above

    read = JSONParser().parse(
        {"status_code": status, "headers": {}, "body": b""},
        StructureShape("Answer", {"type": "structure", "members": {}}),
    )
    with pytest.raises(getattr(errors, kind), match=says), told():
        raise ClientError(read, "GetServiceQuota")


def test_an_answer_that_is_not_of_aws_is_no_defect_of_ours() -> None:
    """An empty 403 of a proxy where XML was to come: it may be worth another try, and a look at what is between."""
    from botocore.model import StructureShape  # noqa: PLC0415 as above
    from botocore.parsers import QueryParser  # noqa: PLC0415 as above

    from sailplane.deploy.account import CloudUnreachable  # noqa: PLC0415 as above
    from sailplane.deploy.aws import told  # noqa: PLC0415 as above

    with pytest.raises(CloudUnreachable, match="HTTPS_PROXY"), told():
        QueryParser().parse(
            {"status_code": 403, "headers": {}, "body": b""},
            StructureShape("Answer", {"type": "structure", "members": {}}),
        )
