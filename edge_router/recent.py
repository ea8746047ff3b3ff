"""Where somebody was sent lately, so that a retry goes elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

# Each about 1 MB. Who was pushed out is routed as if new.
SIZE = 4096


class RecentPicks:
    """The last `keep` replicas by whatever recognises a retry, for `within_s`. Not thread-safe; the router locks.

    A replica that dies stays in the table until the control plane has noticed, and every client sent to it sees its
    connection refused. Most clients then ask the router again at once; sending that request to any other replica heals
    them. What is no retry and moves on as well costs nothing, which both policies tolerate.
    """

    def __init__(self, within_s: float, keep: int) -> None:
        self._within_s = within_s
        self._keep = keep
        self._picks: OrderedDict[Hashable, tuple[tuple[str, ...], float]] = OrderedDict()

    def of(self, who: Hashable, now: float) -> tuple[str, ...]:
        """Ids of the replicas picked for them, the latest first; none when that was long ago."""
        ids, at = self._picks.get(who, ((), now))
        return ids if now - at <= self._within_s else ()

    def remember(self, who: Hashable, now: float, replica_id: str) -> None:
        """They were sent to `replica_id`."""
        earlier = tuple(each for each in self.of(who, now) if each != replica_id)
        self._picks[who] = ((replica_id, *earlier)[: self._keep], now)
        self._picks.move_to_end(who)
        if len(self._picks) > SIZE:
            self._picks.popitem(last=False)
