"""Secrets: kept for replicas, which are told them by `boot`. No route here gives a text back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from operator import attrgetter

from chalice.app import Blueprint

from chalicelib import deploying
from chalicelib.api import paging, schemas, views
from chalicelib.api.auth import Principal, Reach
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Invalid, NotFound
from chalicelib.model import SECRET_NAME, Scope, Secret, SecretBinding
from chalicelib.ports import Runtime
from chalicelib.writes import until_unchallenged

# A text of 4 KB, every character of which may be written as \uXXXX.
_MAX_BODY_BYTES = 32 * 1024
_EVERYBODY = Principal("")


def secrets(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for secrets."""
    route, one = partial(Route, scope=Scope.SECRETS), "/v1/secrets/{name}"
    return blueprint(
        __name__,
        runtime,
        (
            # Names stand in services' files, which who deploys writes and reads.
            Route(
                "GET",
                "/v1/secrets",
                list_secrets,
                "All secrets, without their texts",
                schemas.Secrets,
                query=schemas.PageQuery,
                scope=Scope.READ,
                or_scope=Scope.SECRETS,
                reach=Reach.OWN,
            ),
            route(
                "PUT",
                one,
                set_secret,
                "Keep a text as a secret, in place of the one before",
                schemas.SecretUse,
                body=schemas.SetSecret,
                max_body_bytes=_MAX_BODY_BYTES,
            ),
            route(
                "POST",
                f"{one}/services",
                allow_secret,
                "Let services use a secret",
                schemas.SecretUse,
                body=schemas.AllowSecret,
                errors=(404,),
            ),
            route(
                "DELETE",
                one,
                remove_secret,
                "Forget a secret",
                schemas.SecretUse,
                query=schemas.RemoveSecret,
                errors=(404,),
            ),
        ),
    )


def list_secrets(runtime: Runtime, query: schemas.PageQuery, principal: Principal) -> schemas.Secrets:
    """What there is, and which of the principal's services may use it and name it."""
    shown, following = paging.page(deploying.known_secrets(runtime), attrgetter("name"), query.cursor, query.limit)
    services, webhooks = _services(runtime, principal), _webhooks(runtime, principal)
    return schemas.Secrets(
        secrets=tuple(
            views.secret(_as_told(each, principal), services.get(each.name, ()), webhooks.get(each.name, ()))
            for each in shown
        ),
        next=following,
    )


def _as_told(secret: Secret, principal: Principal) -> Secret:
    """Whose key is for some services is told of those alone."""
    if principal.reaches(("*",)):
        return secret
    return replace(secret, services=tuple(filter(secret.is_for, principal.services)))


def set_secret(runtime: Runtime, name: str, body: schemas.SetSecret) -> schemas.SecretUse:
    """Replicas that run keep the text that they started with; who starts from now on is told this one."""
    if not re.fullmatch(SECRET_NAME, name):
        rule = "1 to 128 of letters, digits, _, - and ., a letter or _ first"
        raise Invalid(f"{name!r} cannot name a secret: a name is {rule}.")
    text = body.text.get_secret_value()
    if body.services is None:
        services = _written(runtime, name, text)
    else:
        services = until_unchallenged(partial(_written_for, runtime, name, text, _in_order(body.services)))
    return schemas.SecretUse(name=name, services=services, used_by=_services(runtime).get(name, ()))


def _written(runtime: Runtime, name: str, text: str) -> tuple[str, ...]:
    """For those who may use it by now, though its text may be missing, as after an import."""
    binding = _binding(runtime, name)
    if binding is None:
        raise Invalid(
            f"Nobody has said which services may use secret {name!r}: say it with --service NAME (llm-* is all that begin so),"
            " with --all, or with --no-service for a forge's token. Nothing was set."
        )
    runtime.secrets.write(name, text)
    return binding.services


