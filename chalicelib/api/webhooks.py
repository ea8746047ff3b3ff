"""Webhooks: the owner's routes for them, and the ones that their deliveries come to.

A delivery is verified, the push that it tells of is written down along with the delivery's name, and it is answered. What
follows is `passes.deploy_pushes`'s, which whoever looks next finds the push for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from operator import attrgetter

from chalice.app import Blueprint

from chalicelib import identity
from chalicelib.api import paging, schemas, views
from chalicelib.api.auth import Caller
from chalicelib.api.problems import Refused
from chalicelib.api.routes import Delivery, Route, blueprint
from chalicelib.errors import Exists, Invalid, NotFound
from chalicelib.hooks import following, payloads, pins, signatures
from chalicelib.model import Hook, HookKind, Push
from chalicelib.ports import Commit, Runtime
from chalicelib.schedule import kept_on_for_a_push
from chalicelib.writes import made_once, until_unchallenged

_API_URLS = {
    HookKind.GITHUB: "https://api.github.com",
    HookKind.GITLAB: "https://gitlab.com/api/v4",
    HookKind.GENERIC: "",
}
# GitHub sends up to 25 MB, and a function is told of 6 MB at the most, quoted. A push of 2,000 commits has some 2 MB; one that
# is larger is refused, and found when the branch is looked at next.
_MAX_DELIVERY_BYTES = 4 * 1024 * 1024
# To the address for all, the repository has to be read before it is known whose secret to hold the signature against, and a form
# takes 75 ms a MB to read: this is some 400 commits' push.
_MAX_SHARED_BYTES = 256 * 1024
_HOOK_ID = f"[0-9a-f]{{{2 * identity.KEY_ID_BYTES}}}"
# Stands for a webhook that is not there, so that its delivery costs as much as another's and is refused alike.
_NOBODY = Hook("", HookKind.GITHUB, "", 0.0)


def webhooks(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for webhooks, and their senders'."""
    sent = partial(
        Route,
        "POST",
        answer=schemas.Delivered,
        status=HTTPStatus.ACCEPTED,
        caller=Caller.SENDER,
        errors=(412,),
    )
    made = partial(Route, "POST", answer=schemas.NewWebhook, status=HTTPStatus.CREATED)
    one = "/v1/webhooks/{hook_id}"
    return blueprint(
        __name__,
        runtime,
        (
            made(
                "/v1/webhooks",
                create_webhook,
                "Have a service follow a branch; the secret is told in this answer only",
                body=schemas.CreateWebhook,
                errors=(409,),
            ),
            Route(
                "GET",
                "/v1/webhooks",
                list_webhooks,
                "Webhooks by id, and how each of them goes",
                schemas.Webhooks,
                query=schemas.PageQuery,
            ),
            Route("DELETE", one, remove_webhook, "Remove a webhook", schemas.Removed, errors=(404,)),
            made(
                f"{one}/rotate",
                rotate_webhook,
                "Make a new secret; the old one goes on for a while",
                body=schemas.RotateWebhook,
                errors=(404, 412),
            ),
            sent(
                "/v1/hooks/{hook_id}",
                deliver,
                "Tell that a branch has moved, signed with the webhook's secret",
                max_body_bytes=_MAX_DELIVERY_BYTES,
            ),
            sent(
                "/v1/hooks/github",
                deliver_github,
                "The same to whichever webhooks of GitHub's have signed it so",
                max_body_bytes=_MAX_SHARED_BYTES,
            ),
        ),
    )


