"""Leave the routing table where a router finds it that starts while no control plane answers."""

from __future__ import annotations

import json

from chalicelib import edge_table, identity
from chalicelib.errors import Unreachable
from chalicelib.ports import Runtime
from chalicelib.routing import at_rest

# Of one writer among several: what it reads after its last write is somebody else's, who looks again too.
_WRITES = 3


def leave_snapshot(runtime: Runtime) -> str:
    """Write the table as the store has it, unless that is what lies there; the failure in words, or empty.

    How busy replicas are is left out, so that it is written when members, keys or the services' own words change, and not
    at every probe. Several may write at once: each looks again after its own write, so that the last to write has the latest.
    A failure is no failure of a pass: the next tick tries again.
    """
    snapshots, tokens = runtime.snapshots, runtime.settings.router_tokens
    if snapshots is None or not tokens:
        return ""
    try:
        for _ in range(_WRITES):
            tables, keys = runtime.store.tables(), runtime.store.endpoint_keys()
            table = edge_table.compose(map(at_rest, tables), keys, runtime.clock.now())
            if _etag(snapshots.read(), tokens[0]) == table.etag:
                break
            snapshots.write(identity.sealed(tokens[0], table.text))
    except Unreachable as error:
        return f"the snapshot of the routing table is out of date: {error}"
    return ""


def _etag(text: str, token: str) -> str:
    """Of the table that lies there; empty when it is none of ours, or sealed with another token than it would be now."""
    document = text.partition("\n")[2]
    if text != identity.sealed(token, document):
        return ""
    etag: str = json.loads(document)["etag"]
    return etag
