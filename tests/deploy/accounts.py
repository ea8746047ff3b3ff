"""An AWS account in memory, with as much of CloudFormation as a deployment sees, and one that breaks off."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sailplane.deploy.account import Change, CloudUnreachable, DeployFailed, Event, Identity, Stack
from sailplane.deploy.deployment import Deployment

LOOKS_PER_OPERATION = 2
_STACK = "AWS::CloudFormation::Stack"


@dataclass
class Formation:
    """A stack and what goes on in it."""

    id: str
    status: str = "REVIEW_IN_PROGRESS"
    reason: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    looks_left: int = 0
    wanted: tuple[dict[str, str], dict[str, str], dict[str, str]] | None = None  # resources, outputs, parameters


@dataclass
class FakeAccount:
    """`account.Account`. Operations take two looks. What is in `broken` cannot be made, in `stuck` cannot be deleted."""

    region: str = "us-east-1"
    broken: dict[str, str] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    stacks: dict[str, Formation] = field(default_factory=dict)
    proposed: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = field(default_factory=dict)
    happened: dict[str, list[Event]] = field(default_factory=dict)
    buckets: dict[str, dict[str, str]] = field(default_factory=dict)
    ages: dict[str, float] = field(default_factory=dict)  # of objects, in seconds
    parameters: dict[str, str] = field(default_factory=dict)
    logs: set[str] = field(default_factory=set)
    made: int = 0
    awake: set[str] = field(default_factory=set)

    def is_empty(self) -> bool:
        return not (self.stacks or self.proposed or self.buckets or self.parameters or self.logs)

    def identity(self) -> Identity:
        return Identity("123456789012", "arn:aws:iam::123456789012:user/me", "acme-corp")

    def stack(self, deployment: Deployment) -> Stack | None:
        found = self.stacks.get(deployment.stack)
        if found is None:
            return None
        shown = {**found.parameters} | ({"RouterToken": "****"} if "RouterToken" in found.parameters else {})
        stack = Stack(found.id, found.status, found.reason, shown, {**found.outputs})
        if found.looks_left:
            found.looks_left -= 1
            if not found.looks_left:
                self._end(deployment, found)
        return stack

    def events(self, stack_id: str) -> Iterator[Event]:
        return reversed(self.happened[stack_id])

    def propose(
        self, deployment: Deployment, template: str, parameters: Mapping[str, str | None], *, is_new: bool
    ) -> tuple[Change, ...]:
        self.withdraw(deployment)
        stack = self.stacks.get(deployment.stack)
        usable = stack is not None and not stack.looks_left and not Stack(stack.id, stack.status).is_dead
        if is_new:
            assert stack is None
            self.made += 1
            stack = self.stacks[deployment.stack] = Formation(id=f"stack/{deployment.stack}/{self.made}")
            self.happened[stack.id] = [Event(deployment.stack, _STACK, stack.status)]
        else:
            assert stack is not None
            assert usable
        body = json.loads(self._text(template))
        given = {name: stack.parameters[name] if value is None else value for name, value in parameters.items()}
        if unknown := given.keys() - body["Parameters"].keys():
            raise DeployFailed(f"Parameters: {sorted(unknown)} do not exist in the template")
        values = {name: one.get("Default") for name, one in body["Parameters"].items()} | given
        if missing := [name for name, value in values.items() if value is None]:
            raise DeployFailed(f"Parameters: {missing} must have values")
        resources = {name: _filled(one, values) for name, one in body["Resources"].items()}
        outputs = {name: f"{name.lower()}-{deployment.name}" for name in body["Outputs"]}
        changes = (
            *(Change("Add", name, one) for name, one in resources.items() if name not in stack.resources),
            *(Change("Modify", name, one) for name, one in resources.items() if stack.resources.get(name, one) != one),
            *(Change("Remove", name, _kind(one)) for name, one in stack.resources.items() if name not in resources),
        )
        if changes:
            self.proposed[deployment.stack] = resources, outputs, values
        return changes

    def withdraw(self, deployment: Deployment) -> None:
        self.proposed.pop(deployment.stack, None)

    def execute(self, deployment: Deployment) -> None:
        stack = self.stacks[deployment.stack]
        if deployment.stack not in self.proposed:
            raise CloudUnreachable("Somebody else was faster.")
        stack.wanted = self.proposed.pop(deployment.stack)
        if not stack.resources:
            stack.parameters = stack.wanted[2]  # shown of a creation that fails, too
        self._begin(deployment, "UPDATE" if stack.resources else "CREATE")

    def resume_rollback(self, deployment: Deployment) -> None:
        assert self.stacks[deployment.stack].status == "UPDATE_ROLLBACK_FAILED"
        self._begin(deployment, "UPDATE_ROLLBACK")

    def delete_stack(self, deployment: Deployment) -> None:
        if deployment.stack in self.stacks:
            self.proposed.pop(deployment.stack, None)
            self._begin(deployment, "DELETE")

    def _begin(self, deployment: Deployment, operation: str) -> None:
        stack = self.stacks[deployment.stack]
        assert not stack.looks_left, "an operation goes on"
        stack.looks_left = LOOKS_PER_OPERATION
        self._tell(stack, deployment, f"{operation}_IN_PROGRESS")

    def _tell(self, stack: Formation, deployment: Deployment, status: str, reason: str = "") -> None:
        stack.status, stack.reason = status, reason
        self.happened[stack.id].append(Event(deployment.stack, _STACK, status, reason))

    def _end(self, deployment: Deployment, stack: Formation) -> None:
        operation = stack.status.removesuffix("_IN_PROGRESS")
        if operation == "DELETE":
            self._delete(deployment, stack)
        elif operation == "UPDATE_ROLLBACK":
            self._tell(stack, deployment, "UPDATE_ROLLBACK_COMPLETE")
        else:
            self._apply(deployment, stack, operation)

    def _apply(self, deployment: Deployment, stack: Formation, operation: str) -> None:
        assert stack.wanted is not None
        resources, outputs, parameters = stack.wanted
        events = self.happened[stack.id]
        before = stack.parameters.get("Awake") == "yes"
        self._switch(deployment, is_on=parameters.get("Awake") == "yes")
        for name in resources:
            if name in self.broken:
                events.append(Event(name, "AWS::Kind", f"{operation}_FAILED", self.broken[name]))
                events.append(Event("Other", "AWS::Kind", f"{operation}_FAILED", "Resource creation cancelled"))
                self._switch(deployment, is_on=before)
                rolled_back = "ROLLBACK_COMPLETE" if operation == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
                self._tell(stack, deployment, rolled_back, "something failed")
                return
            events.append(Event(name, "AWS::Kind", f"{operation}_COMPLETE"))
        stack.resources, stack.outputs, stack.parameters = resources, outputs, parameters
        if "Bucket" in resources:
            self.buckets.setdefault(outputs["Bucket"], {})
        if "Log" in resources:
            self.logs.add(deployment.log_groups[0])
        self._tell(stack, deployment, f"{operation}_COMPLETE")

    def _switch(self, deployment: Deployment, *, is_on: bool) -> None:
        """As an update does that touches the rules."""
        (self.awake.add if is_on else self.awake.discard)(deployment.stack)

    def _delete(self, deployment: Deployment, stack: Formation) -> None:
        bucket = stack.outputs.get("Bucket", "")
        if self.buckets.get(bucket) or self.stuck & stack.resources.keys():
            self.happened[stack.id].append(
                Event("Bucket", "AWS::S3::Bucket", "DELETE_FAILED", "The bucket you tried to delete is not empty")
            )
            self._tell(stack, deployment, "DELETE_FAILED", "The following resource(s) failed to delete: [Bucket].")
            return
        self.buckets.pop(bucket, None)
        del self.stacks[deployment.stack]

    def wake(self, deployment: Deployment) -> None:
        self.awake.add(deployment.stack)

    def keys(self, deployment: Deployment) -> Mapping[str, str]:
        path = f"{deployment.parameters}/"
        found = {name.removeprefix(path): value for name, value in self.parameters.items() if name.startswith(path)}
        return {name: value for name, value in found.items() if "/" not in name}

    def make_key(self, deployment: Deployment, name: str, value: str) -> None:
        self.parameters.setdefault(f"{deployment.parameters}/{name}", value)

    def change_key(self, deployment: Deployment, name: str, value: str) -> None:
        assert f"{deployment.parameters}/{name}" in self.parameters
        self.parameters[f"{deployment.parameters}/{name}"] = value

    def parameter_names(self, deployment: Deployment) -> tuple[str, ...]:
        return tuple(name for name in self.parameters if name.startswith(f"{deployment.parameters}/"))

    def delete_parameters(self, names: Collection[str]) -> None:
        for name in names:
            self.parameters.pop(name, None)

    def objects(self, bucket: str, prefix: str = "") -> Mapping[str, float]:
        return {key: self.ages.get(key, 0.0) for key in self.buckets.get(bucket, {}) if key.startswith(prefix)}

    def upload(self, bucket: str, key: str, path: Path) -> None:
        self.buckets[bucket][key] = path.read_text()

    def delete_objects(self, bucket: str, keys: Collection[str]) -> None:
        for key in keys:
            del self.buckets[bucket][key]

    def template_url(self, bucket: str, key: str) -> str:
        return f"https://s3/{bucket}/{key}"

    def log_groups(self, deployment: Deployment) -> tuple[str, ...]:
        return tuple(sorted(self.logs & set(deployment.log_groups)))

    def delete_log_groups(self, names: Collection[str]) -> None:
        self.logs -= set(names)

    def _text(self, template: str) -> str:
        if template.startswith("{"):
            return template
        bucket, _, key = template.removeprefix("https://s3/").partition("/")
        return self.buckets[bucket][key]


def _kind(resource: str) -> str:
    return str(json.loads(resource)["Type"])


def _filled(resource: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """What a resource comes to with the parameters that it names; enough to tell whether it changes."""
    text = json.dumps(resource)
    for name, value in values.items():
        text = text.replace(json.dumps({"Ref": name}), json.dumps(value))
    return text


class BrokenOffError(BaseException):
    """The process ended here; nothing catches it, as nothing catches SIGKILL."""


class BreaksOff:
    """An account whose caller is killed at one call, before it has an effect or before its answer comes back."""

    def __init__(self, account: FakeAccount, at: int, *, is_done: bool) -> None:
        self.calls = 0
        self._account = account
        self._at = at
        self._is_done = is_done

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._account, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            is_last = self.calls == self._at
            if is_last and not self._is_done:
                raise BrokenOffError
            answer = found(*args, **kwargs)
            if is_last:
                raise BrokenOffError
            return answer

        return call
