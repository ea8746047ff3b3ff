"""MiniStack as an AWS account: CloudFormation, Lambda, IAM that is enforced, and the public addresses of what is deployed."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
import httpx

from sailplane.deploy.aws import AwsAccount
from sailplane.local.ministack import MiniStack, free_port
from tests.deployed.internet import Internet

REQUIREMENTS = Path(__file__).with_name("ministack-aws-requirements.txt")
REGION = "us-east-1"
# What MiniStack's IAM takes for something else than AWS's does, and by what name.
_MISJUDGED = {
    "ssm:GetParametersByPath": "ssm:GetParametersByPath",  # about no resource, instead of the path's parameter
    "ssm:GetParameters": "ssm:GetParameters",  # about no resource, instead of the parameters
    "events:EnableRule": "events:EnableRule",  # about rule/default/NAME, instead of rule/NAME
    "events:DisableRule": "events:DisableRule",
    # The condition key lambda:FunctionArn is not known.
    "lambda:GetEventSourceMapping": "lambda:ListEventSourceMappings",
    "lambda:UpdateEventSourceMapping": "lambda:ListEventSourceMappings",
}
_LAST_LINES = 60
_SCRIPT = Path(__file__).with_name("ministack_aws.py")


class StandIn:
    """One account in one region, from `with` to the end of its block.

    Args:
        python: MiniStack's, with what its CloudFormation needs.
        root: a directory of its own.
    """

    def __init__(self, python: Path, root: Path) -> None:
        self._python = python
        self._root = root
        self._stack = ExitStack()
        self._clients: dict[str, Any] = {}  # 50 ms each
        self._secret = secrets.token_hex(20)

    def __enter__(self) -> Self:
        port = free_port(0)
        internet = self._stack.enter_context(Internet(self._root, port))
        settings = {
            "SERVICES": "",  # all
            "PERSIST_STATE": "0",
            "AUTH": "true",  # the functions' roles are enforced
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "MINISTACK_HOST": f"{REGION}.amazonaws.com",  # as in the addresses that it gives
            **internet.environment,
        }
        self.ministack = self._stack.enter_context(
            MiniStack(self._python, self._root, port, script=_SCRIPT, settings=settings)
        )
        self._internet = internet
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ministack.port}"

    @property
    def key_id(self) -> str:
        return self.ministack.url.removeprefix("http://").partition("@")[0]

    def session(self) -> boto3.Session:
        """An administrator's."""
        return boto3.Session(self.key_id, self._secret, region_name=REGION)

    @cached_property
    def account(self) -> AwsAccount:
        return AwsAccount(self.session(), self.endpoint)

    def client(self, service: str) -> Any:
        """A client of one of AWS's services, for the administrator."""
        if service not in self._clients:
            made = self.session().client(service, endpoint_url=self.endpoint)  # type: ignore[call-overload]  # any name
            self._clients[service] = made
        return self._clients[service]

    def environment(self, home: Path) -> Mapping[str, str]:
        """What a command line of this account's administrator has."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "SAILPLANE_HOME": str(home / ".sailplane"),
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self._secret,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            **self._internet.environment,
        }

    def http(self) -> httpx.Client:
        """A client of the public addresses, and of machines."""
        told = self._internet.environment
        trusted = ssl.create_default_context(cafile=told["SSL_CERT_FILE"])
        public = httpx.HTTPTransport(proxy=told["HTTPS_PROXY"], verify=trusted)
        return httpx.Client(mounts={"https://": public}, trust_env=False, timeout=30)

    def cli(self, home: Path, *args: str, code: int = 0, stdin: str = "") -> str:
        """What `sailplane …` prints on stdout, having ended with `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "sailplane", *args],
            env=self.environment(home),
            cwd=Path(__file__).parents[2],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = f"sailplane {' '.join(args)}: {done.stdout}\n{done.stderr}"
        assert done.returncode == code, f"{said}\n{self.last_words()}"
        return done.stdout + done.stderr if code else done.stdout

    def json(self, home: Path, *args: str) -> Any:
        return json.loads(self.cli(home, *args, "--json"))

    def bootstrap(self, home: Path, *options: str) -> Any:
        """What `bootstrap` says of a control plane that is in place and works.

        Until the roles allow what is misjudged here, the functions cannot read their own configuration, and it says that.
        """
        refused = self.cli(home, "bootstrap", "aws", *options, code=6)
        assert "is in place and does not work" in refused
        self.widen_roles()
        return self.json(home, "bootstrap", "aws", *options)

    def widen_roles(self) -> None:
        """Have the roles allow the calls in `_MISJUDGED` whatever they are about. Everything else is enforced as it stands."""
        iam = self.client("iam")
        for role in iam.list_roles()["Roles"]:
            for name in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
                document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
                document["Statement"] = [_widened(statement) for statement in document["Statement"]]
                iam.put_role_policy(RoleName=role["RoleName"], PolicyName=name, PolicyDocument=json.dumps(document))

    def allow_plain_http(self) -> None:
        """Drop the buckets' policies, which refuse what is not encrypted: between functions and stand-in nothing is."""
        s3 = self.client("s3")
        for bucket in s3.list_buckets()["Buckets"]:
            s3.delete_bucket_policy(Bucket=bucket["Name"])

    def last_words(self) -> str:
        """What the functions logged last."""
        return "\n".join(self.logged().splitlines()[-_LAST_LINES:])

    def logged(self) -> str:
        """All that the functions logged."""
        logs = self.client("logs")
        groups = [one["logGroupName"] for one in logs.describe_log_groups()["logGroups"]]
        events = [event for group in groups for event in logs.filter_log_events(logGroupName=group)["events"]]
        events.sort(key=lambda event: event["timestamp"])
        return "\n".join(event["message"].rstrip() for event in events)

    def everything(self) -> list[str]:
        """Whatever there is in the account of what a deployment makes, by the lists of each service and not by ours."""
        ask = self.client
        return [
            *(one["StackName"] for one in ask("cloudformation").describe_stacks()["Stacks"]),
            *(one["Name"] for one in ask("s3").list_buckets()["Buckets"]),
            *ask("dynamodb").list_tables()["TableNames"],
            *(one["FunctionName"] for one in ask("lambda").list_functions()["Functions"]),
            *(one["UUID"] for one in ask("lambda").list_event_source_mappings()["EventSourceMappings"]),
            *(one["Name"] for one in ask("events").list_rules()["Rules"]),
            *ask("sqs").list_queues().get("QueueUrls", []),
            *(one["Name"] for one in ask("ssm").describe_parameters()["Parameters"]),
            *(one["logGroupName"] for one in ask("logs").describe_log_groups()["logGroups"]),
            *(one["RoleName"] for one in ask("iam").list_roles()["Roles"]),
            *(one["name"] for one in ask("apigateway").get_rest_apis()["items"]),
        ]


def _widened(statement: dict[str, Any]) -> dict[str, Any]:
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    if statement["Effect"] != "Allow" or not _MISJUDGED.keys() & actions:
        return statement
    assert _MISJUDGED.keys() >= set(actions)
    return {"Effect": "Allow", "Action": sorted({*actions, *map(_MISJUDGED.__getitem__, actions)}), "Resource": "*"}
