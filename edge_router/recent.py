"""Where each client was sent last, so that a retry goes elsewhere."""

from __future__ import annotations

from collections import OrderedDict

# Long enough for the first retries of the usual clients (openai-python waits 0.5 to 8 s), short enough to be forgotten
# by a client that merely comes back.
WITHIN_S = 5.0
# About 1 MB. A client that was pushed out is routed as if it were new.
SIZE = 4096


class RecentPicks:
    """The last replica by service and client connection, for a few seconds. Not thread-safe; the router locks.

    A replica that dies stays in the table until the control plane has noticed, and every client sent to it sees its
    connection refused. Most clients then ask the router again at once, mostly on the same connection; sending that
    request to any other replica heals them. A healthy client's next request moves on as well, which both policies
    tolerate.
    """

    def __init__(self) -> None:
        self._picks: OrderedDict[tuple[str, str, int], tuple[str, float]] = OrderedDict()

    def last(self, service: str, ip: str, port: int, now: float) -> str:
        """The id of the replica picked for this client's last request, or "" when that was long ago."""
        replica_id, at = self._picks.get((service, ip, port), ("", now))
        return replica_id if now - at <= WITHIN_S else ""

    def remember(self, service: str, ip: str, port: int, now: float, replica_id: str) -> None:
        """This client was sent to `replica_id`."""
        key = (service, ip, port)
        self._picks[key] = (replica_id, now)
        self._picks.move_to_end(key)
        if len(self._picks) > SIZE:
            self._picks.popitem(last=False)
