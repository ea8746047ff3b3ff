"""What the clouds still hold that no replica needs: found by tag, shown, removed on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from chalice.app import Blueprint

from chalicelib.api import schemas, views
from chalicelib.api.routes import Route, blueprint
from chalicelib.errors import Unreachable
from chalicelib.model import Leftover
from chalicelib.ports import Janitor, Runtime


def leftovers(runtime: Callable[[], Runtime]) -> Blueprint:
    """The owner's routes for residue."""
    return blueprint(
        __name__,
        runtime,
        (
            Route(
                "GET", "/v1/leftovers", list_leftovers, "What the clouds hold that no replica needs", schemas.Leftovers
            ),
            Route(
                "POST",
                "/v1/leftovers/remove",
                remove_leftovers,
                "Remove leftovers that were shown",
                schemas.Leftovers,
                body=schemas.RemoveLeftovers,
            ),
        ),
    )


def list_leftovers(runtime: Runtime) -> schemas.Leftovers:
    """Every leftover of every cloud that answers, and why the others did not."""
    found, unreachable = _find(runtime)
    return _view(found, unreachable)


def remove_leftovers(runtime: Runtime, body: schemas.RemoveLeftovers) -> schemas.Leftovers:
    """Ask for the removal of those that are named and still leftovers; the answer has those that could not be asked for.

    What hangs on something else (a disk on its machine) goes only after it: ask again until nothing is found.
    """
    found, unreachable = _find(runtime)
    named, janitors = {(one.provider, one.id) for one in body.leftovers}, _janitors(runtime)
    removals = [
        (one, runtime.spawn(one.provider, partial(janitors[one.provider].remove, one)))
        for one in found
        if (one.provider, one.id) in named
    ]
    refused = []
    for leftover, removal in removals:
        try:
            removal.result()
        except Unreachable as error:
            refused.append(leftover)
            unreachable[leftover.provider] = str(error)
    return _view(refused, unreachable)


def _find(runtime: Runtime) -> tuple[list[Leftover], dict[str, str]]:
    """Read who lives, ask the clouds, all at once, then read again.

    Whatever a cloud shows has had its record since before the clouds were asked, so that nothing that is launched
    meanwhile is taken for residue.
    """
    before = _live(runtime)
    live = frozenset(before)
    asked = {name: runtime.spawn(name, partial(each.leftovers, live)) for name, each in _janitors(runtime).items()}
    found: list[Leftover] = []
    unreachable: dict[str, str] = {}
    for name, answer in asked.items():
        try:
            found += answer.result()
        except Unreachable as error:
            unreachable[name] = str(error)
    after = _live(runtime)
    missing = set(after.values()) - set(runtime.providers)
    unreachable |= dict.fromkeys(missing, "not enabled in this control plane, although replicas are there")
    return [one for one in found if (one.replica_id not in after if one.replica_id else not after)], unreachable


def _live(runtime: Runtime) -> Mapping[str, str]:
    """Every replica with a live record, and its cloud."""
    states = (runtime.store.load(name) for name in runtime.store.service_names())
    return {replica.id: replica.offer.location.provider for state in states if state for replica in state.replicas}


def _janitors(runtime: Runtime) -> Mapping[str, Janitor]:
    return {name: provider for name, provider in runtime.providers.items() if isinstance(provider, Janitor)}


def _view(found: list[Leftover], unreachable: dict[str, str]) -> schemas.Leftovers:
    return schemas.Leftovers(
        leftovers=tuple(map(views.leftover, found)),
        unreachable=unreachable,
    )
