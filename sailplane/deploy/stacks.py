"""Waiting for a stack, and saying what goes on in it and why it failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile

from chalicelib.errors import Invalid
from sailplane.deploy.account import Account, Event, Show, Stack
from sailplane.deploy.deployment import Deployment

# Frequent enough to be watched; an account may ask some ten times a second before it is throttled.
POLL_EVERY_S = 2.0
SHOWN_EVENTS = 6

_STACK = "AWS::CloudFormation::Stack"
_BEGINS = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "REVIEW_IN_PROGRESS"})
# What CloudFormation says of resources that it did not come to because another one failed.
_CANCELLED = ("Resource creation cancelled", "Resource update cancelled", "Resource deletion cancelled")


def settled(account: Account, deployment: Deployment, show: Show, pause: Callable[[], None]) -> Stack | None:
    """The deployment's stack once no operation goes on in it; None when there is none.

    Raises `Invalid` when the stack of its name is somebody else's, which nobody may change, empty or delete.
    """
    while (stack := account.stack(deployment)) is not None:
        if not stack.is_of(deployment):
            raise Invalid(
                f"There is a stack {deployment.stack} in {account.region} that is not Sailplane's. Take another name with "
                "--deployment. Nothing was changed."
            )
        if not stack.is_busy:
            break
        show("\n".join(progress(account.events(stack.id))))
        pause()
    return stack


def progress(events: Iterable[Event]) -> list[str]:
    """The last things that happened in the operation that goes on, oldest first."""
    newest = islice((event for event in operation(events) if event.kind != _STACK), SHOWN_EVENTS)
    return [f"{event.status.lower().replace('_', ' ')}: {event.resource}" for event in reversed(list(newest))]


def cause(events: Iterable[Event], stack: Stack) -> str:
    """Why the last operation failed, in the words of the first resource that did; of the stack itself if none did."""
    failed = [event for event in operation(events) if event.status.endswith("_FAILED") and event.kind != _STACK]
    own = [event for event in failed if event.reason and not event.reason.startswith(_CANCELLED)]
    if not own:
        return stack.reason or stack.status
    return f"{own[-1].resource} ({own[-1].kind}): {own[-1].reason}"


def operation(events: Iterable[Event]) -> Iterator[Event]:
    """The events of the last operation, of all that there were; newest first."""
    return takewhile(lambda event: not (event.kind == _STACK and event.status in _BEGINS), events)


def pause() -> None:
    """Wait between two looks at a stack."""
    time.sleep(POLL_EVERY_S)
