"""How a hook follows its branch, whatever comes in whatever order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from chalicelib.hooks import following
from chalicelib.hooks.following import LOOK_AGAIN_S, POLL_EVERY_S
from chalicelib.model import Hook, HookKind, Outcome, Push

NOW = 1_800_000_000.0
FORGE = Hook("0123456789", HookKind.GITHUB, "svc", NOW, repository="acme/app", branch="main", look_at=NOW)
GENERIC = Hook("0123456789", HookKind.GENERIC, "svc", NOW)


def outcome(commit: str, version: int = 1, *, is_told: bool = True) -> Outcome:
    return Outcome(commit, NOW, version, "deployed", is_told)


def test_a_new_one_is_looked_at_at_once() -> None:
    """What is on the branch already is deployed without a push; a generic one waits for its first delivery."""
    assert following.is_due(FORGE, NOW)
    assert not following.is_due(GENERIC, NOW + 1e9)


def test_a_push_makes_it_due() -> None:
    """Though it was put off after failures."""
    put_off = following.put_off(FORGE, "down", NOW)
    assert not following.is_due(put_off, NOW)
    pushed = following.pushed(put_off, Push("a", NOW), NOW)
    assert pushed
    assert following.is_due(pushed, NOW)
    assert following.is_waiting(pushed)


def test_a_settled_one_is_polled() -> None:
    """Every five minutes, because deliveries get lost."""
    settled = following.settled(FORGE, outcome("a"), NOW)
    assert not following.is_waiting(settled)
    assert settled.look_at == NOW + POLL_EVERY_S
    assert following.unmoved(settled, NOW + POLL_EVERY_S).look_at == NOW + 2 * POLL_EVERY_S


def test_a_head_that_was_not_announced_is_looked_at_again() -> None:
    """Once, and soon: the forge may not show everywhere yet what it has just told."""
    pushed = following.pushed(replace(FORGE, outcome=outcome("old")), Push("new", NOW), NOW)
    assert pushed
    unsure = following.unmoved(pushed, NOW)
    assert (unsure.look_at, following.is_waiting(unsure)) == (NOW + LOOK_AGAIN_S, True)
    sure = following.unmoved(unsure, NOW + LOOK_AGAIN_S)
    assert (sure.look_at, following.is_waiting(sure)) == (NOW + LOOK_AGAIN_S + POLL_EVERY_S, False)


def test_silence_is_put_off_for_longer_and_longer() -> None:
    """5 s to 5 min; and it is not waited for with everything awake for ever."""
    hook, pauses = following.pushed(FORGE, Push("a", NOW), NOW), []
    assert hook
    while following.is_waiting(hook):
        hook = following.put_off(hook, "down", NOW)
        assert hook.look_at
        pauses.append(hook.look_at - NOW)
    assert pauses[:4] == [5, 10, 20, 40]
    assert (max(pauses), sum(pauses) < 7200) == (300, True)
    assert following.unmoved(hook, NOW).trouble == ""


def test_what_is_untold_stays_waiting() -> None:
    """And goes on being put off while the branch does not move."""
    untold = following.put_off(following.settled(FORGE, outcome("a", is_told=False), NOW), "down", NOW)
    again = following.unmoved(untold, NOW)
    assert (again.failures, following.is_waiting(again)) == (1, True)
    assert not following.is_waiting(following.told(again))


@pytest.mark.parametrize("seed", range(20))
def test_the_latest_generic_push_wins(seed: int) -> None:
    """1,000 pushes delivered in any order, some more than once, with settling in between: the newest is the one that stays."""
    lots = random.Random(seed)
    pushes = [Push(f"c{number}", NOW, NOW + number // 2, f"file {number}") for number in range(50)]
    lots.shuffle(pushes)
    hook, settled = GENERIC, ""
    for push in [*pushes, *lots.sample(pushes, 10)]:
        hook = following.pushed(hook, push, NOW) or hook
        if hook.push and hook.is_pending and lots.random() < 0.3:
            settled = hook.push.source
            hook = following.settled(hook, outcome(hook.push.commit), NOW)
    if hook.push and hook.is_pending:
        settled = hook.push.source
    assert settled == f"file {max(range(50), key=lambda number: (number // 2, f'c{number}'))}"


def test_a_settled_push_keeps_no_file() -> None:
    """64 KB in every read of all hooks would be a waste."""
    hook = following.pushed(GENERIC, Push("a", NOW, NOW, "file"), NOW)
    assert hook
    settled = following.settled(hook, outcome("a"), NOW)
    assert settled.push
    assert (settled.push.source, settled.look_at) == ("", None)


def test_what_cannot_be_tried_again_keeps_nothing_awake() -> None:
    """A generic push that was refused for what may pass waits with its file; out of a backup it has none, and waits for nothing."""
    hook = following.pushed(GENERIC, Push("a", NOW, NOW, "file"), NOW)
    assert hook
    refused = following.settled(hook, replace(outcome("a", 0), waits_at=0), NOW)
    assert refused.push
    assert (refused.push.source, refused.look_at, following.is_waiting(refused)) == ("file", NOW + POLL_EVERY_S, True)
    assert not following.is_waiting(replace(refused, push=None, look_at=None))
