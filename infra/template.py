"""The CloudFormation stack of a deployment, as far as Chalice does not make it: what `chalice package` merges into its own.

Pure. One stack in two phases: `foundation` is the bucket that takes the code, and the table; then it is updated to everything.
What costs by the month is not in it (docs/adr/0023-packaging-and-the-template.md). Names are derived from the deployment's,
so that whoever looks for something finds it, and a policy can name what it allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chalicelib import cost
from infra.permissions import policy

Json = dict[str, Any]

# Chalice's name of each function (which is its handler's in app.py) and what CloudFormation knows it by.
LOGICAL = {
    "api_handler": "APIHandler",
    "machines": "Machines",
    "tick": "Tick",
    "relay": "Relay",
    "interrupt": "Interrupt",
}
OUTPUTS = ("Bucket", "Table", "Version", "ApiUrl", "ControlUrl", "EdgeUrl")
_TIMEOUT_S = {"api_handler": 29, "machines": 30, "tick": 60, "relay": 60, "interrupt": 60, "edge": 30}
# At most at once, where the account has room for it. Passes overlap for a moment at most; a storm of notices wants several.
_AT_ONCE = {"api_handler": 20, "machines": 50, "tick": 2, "relay": 5, "interrupt": 10, "edge": 200}
_LOGS_KEPT_DAYS = 14
_FAILURES_KEPT_S = 14 * 86400  # SQS's longest
# A pass that starts a minute late is the next minute's.
_EVENT_AGE_S = 60


def chalice_config(arch: str) -> Json:
    """`.chalice/config.json`: policies by hand, one role a function."""
    return {
        "version": "2.0",
        "app_name": "sailplane",
        "api_gateway_endpoint_type": "REGIONAL",
        "api_gateway_stage": "api",
        "autogen_policy": False,
        "lambda_architecture": arch,
        "stages": {
            "prod": {"lambda_functions": {name: {"iam_policy_file": f"policy-{name}.json"} for name in LOGICAL}},
        },
    }


def foundation() -> Json:
    """The stack's first phase, which needs no code and gives the bucket that takes it. Whole, and without transform."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": _DESCRIPTION,
        "Parameters": {"Deployment": _DEPLOYMENT},
        "Resources": _foundation(),
        "Outputs": _FOUNDATION_OUTPUTS,
    }


def merged(python: str, arch: str, version: str) -> Json:
    """What is merged into Chalice's template. `python` (3.12) and `arch` (arm64) are those of the packages."""
    return {
        "Description": _DESCRIPTION,
        "Parameters": {"Deployment": _DEPLOYMENT, **_parameters()},
        "Conditions": {
            "ReservesConcurrency": {"Fn::Equals": [{"Ref": "ReserveConcurrency"}, "yes"]},
            "OnAwsOnly": {"Fn::Equals": [{"Ref": "Providers"}, "aws"]},
            "IsAwake": {"Fn::Equals": [{"Ref": "Awake"}, "yes"]},
        },
        "Resources": {
            **_foundation(),
            **_api(),
            **_functions(python),
            **_queues(),
            **_edge(python, arch),
            **_settings(),
            **_log_groups(),
        },
        "Outputs": {
            **_FOUNDATION_OUTPUTS,
            "Version": {"Value": version},
            "ApiUrl": {"Value": {"Fn::Sub": _API_URL}},
            "ControlUrl": {"Value": _attribute("MachinesUrl", "FunctionUrl")},
            "EdgeUrl": {"Value": _attribute("EdgeUrl", "FunctionUrl")},
        },
    }


_DESCRIPTION = "Sailplane, a control plane that serves AI models on the cheapest healthy GPUs"
_DEPLOYMENT = {
    "Type": "String",
    "Description": "The name that no other control plane has in these cloud accounts",
    "AllowedPattern": "^[a-z][a-z0-9-]{0,38}[a-z0-9]$",
}
_SNAPSHOT = {"Fn::Sub": "s3://${Bucket}/table"}
_FOUNDATION_OUTPUTS = {"Bucket": {"Value": {"Ref": "Bucket"}}, "Table": {"Value": {"Ref": "Table"}}}
_API_URL = "https://${RestAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/api"


