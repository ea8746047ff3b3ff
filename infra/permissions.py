"""What each of the functions on AWS may do: one policy a function, of exactly the calls that its code makes. Pure.

Resources are those of one deployment: by name where names are ours, on EC2 by the tag that everything of ours carries. A
statement is named by what it is good for, which is its Sid too. `tests/infra/test_permissions.py` derives the calls from the
sources and compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.providers.aws.machine import DEPLOYMENT_TAG

Json = Mapping[str, Any]

_BASE = ("ReadConfiguration", "KeepState", "LeaveSnapshot", "LookAtMachines", "EndMachines")
_LAUNCH = (
    "PrepareLaunches",
    "LaunchTagged",
    "LaunchFrom",
    "LaunchBehindOurGroup",
    "LaunchFirstSpot",
    "TagLaunches",
    "FindImages",
    "MakeGroups",
    "MakeGroupsInNetworks",
    "OpenGroups",
)

_DEPLOY = ("SwitchRulesOn", "SwitchMapping", "WakeRelay", "NameSecrets")
_PASSES = (*_BASE, *_LAUNCH, *_DEPLOY, "ReadSecrets", "SwitchRulesOff", "SendToRelay", "ReportFailure")

# By Chalice's names of the functions; the edge is not Chalice's, and calls the control plane by HTTP.
GRANTS: Mapping[str, Sequence[str]] = {
    "api_handler": (
        *_BASE,
        *_DEPLOY,
        "LeaveSecretsShut",
        "KeepSecrets",
        "ReadMachineLogs",
        "LookForLeftovers",
        "RemoveLeftovers",
        "MeasureUse",
    ),
    # Whom machines and forges ask: hands out secrets, notes pushes.
    "machines": (
        "ReadConfiguration",
        "KeepState",
        "SwitchRulesOn",
        "SwitchMapping",
        "WakeRelay",
        "SendToRelay",
        "ReadSecrets",
    ),
    # Passes; both deploy what was pushed, with a forge's token among the secrets.
    "tick": _PASSES,
    "relay": (*_PASSES, "TakeFromRelay"),
    "interrupt": (*_BASE, *_LAUNCH, "LeaveSecretsShut", "ReportFailure"),
    "edge": ("ReadSnapshot",),
}


def policy(function: str) -> Json:
    """The policy document of one function of `GRANTS`; `function` names its log group too."""
    statements = {"WriteLogs": _logs(function), **{name: _STATEMENTS[name] for name in GRANTS[function]}}
    return {
        "Version": "2012-10-17",
        "Statement": [{"Sid": name, "Effect": "Allow", **statement} for name, statement in statements.items()],
    }


def _logs(function: str) -> Json:
    """Into its own group, which the stack makes: a function that outlives its stack cannot make it again."""
    name = function.removesuffix("_handler")
    group = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:/aws/lambda/sailplane-${Deployment}-"
    return {"Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": {"Fn::Sub": f"{group}{name}:*"}}


def _ec2(kind: str) -> Json:
    """Everything of a kind in this account, in any region: machines stand where they are cheap."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:ec2:*:${{AWS::AccountId}}:{kind}/*"}


