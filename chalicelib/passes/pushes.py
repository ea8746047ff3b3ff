"""Let services follow their branches: what was pushed is deployed, and so is what was pushed without our hearing of it.

The forge's word counts, not a delivery's: whatever was delivered in whatever order, it is the branch's head of now that is
deployed. What became of it is written in the same transaction as the service's new version, under the hook's version, so that
of two passes at work on one hook one writes, and a push that comes meanwhile is not taken for done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial

from chalicelib import deploying, lifecycle
from chalicelib.errors import Conflict, Exists, Invalid, LeaseHeld, NotFound, NotYet, Retry, Unreachable
from chalicelib.hooks import following, pins
from chalicelib.model import CommitStatus, Event, Hook, Outcome, Rollout
from chalicelib.passes.report import Report, guarded
from chalicelib.ports import Commit, Forge, Repository, Runtime

_LANE = "forges"
_COMMIT_CHARACTERS = 10  # enough to find it by
_MESSAGE_CHARACTERS = 2_000  # a service file can be wrong in many places
# Not what a replica's engine has said last: the public may see a commit's status.
_ENDED = {
    Rollout.DONE: "version {version} of {service} serves",
    Rollout.FAILED: "version {version} of {service} failed: see sailplane status {service}",
    Rollout.OVERTAKEN: "version {version} of {service} was overtaken before it served",
}


def deploy_pushes(runtime: Runtime, only: Collection[str] | None = None) -> tuple[Report, ...]:
    """Act on every hook that is due, or on those of the named services; side by side, so that a slow forge waits alone.

    A service file that is refused changes nothing of the service: its events say why, and so does the commit's status. What
    could not be asked or written is tried again, see `following.put_off`. One request where there are no hooks.
    """
    hooks = guarded(runtime.clock, "", runtime.store.hooks)
    if isinstance(hooks, Report):
        return (hooks,)
    if not hooks:
        return ()
    now = runtime.clock.now()
    meant = [hook for hook in hooks if only is None or hook.service in only]
    due = [(hook, _attend) for hook in meant if following.is_due(hook, now)]
    rolling = [(hook, _follow) for hook in meant if following.is_rolling_out(hook) and not following.is_due(hook, now)]
    attended = [runtime.spawn(_LANE, partial(_guarded, runtime, *one)) for one in (*due, *rolling)]
    return tuple(one.result() for one in attended)


def _guarded(runtime: Runtime, hook: Hook, attend: Callable[[Runtime, Hook], bool]) -> Report:
    """Never raises: what goes wrong with one hook is neither the next one's trouble nor the passes'."""
    return guarded(runtime.clock, hook.service, partial(_attended, runtime, hook, attend))


def _attended(runtime: Runtime, hook: Hook, attend: Callable[[Runtime, Hook], bool]) -> Report:
    try:
        acted = attend(runtime, hook)
    except (Conflict, Exists):
        # A push came, another pass was faster, or the owner made or changed the service: all of it is decided on anew.
        return Report(hook.service, (), acted=False, next_at=runtime.clock.now(), is_held_up=True)
    return Report(hook.service, (), acted=acted, next_at=runtime.clock.now())


def _attend(runtime: Runtime, hook: Hook) -> bool:
    """Look at the branch. Whether anything was done: always."""
    before = hook
    try:
        hook = _settled(runtime, hook)
        _dismiss(runtime, before, hook)
        _tell(runtime, hook)
    except (Unreachable, LeaseHeld, NotFound, Invalid) as trouble:
        # What the owner has to mend is said to them, once; silence ends by itself, and so does a control plane's being closed.
        news = str(trouble) if hook.trouble != str(trouble) and not isinstance(trouble, Retry) else ""
        put_off = following.put_off(hook, str(trouble), runtime.clock.now())
        _write(runtime, put_off, "hook.trouble" if news else "", f"{hook.branch} of {hook.repository}: {news}")
    return True


def _follow(runtime: Runtime, hook: Hook) -> bool:
    """Look at how the latest version goes, and not at the branch. Whether there is news of it."""
    outcome, state = hook.outcome, runtime.store.load(hook.service)
    if outcome is None:
        return False
    replicas, now = runtime.store.history(hook.service), runtime.clock.now()
    rollout = lifecycle.rollout(state.service, replicas, outcome.version, now) if state else Rollout.OVERTAKEN
    if rollout is Rollout.UNDER_WAY:
        return False
    message = _ENDED[rollout].format(version=outcome.version, service=hook.service)
    hook = _write(runtime, following.rolled_out(hook, rollout, message))
    try:
        _tell(runtime, hook)
    except (Unreachable, NotFound, Invalid) as trouble:
        _write(runtime, following.put_off(hook, str(trouble), now))
    return True


def _dismiss(runtime: Runtime, before: Hook, hook: Hook) -> None:
    """Do not leave the commit before waiting for ever. Said once; a forge that will not hear holds up no deployment.

    One whose successor was refused goes on being rolled out, and nobody watches any more: it stays as it is.
    """
    old, new = before.outcome, hook.outcome
    if not (old and new and new.version and following.is_rolling_out(before)) or old.commit == new.commit:
        return
    status, message = CommitStatus.FAILURE, _ENDED[Rollout.OVERTAKEN]
    if old.version == new.version:
        status, message = CommitStatus.SUCCESS, f"version {{version}} of {{service}} goes on as {_short(new.commit)}"
    with suppress(Unreachable, NotFound, Invalid):
        forge, repository = runtime.forges[hook.kind], _repository(runtime, hook)
        told = message.format(version=old.version, service=hook.service)
        forge.tell(repository, old.commit, status, told)


def _settled(runtime: Runtime, hook: Hook) -> Hook:
    """The hook as written when its branch's head was acted on, or had been before."""
    version = _version(runtime, hook)  # now: what the owner does from here on is later than what is looked at
    if following.is_overruled(hook, version):
        return _write(runtime, following.given_up(hook, runtime.clock.now()))
    if hook.push and hook.push.source:
        head, yaml = hook.push.commit, hook.push.source
        return _acted_on(runtime, hook, version, head, lambda: yaml)
    forge, repository = runtime.forges[hook.kind], _repository(runtime, hook)
    head = forge.head(repository, hook.branch)
    is_known = hook.outcome is not None and hook.outcome.commit == head and not following.may_pass(hook)
    if not (is_known and hook.repository_id):
        hook = replace(hook, repository_id=_number(runtime, forge, repository, hook))
    if is_known:
        return _write(runtime, following.unmoved(hook, runtime.clock.now()))
    return _acted_on(runtime, hook, version, head, lambda: forge.file(repository, hook.path, head))


