"""AWS: who you are, whether you may bootstrap, how many functions may run at once, how many GPU machines you may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import boto3

from chalicelib.errors import SailplaneError
from sailplane.deploy.account import CloudRefused, CloudUnreachable, NoAccess
from sailplane.deploy.aws import told
from sailplane.deploy.checks.finding import Finding, Verdict

# What bootstrap, upgrade and teardown call themselves (a test reads it from their source), and what CloudFormation does in
# their user's name: of that, one call of each kind that an administrator would grant or refuse by itself.
ACTIONS = (
    "cloudformation:CreateChangeSet",
    "cloudformation:DescribeChangeSet",
    "cloudformation:DeleteChangeSet",
    "cloudformation:ExecuteChangeSet",
    "cloudformation:DescribeStacks",
    "cloudformation:DescribeStackEvents",
    "cloudformation:ContinueUpdateRollback",
    "cloudformation:DeleteStack",
    "s3:CreateBucket",
    "s3:PutBucketPolicy",
    "s3:ListBucket",
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:DeleteBucket",
    "dynamodb:CreateTable",
    "dynamodb:UpdateTimeToLive",
    "dynamodb:DeleteTable",
    "lambda:CreateFunction",
    "lambda:UpdateFunctionCode",
    "lambda:UpdateFunctionConfiguration",
    "lambda:DeleteFunction",
    "lambda:CreateFunctionUrlConfig",
    "lambda:AddPermission",
    "lambda:CreateEventSourceMapping",
    "lambda:ListEventSourceMappings",
    "lambda:UpdateEventSourceMapping",
    "lambda:PutFunctionEventInvokeConfig",
    "iam:CreateRole",
    "iam:PutRolePolicy",
    "iam:PassRole",
    "iam:DeleteRole",
    "events:PutRule",
    "events:PutTargets",
    "events:EnableRule",
    "events:DeleteRule",
    "sqs:CreateQueue",
    "sqs:DeleteQueue",
    "ssm:PutParameter",
    "ssm:AddTagsToResource",
    "ssm:GetParametersByPath",
    "ssm:DeleteParameters",
    "logs:CreateLogGroup",
    "logs:PutRetentionPolicy",
    "logs:DescribeLogGroups",
    "logs:DeleteLogGroup",
    "ec2:DescribeRegions",
    "apigateway:POST",
    "apigateway:PATCH",
    "apigateway:DELETE",
)
# Accounts that ask for it get 1,000; new ones begin with 10, which the functions can live with as long as little happens.
FEW_AT_ONCE = 100

# vCPUs, by region: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
QUOTAS: Mapping[str, str] = {
    "L-DB2E81BA": "on-demand G and VT (T4, L4, A10G, L40S)",
    "L-3819A6DF": "spot G and VT (T4, L4, A10G, L40S)",
    "L-417A185B": "on-demand P (V100, A100, H100)",
    "L-7212CCBC": "spot P (V100, A100, H100)",
}
_SMALLEST = {"G": 4, "P": 8}  # vCPUs of g4dn.xlarge and p3.2xlarge
_ASKED_FOR = 64


def findings(session: boto3.Session, endpoint_url: str | None) -> Iterator[Finding]:
    """Everything there is to say about the session's account and region. Without credentials, that alone."""
    options: dict[str, Any] = {"endpoint_url": endpoint_url or None}
    try:
        with told():
            caller = session.client("sts", **options).get_caller_identity()
    except (NoAccess, CloudUnreachable, CloudRefused) as error:
        yield Finding("aws", "credentials", Verdict.MISSING, str(error), "aws configure, or aws sso login")
        return
    yield Finding("aws", "credentials", Verdict.FINE, caller["Arn"])
    region = str(session.region_name)
    yield from _permissions(session.client("iam", **options), caller["Arn"])
    yield from _concurrency(session.client("lambda", **options), region)
    quotas = session.client("service-quotas", **options)
    for code, name in QUOTAS.items():
        yield _quota(quotas, code, name, region)


def _permissions(iam: Any, arn: str) -> Iterator[Finding]:
    if arn.endswith(":root"):
        yield Finding("aws", "permissions", Verdict.FINE, "root may do everything")
        return
    try:
        with told():
            pages = iam.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=_principal(iam, arn), ActionNames=list(ACTIONS)
            )
            denied = [
                one["EvalActionName"]
                for page in pages
                for one in page["EvaluationResults"]
                if one["EvalDecision"] != "allowed"
            ]
    except (NoAccess, CloudUnreachable, CloudRefused) as error:
        fix = _advice(error, "iam:SimulatePrincipalPolicy and iam:GetRole, or just try")
        yield Finding("aws", "permissions", Verdict.UNKNOWN, str(error), fix)
        return
    if denied:
        fix = f"have an administrator allow {', '.join(denied)} to {arn}"
        yield Finding("aws", "permissions", Verdict.MISSING, f"{len(denied)} of {len(ACTIONS)} refused", fix)
    else:
        yield Finding("aws", "permissions", Verdict.FINE, f"all {len(ACTIONS)} that bootstrap needs")


def _principal(iam: Any, arn: str) -> str:
    """Whose policies decide: of an assumed role's session the role, whose path the session's name does not tell."""
    account = arn.split(":")[5]
    if not account.startswith("assumed-role/"):
        return arn
    found: str = iam.get_role(RoleName=account.split("/")[1])["Role"]["Arn"]
    return found


def _concurrency(functions: Any, region: str) -> Iterator[Finding]:
    try:
        with told():
            at_once = functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    except (NoAccess, CloudUnreachable, CloudRefused) as error:
        fix = _advice(error, "lambda:GetAccountSettings")
        yield Finding("aws", "functions at once", Verdict.UNKNOWN, str(error), fix)
        return
    if at_once < FEW_AT_ONCE:
        fix = _increase("lambda", "L-B99A9384", 1000, region)
        yield Finding("aws", "functions at once", Verdict.MISSING, f"{at_once:g}; clients would be refused", fix)
    else:
        yield Finding("aws", "functions at once", Verdict.FINE, f"{at_once:g}")


def _quota(quotas: Any, code: str, name: str, region: str) -> Finding:
    what = f"vCPUs {name}"
    try:
        with told():
            value = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except (NoAccess, CloudUnreachable, CloudRefused) as error:
        return Finding("aws", what, Verdict.UNKNOWN, str(error), _advice(error, "servicequotas:GetServiceQuota"))
    smallest = _SMALLEST["P" if " P " in f"{name} " else "G"]
    if value < smallest:
        found = f"{value:g} in {region}; the smallest machine has {smallest}"
        return Finding("aws", what, Verdict.MISSING, found, _increase("ec2", code, _ASKED_FOR, region))
    return Finding("aws", what, Verdict.FINE, f"{value:g} in {region}")


def _advice(error: SailplaneError, rights: str) -> str:
    """Rights help only where they were what was missing."""
    if isinstance(error, NoAccess):
        return f"allow yourself {rights}"
    return "no right is missing: run the check again, and if it stays so, ask AWS's support"


def _increase(service: str, code: str, wanted: int, region: str) -> str:
    return (
        f"aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} "
        f"--desired-value {wanted} --region {region}"
    )
