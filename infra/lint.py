"""What others' rules say of the stack: `python -m infra.lint BIN`, with cfn-lint, checkov and parliament in the directory BIN.

cfn-lint must find nothing. What checkov and parliament find is in the tables below with the reason why it stays, and what is
there must be found: a reason that has had its day is taken out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra import package, permissions, template

# By checkov's id. (https://www.checkov.io/5.Policy%20Index/cloudformation.html)
_CHECKOV: Mapping[str, str] = {
    "CKV_AWS_18": "the bucket's access log: a second bucket, to log who reads a public programme and a sealed table",
    "CKV_AWS_21": "the bucket's versions: billed by what is kept; code and table can be made again",
    "CKV_AWS_27": "queues: encrypted by SQS; a key of the account's own costs $1 a month",
    "CKV_AWS_28": "the table's point-in-time recovery: billed by what is kept, at rest too; `sailplane export` is the backup",
    "CKV_AWS_73": "the gateway's X-Ray: billed by the trace; request ids are in the log",
    "CKV_AWS_76": "the gateway's access log: takes a role of the whole account; the function logs requests, the store who did what",
    "CKV_AWS_116": "dead-letter queues of functions: the asynchronous have an on-failure destination, which tells more; others' callers are told",
    "CKV_AWS_117": "functions in a VPC: nothing of ours is in a network, and a way out of one (NAT) costs $33 a month",
    "CKV_AWS_119": "the table: encrypted by DynamoDB; a key of the account's own costs $1 a month",
    "CKV_AWS_120": "the gateway's cache: from $14 a month, and what it answers about machines must not be old",
    "CKV_AWS_158": "log groups: encrypted by CloudWatch; a key of the account's own costs $1 a month",
    "CKV_AWS_173": "functions' variables: encrypted by Lambda, with one secret in them, the router's, which it needs in the clear",
    "CKV_AWS_258": "function URLs for anyone: clients and machines show keys of ours, which are compared in constant time",
}
_ONE_STATEMENT = (
    "wants every kind of resource in one statement; new ones get our tag, the firewall has it, others never do"
)
# By parliament's issue and the action that it is about. (https://github.com/duo-labs/parliament)
_PARLIAMENT: Mapping[tuple[str, str], str] = {
    ("RESOURCE_MISMATCH", "ec2:RunInstances"): _ONE_STATEMENT,
    ("RESOURCE_MISMATCH", "ec2:CreateSecurityGroup"): _ONE_STATEMENT,
    ("RESOURCE_MISMATCH", "ssm:GetParameters"): "knows no parameter without account, which AWS's own are",
    (
        "PERMISSIONS_MANAGEMENT_ACTIONS",
        "iam:createservicelinkedrole",
    ): "EC2's own role for spot, the only one that it may make",
}
# What names stand for when a policy is read outside of a stack.
_EXAMPLE: Mapping[str, str] = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "Bucket.Arn": "arn:aws:s3:::sailplane-acme-bucket",
    "Deployment": "acme",
    "FailedQueue.Arn": "arn:aws:sqs:us-east-1:123456789012:sailplane-acme-failed",
    "RelayQueue.Arn": "arn:aws:sqs:us-east-1:123456789012:sailplane-acme-relay",
    "Table.Arn": "arn:aws:dynamodb:us-east-1:123456789012:table/sailplane-acme",
}


def main() -> None:
    """Print what is wrong; exit with 1 if anything is."""
    tools = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        faults = list(check(tools, Path(scratch)))
    print(*faults, sep="\n", end="\n" if faults else "")
    if not faults:
        accepted = len(_CHECKOV) + len(_PARLIAMENT)
        print(
            f"The stack and its {len(permissions.GRANTS)} policies are clean ({accepted} findings are meant so, see infra/lint.py)."
        )
    sys.exit(bool(faults))


def check(tools: Path, scratch: Path) -> Iterator[str]:
    """Every fault, in words."""
    stacks = [package.write_json(scratch / "foundation.json", template.foundation())]
    stacks.append(package.build_template(scratch / "template.json"))
    policies = [
        package.write_json(scratch / f"{name}.json", resolved(permissions.policy(name))) for name in permissions.GRANTS
    ]
    yield from _run(tools / "cfn-lint", *stacks, stderr=subprocess.STDOUT).splitlines()
    yield from _unmatched("checkov", _CHECKOV, set(_checkov(tools, stacks)))
    yield from _unmatched("parliament", _PARLIAMENT, set(_parliament(tools, policies)))


def resolved(node: Any) -> Any:
    """A policy as it is in some deployment: without CloudFormation's functions."""
    match node:
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{([^}]+)\}", lambda name: _EXAMPLE[name[1]], text)
        case {"Fn::GetAtt": path}:
            return _EXAMPLE[".".join(path)]
        case {"Ref": name}:
            return _EXAMPLE[name]
        case dict():
            return {key: resolved(value) for key, value in node.items()}
        case list() | tuple():
            return [resolved(each) for each in node]
    return node


def _checkov(tools: Path, stacks: list[Path]) -> Iterator[str]:
    files = [option for stack in stacks for option in ("--file", stack)]
    offline = ("--framework", "cloudformation", "--skip-download", "--output", "json", "--quiet", "--soft-fail")
    for check in json.loads(_run(tools / "checkov", *files, *offline))["results"]["failed_checks"]:
        yield check["check_id"]


def _parliament(tools: Path, policies: list[Path]) -> Iterator[tuple[str, str]]:
    said = _run(tools / "parliament", "--files", ",".join(map(str, policies)), "--json", "--include-community-auditors")
    for finding in map(json.loads, said.splitlines()):
        about = [each["action"] for each in finding["detail"] or () if "action" in each] or finding["location"].get(
            "actions", [""]
        )
        yield from ((finding["issue"], action) for action in about)


def _unmatched(tool: str, accepted: Mapping[Any, str], found: set[Any]) -> Iterator[str]:
    yield from (f"{tool}: {each}" for each in sorted(found - accepted.keys()))
    yield from (
        f"{tool} no longer finds {each}: take it out of infra/lint.py" for each in sorted(accepted.keys() - found)
    )


def _run(*command: object, stderr: int | None = None) -> str:
    """What a linter prints. Its exit code tells whether it found something, and its own failure is no JSON."""
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}  # parliament's, about its own imports
    words = [str(word) for word in command]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, env=quiet).stdout


if __name__ == "__main__":
    main()
