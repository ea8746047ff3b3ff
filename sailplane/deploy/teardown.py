"""Taking a deployment out of an account, from whatever state it is in."""

from __future__ import annotations

from collections.abc import Callable

from sailplane.deploy import stacks
from sailplane.deploy.account import Account, DeployFailed, Show
from sailplane.deploy.deployment import Deployment

# A function that was at work may still write a routing table into the emptied bucket, which then cannot be deleted.
_ATTEMPTS = 3


def remove(
    account: Account, deployment: Deployment, show: Show, pause: Callable[[], None], *, keeps_secrets: bool = False
) -> None:
    """Delete the stack, its bucket's content, the parameters and the log groups. Run again, it does what is left to do.

    The stack goes first and the keys last: what can still run knows its keys, and an interrupted run is found again.
    `keeps_secrets`: not the users' texts, which nobody else may have.
    Raises `DeployFailed` when CloudFormation cannot delete something.
    """
    stack = stacks.settled(account, deployment, show, pause)
    for _ in range(_ATTEMPTS):
        if stack is None:
            break
        if bucket := stack.outputs.get("Bucket"):
            show(f"emptying {bucket}")
            account.delete_objects(bucket, account.objects(bucket))
        account.delete_stack(deployment)
        pause()  # it need not show at once that something goes on
        stack = stacks.settled(account, deployment, show, pause)
    if stack is not None:
        raise DeployFailed(
            f"CloudFormation could not delete {stacks.cause(account.events(stack.id), stack)}\n"
            "Remove what it names, or what keeps it, and run `sailplane teardown` again: it goes on from there."
        )
    names = account.parameter_names(deployment)
    account.delete_parameters([name for name in names if not (keeps_secrets and name.startswith(deployment.secrets))])
    # CloudFormation has deleted them; an invocation that ended later has made them again, to be kept for ever.
    account.delete_log_groups(account.log_groups(deployment))


def leftovers(account: Account, deployment: Deployment) -> tuple[str, ...]:
    """What of a deployment is still there, for people."""
    stack = account.stack(deployment)
    return (
        *([f"stack {deployment.stack} ({stack.status})"] if stack else []),
        *(f"parameter {name}" for name in account.parameter_names(deployment)),
        *(f"log group {name}" for name in account.log_groups(deployment)),
    )
