"""Secrets: kept for replicas, which are told them by `boot`. No route here gives a text back."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from chalice.app import Blueprint

from chalicelib.api import schemas, views
from chalicelib.api.auth import Principal, Reach
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Invalid, NotFound
from chalicelib.model import SECRET_NAME, Scope
from chalicelib.ports import Runtime

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


def list_secrets(runtime: Runtime, principal: Principal) -> schemas.Secrets:
    """What there is, and which of the principal's services name it."""
    services, webhooks = _services(runtime, principal), _webhooks(runtime, principal)
    return schemas.Secrets(
        secrets=tuple(
            views.secret(each, services.get(each.name, ()), webhooks.get(each.name, ()))
            for each in runtime.secrets.known()
        )
    )


def set_secret(runtime: Runtime, name: str, body: schemas.SetSecret) -> schemas.SecretUse:
    """Replicas that run keep the text that they started with; who starts from now on is told this one."""
    if not re.fullmatch(SECRET_NAME, name):
        rule = "1 to 128 of letters, digits, _, - and ., a letter or _ first"
        raise Invalid(f"{name!r} cannot name a secret: a name is {rule}.")
    runtime.secrets.write(name, body.text.get_secret_value())
    return schemas.SecretUse(name=name, used_by=_services(runtime).get(name, ()))


def remove_secret(runtime: Runtime, name: str, query: schemas.RemoveSecret) -> schemas.SecretUse:
    """Refused while a service or a webhook names it, which could not go on; unless forced."""
    known = [secret.name for secret in runtime.secrets.known()]
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise NotFound(f"There is no secret {name!r}.{hint}")
    used_by = _services(runtime).get(name, ())
    if not query.force:
        if used_by:
            services = ", ".join(used_by)
            raise Invalid(
                f"Secret {name!r} is used by {services}: no new replica of theirs could start. `--force` removes it all the same."
            )
        if webhooks := _webhooks(runtime).get(name, ()):
            which = f"{'webhooks' if len(webhooks) > 1 else 'webhook'} {', '.join(webhooks)}"
            raise Invalid(
                f"Secret {name!r} is used by {which}: the forge would refuse us. `--force` removes it all the same."
            )
    runtime.secrets.delete(name)
    return schemas.SecretUse(name=name, used_by=used_by)


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
