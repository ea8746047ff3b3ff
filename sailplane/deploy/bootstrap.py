"""From nothing, from an older version or from where an interrupted run stopped, to the wanted control plane.

Every step looks at what is there and does what is missing, so that running it again is how anything is repaired. A first
deployment that fails leaves nothing; a later one that fails leaves the version before.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sailplane.deploy import package, stacks, teardown
from sailplane.deploy.account import Account, Change, DeployFailed, Show, Stack
from sailplane.deploy.deployment import AGENT_KEY, CREDENTIALS, KEYS, ROUTER_TOKEN, Deployment
from sailplane.deploy.package import Package

KEY_BYTES = 32
# Longer than anybody looks at a plan. Two versions are 80 MB, $0.002 a month.
_KEPT_S = 86_400.0
_DONE = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be changed. `is_new` when there is no control plane yet, whatever else an earlier run may have left."""

    is_new: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """One control plane on its way into an account.

    Args:
        settings: the template's parameters that the user has chosen; the others stay as they are.
        pause: waits between two looks at what CloudFormation does.
        credentials: those for other clouds that the user has given, by the names of `CREDENTIALS`; others stay as they are.
    """

    account: Account
    deployment: Deployment
    package: Package
    settings: Mapping[str, str]
    pause: Callable[[], None]
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    def plan(self, show: Show) -> Plan:
        """What `carry_out` would do. Changes nothing that anybody uses: of an update, code and change set are put ready.

        Raises `DeployFailed` when CloudFormation refuses the template.
        """
        stack = self._settled(show)
        if stack is not None and stack.status == "UPDATE_ROLLBACK_FAILED":
            self.account.resume_rollback(self.deployment)
            stack = self._settled(show)
        if stack is None or stack.is_dead or not stack.has_code:
            return Plan(is_new=True, changes=self.package.additions)
        changes = self._propose(stack, show)
        if lost := [change.resource for change in changes if change.loses_data]:
            self.withdraw()
            raise DeployFailed(
                f"This would make {' and '.join(lost)} anew, empty. Nothing was changed. Save what is there with `sailplane "
                "export`, and take it to a new deployment with `sailplane import`."
            )
        return Plan(is_new=False, changes=changes)

    def carry_out(self, plan: Plan, show: Show) -> Stack:
        """Do it; the stack then. Raises `DeployFailed` with the reason, and with what was left, when it cannot be done."""
        if plan.is_new:
            return self._create(show)
        self._keep_credentials()
        stack = self._updated(show) if plan.changes else self._settled(show)
        if stack is None or stack.status not in _DONE | {"UPDATE_ROLLBACK_COMPLETE"}:
            raise DeployFailed(f"{self._why(stack)}\nRun the same command again: it goes on from there.")
        # The first upgrade's rollback puts what wakes the functions back to how it was made: off, by versions of before. Said every
        # time, for a run that broke off here.
        self.account.wake(self.deployment)
        if plan.changes and stack.status not in _DONE:
            raise DeployFailed(f"{self._why(stack)}\nThe version before is in place again and goes on.")
        self._drop_old_code(stack)
        return stack

    def withdraw(self) -> None:
        """Forget the plan of an update."""
        self.account.withdraw(self.deployment)

    def _create(self, show: Show) -> Stack:
        try:
            stack = self._found(show)
            self._keep_credentials()
            return self._done(self._executed(show)) if self._propose(stack, show) else stack
        except DeployFailed as failure:
            teardown.remove(self.account, self.deployment, show, self.pause, keeps_secrets=True)
            raise DeployFailed(f"{failure}\nEverything that was made has been removed again.") from failure

    def _found(self, show: Show) -> Stack:
        """See to the bucket for the code and the table; whatever a failed run left is removed first."""
        stack = self._settled(show)
        if stack is not None and stack.is_dead:
            teardown.remove(self.account, self.deployment, show, self.pause, keeps_secrets=True)
            stack = None
        if stack is not None:
            return stack
        name = {"Deployment": self.deployment.name}
        self.account.propose(self.deployment, self.package.foundation, name, is_new=True)
        return self._done(self._executed(show))

    def _propose(self, stack: Stack, show: Show) -> tuple[Change, ...]:
        bucket = stack.outputs["Bucket"]
        self._upload(bucket, show)
        keys = self._keys()
        parameters = {
            # Left out, a parameter would go back to its default.
            **{name: None for name in self.package.template["Parameters"] if name in stack.parameters},
            **self.settings,
            "Deployment": self.deployment.name,
            "CodeKey": self.package.code_key,
            "EdgeKey": self.package.edge_key,
            "RouterToken": keys[ROUTER_TOKEN],
            "Credentials": _digest({**keys, **self.credentials}),
            **self._awake(stack),
        }
        template = self.account.template_url(bucket, self.package.template_key)
        return self.account.propose(self.deployment, template, parameters, is_new=False)

    def _awake(self, stack: Stack) -> Mapping[str, str]:
        """What CloudFormation touches it puts to what is said here, and nobody may be left to say otherwise.

        On, from the first version on: a laptop that dies meanwhile leaves services looked after, also when an update is
        rolled back, and where there are none the tick turns it off. Never back to off: a service may be created before the
        update comes to the rule.
        """
        is_same = stack.has_code and stack.parameters["CodeKey"] == self.package.code_key
        return {} if is_same else {"Awake": "yes"}

    def _upload(self, bucket: str, show: Show) -> None:
        there = self.account.objects(bucket, package.CODE)
        for key, path in self.package.uploads.items():
            if key not in there:
                show(f"uploading {path.name}, {path.stat().st_size / 1e3:,.0f} kB")
                self.account.upload(bucket, key, path)

    def _keys(self) -> Mapping[str, str]:
        there = self.account.keys(self.deployment)
        missing = [name for name in KEYS if name not in there]
        for name in missing:
            self.account.make_key(self.deployment, name, secrets.token_hex(KEY_BYTES))
        return self.account.keys(self.deployment) if missing else there

    def _keep_credentials(self) -> None:
        """Before the functions that read them are made anew."""
        there = self.account.keys(self.deployment)
        for name, text in self.credentials.items():
            if name not in there:
                self.account.make_key(self.deployment, name, text)
            elif there[name] != text:
                self.account.change_key(self.deployment, name, text)

    def _updated(self, show: Show) -> Stack | None:
        """The plan may have waited for its yes, and an upgrade of somebody else's have dropped what it takes."""
        if (stack := self._settled(show)) is not None:
            self._upload(stack.outputs["Bucket"], show)
        return self._executed(show)

    def _executed(self, show: Show) -> Stack | None:
        self.account.execute(self.deployment)
        self.pause()  # it need not show at once that something goes on
        return self._settled(show)

    def _settled(self, show: Show) -> Stack | None:
        return stacks.settled(self.account, self.deployment, show, self.pause)

    def _done(self, stack: Stack | None) -> Stack:
        if stack is None or stack.status not in _DONE:
            raise DeployFailed(self._why(stack))
        return stack

    def _why(self, stack: Stack | None) -> str:
        if stack is None:
            return f"Somebody has deleted the stack {self.deployment.stack} meanwhile."
        return f"CloudFormation could not make {stacks.cause(self.account.events(stack.id), stack)}"

    def _drop_old_code(self, stack: Stack) -> None:
        """Not what is young: somebody else may have uploaded it, and be looking at the plan that takes it."""
        bucket = stack.outputs["Bucket"]
        there = self.account.objects(bucket, package.CODE)
        old = {key for key, age_s in there.items() if age_s > _KEPT_S} - self.package.uploads.keys()
        self.account.delete_objects(bucket, old)


def _digest(keys: Mapping[str, str]) -> str:
    """Tells what functions read once in their life from what they read before, and nothing of it to who has not the agents' key."""
    found = {name: keys[name] for name in (*KEYS, *CREDENTIALS.values()) if name in keys}
    return hmac.digest(keys[AGENT_KEY].encode(), json.dumps(found, sort_keys=True).encode(), "sha256").hex()