def _here(service: str, name: str) -> Json:
    """A resource of this account and region."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{name}"}


_D = {"Ref": "Deployment"}
_IS_OURS: Json = {"StringEquals": {f"aws:ResourceTag/{DEPLOYMENT_TAG}": _D}}
_BECOMES_OURS: Json = {"StringEquals": {f"aws:RequestTag/{DEPLOYMENT_TAG}": _D}}
_RELAY = _here("lambda", "function:sailplane-${Deployment}-relay")
_RULES = [_here("events", f"rule/sailplane-${{Deployment}}-{name}") for name in ("tick", "interrupt")]
_SECRETS = _here("ssm", "parameter/sailplane/${Deployment}/secrets/*")
_LAUNCHED = ("instance", "volume", "network-interface", "spot-instances-request")

_STATEMENTS: Mapping[str, Json] = {
    # --- the control plane's own: configuration, state, snapshot
    "ReadConfiguration": {
        "Action": "ssm:GetParametersByPath",
        "Resource": _here("ssm", "parameter/sailplane/${Deployment}"),
    },
    # Who may read a path may read what lies below it, and users' secrets do. The key is AWS's, which anyone in the account
    # may use through SSM: so that is forbidden for what it has shut. The context is
    # https://docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html#parameter-store-encryption-context
    "LeaveSecretsShut": {
        "Effect": "Deny",
        "Action": "kms:Decrypt",
        "Resource": "*",
        "Condition": {"StringLike": {"kms:EncryptionContext:PARAMETER_ARN": _SECRETS}},
    },
    "KeepState": {
        "Action": [
            "dynamodb:BatchGetItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        ],
        "Resource": {"Fn::GetAtt": ["Table", "Arn"]},
    },
    "LeaveSnapshot": {"Action": ["s3:GetObject", "s3:PutObject"], "Resource": {"Fn::Sub": "${Bucket.Arn}/table"}},
    "ReadSnapshot": {"Action": "s3:GetObject", "Resource": {"Fn::Sub": "${Bucket.Arn}/table"}},
    # --- who wakes whom
    "WakeRelay": {"Action": "lambda:InvokeFunction", "Resource": _RELAY},
    "SendToRelay": {"Action": "sqs:SendMessage", "Resource": {"Fn::GetAtt": ["RelayQueue", "Arn"]}},
    "TakeFromRelay": {
        "Action": ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"],
        "Resource": {"Fn::GetAtt": ["RelayQueue", "Arn"]},
    },
    "ReportFailure": {"Action": "sqs:SendMessage", "Resource": {"Fn::GetAtt": ["FailedQueue", "Arn"]}},
    "SwitchRulesOn": {"Action": "events:EnableRule", "Resource": _RULES},
    "SwitchRulesOff": {"Action": "events:DisableRule", "Resource": _RULES},
    "SwitchMapping": {
        "Action": ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"],
        "Resource": _here("lambda", "event-source-mapping:*"),
        "Condition": {"ArnEquals": {"lambda:FunctionArn": _RELAY}},
    },
    # Takes no resource: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html
    "MeasureUse": {"Action": "cloudwatch:GetMetricData", "Resource": "*"},
    # --- users' secrets
    "KeepSecrets": {"Action": ["ssm:DeleteParameter", "ssm:PutParameter"], "Resource": _SECRETS},
    "NameSecrets": {
        "Action": "ssm:GetParametersByPath",
        "Resource": _here("ssm", "parameter/sailplane/${Deployment}/secrets"),
    },
    "ReadSecrets": {"Action": "ssm:GetParameters", "Resource": _SECRETS},
    # --- EC2. What only describes takes no resource:
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
    "LookAtMachines": {"Action": ["ec2:DescribeInstances", "ec2:DescribeRegions"], "Resource": "*"},
    "ReadMachineLogs": {"Action": "ec2:GetConsoleOutput", "Resource": _ec2("instance"), "Condition": _IS_OURS},
    "PrepareLaunches": {"Action": ["ec2:DescribeImages", "ec2:DescribeSecurityGroups"], "Resource": "*"},
    "LaunchTagged": {
        "Action": "ec2:RunInstances",
        "Resource": [_ec2(kind) for kind in _LAUNCHED],
        "Condition": _BECOMES_OURS,
    },
    "LaunchFrom": {
        "Action": "ec2:RunInstances",
        "Resource": [{"Fn::Sub": "arn:${AWS::Partition}:ec2:*::image/*"}, _ec2("subnet")],
    },
    "LaunchBehindOurGroup": {
        "Action": "ec2:RunInstances",
        "Resource": _ec2("security-group"),
        "Condition": _IS_OURS,
    },
    # EC2 makes this role in the caller's name at an account's first spot instance.
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html
    "LaunchFirstSpot": {
        "Action": "iam:CreateServiceLinkedRole",
        "Resource": {
            "Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"
        },
        "Condition": {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}},
    },
    "TagLaunches": {
        "Action": "ec2:CreateTags",
        "Resource": [_ec2(kind) for kind in (*_LAUNCHED, "security-group")],
        "Condition": {
            "StringEquals": {
                f"aws:RequestTag/{DEPLOYMENT_TAG}": _D,
                "ec2:CreateAction": ["CreateSecurityGroup", "RunInstances"],
            }
        },
    },
    # `resolve:ssm:` in RunInstances reads with the caller's rights. AWS's own parameters belong to no account.
    "FindImages": {
        "Action": "ssm:GetParameters",
        "Resource": {"Fn::Sub": "arn:${AWS::Partition}:ssm:*::parameter/aws/service/*"},
    },
    "MakeGroups": {
        "Action": "ec2:CreateSecurityGroup",
        "Resource": _ec2("security-group"),
        "Condition": _BECOMES_OURS,
    },
    "MakeGroupsInNetworks": {"Action": "ec2:CreateSecurityGroup", "Resource": _ec2("vpc")},
    "OpenGroups": {
        "Action": "ec2:AuthorizeSecurityGroupIngress",
        "Resource": _ec2("security-group"),
        "Condition": _IS_OURS,
    },
    "EndMachines": {"Action": "ec2:TerminateInstances", "Resource": _ec2("instance"), "Condition": _IS_OURS},
    "LookForLeftovers": {
        "Action": ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeVolumes"],
        "Resource": "*",
    },
    "RemoveLeftovers": {
        "Action": ["ec2:DeleteNetworkInterface", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume"],
        "Resource": [_ec2(kind) for kind in ("network-interface", "security-group", "volume")],
        "Condition": _IS_OURS,
    },
}
