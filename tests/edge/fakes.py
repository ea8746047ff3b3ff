"""The router's two neighbours, on real sockets of 127.0.0.1: a control plane that fails in every way, and a replica."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

TOKEN = "router-token"
FAULTS = (
    "refuse",
    "drop_before",
    "drop_after",
    "error_before",
    "error_after",
    "garbage",
    "stranger",
    "truncate",
    "redirect",
    "unsealed",
)


KEY_ID = "k3y0000000"
KEY = f"sp_{KEY_ID}_{'A' * 43}"
BEARER = {b"authorization": b"Bearer " + KEY.encode()}


def seal(document: object, token: str = TOKEN) -> str:
    """A table as the control plane sends it. Written from the wire format, not with the router's code."""
    body = json.dumps(document, ensure_ascii=False)
    root = hmac.new(token.encode(), b"sailplane-grants", hashlib.sha256).digest()
    kid = hashlib.sha256(b"sailplane-kid" + root).hexdigest()[:8]
    key = hmac.new(token.encode(), b"sailplane-table", hashlib.sha256).digest()
    return f"sailplane-table 1 {kid} {hmac.new(key, body.encode(), hashlib.sha256).hexdigest()}\n{body}"


def table(
    *services: tuple[str, str, str, list[str]],
    etag: str = "one",
    issued_at: float = 1_700_000_000.0,
    access: str = "open",
) -> dict[str, Any]:
    """A table's document from (name, policy, status, replica URLs). KEY is good for all of them."""
    return {
        "etag": etag,
        "issued_at": issued_at,
        "keys": {KEY_ID: {"hash": hashlib.sha256(KEY.encode()).hexdigest(), "services": ["*"]}},
        "services": {
            name: {
                "policy": policy,
                "status": status,
                "access": access,
                "replicas": [
                    {"id": f"{name}-a1b2-{slot}-1", "url": url, "boot": f"b007{slot}", "in_flight": 0}
                    for slot, url in enumerate(urls)
                ],
            }
            for name, policy, status, urls in services
        },
    }


class FakeControl:
    """Records load as the store's contract says (a `seq` not above the last one changes nothing) and serves a table.

    `fault` says what happens to the exchanges from now on; "" is none. `*_after` faults record before they fail.
    """

    def __init__(self) -> None:
        self.table: dict[str, Any] | None = None
        self.fault = ""
        self.recorded: Counter[str] = Counter()
        self.questions: list[dict[str, Any]] = []
        self.released = Event()  # ends the fault "hang"
        self._last_seq: dict[str, int] = {}
        self._lock = Lock()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def record(self, question: dict[str, Any]) -> None:
        with self._lock:
            self.questions.append(question)
            if question["seq"] <= self._last_seq.get(question["router_id"], 0):
                return
            self._last_seq[question["router_id"]] = question["seq"]
            for service, seconds in question["requests"].items():
                self.recorded[service] += sum(count for _, count in seconds)

    def sealed(self) -> str | None:
        """The table as it goes out."""
        return None if self.table is None else seal(self.table)

    @contextmanager
    def running(self) -> Iterator[FakeControl]:
        """Listens inside the block; a second time on the same port, with what it had recorded."""
        with _serving(self._handler(), self._port) as port:
            self._port = port
            yield self

    def _handler(control) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the request handler's below
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fault = control.fault
                if self.path != "/v1/edge/exchange" or self.headers["authorization"] != f"Bearer {TOKEN}":
                    self._answer(401, b"{}")
                    return
                if fault in ("", "drop_after", "error_after", "unsealed"):
                    control.record(question)
                if fault == "hang":
                    control.released.wait(10)
                elif fault == "redirect":
                    self.send_response(302)
                    self.send_header("location", control.url)
                    self.send_header("content-length", "0")
                    self.end_headers()
                elif fault.startswith("error"):
                    self._answer(500, b'{"table": null}')
                elif fault == "garbage":
                    self._answer(200, b"<html>Log in to this network</html>")
                elif fault == "stranger":
                    self._answer(200, b'{"status": "ok"}')
                elif fault == "unsealed":
                    self._answer(200, json.dumps({"table": control.table}).encode())
                elif fault == "truncate":
                    self.send_response(200)
                    self.send_header("content-length", "999")
                    self.end_headers()
                    self.wfile.write(b'{"table": null')
                elif fault == "":
                    known = control.table is not None and control.table.get("etag") == question["etag"]
                    self._answer(200, json.dumps({"table": None if known else control.sealed()}).encode())
                # "refuse" and "drop_*": the connection ends without a word.

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def running_replica() -> Iterator[str]:
    """A replica that answers any method with what it was asked: method, target without the grant, length of the body.

    Its URL.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes; 40 ms a request otherwise

        def _echo(self) -> None:
            received = len(self.rfile.read(int(self.headers.get("content-length", 0))))
            target = re.sub("^/~[^/]*", "", self.path)
            document = {"method": self.command, "target": target, "received": received, "port": port}
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_DELETE = do_PATCH = _echo  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler, 0) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler], port: int) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