def create_webhook(runtime: Runtime, body: schemas.CreateWebhook) -> schemas.NewWebhook:
    """The service need not exist yet: the head of the branch makes it, within a minute."""
    hooks = runtime.store.hooks()
    if len(hooks) >= schemas.MOST_WEBHOOKS:
        raise Invalid(f"There are {schemas.MOST_WEBHOOKS} webhooks, as many as there may be. Remove some first.")
    if not (runtime.settings.agent_key and runtime.settings.control_url):
        raise Invalid("SAILPLANE_AGENT_KEY and SAILPLANE_CONTROL_URL are not set: webhooks need both.")
    now, is_generic = runtime.clock.now(), body.kind is HookKind.GENERIC
    wanted = Hook(
        id=runtime.ids.token(identity.KEY_ID_BYTES),
        kind=body.kind,
        service=body.service,
        created_at=now,
        repository=body.repository,
        branch="" if is_generic else body.branch,
        path="" if is_generic else body.path,
        api_url=body.api_url or _API_URLS[body.kind],
        token_secret=body.token_secret,
        is_pending=not is_generic,
        look_at=None if is_generic else now,
    )
    _require_alone(wanted, hooks)
    _require_token(runtime, body.token_secret)
    known_as = pins.number(pins.namesakes(wanted, hooks, runtime.store.trusts()))
    pinned = replace(wanted, repository_id=known_as)
    with kept_on_for_a_push(runtime):
        made = made_once(partial(runtime.store.create_hook, pinned), partial(_known, runtime, pinned))
    runtime.poke(made.service)
    return views.new_webhook(made, runtime.settings.control_url, _secrets(runtime, made)[0])


def _require_alone(wanted: Hook, hooks: Iterable[Hook]) -> None:
    """Two branches would take turns at the service. One of the same id is an earlier attempt's."""
    for hook in hooks:
        if hook.service == wanted.service and hook.id != wanted.id:
            follows = f"{hook.branch} of {hook.repository}" if hook.repository else "signed deliveries"
            raise Exists(
                f"Service {hook.service!r} follows {follows} already, by webhook {hook.id}, and what is pushed there would undo"
                f" what is pushed here: `sailplane webhook remove {hook.id}` first. Nothing was made."
            )


def _require_token(runtime: Runtime, name: str) -> None:
    if name and name not in {secret.name for secret in runtime.secrets.known()}:
        raise Invalid(
            f"There is no secret {name!r}, which should hold the forge's token: `sailplane secrets set {name} --no-service`."
            " Nothing was made."
        )


def _known(runtime: Runtime, wanted: Hook) -> Hook | None:
    """The webhook of this id, if it was made by an attempt before."""
    found = runtime.store.hook(wanted.id)
    same = found and (found.kind, found.service, found.repository) == (wanted.kind, wanted.service, wanted.repository)
    return found if same else None


def list_webhooks(runtime: Runtime, query: schemas.PageQuery) -> schemas.Webhooks:
    """What each follows, what was pushed last and what became of it."""
    hooks, following = paging.page(runtime.store.hooks(), attrgetter("id"), query.cursor, query.limit)
    url = runtime.settings.control_url
    return schemas.Webhooks(webhooks=tuple(views.webhook(hook, url) for hook in hooks), next=following)


def remove_webhook(runtime: Runtime, hook_id: str) -> schemas.Removed:
    """The service stays as it is and follows nothing any more."""
    runtime.store.delete_hook(hook_id)
    return schemas.Removed(id=hook_id)


def rotate_webhook(runtime: Runtime, hook_id: str, body: schemas.RotateWebhook) -> schemas.NewWebhook:
    """For a while deliveries may be signed with either, so that the forge can be told in between."""
    made = until_unchallenged(partial(_rotated, runtime, hook_id, body.overlap_s))
    return views.new_webhook(made, runtime.settings.control_url, _secrets(runtime, made)[0])


def _rotated(runtime: Runtime, hook_id: str, overlap_s: float) -> Hook:
    hook = runtime.store.hook(hook_id)
    if hook is None:
        raise NotFound(f"There is no webhook with the id {hook_id!r}.")
    until = runtime.clock.now() + overlap_s
    changed = replace(hook, generation=hook.generation + 1, old_key_until=until)
    runtime.store.commit(hook.service, None, Commit(hook=changed))
    return following.as_written(changed)


