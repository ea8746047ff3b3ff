"""The one call a router makes: it hands over what it counted and takes the routing table along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from chalice.app import Blueprint

from chalicelib import edge_table, identity
from chalicelib.api.auth import Caller
from chalicelib.api.routes import Route, blueprint
from chalicelib.api.schemas import Exchange, Exchanged
from chalicelib.model import RouteTable
from chalicelib.ports import Runtime


def edge(runtime: Callable[[], Runtime]) -> Blueprint:
    """The routers' route."""
    return blueprint(
        __name__,
        runtime,
        (
            Route(
                "POST",
                "/v1/edge/exchange",
                exchange,
                "Hand over what was counted, take the routing table",
                Exchanged,
                caller=Caller.ROUTER,
                body=Exchange,
                # What a router keeps for 10 minutes has 11 KB for every service in use; a function takes 6 MB.
                max_body_bytes=5 * 1024 * 1024,
            ),
        ),
    )


def exchange(runtime: Runtime, body: Exchange) -> Exchanged:
    """Record what was counted, wake what a request waits for, and answer with the table unless the router has it."""
    now = runtime.clock.now()  # before the table is read: one read later must never look older
    counted_at = (
        now - body.age_s
    )  # what came since is not in the batch: nobody knows it, which is not the same as no load
    for name, counts in body.requests.items():
        by_second = _by_second(counts, counted_at)
        runtime.store.record_load(name, body.router_id, body.seq, by_second, counted_at, on_demand=body.on_demand)
    if body.used:
        runtime.store.record_used(body.used, now)
    tables = runtime.store.tables()
    _wake(runtime, body, tables)
    table = edge_table.compose(tables, runtime.store.endpoint_keys(), now)
    if table.etag == body.etag:
        return Exchanged(table=None)
    return Exchanged(table=identity.sealed(runtime.settings.router_tokens[0], table.text))


def _by_second(counts: Sequence[tuple[int, int]], now: float) -> tuple[tuple[int, int], ...]:
    """Counts with each second once and none in the future, which is where a router whose clock is ahead puts them.

    Refusing such a batch would also keep the table from its router, and dropping it would look like no load at all.
    """
    by_second: Counter[int] = Counter()
    for second, count in counts:
        by_second[min(second, int(now))] += count
    return tuple(sorted(by_second.items()))


def _wake(runtime: Runtime, body: Exchange, tables: Iterable[RouteTable]) -> None:
    """Ask for a pass over every service that was knocked at while no replica could answer."""
    asleep = {table.service for table in tables if not table.routes}
    for name, counts in body.requests.items():
        if name in asleep and any(count for _, count in counts):
            runtime.poke(name)
