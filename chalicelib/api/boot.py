"""What a cloud's machine says to the control plane: that it has come, and that its cloud will take it.

Neither route takes a key of the owner's. A machine shows what was derived for its replica alone: the boot token once, to be
told what to run, then its agent's token.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus

from chalice.app import Blueprint

from chalicelib import identity, passes
from chalicelib.api import schemas
from chalicelib.api.auth import Caller, unauthorized
from chalicelib.api.problems import Refused
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Invalid, NotFound, Unreachable
from chalicelib.launching import launch_request
from chalicelib.model import (
    InterruptionNotice,
    NoticeKind,
    Replica,
    ReplicaStatus,
    SecretBinding,
    ServiceSpec,
    State,
)
from chalicelib.ports import Runtime
from chalicelib.providers.boot import agent_archive, agent_requirements, configuration

# A pass may not have written down yet that the machine was granted, or have heard its agent already.
_BOOTING = (ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING)
_MAX_BODY_BYTES = 4 * 1024
_AGAIN_S = 2  # of the 30 s that clouds give at the least
_PLAUSIBLE_S = 3600.0  # clouds give seconds to minutes of notice


def boot(runtime: Callable[[], Runtime]) -> Blueprint:
    """The machines' routes."""
    return blueprint(
        __name__,
        runtime,
        (
            Route(
                "POST",
                "/v1/boot",
                claim,
                "Exchange a boot token, once, for the agent and what it runs",
                schemas.Booted,
                caller=Caller.ANYONE,
                body=schemas.Boot,
                errors=(403,),
                max_body_bytes=_MAX_BODY_BYTES,
            ),
            Route(
                "POST",
                "/v1/replicas/{replica_id}/interruption",
                interruption,
                "Tell that the cloud will take the replica's machine",
                schemas.Noticed,
                status=HTTPStatus.ACCEPTED,
                caller=Caller.AGENT,
                body=schemas.Interruption,
                errors=(404,),
                max_body_bytes=_MAX_BODY_BYTES,
            ),
            # POST, because nothing on the way may keep the answer.
            Route(
                "POST",
                "/v1/replicas/{replica_id}/secrets",
                tell_secrets,
                "Tell a replica that starts the texts of its secrets",
                schemas.ReplicaSecrets,
                caller=Caller.AGENT,
                body=schemas.AskForSecrets,
                errors=(403, 404),
                max_body_bytes=_MAX_BODY_BYTES,
            ),
        ),
    )


def claim(runtime: Runtime, body: schemas.Boot) -> schemas.Booted:
    """The agent and its configuration, for the first machine that shows the replica's token.

    A wrong token and an unknown replica are answered alike, with 403; so is a replica whose time to boot is over. Only a token
    that was made for this very id costs a look into the store.
    """
    key, not_ours = runtime.settings.agent_key, "No replica is to boot with this token."
    if not (identity.is_boot_token_for(key, body.replica_id, body.boot_token) and key):
        raise Refused(HTTPStatus.FORBIDDEN, not_ours)
    state = runtime.store.load(_service_of(body.replica_id))
    replica = _replica(state, body.replica_id)
    expected = identity.boot_token(key, body.replica_id, replica.boot_nonce if replica else "")
    matches = hmac.compare_digest(body.boot_token.encode(), expected.encode())
    if not (key and matches and state and replica and replica.status in _BOOTING):
        raise Refused(HTTPStatus.FORBIDDEN, not_ours)
    if not runtime.store.claim_boot(replica.id, replica.boot_nonce, body.machine_key):
        raise Refused(HTTPStatus.FORBIDDEN, "Another machine has booted with this token.")
    spec = _spec(runtime, state, replica)
    request = launch_request(replica, spec, runtime.settings)
    return schemas.Booted(
        config=configuration(request, replica.offer.location.provider, runtime.settings.control_url),
        agent=base64.b64encode(agent_archive()).decode(),
        requirements=agent_requirements(),
    )


