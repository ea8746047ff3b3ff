"""The line to a cloud that stands on this machine: it counts the calls, refuses one, or is cut in the middle of one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from tests.clouds.box import HttpServer

# (status, content, media type, other headers)
Answer = tuple[int, bytes, str, Mapping[str, str]]
# (method, path with query, headers with names in lower case, content) -> answer
Serve = Callable[[str, str, Mapping[str, str], bytes], Answer]


@dataclass
class Line:
    """Between a program and a cloud. Calls are counted from 1; one thing goes wrong at most until `mend`."""

    calls: int = 0
    cut_before: int = 0  # this call is lost on its way, and then all are, as when the program is killed
    cut_after: int = 0  # this call is carried out, its answer is lost, and so are all calls from then on
    refused: int = 0  # this call is refused for lack of rights
    busy: int = 0  # this call is answered by "try again later"
    is_cut: bool = False

    def mend(self) -> None:
        """As new."""
        self.calls = self.cut_before = self.cut_after = self.refused = self.busy = 0
        self.is_cut = False


@contextmanager
def served(line: Line, serve: Serve, refusal: Answer) -> Iterator[str]:
    """`host:port` at which `serve` answers inside the block."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                answer = self._answer(content)
            if answer is not None:
                self._send(*answer)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 names that http.server looks for

        def _answer(self, content: bytes) -> Answer | None:
            line.calls += 1
            line.is_cut = line.is_cut or line.calls == line.cut_before
            if line.is_cut:
                return None
            if line.calls == line.refused:
                return refusal
            if line.calls == line.busy:
                return 503, b"{}", "application/json", {}
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = serve(self.command, self.path, headers, content)
            line.is_cut = line.calls == line.cut_after
            return None if line.is_cut else answer

        def _send(self, status: int, content: bytes, media_type: str, headers: Mapping[str, str]) -> None:
            with suppress(ConnectionError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Tests have nothing to read here."""

    server = HttpServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