def _number(runtime: Runtime, forge: Forge, repository: Repository, hook: Hook) -> str:
    """The repository's, once the head is known and before its file is read. Raises `Invalid` when another has taken the name.

    Asked for new heads only: without a token GitHub answers 60 questions an hour, and twelve looks at the branch are twelve.
    """
    number = forge.number(repository)
    namesakes = pins.namesakes(hook, runtime.store.hooks(), runtime.store.trusts())
    if others := pins.others(number, namesakes):
        raise Invalid(f"{pins.refusal(hook.repository, number, others)}.")
    return number


def _acted_on(runtime: Runtime, hook: Hook, version: int, head: str, read: Callable[[], str]) -> Hook:
    try:
        return _deployed(runtime, hook, head, read())
    except (Invalid, NotFound) as refusal:
        waits_at = version if isinstance(refusal, NotYet) else None
        return _refused(runtime, hook, head, str(refusal)[:_MESSAGE_CHARACTERS], waits_at)


def _refused(runtime: Runtime, hook: Hook, head: str, message: str, waits_at: int | None) -> Hook:
    """Said in the service's events and at the commit, and not again when it is tried again and refused in the same words."""
    before, now = hook.outcome, runtime.clock.now()
    if before and following.may_pass(hook) and (before.commit, before.message) == (head, message):
        return _write(runtime, following.settled(hook, replace(before, waits_at=waits_at), now))
    outcome = replace(_outcome(runtime, hook, head, 0, message), waits_at=waits_at)
    event = f"{_origin(hook, head).strip()} was refused, the service stays as it is: {message}"
    return _write(runtime, following.settled(hook, outcome, now), "hook.refused", event)


