"""Where somebody was sent lately, so that a retry goes elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from edge_router.messages import Request

# Each about 1 MB. Who was pushed out is routed as if new.
SIZE = 4096
# Long enough for a connection's retry at once, short enough to be forgotten by a client that merely comes back.
_CONNECTION_S = 5.0
# As long as openai-python waits for an answer: what breaks may have been under way for all of that.
_QUESTION_S = 600.0
_ATTEMPTS = 3  # of such clients; machines of one zone die together, and another question may look the same


class Retries:
    """Which replicas a request should not meet, as it may be a retry of one that met them. Not thread-safe."""

    def __init__(self) -> None:
        self._by_connection = RecentPicks(_CONNECTION_S, keep=1)
        self._by_question = RecentPicks(_QUESTION_S, keep=_ATTEMPTS)

    def avoid(self, request: Request, service: str, rest: bytes, now: float, *, stays: bool) -> tuple[str, ...]:
        """Ids of replicas, the most important one to avoid first.

        OpenAI's and Anthropic's clients, and all others that Stainless makes, number their retries from 1. What others
        ask next on the same connection may be a retry, unless the service means them to stay (`stays`) where they were.
        """
        if request.headers.get(b"x-stainless-retry-count", b"0") != b"0":
            return self._by_question.of(_question(request, service, rest), now)
        return () if stays else self._by_connection.of(_connection(request, service), now)

    def remember(self, request: Request, service: str, rest: bytes, now: float, replica_id: str) -> None:
        """It was sent to `replica_id`."""
        self._by_connection.remember(_connection(request, service), now, replica_id)
        self._by_question.remember(_question(request, service, rest), now, replica_id)


def _connection(request: Request, service: str) -> Hashable:
    return service, request.ip, request.port


def _question(request: Request, service: str, rest: bytes) -> Hashable:
    """What is asked, as far as the router sees it; the hash keeps long paths out of memory."""
    return request.ip, hash((service, rest, request.query, request.headers.get(b"content-length")))


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
