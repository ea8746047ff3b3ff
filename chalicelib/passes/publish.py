"""Give the routers a new table, on change."""

from __future__ import annotations

from chalicelib.actions import Decision, Publish
from chalicelib.model import Observed, State
from chalicelib.ports import Runtime
from chalicelib.routing import members, next_table


def decide(runtime: Runtime, state: State, observed: Observed, now: float) -> Decision:
    """Publish what differs from the table the routers have. A change of load alone is no news to people."""
    published = runtime.store.table(state.service.name)
    table = next_table(state, observed, published, now)
    if table is None:
        return Decision(why=("routers are up to date",))
    names = ", ".join(route.id for route in table.routes) or "nobody"
    why = f"routing to {names}"
    news = members(table) != members(published) or published is None
    return Decision((Publish(table, why if news else ""),), (why,))