def interruption(runtime: Runtime, replica_id: str, body: schemas.Interruption, bearer: str) -> schemas.Noticed:
    """Record the notice and have it acted on at once. The token covers id and nonce: a stranger costs no look into the store.

    Not here: whoever may launch machines is not asked by the whole internet. What is said again changes nothing: the pass
    that is due within 10 s knows it.
    """
    _require_own_token(runtime, replica_id, body, bearer)
    now = runtime.clock.now()
    if abs(body.at - now) > _PLAUSIBLE_S:
        raise Invalid(
            f"`at` lies {body.at - now:+.0f} s from now. Clouds announce what comes within the hour; check the clock."
        )
    replica = _replica(runtime.store.load(_service_of(replica_id)), replica_id)
    if replica is None or replica.boot_nonce != body.boot_nonce:
        raise NotFound(f"Replica {replica_id!r} has ended.")
    place = replica.offer.location.provider
    notice = InterruptionNotice(place, NoticeKind(body.kind), body.at, replica_id=replica.id)
    if passes.is_news(runtime, notice, replica) and passes.noted(runtime, notice, replica):
        _have_acted_on(runtime, replica.service, now)
    return schemas.Noticed(replica=replica.id)


def _have_acted_on(runtime: Runtime, name: str, now: float) -> None:
    """Now, and soon again: whoever is at work on the service decided before the notice, and may keep others out for seconds."""
    runtime.poke(name)
    if runtime.relay:
        runtime.relay.send(passes.Round({name: now}, now + passes.TICK_S).text, _AGAIN_S)


def tell_secrets(runtime: Runtime, replica_id: str, body: schemas.AskForSecrets, bearer: str) -> schemas.ReplicaSecrets:
    """For the time of a replica's start, to the first who asks: a token that leaks later opens nothing.

    A lost answer may be asked for again.
    """
    _require_own_token(runtime, replica_id, body, bearer)
    state = runtime.store.load(_service_of(replica_id))
    replica = _replica(state, replica_id)
    if not (state and replica and replica.boot_nonce == body.boot_nonce and replica.status in _BOOTING):
        raise NotFound(f"No replica {replica_id!r} is starting.")
    if not runtime.store.claim_boot(replica.id, f"{replica.boot_nonce}#secrets", body.asker):
        raise Refused(HTTPStatus.FORBIDDEN, "Somebody else has been told this replica's secrets.")
    wanted = _spec(runtime, state, replica).engine.secrets
    names, service = sorted({name for _, name in wanted}), state.service.name
    # Read before the texts and after: `set` binds before it writes a text and after, so a text is told by its own binding.
    before = _bindings(runtime, names)
    texts = runtime.secrets.read(names)
    bindings = _bindings(runtime, names)
    if missing := [name for name in names if name not in texts]:
        advice = "; ".join(f"sailplane secrets set {name} --service {service}" for name in missing)
        raise NotFound(f"There is no secret {_either(missing)}, which the service needs: {advice}")
    if bindings != before:
        raise Unreachable(f"The secret {_either(names)} is being changed. Ask again.")
    if others := [name for name in names if name not in bindings or not bindings[name].covers(service)]:
        advice = "; ".join(f"sailplane secrets allow {name} {service}" for name in others)
        detail = f"The secret {_either(others)} is not for the service {service!r}: {advice}"
        raise Refused(HTTPStatus.FORBIDDEN, detail)
    return schemas.ReplicaSecrets(envs={variable: texts[name] for variable, name in wanted})


def _bindings(runtime: Runtime, names: Collection[str]) -> Mapping[str, SecretBinding]:
    return {one.secret: one for one in runtime.store.secret_bindings() if one.secret in names}


def _require_own_token(runtime: Runtime, replica_id: str, body: schemas.BootedAs, bearer: str) -> None:
    """Raise a 401 `Refused` unless the replica's agent asks, of this boot."""
    key = runtime.settings.agent_key
    expected = identity.agent_token(key, replica_id, body.boot_nonce)
    if not (hmac.compare_digest(bearer.encode(), expected.encode()) and key):
        raise unauthorized()


def _either(names: list[str]) -> str:
    return " or ".join(map(repr, names))


def _service_of(replica_id: str) -> str:
    """A replica's id ends in uid, slot and generation."""
    return replica_id.rsplit("-", 3)[0]


def _replica(state: State | None, replica_id: str) -> Replica | None:
    replicas = state.replicas if state else ()
    return next((replica for replica in replicas if replica.id == replica_id), None)


def _spec(runtime: Runtime, state: State, replica: Replica) -> ServiceSpec:
    """What the replica was launched from, which an update may have left behind."""
    if replica.spec_version == state.service.spec_version:
        return state.service.spec
    return runtime.store.spec(replica.service, replica.spec_version).spec
