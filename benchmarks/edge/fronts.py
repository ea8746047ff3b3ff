"""What is compared: Sailplane's router, SkyServe's load balancer and a bare nginx, each before the same two replicas."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks import agent
from benchmarks.skyserve.environment import environment

KEY_ID = "bench00000"
KEY = f"sp_{KEY_ID}_{'k' * 43}"
_TOKEN = "router-token-of-the-benchmark"  # noqa: S105 for this run only
_START_S = 60.0
_REPLICA = Path(__file__).with_name("replica.py")
# One worker, as there is one router; nothing logged, as the router logs nothing.
_NGINX = """
worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {home}/1; proxy_temp_path {home}/2;
  fastcgi_temp_path {home}/3; uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
  server {{ listen 127.0.0.1:{port}; location / {{ return 307 {replica}$request_uri; }} }}
}}
"""


@dataclass(frozen=True)
class Front:
    """Something that requests go to. `url` lacks the path; `follows`: it redirects."""

    name: str
    url: str
    pid: int
    follows: bool
    key: str = ""


@contextmanager
def replicas() -> Iterator[list[str]]:
    """URLs of two cheap replicas, each in a process of its own."""
    with ExitStack() as exits:
        urls = []
        for _ in range(2):
            listener = exits.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
            command = [sys.executable, str(_REPLICA), f"--fd={listener.fileno()}"]
            exits.enter_context(_running(command, pass_fds=[listener.fileno()]))
            urls.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield urls


@contextmanager
def agents() -> Iterator[list[str]]:
    """URLs of two more replicas of that kind, each with its agent in front, which checks the grants."""
    with ExitStack() as exits:
        homes = [Path(exits.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        for number, home in enumerate(homes):
            (home / "agent.json").write_text(json.dumps(agent_configuration(number)))
            exits.enter_context(_running([sys.executable, "-m", "replica_agent", "--config", f"{home}/agent.json"]))
        yield [f"http://127.0.0.1:{_told(home / 'agent.lock')['port']}" for home in homes]


def agent_configuration(number: int) -> dict[str, object]:
    """Of one of the agents behind the fronts, on this machine."""
    run = f"exec {sys.executable} {_REPLICA} --port $SAILPLANE_PORT"
    return agent.configuration(f"bench-a1b2-{number}-1", f"b{number}", _TOKEN, run)


def _told(lock: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _START_S
    while not (lock.exists() and lock.stat().st_size):
        if time.monotonic() > deadline:
            raise SystemExit(f"an agent does not start: no {lock}")
        time.sleep(0.05)
    told: dict[str, Any] = json.loads(lock.read_text())
    return told


@contextmanager
def sailplane(urls: Sequence[str], name: str = "sailplane") -> Iterator[Front]:
    """The router with its keys and grants, least load."""
    document = json.dumps(_table(urls))
    with _answering(lambda _: {"table": _sealed(document)}) as control, ExitStack() as exits:
        listener = exits.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        command = [sys.executable, "-m", "edge_router", f"--fd={listener.fileno()}"]
        env = {
            "SAILPLANE_CONTROL_URL": control,
            "SAILPLANE_ROUTER_TOKEN": _TOKEN,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        process = exits.enter_context(_running(command, env, pass_fds=[listener.fileno()]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/bench"
        _until_answered(url, 307, KEY)
        yield Front(name, url, process.pid, follows=True, key=KEY)


@contextmanager
def skyserve(urls: Sequence[str], cache: Path) -> Iterator[Front]:
    """SkyServe's load balancer as its controller starts it, least load, which is its default.

    Its messages, two for each request, go nowhere; in production they go to a file.
    """
    python = environment(cache)
    home = python.parent.parent / "home"
    home.mkdir(exist_ok=True)
    env = {"HOME": str(home), "PATH": os.defpath, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    with _answering(lambda _: {"replica_info": {url: {"gpu_type": "unknown"} for url in urls}}) as controller:
        port = _free_port()
        command = [str(python), "-m", "sky.serve.load_balancer", "--controller-addr", controller]
        with _running([*command, "--load-balancer-port", str(port)], env) as process:
            url = f"http://127.0.0.1:{port}"
            _until_answered(url, 200)
            yield Front("skyserve", url, process.pid, follows=False)


@contextmanager
def nginx(urls: Sequence[str]) -> Iterator[Front | None]:
    """The cheapest redirect that there is: no key, no choice, no grant. None where nginx is not installed."""
    program = shutil.which("nginx")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        port = _free_port()
        configuration = Path(directory, "nginx.conf")
        configuration.write_text(_NGINX.format(home=directory, port=port, replica=urls[0]))
        with _running([program, "-e", f"{directory}/error.log", "-c", str(configuration)]) as process:
            url = f"http://127.0.0.1:{port}/bench"
            _until_answered(url, 307)
            (worker,) = psutil.Process(process.pid).children()
            yield Front("nginx", url, worker.pid, follows=True)


def _table(urls: Sequence[str]) -> dict[str, Any]:
    replicas = [{"id": f"bench-a1b2-{n}-1", "url": url, "boot": f"b{n}"} for n, url in enumerate(urls)]
    service = {"policy": "least_load", "status": "READY", "access": "required", "replicas": replicas}
    key = {"hash": hashlib.sha256(KEY.encode()).hexdigest(), "services": ["bench"]}
    return {"etag": "bench", "issued_at": 1.0, "keys": {KEY_ID: key}, "services": {"bench": service}}


def _sealed(document: str) -> str:
    root, key = (hmac.digest(_TOKEN.encode(), text, "sha256") for text in (b"sailplane-grants", b"sailplane-table"))
    kid = hashlib.sha256(b"sailplane-kid" + root).hexdigest()[:8]
    return f"sailplane-table 1 {kid} {hmac.digest(key, document.encode(), 'sha256').hex()}\n{document}"


@contextmanager
def _answering(answer: Callable[[bytes], object]) -> Iterator[str]:
    """The URL of a control plane that answers every POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(answer(self.rfile.read(int(self.headers["content-length"])))).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _running(
    command: Sequence[str], env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=env, pass_fds=pass_fds, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.terminate()


def answers(url: str, status: int, key: str = "") -> bool:
    """Whether a POST of the benchmark's kind gets `status` within 10 s."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request("POST", f"{parts.path}/instant/whole", b"{}", headers)
        return connection.getresponse().status == status
    except OSError:
        return False  # not there yet, or too busy
    finally:
        connection.close()


def _until_answered(url: str, status: int, key: str = "") -> None:
    deadline = time.monotonic() + _START_S
    while not answers(url, status, key):
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} did not answer {status} within {_START_S:g} s")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