def deliver(runtime: Runtime, hook_id: str, delivery: Delivery) -> schemas.Delivered:
    """One that is not signed well and one for a webhook that is not there are refused alike."""
    if not (re.fullmatch(_HOOK_ID, hook_id) and signatures.may_be_signed(delivery.headers)):
        raise _unsigned()
    hook = runtime.store.hook(hook_id)
    names = _names(runtime, hook or _NOBODY, delivery)
    if hook is None or not names:
        raise _unsigned()
    return _received(runtime, hook, names, delivery)


def deliver_github(runtime: Runtime, delivery: Delivery) -> schemas.Delivered:
    """For those who have one address for all: the webhooks of its repository whose secret it is signed with."""
    if not signatures.may_be_signed(delivery.headers):
        raise _unsigned()
    repository = payloads.repository_of(delivery.headers, delivery.body).lower()
    hooks = [one for one in runtime.store.hooks() if one.kind is HookKind.GITHUB]
    named = [(hook, _names(runtime, hook, delivery)) for hook in hooks if hook.repository.lower() == repository]
    signed = [(hook, names) for hook, names in named if names]
    if not signed:
        raise _unsigned()
    return _last([_received(runtime, hook, names, delivery) for hook, names in signed])


def _received(runtime: Runtime, hook: Hook, names: Iterable[str], delivery: Delivery) -> schemas.Delivered:
    read = payloads.read(hook, delivery.headers, delivery.body, runtime.clock.now())
    answer = partial(schemas.Delivered, webhook=hook.id)
    if isinstance(read, payloads.Ignored):
        return answer(result="ignored", message=read.why)
    with kept_on_for_a_push(runtime):
        result = until_unchallenged(partial(_recorded, runtime, hook.id, read, tuple(names)))
    runtime.poke(hook.service)
    said = {
        "accepted": f"{hook.service} will follow, if {read.commit} is the newest",
        "duplicate": "this was delivered before",
        "overtaken": "not deployed: a push whose timestamp is as late, or later, was delivered before",
    }
    return answer(result=result, message=said[result])


def _recorded(runtime: Runtime, hook_id: str, push: Push, names: tuple[str, ...]) -> schemas.DeliveryResult:
    """What is written here is acted on though everything should end now."""
    hook, now = runtime.store.hook(hook_id), runtime.clock.now()
    if hook is None:
        raise _unsigned()
    changed, until = following.pushed(hook, push, now), now + following.DELIVERIES_KEPT_S
    if changed is None:
        are_first = [runtime.store.remember_delivery(hook.id, name, until) for name in names]
        return "overtaken" if all(are_first) else "duplicate"
    return "accepted" if runtime.store.record_push(changed, names, until) else "duplicate"


def _names(runtime: Runtime, hook: Hook, delivery: Delivery) -> tuple[str, ...]:
    """What to remember it by; nothing when it is not signed with a secret of the hook's, or when none can be derived."""
    if not runtime.settings.agent_key:
        return ()
    now = runtime.clock.now()
    return signatures.delivery_names(hook.kind, _secrets(runtime, hook), delivery.headers, delivery.body, now)


def _secrets(runtime: Runtime, hook: Hook) -> tuple[str, ...]:
    """The one that holds now and, for a while, the one before it."""
    is_changing = runtime.clock.now() < hook.old_key_until
    generations = (hook.generation, hook.generation - 1) if is_changing else (hook.generation,)
    return tuple(identity.webhook_secret(runtime.settings.agent_key, hook.id, number) for number in generations)


def _last(answers: list[schemas.Delivered]) -> schemas.Delivered:
    """Of several webhooks' answers one that accepts, if there is one."""
    return next((answer for answer in answers if answer.result == "accepted"), answers[-1])


def _unsigned() -> Refused:
    return Refused(
        HTTPStatus.UNAUTHORIZED, "No webhook takes this delivery: its signature, its time or its address is wrong."
    )
