"""How a hook follows its branch: what to write when a delivery comes, when its head was acted on, when the forge is silent."""

from __future__ import annotations

from dataclasses import replace

from chalicelib.model import Hook, HookKind, Outcome, Push, Rollout

# GitHub lets a delivery be sent again for three days; after that it is nobody's but a thief's, and the branch's head is what
# counts by then.
DELIVERIES_KEPT_S = 7 * 86_400.0
# A delivery that is lost costs five minutes. Twelve questions an hour, where GitHub answers 5,000 with a token and 60 without.
POLL_EVERY_S = 300.0
# A forge may not see yet, everywhere, what it has just told.
LOOK_AGAIN_S = 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
# After an hour and a half of silence a forge is asked when there is something else to do too. What was refused for what may
# pass is looked at for two hours so.
_HOPELESS_FAILURES = 24


def is_due(hook: Hook, now: float) -> bool:
    """Whether there is something to do about it."""
    return hook.look_at is not None and hook.look_at <= now


def is_rolling_out(hook: Hook) -> bool:
    """Whether the forge is to hear what becomes of a version."""
    return hook.outcome is not None and hook.outcome.rollout is Rollout.UNDER_WAY


def is_waiting(hook: Hook) -> bool:
    """Whether something is left to do before the branch moves again, and there is hope that it can be done soon."""
    is_tried_again = may_pass(hook) and hook.look_at is not None  # out of a backup, which has no pushed file, it is not
    return (hook.is_pending or _is_untold(hook) or is_tried_again) and hook.failures < _HOPELESS_FAILURES


def may_pass(hook: Hook) -> bool:
    """Whether its head was refused for a reason that may pass, and is to be tried again."""
    return hook.outcome is not None and hook.outcome.waits_at is not None


def is_overruled(hook: Hook, version: int) -> bool:
    """Whether the service, which is at `version` (0 = there is none), was changed or taken down since: that is the later word.

    A delivery that has come since is a later one still.
    """
    return hook.outcome is not None and hook.outcome.waits_at not in (None, version) and not hook.is_pending


def pushed(hook: Hook, push: Push, now: float) -> Hook | None:
    """As it is to be written when a push is delivered; None when a later one is known already.

    Only what brings its own service file has an order of its own, which deliveries need not keep. A forge is asked for
    the head, so there the latest word is as good as any.
    """
    if hook.kind is HookKind.GENERIC and hook.push and _order(push) <= _order(hook.push):
        return None
    repository_id = hook.repository_id or push.repository_id
    return replace(hook, push=push, is_pending=True, look_at=now, failures=0, repository_id=repository_id)


def settled(hook: Hook, outcome: Outcome, now: float) -> Hook:
    """As it is to be written with what became of the head that was found, in one transaction with the deployment itself.

    A head that was refused for what may pass is tried again when the branch is looked at next; a push that has brought its
    file keeps it until then.
    """
    seen = replace(_seen(hook, outcome.commit, now), outcome=outcome)
    if seen.is_pending or not may_pass(seen):
        return seen
    return replace(seen, push=hook.push, look_at=now + POLL_EVERY_S, failures=hook.failures + 1)


def unmoved(hook: Hook, now: float) -> Hook:
    """As it is to be written when the head is the one that was acted on before. What is untold goes on being put off."""
    seen = _seen(hook, hook.outcome.commit if hook.outcome else "", now)
    return replace(seen, failures=hook.failures) if _is_untold(hook) else seen


def given_up(hook: Hook, now: float) -> Hook:
    """As it is to be written when its head is not to be tried again."""
    outcome = hook.outcome and replace(hook.outcome, waits_at=None)
    return unmoved(replace(hook, outcome=outcome), now)


def rolled_out(hook: Hook, rollout: Rollout, message: str) -> Hook:
    """As it is to be written when it is known how a version's roll-out ended."""
    outcome = hook.outcome and replace(hook.outcome, rollout=rollout, message=message, is_told=False)
    return replace(hook, outcome=outcome)


def told(hook: Hook) -> Hook:
    """As it is to be written when the forge knows the outcome, or will not hear of it."""
    return replace(hook, outcome=replace(hook.outcome, is_told=True)) if hook.outcome else hook


def put_off(hook: Hook, why: str, now: float) -> Hook:
    """As it is to be written when the forge cannot be asked: again after 5 s, 10 s … 300 s."""
    pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(hook.failures, 10), _LONGEST_PAUSE_S)
    return replace(hook, trouble=why, failures=hook.failures + 1, look_at=now + pause_s)


def as_written(hook: Hook) -> Hook:
    """As the store has it, once it was written."""
    return replace(hook, version=hook.version + 1)


def _is_untold(hook: Hook) -> bool:
    return hook.outcome is not None and not hook.outcome.is_told


def _seen(hook: Hook, head: str, now: float) -> Hook:
    """A head that is not the one announced may be newer, or older: it is looked at once more, soon, before it is believed."""
    if hook.is_pending and hook.push and hook.push.commit != head and not hook.failures:
        return replace(hook, failures=1, look_at=now + LOOK_AGAIN_S, trouble="")
    push = replace(hook.push, source="") if hook.push else None
    look_at = None if hook.kind is HookKind.GENERIC else now + POLL_EVERY_S
    return replace(hook, push=push, is_pending=False, look_at=look_at, failures=0, trouble="")


def _order(push: Push) -> tuple[float, str]:
    """By what the sender says, and of the same instant by name, so that every order of arrival ends alike."""
    return push.pushed_at, push.commit