def _written_for(runtime: Runtime, name: str, text: str, services: tuple[str, ...]) -> tuple[str, ...]:
    """The text before is for those before, this one for `services`; so while it is written, for those who may use both."""
    binding = _binding(runtime, name) or SecretBinding(name, ())
    both = runtime.store.bind_secret(binding.narrowed(services))
    runtime.secrets.write(name, text)
    return runtime.store.bind_secret(replace(both, services=services)).services


def allow_secret(runtime: Runtime, name: str, body: schemas.AllowSecret) -> schemas.SecretUse:
    """Replicas that run keep what they have. Raises `NotFound`."""
    _find(runtime, name)
    services = until_unchallenged(partial(_allowed, runtime, name, body))
    return schemas.SecretUse(name=name, services=services, used_by=_services(runtime).get(name, ()))


def _allowed(runtime: Runtime, name: str, body: schemas.AllowSecret) -> tuple[str, ...]:
    before = _binding(runtime, name) or SecretBinding(name, ())
    services = _in_order(body.services if body.only else (*before.services, *body.services))
    if len(services) > schemas.MOST_USERS:
        most = f"{schemas.MOST_USERS} are kept for a secret"
        raise Invalid(
            f"{len(services)} services are too many: {most}. One such as `llm-*` stands for all that begin so."
        )
    return runtime.store.bind_secret(replace(before, services=services)).services


def remove_secret(runtime: Runtime, name: str, query: schemas.RemoveSecret) -> schemas.SecretUse:
    """Refused while a service or a webhook names it, which could not go on; unless forced."""
    services = _find(runtime, name).services
    used_by = _services(runtime).get(name, ())
    if not query.force:
        if used_by:
            users = ", ".join(used_by)
            raise Invalid(
                f"Secret {name!r} is used by {users}: no new replica of theirs could start. `--force` removes it all the same."
            )
        if webhooks := _webhooks(runtime).get(name, ()):
            which = f"{'webhooks' if len(webhooks) > 1 else 'webhook'} {', '.join(webhooks)}"
            raise Invalid(
                f"Secret {name!r} is used by {which}: the forge would refuse us. `--force` removes it all the same."
            )
    # First, so that a text which stays, or is set this moment, is for nobody unasked.
    until_unchallenged(partial(_unbind, runtime, name))
    runtime.secrets.delete(name)
    return schemas.SecretUse(name=name, services=services, used_by=used_by)


def _find(runtime: Runtime, name: str) -> Secret:
    known = {secret.name: secret for secret in deploying.known_secrets(runtime)}
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise NotFound(f"There is no secret {name!r}.{hint}")
    return known[name]


def _unbind(runtime: Runtime, name: str) -> None:
    if binding := _binding(runtime, name):
        runtime.store.unbind_secret(binding)


def _binding(runtime: Runtime, name: str) -> SecretBinding | None:
    return next((one for one in runtime.store.secret_bindings() if one.secret == name), None)


def _in_order(services: Iterable[str]) -> tuple[str, ...]:
    """Each once; `*` makes all others needless."""
    chosen = sorted(set(services))
    return ("*",) if "*" in chosen else tuple(chosen)


def _services(runtime: Runtime, principal: Principal = _EVERYBODY) -> Mapping[str, tuple[str, ...]]:
    """Names of services by the secret that they name; of those that the principal's key is for."""
    states = (runtime.store.load(name) for name in runtime.store.service_names() if principal.reaches((name,)))
    return _by_secret(
        (secret, state.service.name) for state in states if state for _, secret in state.service.spec.engine.secrets
    )


def _webhooks(runtime: Runtime, principal: Principal = _EVERYBODY) -> Mapping[str, tuple[str, ...]]:
    """Ids of webhooks by the secret that holds their forge's token."""
    return _by_secret((h.token_secret, h.id) for h in runtime.store.hooks() if principal.reaches((h.service,)))


def _by_secret(pairs: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    users: dict[str, list[str]] = {}
    for secret, user in sorted(set(pairs)):
        users.setdefault(secret, []).append(user)
    return {secret: tuple(names) for secret, names in users.items()}
