"""The platforms' own runtimes as processes, which run what a zip holds and see nothing else of this checkout."""

from __future__ import annotations

import base64
import json
import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote

import pytest

from tests.waiting import until

SITE_PACKAGES = str(Path(pytest.__file__).parents[1])
# Without `site`, whose .pth files would put this checkout on the path: what runs is what the zip holds. And without .pyc
# files, which the clouds have no place for.
ISOLATED = (sys.executable, "-I", "-S", "-B", "-c")
PATHS = "import sys; sys.path[:0] = sys.argv[1:3]; "
LAMBDA = PATHS + "from awslambdaric.__main__ import main; main(['', 'lambda_function.handler'])"
CLIENT_IP = "203.0.113.7"

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What the client gets. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# What Lambda sends with every event. The runtime interface client ends with a segmentation fault when some are missing.
_INVOCATION = {
    "Content-Type": "application/json",
    "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
    "Lambda-Runtime-Deadline-Ms": "1893456000000",
    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:edge",
    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
}

# (method, target as in the request line, headers, body)
Call = Callable[[str, str, Headers, bytes], Answer]
# (folder with the zip's content, environment)
Runtime = Callable[[Path, dict[str, str]], AbstractContextManager[Call]]


@contextmanager
def aws(folder: Path, env: dict[str, str]) -> Iterator[Call]:
    """Lambda's runtime interface client, fed by a small Runtime API with what a function URL makes of requests."""
    with RuntimeApi().running() as api, process(LAMBDA, folder, env | {"AWS_LAMBDA_RUNTIME_API": api.address}):

        def call(method: str, target: str, headers: Headers, body: bytes) -> Answer:
            answer = api.invoke(function_url_event(method, target, headers, body))
            named = {name.lower(): value for name, value in answer.get("headers", {}).items()}
            text = answer.get("body", "")
            raw = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
            return Answer(answer["statusCode"], named, b"" if method == "HEAD" else raw)

        yield call


def function_url_event(method: str, target: str, headers: Headers, body: bytes) -> dict[str, Any]:
    """Payload format 2.0: the path as it was sent, names of headers in lower case, cookies apart, binary as base64."""
    path, _, query = target.partition("?")
    lower = {name.lower(): value for name, value in headers.items()} | {"x-forwarded-for": CLIENT_IP}
    cookies = lower.pop("cookie", "")
    media_type = lower.get("content-type", "text/plain").partition(";")[0]
    is_text = "content-encoding" not in lower and (media_type.startswith("text/") or media_type == "application/json")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": lower,
        "requestContext": {
            "accountId": "anonymous",
            "domainName": "abc.lambda-url.us-east-1.on.aws",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": CLIENT_IP},
            "stage": "$default",
        },
        "isBase64Encoded": not is_text,
    }
    if cookies:
        event["cookies"] = cookies.split("; ")
    if body:
        event["body"] = body.decode() if is_text else base64.b64encode(body).decode()
    return event


class RuntimeApi:
    """Lambda's Runtime API for one function that answers one event at a time.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
    """

    def __init__(self) -> None:
        self.address = ""
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._posted: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """The function's answer. Fails with what it raised, if it did."""
        self._events.put(event)
        kind, document = self.posted()
        assert kind == "response", document
        return document

    def posted(self) -> tuple[str, dict[str, Any]]:
        """What the runtime says next: ("response", the function's answer) or ("error", what went wrong)."""
        return self._posted.get(timeout=30)

    @contextmanager
    def running(self) -> Iterator[RuntimeApi]:
        """Listens inside the block."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.address = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            self._events.put(None)
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(api) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the request handler's below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes; 40 ms an event otherwise

            def handle(self) -> None:
                with suppress(ConnectionResetError):  # the function's process has ended
                    super().handle()

            def do_GET(self) -> None:
                assert self.path == "/2018-06-01/runtime/invocation/next"
                if event := api._events.get():
                    self._answer(200, _INVOCATION, json.dumps(event).encode())
                self.close_connection = not event

            def do_POST(self) -> None:
                kind = self.path.rpartition("/")[2]
                document = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._answer(202, {}, b'{"status":"OK"}')
                api._posted.put((kind, document))

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def gcp(folder: Path, env: dict[str, str]) -> Iterator[Call]:
    """functions-framework, serving with gunicorn as it does in the cloud."""
    port = free_port()
    options = ["--source", str(folder / "main.py"), "--target", "handle", "--host", "127.0.0.1", "--port", str(port)]
    program = PATHS + f"from functions_framework._cli import _cli; _cli({options!r})"
    with process(program, folder, env) as running:
        until(lambda: listens(port) or running.poll() is not None)
        yield over_http(port)


def over_http(port: int, forwarded_for: str = CLIENT_IP) -> Call:
    """Requests as a front end passes them on, over a connection each."""

    def call(method: str, target: str, headers: Headers, body: bytes) -> Answer:
        with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, target, body or None, dict(headers) | {"X-Forwarded-For": forwarded_for})
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())

    return call


@contextmanager
def azure(folder: Path, env: dict[str, str]) -> Iterator[Call]:
    """`azure.functions` as Azure's worker uses it, with what App Service's front end and the host make of requests."""
    worker = Path(__file__).with_name("azure_worker.py")
    program = PATHS + f"import runpy; runpy.run_path({str(worker)!r}, run_name='__main__')"
    with process(program, folder, env) as running:
        assert running.stdin
        assert running.stdout
        function = json.loads(running.stdout.readline())
        [trigger] = [binding for binding in function["bindings"] if binding["type"] == "httpTrigger"]
        assert (trigger["route"], trigger["authLevel"], trigger.get("methods")) == ("{*path}", "ANONYMOUS", None)

        def call(method: str, target: str, headers: Headers, body: bytes) -> Answer:
            message = host_message(method, target, headers, body)
            print(json.dumps(message), file=running.stdin, flush=True)
            answer = json.loads(running.stdout.readline())  # type: ignore[union-attr]  # checked above
            named = {name.lower(): value for name, value in answer["headers"].items()}
            raw = b"" if method == "HEAD" else base64.b64decode(answer["body"])
            return Answer(answer["status"], named, raw)

        yield call


def host_message(method: str, target: str, headers: Headers, body: bytes) -> dict[str, Any]:
    """The front end decodes the path and says in a header what it was; the host encodes it again for the URL."""
    path, question_mark, query = target.partition("?")
    url = f"https://edge.azurewebsites.net{quote(unquote(path), safe='/%~')}{question_mark}{query}"
    added = {"x-waws-unencoded-url": target, "x-forwarded-for": f"{CLIENT_IP}:50123"}
    lower = {name.lower(): value for name, value in headers.items()} | added
    return {"method": method, "url": url, "headers": lower, "body": base64.b64encode(body).decode()}


@contextmanager
def server(folder: Path, env: dict[str, str]) -> Iterator[Call]:
    """The long-running server, which is installed and not uploaded."""
    port = free_port()
    program = (
        PATHS
        + f"sys.argv = ['', '--port', '{port}']; import runpy; runpy.run_module('edge_router', run_name='__main__')"
    )
    with process(program, folder, env) as running:
        until(lambda: listens(port) or running.poll() is not None)
        yield over_http(port)


@contextmanager
def process(program: str, folder: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A Python that has the standard library, `folder` and what is installed, in that order."""
    command = [*ISOLATED, program, str(folder), SITE_PACKAGES]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=dict(env), cwd=folder, stdin=pipe, stdout=pipe, text=True) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(10)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


PLATFORMS: Mapping[str, Runtime] = {"aws": aws, "gcp": gcp, "azure": azure, "server": server}