def _parameters() -> Json:
    def text(description: str, default: str = "", **more: Any) -> Json:
        return {"Type": "String", "Description": description, "Default": default, **more}

    key = {"Type": "String", "AllowedPattern": "^[A-Za-z0-9._/-]+$"}
    return {
        "CodeKey": {**key, "Description": "Where control.zip lies in the bucket"},
        "EdgeKey": {**key, "Description": "Where edge-aws.zip lies in the bucket"},
        "RouterToken": {"Type": "String", "Description": "What routers show the control plane", "NoEcho": True},
        "ReserveConcurrency": text(
            "Whether functions reserve concurrency, which takes an account with room for 1,000",
            "no",
            AllowedValues=["yes", "no"],
        ),
        "Providers": text(
            "The clouds that machines are made in", "aws", AllowedPattern="^(aws|gcp|azure)(,(aws|gcp|azure))*$"
        ),
        "AwsRegions": text("The AWS regions that machines are made in; empty: all that the account has enabled"),
        "GcpProject": text("The Google Cloud project that machines are made in"),
        "AzureSubscription": text("The Azure subscription that machines are made in"),
        "AzureResourceGroup": text("The Azure resource group that machines are made in"),
        "Awake": text(
            "Whether an update that touches what wakes the functions leaves it on; the tick turns it off if it is not needed",
            "no",
            AllowedValues=["yes", "no"],
        ),
        "Credentials": text(
            "A digest of keys and credentials for other clouds: functions that have read older ones are made anew"
        ),
    }


def _foundation() -> Json:
    return {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "DeletionPolicy": "Delete",
            "UpdateReplacePolicy": "Delete",
            "Properties": {
                "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
                },
                "LifecycleConfiguration": {
                    "Rules": [
                        {
                            "Id": "abandoned-uploads",
                            "Status": "Enabled",
                            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                        }
                    ]
                },
                "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
                "PublicAccessBlockConfiguration": dict.fromkeys(
                    ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
                ),
            },
        },
        "BucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {
                "Bucket": {"Ref": "Bucket"},
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Sid": "OnlyEncrypted",
                            "Effect": "Deny",
                            "Principal": "*",
                            "Action": "s3:*",
                            "Resource": [_attribute("Bucket", "Arn"), {"Fn::Sub": "${Bucket.Arn}/*"}],
                            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                        }
                    ],
                },
            },
        },
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "DeletionPolicy": "Delete",
            "UpdateReplacePolicy": "Delete",
            "Properties": {
                "TableName": _named(),
                "BillingMode": "PAY_PER_REQUEST",
                # As `chalicelib.store.table` makes it on a laptop.
                "AttributeDefinitions": [
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": "sk", "AttributeType": "S"},
                ],
                "KeySchema": [
                    {"AttributeName": "pk", "KeyType": "HASH"},
                    {"AttributeName": "sk", "KeyType": "RANGE"},
                ],
                "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
            },
        },
    }


def _api() -> Json:
    return {
        "RestAPI": {
            "Properties": {
                "Name": _named(),
                # Or SAM makes a second stage, `Stage`, which is as public and has no limit.
                "OpenApiVersion": "2.0",
                "DefinitionBody": {"x-amazon-apigateway-gateway-responses": _own_answers()},
                "MethodSettings": [
                    # An owner's commands and CI; without a limit a stranger could run up the bill of the gateway.
                    {"HttpMethod": "*", "ResourcePath": "/*", "ThrottlingRateLimit": 50, "ThrottlingBurstLimit": 100}
                ],
            }
        },
    }


def _own_answers() -> Json:
    """What the gateway answers by itself, in the form of all other errors. It says 403 to a path that it does not know."""
    unknown = {"status": 404, "detail": "There is nothing at this path for this method; see /openapi.json."}
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gateway-response-definition.html: a quoted text.
    said = '"detail":$context.error.messageString'
    of_the_gateway = '{"type":"urn:sailplane:problem:gateway","title":"The gateway answers, not the control plane",%s}'
    return {
        "MISSING_AUTHENTICATION_TOKEN": {
            **_own_answer(json.dumps({"type": "about:blank", "title": "Not Found", **unknown})),
            "statusCode": "404",
        },
        "DEFAULT_4XX": _own_answer(of_the_gateway % said),
        "DEFAULT_5XX": _own_answer(of_the_gateway % said),
    }


def _own_answer(document: str) -> Json:
    return {
        "responseParameters": {"gatewayresponse.header.Content-Type": "'application/problem+json'"},
        "responseTemplates": {"application/json": document},
    }


