"""HTTP/1.1 on one connection: bytes in, answers out in the order of the requests, bodies read past.

httptools parses, which is Node's parser (llhttp) with none of its leniencies: it refuses two kinds of length at once, a
length twice, a length or a chunk's size that is no plain number, folded lines, bare line feeds, spaces before a colon.
What it leaves open and others could read in another way is refused here.
"""

from __future__ import annotations

import re
from asyncio import BufferedProtocol, Transport
from collections import deque
from dataclasses import replace
from http import HTTPStatus
from typing import Protocol, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from edge_router.messages import Request, Response

# Read at a time, into one buffer for all connections: everything read is parsed before anything else is read. It bounds
# what one client can have answered before it is another's turn: some 500 requests, 10 ms.
READ_BYTES = 16_384
# Of a request's head, of trailers, of a chunk's extensions. As much as nginx takes.
MAX_HEAD_BYTES = 32_768
# Requests that wait behind one that is held; of a client that sends more no further ones are read.
MAX_WAITING = 16
HEAD_TIMEOUT_S = 10.0  # from a head's first byte, or the connection's begin, to the head's end
# From a head's end to the body's: 30 MB at 1 MB/s. Only what the router reads past, its answer is out long before.
BODY_TIMEOUT_S = 30.0
# Above the 60 s of load balancers: whoever is in front of us is to close first, or meets a closed connection.
IDLE_TIMEOUT_S = 75.0
# Of all bodies that the router wants to see, so that no memory is needed that a small machine has not.
MAX_BODIES_BYTES = 268_435_456
# What still comes after the last answer is read for so long; a reset would overtake the answer.
LINGER_S = 2.0

_STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_KEEP = b""
_KEEP_SAID = b"connection: keep-alive\r\n"  # to who asks for it: HTTP/1.0 closes otherwise
_CLOSE = b"connection: close\r\n"
_ORIGIN = re.compile(rb"https?://[^/?]*", re.IGNORECASE)


class Server(Protocol):
    """What a connection needs of the server."""

    buffer: bytearray  # that all connections read into
    now: float  # the loop's time, up to a second ago
    date: bytes  # the header line
    body_bytes: int  # of all bodies that are read, or were read for requests that are not answered

    def opened(self, connection: Connection) -> bool:
        """Take note of a new connection; False when there are too many."""

    def closed(self, connection: Connection) -> None:
        """Take note of its end."""

    def body_limit(self, request: Request) -> int:
        """Bytes of the body that `answer` wants to see; 0 for none."""

    def answer(self, connection: Connection, request: Request) -> Response | None:
        """The response. None when the client is held: `connection.release` will be called with it."""


