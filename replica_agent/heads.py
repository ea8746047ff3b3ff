"""The heads of HTTP messages: as they came, and as they are passed on. Bytes throughout: what they mean is not ours to say."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from urllib.parse import unquote

MAX_HEAD_BYTES = 65_536
# RFC 9110, section 7.6.1; `Expect`, which is answered here; and the two that frame a body, which are always written anew: a
# `Connection: content-length` must not take away what tells where one request ends and the next begins.
OF_THE_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What the engine is told in other words than the agent was.
REWRITTEN = frozenset({b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})
CHUNKED = b"Transfer-Encoding: chunked\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


@dataclass(slots=True)
class Fields:
    """The header fields of one message, in order, and by lower-case name, where those of one name are joined."""

    lines: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)  # lower-case name, name, value
    by_name: dict[bytes, bytes] = field(default_factory=dict)
    size: int = 0  # bytes

    def add(self, name: bytes, value: bytes) -> None:
        low = name.lower()
        self.lines.append((low, name, value))
        self.by_name[low] = self.by_name[low] + b", " + value if low in self.by_name else value
        self.size += len(name) + len(value) + 4

    def get(self, name: bytes) -> bytes:
        return self.by_name.get(name, b"")

    def end_to_end(self, dropped: AbstractSet[bytes]) -> list[bytes]:
        """The lines to pass on: none that is `dropped`, nor any that `Connection` names."""
        if named := self.by_name.get(b"connection"):
            dropped |= {each.strip().lower() for each in named.split(b",")}
        return [b"%s: %s\r\n" % (name, value) for low, name, value in self.lines if low not in dropped]


@dataclass(slots=True)
class Request:
    """What a client asks for, before its body."""

    method: bytes
    target: bytes
    fields: Fields
    version: str
    is_last_of_http: bool  # the parser takes what follows for another protocol
    peer: bytes  # the client's address

    @property
    def path(self) -> str:
        """For people: decoded, without the query."""
        return readable(self.target)

    @property
    def is_http_1_0(self) -> bool:
        return self.version == "1.0"

    @property
    def upgrades(self) -> bool:
        """To a WebSocket, the only other protocol that engines speak on the same port."""
        return self.is_last_of_http and self.method == b"GET" and self.fields.get(b"upgrade").lower() == b"websocket"

    @property
    def has_body(self) -> bool:
        return self.is_chunked or self.fields.get(b"content-length").strip(b"0 ") != b""

    @property
    def is_chunked(self) -> bool:
        return b"transfer-encoding" in self.fields.by_name

    @property
    def defect(self) -> str:
        """What is wrong with it besides what the parser refuses; empty when nothing is.

        Framing that two readers may understand in two ways is refused, RFC 9112, sections 6.1 and 11.2.
        """
        if self.version not in ("1.0", "1.1"):
            return "The agent speaks HTTP/1.1."
        if self.is_last_of_http and self.has_body:
            return "A request that asks for another protocol has no body."
        encoding = self.fields.by_name.get(b"transfer-encoding", b"chunked")
        if encoding.strip().lower() != b"chunked" or (self.is_chunked and self.is_http_1_0):
            return "The only transfer coding is chunked, and only in HTTP/1.1."
        hosts = sum(low == b"host" for low, _, _ in self.fields.lines)
        if hosts > 1 or (hosts == 0 and not self.is_http_1_0):
            return "There must be one Host."
        return "A request target has no fragment." if b"#" in self.target else ""


def readable(target: bytes) -> str:
    """For people: decoded, without the query."""
    return unquote(target.partition(b"?")[0].decode("latin-1"))


def for_engine(request: Request, target: bytes, host: bytes, dropped: AbstractSet[bytes], credentials: bytes) -> bytes:
    """The engine sees itself as Host and the client's view in X-Forwarded-*. `credentials` is a line, or empty."""
    fields = request.fields
    via = fields.get(b"x-forwarded-for")
    lines = [
        b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (request.method, target, host),
        *fields.end_to_end(dropped),
        credentials,
        b"X-Forwarded-For: %s\r\n" % (via + b", " + request.peer if via else request.peer),
        b"X-Forwarded-Proto: %s\r\n" % fields.by_name.get(b"x-forwarded-proto", b"http"),
        b"X-Forwarded-Host: %s\r\n" % fields.by_name.get(b"x-forwarded-host", fields.get(b"host")),
    ]
    if request.upgrades:
        lines.append(UPGRADE)
    elif request.is_chunked:
        lines.append(CHUNKED)
    elif length := fields.get(b"content-length"):
        lines.append(b"Content-Length: %s\r\n" % length)
    return b"".join(lines) + b"\r\n"


def for_client(request: Request, status: int, reason: bytes, lines: Iterable[bytes], *, closes: bool) -> bytes:
    """The head of an answer. Whoever asks for a page of another origin may read it, unless the lines say more."""
    start = b"HTTP/1.1 %d %s\r\n" % (status, reason)
    lines = [start, *lines]
    if b"origin" in request.fields.by_name and not any(
        line[:28].lower() == b"access-control-allow-origin:" for line in lines
    ):
        lines.append(b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n")
    if closes:
        lines.append(b"Connection: close\r\n")
    return b"".join(lines) + b"\r\n"