def _functions(python: str) -> Json:
    resources: Json = {}
    for name, logical in LOGICAL.items():
        resources[logical] = {
            "Properties": {
                "FunctionName": _named(name.removesuffix("_handler")),
                "Runtime": f"python{python}",
                "CodeUri": {"Bucket": {"Ref": "Bucket"}, "Key": {"Ref": "CodeKey"}},
                "MemorySize": _memory(name),
                "Timeout": _TIMEOUT_S[name],
                "ReservedConcurrentExecutions": _reserved(name),
                "LoggingConfig": _logging(logical),
                "Environment": {"Variables": _environment()},
                **_EVENTS.get(name, {}),
            }
        }
    return {**resources, **_url("Machines")}


_NOT_TWICE: Json = {
    "EventInvokeConfig": {
        "MaximumEventAgeInSeconds": _EVENT_AGE_S,
        "MaximumRetryAttempts": 0,
        "DestinationConfig": {"OnFailure": {"Type": "SQS", "Destination": {"Fn::GetAtt": ["FailedQueue", "Arn"]}}},
    }
}
# What wakes functions is off by default; bootstrap and upgrades ask for it to be on (`Awake`), or an update that touches a rule
# would leave services unwatched. The tick turns it off when there is nothing to wake for, the first service on again.
_STATE: Json = {"Fn::If": ["IsAwake", "ENABLED", "DISABLED"]}
_EVENTS: Mapping[str, Json] = {
    "tick": {
        **_NOT_TWICE,
        "Events": {
            "TickEvent": {
                "Properties": {
                    "Name": {"Fn::Sub": "sailplane-${Deployment}-tick"},
                    "State": _STATE,
                    "RetryPolicy": {"MaximumEventAgeInSeconds": _EVENT_AGE_S, "MaximumRetryAttempts": 0},
                }
            }
        },
    },
    "interrupt": {
        **_NOT_TWICE,
        "Events": {
            "InterruptEvent": {
                "Type": "EventBridgeRule",
                "Properties": {
                    "RuleName": {"Fn::Sub": "sailplane-${Deployment}-interrupt"},
                    "State": _STATE,
                },
            }
        },
    },
    "relay": {
        **_NOT_TWICE,  # it is called past its queue too, when a pass is asked for at once
        # A round sends the message that calls the next one, which Lambda would take for a mistake after 16 of them.
        "RecursiveLoop": "Allow",
        "Events": {
            "RelaySqsEventSource": {
                "Properties": {
                    "Queue": {"Fn::Sub": "${RelayQueue.Arn}"},  # as Chalice has it, or the two are merged
                    "Enabled": {"Fn::If": ["IsAwake", True, False]},
                }
            }
        },
    },
}


def _environment() -> Json:
    """What the functions are told of themselves. What would go round in a circle, and keys, are parameters (`_settings`)."""
    return {
        "SAILPLANE_DEPLOYMENT": {"Ref": "Deployment"},
        "SAILPLANE_PARAMETERS": {"Fn::Sub": "/sailplane/${Deployment}"},
        "SAILPLANE_TABLE": {"Ref": "Table"},
        "SAILPLANE_SNAPSHOT": _SNAPSHOT,
        "SAILPLANE_RELAY_QUEUE": {"Ref": "RelayQueue"},
        "SAILPLANE_PROVIDERS": {"Ref": "Providers"},
        "SAILPLANE_AWS_REGIONS": {"Ref": "AwsRegions"},
        "SAILPLANE_GCP_PROJECT": {"Ref": "GcpProject"},
        "SAILPLANE_AZURE_SUBSCRIPTION": {"Ref": "AzureSubscription"},
        "SAILPLANE_AZURE_RESOURCE_GROUP": {"Ref": "AzureResourceGroup"},
        "CREDENTIALS_DIGEST": {"Ref": "Credentials"},  # read by nobody: a change of it ends what is running
    }


def _settings() -> Json:
    """What a function is to know of another that knows it, by the name of the variable that it stands for."""

    def parameter(name: str, value: Json) -> Json:
        return {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Type": "String",
                "Tier": "Standard",
                "Name": {"Fn::Sub": f"/sailplane/${{Deployment}}/{name}"},
                "Value": value,
            },
        }

    return {
        "ControlUrlSetting": parameter("SAILPLANE_CONTROL_URL", _attribute("MachinesUrl", "FunctionUrl")),
        "EdgeUrlSetting": parameter("SAILPLANE_EDGE_URL", _attribute("EdgeUrl", "FunctionUrl")),
        # By the name that SAM gives the mapping.
        "RelayMappingSetting": parameter("SAILPLANE_RELAY_MAPPING", {"Ref": "RelayRelaySqsEventSource"}),
    }


