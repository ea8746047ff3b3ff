"""What an AWS account can do for a deployment: a port, so that its order of steps can be tried against one that breaks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chalicelib.errors import Retry, SailplaneError
from sailplane.deploy.deployment import Deployment


class NoAccess(SailplaneError):
    """Credentials are missing, have expired or may not do this; the message says which and what to do."""


class CloudUnreachable(Retry):
    """The account does not answer, or throttles."""


class CloudRefused(SailplaneError):
    """The account does not do what it was asked, for a reason of its own; the message has its words."""


class DeployFailed(SailplaneError):
    """CloudFormation could not do it; the message has the resource's own reason and what was left."""


# A creation that failed has nothing in it that anybody used; nothing but deleting it is possible.
_DEAD = frozenset({"REVIEW_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose account it is, by its twelve digits and, where one may ask, its alias, and as whom one acts in it."""

    account: str
    arn: str
    alias: str = ""

    def __str__(self) -> str:
        return f"AWS account {self.account}{f' ({self.alias})' if self.alias else ''}"


@dataclass(frozen=True, slots=True)
class Stack:
    """A CloudFormation stack as it is now. `parameters` with NoEcho show as asterisks."""

    id: str
    status: str
    reason: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether an operation goes on. A stack in review has no operation: its first change set was never executed."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def is_dead(self) -> bool:
        """Whether it must be deleted before there can be another."""
        return self.status in _DEAD

    def is_of(self, deployment: Deployment) -> bool:
        """Whether it is the deployment's own and not just called so. One in review has nothing in it, and no parameters yet.

        One that is being deleted may have been in review, and nothing is done but to wait for its end.
        """
        is_nobodys = self.status in ("REVIEW_IN_PROGRESS", "DELETE_IN_PROGRESS")
        return is_nobodys or self.parameters.get("Deployment") == deployment.name

    @property
    def has_code(self) -> bool:
        """Whether it is more than the bucket and the table that come before the functions."""
        return bool(self.parameters.get("CodeKey"))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource of a stack, or to the stack itself."""

    resource: str
    kind: str  # e.g. AWS::Lambda::Function
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a change set would do to one resource."""

    action: str  # Add, Modify, Remove
    resource: str
    kind: str
    is_replaced: bool = False

    @property
    def loses_data(self) -> bool:
        """Whether what is in the resource would be gone."""
        holds_data = self.kind in ("AWS::DynamoDB::Table", "AWS::S3::Bucket")
        return holds_data and (self.is_replaced or self.action == "Remove")


# Shows what goes on; every call replaces what was shown.
Show = Callable[[str], None]


class Account(Protocol):
    """One account and region. What is asked for twice is done once.

    Everything raises `NoAccess`, `CloudUnreachable` or `CloudRefused`.
    """

    @property
    def region(self) -> str: ...

    def identity(self) -> Identity: ...

    def stack(self, deployment: Deployment) -> Stack | None: ...

    def events(self, stack_id: str) -> Iterator[Event]:
        """Newest first, asked for as they are taken; of a deleted stack too."""
        ...

    def propose(
        self, deployment: Deployment, template: str, parameters: Mapping[str, str | None], *, is_new: bool
    ) -> tuple[Change, ...]:
        """Make the one change set that `execute` takes, in place of an older one; what it would change.

        `template` is its text or its `template_url`. None as a parameter's value is the value that it has. Raises
        `DeployFailed` when CloudFormation refuses it.
        """
        ...

    def withdraw(self, deployment: Deployment) -> None:
        """Drop the change set."""
        ...

    def execute(self, deployment: Deployment) -> None:
        """Begin what was proposed. `Stack.is_busy` until it is done. Raises `CloudUnreachable` if somebody else was faster."""
        ...

    def resume_rollback(self, deployment: Deployment) -> None:
        """Begin again to roll back, after UPDATE_ROLLBACK_FAILED."""
        ...

    def delete_stack(self, deployment: Deployment) -> None:
        """Begin to delete it; nothing happens when there is none."""
        ...

    def wake(self, deployment: Deployment) -> None:
        """Turn on what wakes the functions. The next tick turns it off again if there is nothing to wake for."""
        ...

    def keys(self, deployment: Deployment) -> Mapping[str, str]:
        """The parameters of the deployment by their last name, decrypted; the users' own secrets are not among them."""
        ...

    def make_key(self, deployment: Deployment, name: str, value: str) -> None:
        """Write a SecureString unless there is one."""
        ...

    def change_key(self, deployment: Deployment, name: str, value: str) -> None:
        """Write over a SecureString that `make_key` has made."""
        ...

    def parameter_names(self, deployment: Deployment) -> tuple[str, ...]:
        """The full names of all parameters under the deployment's path, the users' secrets included."""
        ...

    def delete_parameters(self, names: Collection[str]) -> None: ...

    def objects(self, bucket: str, prefix: str = "") -> Mapping[str, float]:
        """How old each object of a bucket is, in seconds, by its key; none when there is no bucket."""
        ...

    def upload(self, bucket: str, key: str, path: Path) -> None: ...

    def delete_objects(self, bucket: str, keys: Collection[str]) -> None:
        """Raises `DeployFailed` when some of them could not be deleted."""
        ...

    def template_url(self, bucket: str, key: str) -> str:
        """Where CloudFormation finds a template that is too long to be sent along."""
        ...

    def log_groups(self, deployment: Deployment) -> tuple[str, ...]: ...

    def delete_log_groups(self, names: Collection[str]) -> None: ...
