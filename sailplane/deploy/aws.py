"""`account.Account` through boto3."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError
from botocore.parsers import ResponseParserError

from chalicelib.errors import Invalid
from chalicelib.schedules.aws import ON
from sailplane.deploy.account import (
    Change,
    CloudRefused,
    CloudUnreachable,
    DeployFailed,
    Event,
    Identity,
    NoAccess,
    Stack,
)
from sailplane.deploy.deployment import TAG, Deployment

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient

_T = TypeVar("_T")

_CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 8})
_CHANGE_SET = "sailplane"
# A change set is computed in some seconds; of what takes minutes, nothing will come.
_PROPOSAL_LOOKS = 600
_PROPOSAL_POLL_S = 0.5
_TURNS = 20
_PARAMETERS_AT_ONCE = 10  # what DeleteParameters takes
_OBJECTS_AT_ONCE = 1000  # what DeleteObjects takes
# What CloudFormation says of a stack that an operation goes on in, or that has somebody else's change set of the same name.
_OTHERS = ("_IN_PROGRESS state", "AlreadyExistsException")
# What it says of a change set without changes; it fails for them.
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"})
_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
    }
    | {"InvalidAccessKeyId", "AuthFailure", "InvalidToken", "RequestExpired"}
)
_PASSING = frozenset(
    {"Throttling", "ThrottlingException", "TooManyUpdates", "RequestLimitExceeded", "ServiceUnavailable", "SlowDown"}
    | {"InternalFailure", "InternalError", "InternalServerError", "500", "502", "503", "504"}
)
_SIGN_IN = "Sign in (`aws configure`, `aws sso login`), or name other credentials with AWS_PROFILE."


@contextmanager
def told() -> Iterator[None]:
    """AWS's refusals as our own errors, for whoever has not caught them inside."""
    try:
        yield
    except ClientError as error:
        operation, code = error.operation_name, error.response["Error"]["Code"]
        # An answer without a body has its HTTP status as code.
        message = error.response["Error"].get("Message", "").rstrip(".") or f"{code}, without a reason"
        if code in _BAD_CREDENTIALS:
            raise NoAccess(f"AWS does not accept the credentials: {message}. {_SIGN_IN}") from error
        if code in _DENIED:
            advice = "Have it allowed (docs/deploy.md lists what is needed), or use other credentials with AWS_PROFILE."
            raise NoAccess(f"AWS does not allow {operation}: {message}. {advice}") from error
        if code in _PASSING:
            raise CloudUnreachable(f"AWS cannot answer {operation} now: {message}.") from error
        named = "" if message.startswith(code) else f" ({code})"
        raise CloudRefused(f"AWS refuses {operation}: {message}{named}.") from error
    except ResponseParserError as error:
        raise CloudUnreachable(
            "What answers is not AWS, or AWS with nothing to say: is there a proxy between (HTTPS_PROXY), or another address "
            f"(AWS_ENDPOINT_URL)? {str(error).partition(':')[0]}."
        ) from error
    except (EndpointConnectionError, HTTPClientError) as error:
        raise CloudUnreachable(f"AWS does not answer: {error}") from error
    except BotoCoreError as error:
        # No credentials at all, half of them, an unknown profile, an SSO session that has ended: each says which.
        raise NoAccess(f"There are no usable AWS credentials: {str(error).rstrip('.')}. {_SIGN_IN}") from error


def session(region: str) -> boto3.Session:
    """The user's own AWS session. Raises `NoAccess`, and `Invalid` when neither `region` nor its configuration names a region."""
    with told():
        found = boto3.Session(region_name=region or None)
    if not found.region_name:
        raise Invalid(
            "In which AWS region is the control plane, or is it to be? Give --region, or set AWS_REGION. Nothing was changed."
        )
    require_regions(found, [found.region_name])
    return found


def require_regions(session: boto3.Session, names: Collection[str]) -> None:
    """Raise `Invalid` when one is none, with the nearest that there is.

    It has no address either, and looks like a network, or like credentials, that do not work.
    """
    known = {
        name
        for partition in session.get_available_partitions()
        for name in session.get_available_regions("ec2", partition)
    }
    if unknown := [name for name in names if name not in known]:
        name = unknown[0]
        near = difflib.get_close_matches(name, sorted(known), n=5)
        swapped = sorted(name)  # us-esat-1 is as near to us-west-1 as to what was meant
        meant = f" Did you mean {min(near, key=lambda name: sorted(name) != swapped)}?" if near else ""
        raise Invalid(
            f"{name!r} is no AWS region that boto3 knows.{meant} If it is a new one: pip install -U boto3. "
            "Nothing was changed."
        )