def _queues() -> Json:
    return {
        "FailedQueue": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "QueueName": _named("failed"),
                "MessageRetentionPeriod": _FAILURES_KEPT_S,
                "SqsManagedSseEnabled": True,
            },
        },
        "RelayQueue": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "QueueName": _named("relay"),
                # "At least six times" the function's timeout: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
                "VisibilityTimeout": 6 * _TIMEOUT_S["relay"],
                "MessageRetentionPeriod": 3600,
                "RedrivePolicy": {"deadLetterTargetArn": _attribute("FailedQueue", "Arn"), "maxReceiveCount": 1},
                "SqsManagedSseEnabled": True,
            },
        },
    }


def _edge(python: str, arch: str) -> Json:
    return {
        "Edge": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": _named("edge"),
                "Description": "Sends clients to a replica that can take their request",
                "Runtime": f"python{python}",
                "Architectures": [arch],
                "Handler": "lambda_function.handler",
                "Code": {"S3Bucket": {"Ref": "Bucket"}, "S3Key": {"Ref": "EdgeKey"}},
                "Role": _attribute("EdgeRole", "Arn"),
                "Timeout": _TIMEOUT_S["edge"],
                "MemorySize": _memory("edge"),
                "ReservedConcurrentExecutions": _reserved("edge"),
                "LoggingConfig": _logging("Edge"),
                "Environment": {
                    "Variables": {
                        "SAILPLANE_CONTROL_URL": _attribute("MachinesUrl", "FunctionUrl"),
                        "SAILPLANE_ROUTER_TOKEN": {"Ref": "RouterToken"},
                        "SAILPLANE_LOCATION": {"Fn::Sub": "aws/${AWS::Region}"},
                        "SAILPLANE_SNAPSHOT_URL": _SNAPSHOT,
                    }
                },
            },
        },
        "EdgeRole": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "lambda.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                },
                "Policies": [{"PolicyName": "EdgeRolePolicy", "PolicyDocument": policy("edge")}],
            },
        },
        **_url("Edge"),
    }


def _url(function: str) -> Json:
    """A function URL for anyone: keys are Sailplane's own. Since October 2025 it takes both permissions.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
    """
    anyone = {"FunctionName": {"Ref": function}, "Principal": "*"}
    return {
        f"{function}Url": {
            "Type": "AWS::Lambda::Url",
            "Properties": {"TargetFunctionArn": _attribute(function, "Arn"), "AuthType": "NONE"},
        },
        f"{function}UrlPermission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {**anyone, "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
        },
        f"{function}InvokePermission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {**anyone, "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
        },
    }


def _logging(function: str) -> Json:
    """Into a group that is there before the function; without Lambda's own three lines a call, $0.10 a month at rest."""
    return {
        "LogGroup": {"Ref": f"{function}Logs"},
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "WARN",
    }


def _log_groups() -> Json:
    groups = {**{logical: name.removesuffix("_handler") for name, logical in LOGICAL.items()}, "Edge": "edge"}
    return {
        f"{logical}Logs": {
            "Type": "AWS::Logs::LogGroup",
            "DeletionPolicy": "Delete",
            "UpdateReplacePolicy": "Delete",
            "Properties": {
                "LogGroupName": {"Fn::Sub": f"/aws/lambda/sailplane-${{Deployment}}-{name}"},
                "RetentionInDays": _LOGS_KEPT_DAYS,
            },
        }
        for logical, name in groups.items()
    }


def _memory(function: str) -> Json | int:
    """In MB, as the model of costs has it."""
    least_mb, most_mb = (
        cost.memory(clouds)[function.removesuffix("_handler")] for clouds in (("aws",), ("gcp", "azure"))
    )
    return least_mb if least_mb == most_mb else {"Fn::If": ["OnAwsOnly", least_mb, most_mb]}


def _reserved(function: str) -> Json:
    return {"Fn::If": ["ReservesConcurrency", _AT_ONCE[function], {"Ref": "AWS::NoValue"}]}


def _named(name: str = "") -> Json:
    return {"Fn::Sub": f"sailplane-${{Deployment}}{'-' if name else ''}{name}"}


def _attribute(resource: str, name: str) -> Json:
    return {"Fn::GetAtt": [resource, name]}
