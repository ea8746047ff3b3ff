"""Azure in a box: an HTTP server that speaks the part of Azure Resource Manager a control plane uses.

Every request is held against the published contract first (`contract`), then against the book (`cloud`).
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, unquote, urlsplit

from chalicelib.ports import Clock
from tests.clouds.azure import contract, operations
from tests.clouds.azure.cloud import Cloud
from tests.clouds.azure.wire import Answer, Refused, Request
from tests.clouds.box import Booked, Fault, Faults, HttpServer, Hypervisor

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "sailplane"
# What tests call the operations that every cloud has.
_ALIASES = {
    "virtualMachines.createOrUpdate": "launch",
    "virtualMachines.list": "list",
    "virtualMachines.delete": "terminate",
}
_REFUSALS = {
    Fault.THROTTLED: Refused(429, "TooManyRequests", "The request is being throttled.", **{"Retry-After": "10"}).answer,
    Fault.SERVER_ERROR: Refused(500, "InternalServerError", "Encountered internal server error.").answer,
    Fault.UNAUTHORIZED: Refused(401, "ExpiredAuthenticationToken", "The access token expiry has passed.").answer,
}


class AzureBox:
    """`tests.clouds.box.Box` for one resource group of one subscription. Azure has no zones: faults name regions.

    `requests` records what was asked for and fits the contract.
    """

    name = "azure"

    def __init__(
        self,
        hypervisor: Hypervisor,
        clock: Clock,
        port: int = 0,
        *,
        subscription: str = SUBSCRIPTION,
        group: str = GROUP,
    ) -> None:
        self.faults = Faults()
        self.requests: list[Request] = []
        self.subscription, self.group = subscription, group
        self._key = secrets.token_hex(16)
        self.cloud = Cloud(f"/subscriptions/{subscription}/resourceGroups/{group}", hypervisor, clock, self.faults)
        self._server = HttpServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self.endpoint_url = f"http://{self._key}@127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def machines(self) -> list[Booked]:
        with self.cloud.lock:
            self.cloud.advance()
            return self.cloud.booked()

    def preempt(self, machine_id: str, notice_s: float) -> None:
        with self.cloud.lock:
            machine = self.cloud.by_vm_id(machine_id)
            assert machine.is_spot, f"{machine.name} is no spot machine, Azure does not take it back"
            machine.taken_at = self.cloud.clock.now() + notice_s
            self.cloud.advance()

    def kill(self, machine_id: str) -> None:
        with self.cloud.lock:
            self.cloud.hypervisor.destroy(machine_id)
            self.cloud.advance()

    def fail_late(self, *, late: bool = True) -> None:
        """Let a lack of capacity come out only when the order, which was taken, is carried out."""
        self.cloud.late_failures = late

    def advance(self) -> None:
        with self.cloud.lock:
            self.cloud.advance()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self.cloud.lock:
            for machine in self.cloud.machines.values():
                self.cloud.hypervisor.destroy(machine.vm_id)

    def answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer | None:
        """The answer to a request; None to break the connection."""
        if self.faults.down:
            return None
        time.sleep(self.faults.answer_after_s)
        try:
            if target.startswith("/bootdiagnostics/"):
                return self._console(target, headers)
            self._authenticate(headers)
            return self._serve(self._understand(method, target, headers, content))
        except Refused as refused:
            return refused.answer

    def _authenticate(self, headers: Mapping[str, str]) -> None:
        if headers.get("authorization") != f"Bearer {self._key}":
            raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.")

    def _understand(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Request:
        """The request as one of the contract's. Raises `Refused`."""
        url = urlsplit(target)
        path, query = unquote(url.path), dict(parse_qsl(url.query))
        for operation in contract.OPERATIONS:
            parameters = operation.match(method, path)
            if parameters is not None:
                body = json.loads(content) if content else {}
                request = Request(operation.name, method, path, parameters, query, headers, body)
                self._check(operation, request)
                return request
        raise Refused(404, "InvalidResourceType", f"The resource type of {method} {path} could not be found.")

    def _check(self, operation: contract.Operation, request: Request) -> None:
        if request.parameters["sub"] != self.subscription:
            raise Refused(404, "SubscriptionNotFound", f"The subscription '{request.parameters['sub']}' was not found.")
        group = request.parameters.get("group", self.group)
        if group.lower() != self.group.lower():
            raise Refused(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        version = request.query.get("api-version", "")
        if version != operation.api_version:
            raise Refused(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
        unknown = request.query.keys() - operation.query - {"api-version", "$skiptoken"}
        if unknown:
            raise Refused(400, "InvalidQueryParameter", f"Unknown query parameters: {sorted(unknown)}.")
        wrong = contract.problem(operation.body, request.body) if operation.body else ""
        if wrong:
            raise Refused(400, "InvalidRequestContent", f"The request content was invalid: {wrong}")

    def _serve(self, request: Request) -> Answer | None:
        fault = self.faults.take(request.operation, _ALIASES.get(request.operation, request.operation))
        if fault in _REFUSALS:
            return _REFUSALS[fault]
        with self.cloud.lock:
            answer = self._outcome(request)
            if fault is Fault.DUPLICATED:
                answer = self._outcome(request)
        return None if fault is Fault.LOST_RESPONSE else answer

    def _outcome(self, request: Request) -> Answer:
        self.requests.append(request)
        self.cloud.advance()
        try:
            answer = operations.serve(self.cloud, request)
        except Refused as refused:
            answer = refused.answer
        self.cloud.advance()
        return answer

    def _console(self, target: str, headers: Mapping[str, str]) -> Answer:
        """A blob behind a signed address. Whoever also shows a token has given it away to a stranger."""
        url = urlsplit(target)
        _, _, vm_id, _blob = url.path.split("/")
        if dict(parse_qsl(url.query)).get("sig") != self.cloud.blob_key or "authorization" in headers:
            raise Refused(403, "AuthenticationFailed", "Server failed to authenticate the request.")
        text = self.cloud.hypervisor.console(vm_id)
        if not text:
            raise Refused(404, "BlobNotFound", "The specified blob does not exist.")
        return Answer(200, text)


def _handler(box: AzureBox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes, and would be 40 ms apart

        def do_GET(self) -> None:
            self._answer()

        do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 the names that the base class looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
            """Say nothing."""

        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = box.answer(self.command, self.path, headers, content)
            if answer is None:
                self.close_connection = True
                return
            is_text = isinstance(answer.body, str)
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body) if answer.body else ""
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(text.encode())))
            with suppress(ConnectionError):  # whoever asked has given up waiting
                self.end_headers()
                self.wfile.write(text.encode())

    return Handler