class AwsAccount:
    """`account.Account`: one region of the account that the session's credentials are for.

    Args:
        session: as made by `session`.
        endpoint_url: a stand-in for all of AWS.
        pause: waits for so many seconds.
    """

    def __init__(
        self, session: boto3.Session, endpoint_url: str | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.region = str(session.region_name)
        self._options: dict[str, Any] = {"config": _CONFIG, "endpoint_url": endpoint_url or None}
        self._session = session
        self._pause = pause
        self._proposal = ""

    # Each is made when it is first used, for 20 to 200 ms.
    @cached_property
    def _formation(self) -> CloudFormationClient:
        return self._session.client("cloudformation", **self._options)

    @cached_property
    def _events(self) -> EventBridgeClient:
        return self._session.client("events", **self._options)

    @cached_property
    def _lambda(self) -> LambdaClient:
        return self._session.client("lambda", **self._options)

    @cached_property
    def _ssm(self) -> SSMClient:
        return self._session.client("ssm", **self._options)

    @cached_property
    def _s3(self) -> S3Client:
        return self._session.client("s3", **self._options)

    @cached_property
    def _ec2(self) -> EC2Client:
        return self._session.client("ec2", **self._options)

    @cached_property
    def _logs(self) -> Any:
        return self._session.client("logs", **self._options)

    def identity(self) -> Identity:
        with told():
            caller = self._session.client("sts", **self._options).get_caller_identity()
        alias = ""
        with suppress(NoAccess, CloudUnreachable, CloudRefused), told():  # it is nice to know, and not needed
            aliases = self._session.client("iam", **self._options).list_account_aliases()["AccountAliases"]
            alias = next(iter(aliases), "")
        return Identity(caller["Account"], caller["Arn"], alias)

    def require_regions(self, names: Collection[str]) -> None:
        """Raise `Invalid` when one of them is no region."""
        require_regions(self._session, names)

    def not_enabled(self, regions: Collection[str]) -> tuple[str, ...]:
        """Those of these regions that the account has not enabled; none when that may not be asked."""
        with suppress(NoAccess, CloudUnreachable, CloudRefused), told():  # no machine would be there, and others serve
            enabled = {region["RegionName"] for region in self._ec2.describe_regions()["Regions"]}
            return tuple(region for region in regions if region not in enabled)
        return ()

    def stack(self, deployment: Deployment) -> Stack | None:
        with told():
            try:
                found = self._formation.describe_stacks(StackName=deployment.stack)["Stacks"][0]
            except ClientError as error:
                if _is_no_stack(error):
                    return None
                raise
        return Stack(
            id=found["StackId"],
            status=found["StackStatus"],
            reason=found.get("StackStatusReason", ""),
            parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", [])},
            outputs={one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])},
        )

    def events(self, stack_id: str) -> Iterator[Event]:
        pages = iter(self._formation.get_paginator("describe_stack_events").paginate(StackName=stack_id))
        while True:
            with told():
                page = next(pages, None)
            if page is None:
                return
            for one in page["StackEvents"]:
                yield Event(
                    one.get("LogicalResourceId", ""),
                    one.get("ResourceType", ""),
                    one.get("ResourceStatus", ""),
                    one.get("ResourceStatusReason", ""),
                )

    def propose(
        self, deployment: Deployment, template: str, parameters: Mapping[str, str | None], *, is_new: bool
    ) -> tuple[Change, ...]:
        self.withdraw(deployment)
        try:
            with told():
                made = self._formation.create_change_set(
                    StackName=deployment.stack,
                    ChangeSetName=_CHANGE_SET,
                    ChangeSetType="CREATE" if is_new else "UPDATE",
                    Parameters=[_parameter(name, value) for name, value in parameters.items()],
                    Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
                    Tags=[{"Key": TAG, "Value": deployment.name}],
                    **_template(template),
                )
        except CloudRefused as error:
            if any(text in str(error) for text in _OTHERS):
                raise _overtaken(deployment) from error
            raise DeployFailed(str(error)) from error
        # From here on not by its name, which may be that of somebody else's by now, whom nobody here has shown the plan of.
        self._proposal = made["Id"]
        with told():
            try:
                return self._proposed(deployment)
            except self._formation.exceptions.ChangeSetNotFoundException as error:
                raise _overtaken(deployment) from error

    def _proposed(self, deployment: Deployment) -> tuple[Change, ...]:
        found = self._awaited(lambda: self._computed(deployment))
        if found["Status"] == "CREATE_COMPLETE":
            return self._changes(deployment)
        self.withdraw(deployment)
        reason = found.get("StatusReason", "")
        if any(text in reason for text in _NO_CHANGES):
            return ()
        raise DeployFailed(f"CloudFormation refuses the change: {reason}")

    def _computed(self, deployment: Deployment) -> Mapping[str, Any] | None:
        found = self._formation.describe_change_set(StackName=deployment.stack, ChangeSetName=self._proposal)
        return found if found["Status"] in ("CREATE_COMPLETE", "FAILED") else None

    def _awaited(self, look: Callable[[], _T | None]) -> _T:
        for _ in range(_PROPOSAL_LOOKS):
            found = look()
            if found is not None:
                return found
            self._pause(_PROPOSAL_POLL_S)
        waited_s = _PROPOSAL_LOOKS * _PROPOSAL_POLL_S
        raise CloudUnreachable(f"CloudFormation has not computed the change within {waited_s:g} s.")

    def _changes(self, deployment: Deployment) -> tuple[Change, ...]:
        pages = self._formation.get_paginator("describe_change_set")
        found = [
            change["ResourceChange"]
            for page in pages.paginate(StackName=deployment.stack, ChangeSetName=self._proposal)
            for change in page["Changes"]
        ]
        return tuple(
            Change(
                action=one["Action"],
                resource=one["LogicalResourceId"],
                kind=one["ResourceType"],
                is_replaced=one.get("Replacement") == "True",
            )
            for one in found
        )

    def withdraw(self, deployment: Deployment) -> None:
        self._awaited(lambda: self._withdrawn(deployment))

    def _withdrawn(self, deployment: Deployment) -> Literal[True] | None:
        """None while it is being computed, for a run that was killed: it cannot be deleted then."""
        with told():
            try:
                self._formation.delete_change_set(StackName=deployment.stack, ChangeSetName=_CHANGE_SET)
            except self._formation.exceptions.ChangeSetNotFoundException:
                pass
            except self._formation.exceptions.InvalidChangeSetStatusException:
                return None
            except ClientError as error:
                if not _is_no_stack(error):
                    raise
        return True

    def execute(self, deployment: Deployment) -> None:
        refusals = self._formation.exceptions
        with told():
            try:
                self._formation.execute_change_set(StackName=deployment.stack, ChangeSetName=self._proposal)
            except (refusals.ChangeSetNotFoundException, refusals.InvalidChangeSetStatusException) as error:
                raise _overtaken(deployment) from error

    def resume_rollback(self, deployment: Deployment) -> None:
        with told():
            self._formation.continue_update_rollback(StackName=deployment.stack)

    def delete_stack(self, deployment: Deployment) -> None:
        with told():
            self._formation.delete_stack(StackName=deployment.stack)

    def wake(self, deployment: Deployment) -> None:
        with told():
            for rule in deployment.rules:
                self._events.enable_rule(Name=rule)
            found = self._lambda.list_event_source_mappings(FunctionName=deployment.relay)["EventSourceMappings"]
            for mapping in found:
                if mapping["State"] not in ON:
                    self._turn_on(mapping["UUID"])

    def _turn_on(self, mapping: str) -> None:
        """A mapping that was changed just now takes no word until that is done, which takes seconds."""
        for turn in range(_TURNS):
            try:
                self._lambda.update_event_source_mapping(UUID=mapping, Enabled=True)
            except self._lambda.exceptions.ResourceInUseException as error:
                if turn == _TURNS - 1:
                    raise CloudUnreachable("The relay's queue is still being changed. Run the same again.") from error
                time.sleep(1.0)
            else:
                return

    def keys(self, deployment: Deployment) -> Mapping[str, str]:
        pages = self._ssm.get_paginator("get_parameters_by_path")
        with told():
            return {
                one["Name"].rpartition("/")[2]: one["Value"]
                for page in pages.paginate(Path=deployment.parameters, WithDecryption=True)
                for one in page["Parameters"]
            }

    def make_key(self, deployment: Deployment, name: str, value: str) -> None:
        with told(), suppress(self._ssm.exceptions.ParameterAlreadyExists):
            self._ssm.put_parameter(
                **_key(deployment, name, value),
                Tags=[{"Key": TAG, "Value": deployment.name}],
            )

    def change_key(self, deployment: Deployment, name: str, value: str) -> None:
        with told():  # AWS takes no tags along with this; those that it has stay
            self._ssm.put_parameter(**_key(deployment, name, value), Overwrite=True)

    def parameter_names(self, deployment: Deployment) -> tuple[str, ...]:
        pages = self._ssm.get_paginator("get_parameters_by_path")
        with told():
            return tuple(
                one["Name"]
                for page in pages.paginate(Path=deployment.parameters, Recursive=True)
                for one in page["Parameters"]
            )

    def delete_parameters(self, names: Collection[str]) -> None:
        for batch in _batches(names, _PARAMETERS_AT_ONCE):
            with told():
                self._ssm.delete_parameters(Names=batch)

    def objects(self, bucket: str, prefix: str = "") -> Mapping[str, float]:
        pages = self._s3.get_paginator("list_objects_v2")
        with told():
            try:
                found = [page.get("Contents", []) for page in pages.paginate(Bucket=bucket, Prefix=prefix)]
            except self._s3.exceptions.NoSuchBucket:
                return {}
        now = time.time()
        return {one["Key"]: now - one["LastModified"].timestamp() for page in found for one in page}

    def upload(self, bucket: str, key: str, path: Path) -> None:
        # In one piece: an interrupted upload in parts leaves parts that cost money and that no listing shows.
        with told(), path.open("rb") as body:
            self._s3.put_object(Bucket=bucket, Key=key, Body=body)

    def delete_objects(self, bucket: str, keys: Collection[str]) -> None:
        for batch in _batches(keys, _OBJECTS_AT_ONCE):
            with told():
                answer = self._s3.delete_objects(
                    Bucket=bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            # It answers 200 whatever became of each: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
            if failed := answer.get("Errors", []):
                first = failed[0]
                why = first.get("Message") or first.get("Code", "")
                raise DeployFailed(
                    f"S3 could not delete {len(failed)} of {len(batch)} objects in {bucket}; {first.get('Key')}: "
                    f"{why.rstrip('.')}. Mend that, and run the same command again."
                )

    def template_url(self, bucket: str, key: str) -> str:
        return f"{self._s3.meta.endpoint_url}/{bucket}/{key}"

    def log_groups(self, deployment: Deployment) -> tuple[str, ...]:
        wanted = frozenset(deployment.log_groups)
        pages = self._logs.get_paginator("describe_log_groups")
        with told():
            return tuple(
                one["logGroupName"]
                for page in pages.paginate(logGroupNamePrefix=f"/aws/lambda/{deployment.stack}-")
                for one in page["logGroups"]
                if one["logGroupName"] in wanted
            )

    def delete_log_groups(self, names: Collection[str]) -> None:
        for name in names:
            with told(), suppress(self._logs.exceptions.ResourceNotFoundException):
                self._logs.delete_log_group(logGroupName=name)


def _key(deployment: Deployment, name: str, value: str) -> Any:
    # Under the key that AWS manages, alias/aws/ssm: one of the customer's own costs $1 a month. In the tier that is free, which
    # need not be the account's default: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
    return {
        "Name": f"{deployment.parameters}/{name}",
        "Type": "SecureString",
        "Value": value,
        "Tier": "Standard",
    }


def _parameter(name: str, value: str | None) -> Any:
    return {"ParameterKey": name} | ({"UsePreviousValue": True} if value is None else {"ParameterValue": value})


def _template(template: str) -> Any:
    return {"TemplateBody": template} if template.startswith("{") else {"TemplateURL": template}


def _overtaken(deployment: Deployment) -> CloudUnreachable:
    """Not a failure of ours, after which a first deployment would be taken away again: it is theirs."""
    return CloudUnreachable(f"Somebody else changes {deployment.stack} at the same time. Run the same command again.")


def _is_no_stack(error: ClientError) -> bool:
    # There is no code of its own for it: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html
    return "does not exist" in error.response["Error"].get("Message", "")


def _batches(items: Collection[str], size: int) -> Iterator[list[str]]:
    ordered = sorted(items)
    yield from (ordered[start : start + size] for start in range(0, len(ordered), size))
