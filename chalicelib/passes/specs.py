"""The spec versions that a service's replicas were launched from."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.model import ServiceSpec, State
from chalicelib.ports import Runtime


def specs_of(runtime: Runtime, state: State) -> Mapping[int, ServiceSpec]:
    """By version number. The newest is part of the state; older ones are read, one request each, during a roll-out."""
    service = state.service
    older = {replica.spec_version for replica in state.replicas} - {service.spec_version}
    specs = {number: runtime.store.spec(service.name, number).spec for number in older}
    return {**specs, service.spec_version: service.spec}
