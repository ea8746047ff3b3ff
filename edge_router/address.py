"""What a path says: which service, what is meant for the replica, and what the edge wrote into it for itself."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from edge_router.messages import Refusal

# Not a service's name: the model in the body picks the service.
BY_MODEL = "v1"
# 9 redirects in a row work in every client that follows any (aiohttp and got stop at 10); the ninth leads to the replica.
MAX_HOPS = 8


class Ticket(NamedTuple):
    """A grant that came too late, brought back by its replica's agent: the client's key was lost on the way there."""

    grant: bytes
    replica_id: str
    boot_nonce: str


class Address(NamedTuple):
    """A path, read. `rest` is what the replica gets, without the leading slash, byte for byte."""

    service: str
    rest: bytes
    hops: int = 0  # times that this client was sent round already
    ticket: Ticket | None = None

    @property
    def path(self) -> bytes:
        """What a grant is bound to, however a client rewrites the percent-encoding on its way."""
        return unquote_to_bytes(b"/" + self.rest)

    def next_hop(self) -> bytes:
        """Where a client that has to wait asks next: a path of this router, so that it keeps its Authorization."""
        wait = b"~wait.%d" % (self.hops + 1)
        if self.service == BY_MODEL:
            return b"/%b/%b" % (wait, self.rest)
        return b"/%b/%b/%b" % (self.service.encode(), wait, self.rest)


def read(path: bytes) -> Address:
    """The address that a path is.

        /<service>/<rest>
        /<service>/~wait.<hops>/<rest>
        /<service>/~<grant>~<replica id>~<boot nonce>/<rest>
        /v1/<rest>
        /~wait.<hops>/v1/<rest>

    Raises:
        Refusal: 400, the path has a segment of ours that we did not write.
    """
    root, _, path = path.partition(b"/")
    first, _, rest = path.partition(b"/")
    hops = 0
    if root:  # as in `*`, or `host:443`: nobody's
        return Address("", rest)
    if _is_ours(first):
        hops = _hops(unquote_to_bytes(first))
        first, _, rest = rest.partition(b"/")
    service = first.decode("latin-1")
    if service == BY_MODEL:
        return Address(service, first + b"/" + rest, hops)
    if not _is_ours(rest):
        return Address(service, rest, hops)
    segment, _, rest = rest.partition(b"/")
    ours = unquote_to_bytes(segment)
    if ours.count(b"~") == 3:
        grant, replica_id, boot_nonce = ours[1:].split(b"~")
        return Address(service, rest, 0, Ticket(grant, replica_id.decode("latin-1"), boot_nonce.decode("latin-1")))
    return Address(service, rest, _hops(ours))


def _is_ours(text: bytes) -> bool:
    return text[:1] == b"~" or text[:3] in (b"%7E", b"%7e")


def _hops(ours: bytes) -> int:
    digit = ours.removeprefix(b"~wait.")
    if len(digit) != 1 or not b"1" <= digit <= b"%d" % MAX_HOPS:
        raise Refusal(400, "Bad Request", "A path segment that begins with ~ is Sailplane's own, and this is none.")
    return int(digit)
