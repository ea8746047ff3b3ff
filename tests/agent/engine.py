"""An engine for the agent's tests: it echoes, streams on command, breaks on command and remembers what it was asked."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SEEN: list[str] = []  # request lines, in order
LEFT: list[str] = []  # paths whose client left in the middle
FLOODED = [0]  # bytes that were taken from this engine
EXPORTED: list[str] = []  # what /metrics tells, the last one
GATES: dict[str, threading.Event] = {}


def gate(name: str) -> threading.Event:
    return GATES.setdefault(name, threading.Event())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    rest = b""  # of an answer that nobody asked for

    def do_GET(self) -> None:
        self.wfile.write(self.rest)
        if not self.path.startswith("/_"):  # the test's own questions
            SEEN.append(f"{self.command} {self.path}")
        path, _, query = self.path.partition("?")
        getattr(self, "on" + path.replace("/", "_"), self.on_unknown)(query)

    do_POST = do_HEAD = do_GET  # noqa: N815 - the base class names them so

    def on__seen(self, _query: str) -> None:
        self.answer(json.dumps({"seen": SEEN, "left": LEFT}).encode())

    def on__open(self, query: str) -> None:
        self.answer(b"")  # first: what the gate lets happen may end this engine
        gate(query).set()

    def on__export(self, query: str) -> None:
        EXPORTED.append(unquote(query))
        self.answer(b"")

    def on_metrics(self, _query: str) -> None:
        self.answer(EXPORTED[-1].encode() if EXPORTED else b"", status=200 if EXPORTED else 404)

    def on_headers(self, _query: str) -> None:
        body = json.dumps({"line": self.path, "headers": self.headers.items()}).encode()
        extra = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Mine", "yes"), ("Keep-Alive", "timeout=9")]
        self.answer(body, extra=extra)

    def on_echo(self, _query: str) -> None:
        body = self.body()
        self.answer(body, extra=[("X-Digest", hashlib.sha256(body).hexdigest())])

    def on_status(self, query: str) -> None:
        self.body()
        self.answer(b"" if query in ("204", "304") else b"asked for it", status=int(query))

    def on_gzip(self, _query: str) -> None:
        self.answer(gzip.compress(b"packed", mtime=0), extra=[("Content-Encoding", "gzip")])

    def on_redirect(self, _query: str) -> None:
        self.answer(b"", status=307, extra=[("Location", "/headers")])

    def on_deep_redirect(self, query: str) -> None:
        self.body()
        status, _, location = query.partition(",")
        self.answer(b"", status=int(status), extra=[("Location", unquote(location))])

    def on_guarded(self, query: str) -> None:
        self.answer(b"", status=200 if self.headers["Authorization"] == f"Bearer {query}" else 401)

    def on_cors(self, _query: str) -> None:
        self.answer(b"", extra=[("Access-Control-Allow-Origin", "https://engine.example")])

    def on_sse(self, query: str) -> None:
        """One event at once, the second when gate `query` opens."""
        self.begin([("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
        self.chunk(b"data: first\n\n")
        gate(query).wait(30)
        self.chunk(b"data: second\n\n")
        self.chunk(b"")

    def on_endless(self, query: str) -> None:
        """Events until the client leaves."""
        self.begin([("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
        try:
            while not gate(query).wait(0.02):
                self.chunk(b"data: again\n\n")
        except OSError:
            LEFT.append(self.path)

    def on_break_headers(self, _query: str) -> None:
        """Headers of a stream, and not a byte more."""
        self.begin([("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
        self.close_connection = True

    def on_peer(self, _query: str) -> None:
        self.answer(str(self.client_address[1]).encode())

    def on_until_close(self, _query: str) -> None:
        self.begin([])
        self.wfile.write(b"all of it")
        self.close_connection = True

    def on_hints(self, _query: str) -> None:
        self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        self.answer(b"then this")

    def on_too_much(self, _query: str) -> None:
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nenoughHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        )
        self.rest = b"hello"

    def on_too_large(self, _query: str) -> None:
        self.answer(b"enough", status=413)
        while self.connection.recv(1_000_000):
            pass
        self.close_connection = True

    def on_flood(self, _query: str) -> None:
        """300 MB."""
        self.begin([("Content-Length", "300000000")])
        FLOODED[:] = [0]
        try:
            for _ in range(3_000):
                self.wfile.write(b"x" * 100_000)
                FLOODED[0] += 100_000
        except OSError:
            LEFT.append(self.path)

    def on__flooded(self, _query: str) -> None:
        self.answer(json.dumps(FLOODED[0]).encode())

    def on_socket(self, _query: str) -> None:
        """Another protocol: what comes goes back."""
        self.begin([("Connection", "Upgrade"), ("Upgrade", "websocket")], 101)
        self.wfile.write(b"welcome ")
        while data := self.connection.recv(65_536):
            self.wfile.write(data)
        LEFT.append(self.path)
        self.close_connection = True

    def on_never(self, query: str) -> None:
        gate(query).wait(30)
        self.close_connection = True

    def on_break_chunked(self, _query: str) -> None:
        self.begin([("Transfer-Encoding", "chunked")])
        self.chunk(b"half")
        self.close_connection = True

    def on_break_length(self, _query: str) -> None:
        self.begin([("Content-Length", "100")])
        self.wfile.write(b"half")
        self.close_connection = True

    def on_break_early(self, _query: str) -> None:
        self.close_connection = True

    def on_break_head(self, _query: str) -> None:
        self.begin([("X-Endless", "x" * 70_000)])
        self.close_connection = True

    def on_unknown(self, _query: str) -> None:
        self.answer(b"no", status=404)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, body: bytes, status: int = 200, extra: list[tuple[str, str]] | None = None) -> None:
        self.begin([("Content-Length", str(len(body))), *(extra or [])], status)
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, headers: list[tuple[str, str]], status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_args: object) -> None:
        pass


if __name__ == "__main__":
    sys.stdout.write("engine up\n")
    sys.stdout.flush()
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAILPLANE_PORT"])), Handler).serve_forever()