class Connection(BufferedProtocol):
    """One client's connection.

    Attributes:
        deadline: the server's time at which to cut it, unless a request of its is held.
        held: a request of its waits for `release`, with what the answer says of the connection.
    """

    _transport: Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = memoryview(server.buffer)
        self._parser = HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._hosts = 0
        self._in_head = self._in_body = False
        self._collecting: tuple[Request, int, bytes] | None = None
        self._body = bytearray()
        self._body_bytes = 0  # this connection's part of the server's
        self._unmarked_bytes = 0  # since the last sign of progress
        # What to answer, or what has been answered, each with what to say of the connection.
        self._turns: deque[tuple[Request | bytes, bytes]] = deque()
        self._out: list[bytes] = []
        self._deaf = False  # whatever comes is no request
        self._stopping = False
        self.held: tuple[Request, bytes] | None = None
        self.deadline = server.now + HEAD_TIMEOUT_S

    # What the transport calls

    def connection_made(self, transport: object) -> None:
        self._transport = cast("Transport", transport)
        self._ip, self._port = self._transport.get_extra_info("peername")[:2]
        if not self._server.opened(self):
            self._refuse(503, "Too many connections.")
            self._proceed()
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._server.closed(self)
        self._count_body(-self._body_bytes)

    def get_buffer(self, _: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        if self._deaf:
            return
        self._unmarked_bytes += size
        try:
            self._parser.feed_data(self._buffer[:size])
        except HttpParserUpgrade:
            pass  # answered without it
        except HttpParserCallbackError:
            raise  # a fault of ours
        except HttpParserError as error:
            self._malformed(str(error))
        if self._unmarked_bytes > MAX_HEAD_BYTES:
            self._oversized()
        self._proceed()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """The client does not read its answers: nothing more is read from it, and its deadline comes."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    # What the parser calls. Nothing is answered here: the parser takes an exception for the client's fault.

    def on_message_begin(self) -> None:
        self._url, self._headers, self._hosts = b"", {}, 0
        self._in_head = True
        self.deadline = self._server.now + HEAD_TIMEOUT_S

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers come this way too, into a dictionary that nobody looks at."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        if name in self._headers:
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._deaf:
            return
        headers, self._headers = self._headers, {}
        self._unmarked_bytes = 0
        self._in_head, self._in_body = False, True
        self.deadline = self._server.now + BODY_TIMEOUT_S
        if fault := self._fault(headers):
            self._refuse(*fault)
            return
        url = self._url if self._url[0] == 0x2F else _ORIGIN.sub(b"", self._url) or b"/"
        path, _, query = url.partition(b"?")
        request = Request(self._parser.get_method(), path or b"/", query, headers, self._ip, self._port)
        if not self._parser.should_keep_alive() or self._parser.should_upgrade():
            said = _CLOSE
        else:
            said = _KEEP_SAID if b"connection" in headers else _KEEP
        limit = self._server.body_limit(request)
        if limit:
            self._collecting = request, limit, said
            if b"expect" in headers:
                self._turns.append((_CONTINUE, _KEEP))
        else:
            # Who holds its body back may never send it, and nobody could tell whether the next bytes are the body or
            # a request: RFC 9110, 10.1.1.
            self._take(request, _CLOSE if b"expect" in headers else said)

    def on_body(self, part: bytes) -> None:
        self._unmarked_bytes = 0
        if self._collecting:
            self._body += part
            self._count_body(len(part))
            if len(self._body) > self._collecting[1]:
                self._collected()
            elif self._server.body_bytes > MAX_BODIES_BYTES:
                self._refuse(503, "Too many bodies are being read here. Name the service in the path instead.")

    def on_message_complete(self) -> None:
        self._unmarked_bytes = 0
        self._in_body = False
        self.deadline = self._server.now + IDLE_TIMEOUT_S
        if self._collecting:
            self._collected()

    # What the server calls

    def release(self, response: Response) -> None:
        """Answer the held request, and whatever came after it."""
        assert self.held  # noqa: S101 the server holds it
        (request, said), self.held = self.held, None
        if self._transport.is_closing():  # it has just hung up
            return
        if not self._in_head and not self._in_body:
            self.deadline = self._server.now + IDLE_TIMEOUT_S
        self._write(request, response, said)
        self._proceed()

    def stop(self) -> None:
        """Close as soon as nobody waits for an answer."""
        self._stopping = True
        if not (self._in_head or self._collecting or self._turns or self.held):
            self._transport.close()

    def cut(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    # A request's way

    def _fault(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and detail for what the parser lets through and others could read in another way."""
        if self._hosts != 1 and (self._hosts or self._parser.get_http_version() != "1.0"):
            return 400, "Not exactly one Host header."
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or self._parser.get_http_version() == "1.0"):
            return 501, "A Transfer-Encoding other than chunked."
        if b"#" in self._url or not (self._url[0] == 0x2F or _ORIGIN.match(self._url)):
            return 400, "The target is neither a path nor a URL."
        return None

    def _collected(self) -> None:
        assert self._collecting  # noqa: S101 who calls has looked
        (request, limit, said), self._collecting = self._collecting, None
        self._take(replace(request, body=bytes(self._body[: limit + 1])), said)
        self._body.clear()

    def _count_body(self, size: int) -> None:
        self._body_bytes += size
        self._server.body_bytes += size

    def _malformed(self, what: str) -> None:
        """What cannot be read any further. Nothing is said when its head was answered: it would answer something else."""
        if self._in_body and not self._collecting:
            self._deaf = True
        elif not self._deaf:
            self._refuse(400, f"Malformed request: {what}.")

    def _oversized(self) -> None:
        if self._in_head:
            self._refuse(431, f"Request line and headers are longer than {MAX_HEAD_BYTES} bytes.")
        else:
            self._malformed("trailers or chunk extensions are too long")

    def _refuse(self, status: int, detail: str) -> None:
        """The last answer on this connection, by this module."""
        self._collecting = None
        body = detail.encode()
        told = b"content-type: text/plain\r\ncontent-length: %d\r\n" % len(body)
        self._take(_STATUS_LINES[status] + self._server.date + told + _CLOSE + b"\r\n" + body, _CLOSE)

    def _take(self, what: Request | bytes, said: bytes) -> None:
        self._deaf = self._deaf or said is _CLOSE
        self._turns.append((what, said))

    def _proceed(self) -> None:
        """Answer what can be answered, in order, all in one write."""
        while self._turns and not self.held:
            what, said = self._turns.popleft()
            if isinstance(what, bytes):
                self._out.append(what)
            elif response := self._server.answer(self, what):
                self._write(what, response, said)
            else:
                self.held = what, said
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()
        if self.held:
            self._deaf = self._deaf or len(self._turns) > MAX_WAITING
            return
        if self._body_bytes and not self._collecting:
            self._count_body(-self._body_bytes)
        if self._deaf:
            self._linger()

    def _write(self, request: Request, response: Response, said: bytes) -> None:
        if self._stopping:
            said, self._deaf = _CLOSE, True
        lines = b"".join([b"%b: %b\r\n" % header for header in response.headers])
        body = b"" if request.method == b"HEAD" else response.body
        self._out.append(b"".join((_STATUS_LINES[response.status], self._server.date, lines, said, b"\r\n", body)))

    def _linger(self) -> None:
        """All has been said. The client closes when it has read it; what it still sends must not reset the connection."""
        self.deadline = self._server.now + LINGER_S
        self._transport.write_eof()
