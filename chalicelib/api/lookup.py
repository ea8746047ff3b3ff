"""Finding what a path names, or saying what it may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from chalicelib.errors import Invalid, NotFound
from chalicelib.model import Replica, State
from chalicelib.ports import Runtime


class NoService(NotFound):
    """There is no service of this name. `nearest` are those that may have been meant."""

    def __init__(self, name: str, nearest: Sequence[str]) -> None:
        self.name = name
        self.nearest = nearest
        hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
        super().__init__(f"There is no service {name!r}.{hint}")


def load(runtime: Runtime, name: str) -> State:
    """The service's state. Raises `NotFound` with the names nearest to `name`."""
    state = runtime.store.load(name)
    if state is None:
        raise no_service(runtime, name)
    return state


def no_service(runtime: Runtime, name: str) -> NoService:
    """The error for a service that is not there."""
    return NoService(name, difflib.get_close_matches(name, runtime.store.service_names(), n=3))


def find(service: str, replicas: Sequence[Replica], wanted: str) -> Replica:
    """The replica whose id is `wanted`, or the only one whose id ends in `-<wanted>`.

    Raises:
        NotFound: there is none; the message lists the ids.
        Invalid: several end so.
    """
    exact = [replica for replica in replicas if replica.id == wanted]
    found = exact or [replica for replica in replicas if replica.id.endswith(f"-{wanted}")]
    if not found:
        ids = ", ".join(replica.id for replica in replicas) or "none"
        raise NotFound(f"Service {service!r} has no replica {wanted!r}. It has: {ids}.")
    if len(found) > 1:
        ids = ", ".join(replica.id for replica in found)
        raise Invalid(f"{wanted!r} may mean {ids}. Give more of the id.")
    return found[0]
