"""The one way to make a service or to change it, whoever asks for it: its owner through the API, or a push to its branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from chalicelib import catalog, lifecycle, optimizer
from chalicelib.errors import Invalid, NoFeasibleOffer, NotYet
from chalicelib.model import Event, Hook, Secret, Service, SpecVersion, State
from chalicelib.ports import Runtime
from chalicelib.schedule import kept_on
from chalicelib.writes import made_once

if TYPE_CHECKING:
    from chalicelib import spec


def understood(runtime: Runtime, name: str, yaml: str, envs: Mapping[str, str]) -> spec.Parsed:
    """What the file of the service `name` means. Nothing is written.

    Raises:
        SpecError: something in it is wrong.
        SecretsUnusable: a secret that it names is missing, or not for this service.
        NoFeasibleOffer: no enabled provider has such a machine.
        Invalid: one such machine is above the service's hourly budget.
    """
    from chalicelib import spec  # noqa: PLC0415 50 ms of a cold start, for who is given a file only

    enabled = tuple(sorted(runtime.providers))
    market = runtime.market.offers(enabled)
    known = sorted({*catalog.accelerators(), *(offer.accelerator for offer in market if offer.accelerator)})
    parsed = spec.parse(yaml, env_overrides=envs, known_accelerators=known)
    request = optimizer.Request(parsed.spec.resources, enabled, spot=parsed.spec.spot)
    placement = optimizer.decide(request, market, runtime.clock.now())
    spec.require_reachable_workdir(parsed.spec, {offer.location.provider for offer in placement.ranked})
    if placement.chosen is None:
        reason = optimizer.nothing_to_buy(request, market)
        raise NoFeasibleOffer(reason.message, reason.suggestions)
    if refused := lifecycle.budget.too_dear(parsed.spec.budget, placement.chosen):
        raise Invalid(refused)
    if not parsed.spec.engine.secrets:
        return parsed
    return replace(parsed, spec=spec.with_secrets(parsed.spec, name, known_secrets(runtime)))


def known_secrets(runtime: Runtime) -> tuple[Secret, ...]:
    """What secrets there are, each with the services that may use it."""
    known = runtime.secrets.known()
    services = {binding.secret: binding.services for binding in runtime.store.secret_bindings()}
    return tuple(replace(secret, services=services.get(secret.name, secret.services)) for secret in known)


def create(
    runtime: Runtime, name: str, yaml: str, parsed: spec.Parsed, *, origin: str = "", hook: Hook | None = None
) -> State:
    """Write a new service and ask for its first pass.

    Args:
        runtime: where.
        name: its name.
        yaml: its file, as written.
        parsed: the same, understood.
        origin: where the file comes from, for people; empty = from its owner.
        hook: the hook it comes from, as it is to be written with it.

    Raises:
        Exists: the name is taken.
        Conflict: the hook changed meanwhile.
        LeaseHeld, Unreachable: nobody would wake for it, see `schedule.kept_on`.
    """
    now = runtime.clock.now()
    service = lifecycle.new_service(name, runtime.ids.token(2), parsed.spec, now)
    version = SpecVersion(name, service.spec_version, parsed.spec, yaml, now)
    events = (_event("service.created", f"created{origin}", parsed, now),)
    write = partial(runtime.store.create_service, service, version, events, hook=hook)
    with kept_on(runtime, f"service {name} is created"):
        created = made_once(write, partial(_known, runtime, service))
    runtime.poke(name)
    return State(created)


def update(
    runtime: Runtime, state: State, yaml: str, parsed: spec.Parsed, *, origin: str = "", hook: Hook | None = None
) -> State:
    """Give a service its next version and ask for a pass over it. See `create` for the arguments.

    Raises:
        NotYet: it is being shut down.
        Conflict: it, or the hook, changed meanwhile.
        Unreachable: nobody would wake for it. Nothing was written.
    """
    require_alive(state)
    if runtime.schedule:
        runtime.schedule.on()  # where it was turned off by hand, or by an upgrade's rollback, nobody else would notice
    now, name = runtime.clock.now(), state.service.name
    service = lifecycle.with_spec(state.service, parsed.spec, state.service.spec_version + 1, now)
    version = SpecVersion(name, service.spec_version, parsed.spec, yaml, now)
    event = _event("service.updated", f"updated to version {version.number}{origin}", parsed, now)
    updated = runtime.store.add_version(service, version, (event,), hook=hook)
    runtime.poke(name)
    return replace(state, service=updated)


def _known(runtime: Runtime, service: Service) -> Service | None:
    """The service of this name, if it is this very one."""
    state = runtime.store.load(service.name)
    if state is None or (state.service.uid, state.service.spec) != (service.uid, service.spec):
        return None
    return state.service


def require_alive(state: State) -> None:
    """Raise `NotYet` when the service is being shut down."""
    if state.service.deleting:
        raise NotYet(f"Service {state.service.name!r} is being shut down. Create it again when it is gone.")


def _event(kind: str, message: str, parsed: spec.Parsed, now: float) -> Event:
    ignored = ", ".join(parsed.not_acted_on)
    return Event(now, kind, f"{message}; given but not acted on yet: {ignored}" if ignored else message)