def _version(runtime: Runtime, hook: Hook) -> int:
    """At which its service is; 0 where there is none, or soon will be none."""
    state = runtime.store.load(hook.service)
    return state.service.spec_version if state and not state.service.deleting else 0


def _deployed(runtime: Runtime, hook: Hook, head: str, yaml: str) -> Hook:
    """The hook as written in one transaction with the service. Raises `Invalid` when the service file is refused."""
    parsed = deploying.understood(runtime, hook.service, yaml, {})
    state = runtime.store.load(hook.service)
    if state is not None and state.service.spec == parsed.spec:
        version = state.service.spec_version
        outcome = _outcome(
            runtime, hook, head, version, f"{hook.service} stays at version {version}: it means the same"
        )
        return _write(runtime, following.settled(hook, outcome, outcome.at))
    version = state.service.spec_version + 1 if state else 1
    outcome = _outcome(runtime, hook, head, version, f"version {version} of {hook.service} is being rolled out")
    settled = following.settled(hook, outcome, outcome.at)
    if state is None:
        deploying.create(runtime, hook.service, yaml, parsed, origin=_origin(hook, head), hook=settled)
    else:
        deploying.update(runtime, state, yaml, parsed, origin=_origin(hook, head), hook=settled)
    return following.as_written(settled)


def _tell(runtime: Runtime, hook: Hook) -> None:
    """Set the commit's status, unless it is. What the forge will not take is not offered again."""
    outcome = hook.outcome
    if outcome is None or outcome.is_told:
        return
    forge, repository = runtime.forges[hook.kind], _repository(runtime, hook)
    try:
        forge.tell(repository, outcome.commit, outcome.status, outcome.message)
    except (Invalid, NotFound) as refusal:
        event = f"the status of {_short(outcome.commit)} could not be set: {refusal}"
        _write(runtime, following.told(hook), "hook.untold", event)
    else:
        _write(runtime, following.told(hook))


def _repository(runtime: Runtime, hook: Hook) -> Repository:
    """With the forge's token, read anew each time: who changes it is heeded. Raises `Invalid` when there is none of its name."""
    name = hook.token_secret
    token = runtime.secrets.read([name]).get(name, "") if name else ""
    if name and not token:
        raise Invalid(
            f"There is no secret {name!r}, which should hold the forge's token: `sailplane secrets set {name} --no-service`."
        )
    return Repository(hook.api_url, hook.repository, token)


def _outcome(runtime: Runtime, hook: Hook, head: str, version: int, message: str) -> Outcome:
    """Without a token there is nobody who may be told, of its end neither."""
    is_told = not hook.token_secret
    rollout = Rollout.DONE if is_told or not version else Rollout.UNDER_WAY
    return Outcome(head, runtime.clock.now(), version, message, is_told, rollout)


def _short(commit: str) -> str:
    return commit[:_COMMIT_CHARACTERS]


def _origin(hook: Hook, head: str) -> str:
    place = f"{hook.repository}@{_short(head)}" if hook.repository else head
    return f" from {place}, webhook {hook.id}"


def _write(runtime: Runtime, hook: Hook, kind: str = "", message: str = "") -> Hook:
    events = (Event(runtime.clock.now(), kind, message),) if kind else ()
    runtime.store.commit(hook.service, None, Commit(hook=hook, events=events))
    return following.as_written(hook)
