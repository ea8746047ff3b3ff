"""A server on a real socket that answers as a price list does: by a function of the request, after faults to order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Answer:
    body: Any = field(default_factory=dict)  # text and bytes are sent as they are, all else as JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0  # so many bytes of the body are announced and not sent


class Recorded:
    """Listens from the start; `faults` are answered first, each to one request."""

    def __init__(self, answer: Callable[[Request], Answer], faults: list[Answer] | None = None) -> None:
        self.answer = answer
        self.faults = faults or []
        self.requests: list[Request] = []
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: apart they cost 40 ms each time

            def do_GET(self) -> None:
                recorded._serve(self)

            def do_POST(self) -> None:
                recorded._serve(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode()
        headers = {name.lower(): value for name, value in handler.headers.items()}
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        request = Request(parts.path, query, headers, body)
        self.requests.append(request)
        answer = self.faults.pop(0) if self.faults else self.answer(request)
        text = answer.body if isinstance(answer.body, str | bytes) else json.dumps(answer.body)
        content = text.encode() if isinstance(text, str) else text
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) + answer.cut))
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = bool(answer.cut)
