"""What a control plane knows, as entries that another one can take in. Pure.

An entry is one thing that is restored at once or not at all. Left out is what is true of one account and one moment only:
machines, leases, loads, refusals, route tables; and the texts of secrets, of which there are the names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from chalicelib.errors import Invalid
from chalicelib.lifecycle import budget
from chalicelib.model import Backoff, Hook, HookKind, ScalerState, Service, SpecVersion, Spend, State
from chalicelib.store.documents import from_json, to_json

FORMAT = 1
# Restored in one transaction, of at most 100 items and 4 MB.
_MOST_VERSIONS = 90
_MOST_BYTES = 3_000_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Restored:
    """A service as it is to be written, with its versions, oldest first."""

    service: Service
    versions: tuple[SpecVersion, ...]


def of_service(state: State, versions: Sequence[SpecVersion], now: float) -> dict[str, Any]:
    """A service and its versions. What its machines have cost by `now` becomes a sum: they stay where they are."""
    month = budget.usd_this_month(state.service, state.replicas, now)
    spend = Spend(budget.month_at(now), month, budget.usd_ever(state.service, state.replicas, now))
    service = replace(state.service, spend=spend)
    return {"service": of(service), "versions": [of(version) for version in _fitting(versions)]}


def service_of(document: Mapping[str, Any], uid: str, now: float) -> Restored:
    """What `of_service` was made of, as a service without machines that wants as many replicas as it did.

    `uid` is new, so that no cloud takes a launch for one that it has seen. Raises `Invalid`.
    """
    kept = noun_of(Service, document.get("service"))
    written = document.get("versions")
    versions = tuple(noun_of(SpecVersion, one) for one in (written if isinstance(written, list) else ()))
    numbers = [version.number for version in versions]
    in_order = numbers == sorted(set(numbers)) and numbers[-1:] == [kept.spec_version]
    if not in_order or len(numbers) > _MOST_VERSIONS:
        raise Invalid(
            f"The versions of service {kept.name!r} are not there in order, up to {kept.spec_version}: {numbers}."
        )
    if any(version.service != kept.name for version in versions):
        raise Invalid(f"Among the versions of service {kept.name!r} are another's.")
    service = replace(
        kept,
        uid=uid,
        scaler=ScalerState(kept.scaler.target),
        updated_at=now,
        last_generation=0,
        backoff=Backoff(),
        deleting=False,
        was_ready=False,
        plan=None,
        zones=(),
        held_by_budget=False,
        version=0,
    )
    return Restored(service, versions)


def hook_of(document: Mapping[str, Any], now: float) -> Hook:
    """A webhook as it was, with nothing pending: where it follows a branch, that is looked at now. Raises `Invalid`."""
    hook = noun_of(Hook, document)
    if (hook.kind is HookKind.GENERIC) is bool(hook.repository):  # a pass could neither ask a forge nor go without
        raise Invalid(f"Webhook {hook.id!r}: it has a repository exactly if its kind is not generic.")
    return replace(
        hook,
        old_key_until=0.0,
        push=None,
        is_pending=False,
        look_at=now if hook.repository else None,
        failures=0,
        trouble="",
        version=0,
    )


def of(noun: object) -> dict[str, Any]:
    """A noun of `model` as a JSON object."""
    document: dict[str, Any] = json.loads(to_json(noun))
    return document


def noun_of(noun: type[T], document: object) -> T:
    """What `of` was made of. Raises `Invalid` with everything that is wrong."""
    try:
        return from_json(noun, json.dumps(document))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)
        raise Invalid(f"This is no {noun.__name__} of a backup: {told}") from error


def _fitting(versions: Sequence[SpecVersion]) -> Sequence[SpecVersion]:
    """The newest that fit into one transaction, oldest first."""
    kept: list[SpecVersion] = []
    room = _MOST_BYTES
    for version in reversed(versions[-_MOST_VERSIONS:]):
        room -= len(to_json(version).encode())
        if kept and room < 0:
            break
        kept.insert(0, version)
    return kept
