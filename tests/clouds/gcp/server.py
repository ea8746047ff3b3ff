"""The HTTP side of the box: credentials, contract, and the faults that a network and a busy API have."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.clouds.box import Fault, Faults, HttpServer
from tests.clouds.gcp import contract
from tests.clouds.gcp.refusals import Refusal

# The names that a fault may be given by, besides Google's own (`instances.insert`).
_NAMES = {"instances.insert": "launch", "instances.aggregatedList": "list", "instances.delete": "terminate"}
_REFUSALS = {
    Fault.THROTTLED: Refusal(403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries' per minute."),
    Fault.SERVER_ERROR: Refusal(503, "backendError", "Internal error. Please try again."),
    Fault.UNAUTHORIZED: Refusal(401, "authError", "Invalid Credentials"),
}


@dataclass(frozen=True)
class Recorded:
    """A request that kept the contract."""

    http_method: str
    path: str
    query: dict[str, str]
    body: Any


class Server:
    """Serves on 127.0.0.1 until closed. `answer` does the work, or raises `Refusal`."""

    def __init__(
        self,
        answer: Callable[[contract.Method, dict[str, str], Any], dict[str, Any]],
        faults: Faults,
        token: str,
        port: int,
    ) -> None:
        self.recorded: list[Recorded] = []
        self._answer = answer
        self._faults = faults
        self._token = token
        self._contract = contract.published()
        self._http = HttpServer(("127.0.0.1", port), self._handler())
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="gcp box", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        respond = self._respond

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                respond(self)

            do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815 - names that http.server looks for

            def log_message(self, *_: object) -> None:
                """Tests have nothing to read here."""

        return Handler

    def _respond(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if self._faults.down:
            return
        time.sleep(self._faults.answer_after_s)
        status, document = self._answered(request, body)
        if document is not None:
            payload = json.dumps(document).encode()
            with suppress(ConnectionError):  # a client that waited long enough
                request.send_response(status)
                request.send_header("Content-Type", "application/json; charset=UTF-8")
                request.send_header("Content-Length", str(len(payload)))
                request.end_headers()
                request.wfile.write(payload)

    def _answered(self, request: BaseHTTPRequestHandler, payload: bytes) -> tuple[int, dict[str, Any] | None]:
        """Status and body; no body when the connection breaks before the answer."""
        fault = None
        try:
            method, query, body = self._understood(request, payload)
            own_name = method.id.removeprefix("compute.")
            fault = self._faults.take(own_name, _NAMES.get(own_name, own_name))
            if fault in _REFUSALS:
                raise _REFUSALS[fault]
            if fault is Fault.DUPLICATED:
                self._answer(method, query, body)
            status, document = 200, self._answer(method, query, body)
            if faults := self._contract.faults_of_answer(method, document):
                status, document = 500, Refusal(500, "box", f"Google does not answer so: {faults}").document()
        except Refusal as refusal:
            status, document = refusal.status, refusal.document()
        return status, None if fault is Fault.LOST_RESPONSE else document

    def _understood(
        self, request: BaseHTTPRequestHandler, payload: bytes
    ) -> tuple[contract.Method, dict[str, str], Any]:
        """The request, after everything that is checked before any work is done. Raises `Refusal`."""
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            raise _REFUSALS[Fault.UNAUTHORIZED]
        url = urlsplit(request.path)
        query, body = dict(parse_qsl(url.query, keep_blank_values=True)), json.loads(payload) if payload else None
        method = self._contract.find(request.command, url.path)
        if method is None:
            raise Refusal(404, "notFound", f"{request.command} {url.path} is not in the API")
        if faults := self._contract.faults(method, query, body):
            raise Refusal(400, "badRequest", "\n".join(faults))
        self.recorded.append(Recorded(request.command, url.path, query, body))
        return method, query, body
