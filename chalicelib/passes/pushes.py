"""Let services follow their branches: what was pushed is deployed, and so is what was pushed without our hearing of it.

The forge's word counts, not a delivery's: whatever was delivered in whatever order, it is the branch's head of now that is
deployed. What became of it is written in the same transaction as the service's new version, under the hook's version, so that
of two passes at work on one hook one writes, and a push that comes meanwhile is not taken for done.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from chalicelib import deploying
from chalicelib.errors import Conflict, Exists, Invalid, NotFound, Unreachable
from chalicelib.hooks import following
from chalicelib.model import Event, Hook, HookKind, Outcome
from chalicelib.passes.runner import Report
from chalicelib.ports import Commit, Forge, Repository, Runtime

_LANE = "forges"
_COMMIT_SHOWN = 10  # characters
_MESSAGE_CHARACTERS = 2_000  # of a refusal: a service file can be wrong in many places


def deploy_pushes(runtime: Runtime, only: Collection[str] | None = None) -> tuple[Report, ...]:
    """Act on every hook that is due, or on those of the named services; side by side, so that a slow forge waits alone.

    A service file that is refused changes nothing of the service: its events say why, and so does the commit's status. What
    could not be asked or written is tried again, see `following.put_off`. One request where there are no hooks.
    """
    now = runtime.clock.now()
    try:
        hooks = runtime.store.hooks()
    except Unreachable as error:
        return (Report("", (f"store: {error}",), acted=False, next_at=now + 1.0),)
    due = [hook for hook in hooks if following.is_due(hook, now) and (only is None or hook.service in only)]
    attended = [runtime.spawn(_LANE, partial(_attended, runtime, hook)) for hook in due]
    return tuple(one.result() for one in attended)


def pushes_wait(runtime: Runtime) -> bool:
    """Whether a push is still to be acted on, or its outcome to be told. Raises `Unreachable`."""
    return any(map(following.is_waiting, runtime.store.hooks()))


def _attended(runtime: Runtime, hook: Hook) -> Report:
    try:
        _attend(runtime, hook)
    except (Conflict, Exists):
        # A push came, another pass was faster, or the owner changed the service. All of it is decided on anew.
        return Report(hook.service, (), acted=False, next_at=runtime.clock.now(), is_held_up=True)
    except Unreachable as error:
        return Report(hook.service, (f"webhook {hook.id}: {error}",), acted=False, next_at=runtime.clock.now() + 1.0)
    return Report(hook.service, (), acted=True, next_at=runtime.clock.now())


def _attend(runtime: Runtime, hook: Hook) -> None:
    try:
        forge = _At(runtime, hook)
        if hook.outcome and not hook.outcome.is_told:
            hook = _tell(runtime, hook, forge)
        head = forge.head()
        if hook.outcome and hook.outcome.commit == head:
            _write(runtime, following.unmoved(hook, runtime.clock.now()))
            return
        source = forge.file(head)
    except (Unreachable, NotFound, Invalid) as error:
        _put_off(runtime, hook, str(error))
        return
    ...
