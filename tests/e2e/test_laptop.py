"""The whole path on this machine, for real: daemon, database, router, agents, engines, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from chalicelib.model import ReplicaStatus
from chalicelib.providers.local import processes
from sailplane.cli.client import Client
from sailplane.cli.connection import locate
from sailplane.local.edge import Router
from sailplane.local.home import Home
from tests.waiting import interrupted, until

HELLO = Path(__file__).parents[2] / "examples" / "hello" / "service.yaml"
FREE_PORTS = ("--api-port=0", "--edge-port=0")


@dataclass
class Laptop:
    """A home of its own for a local stack. Every process of it has the home's path in its environment or command line.

    Its network has a proxy that answers nothing, as a company's would for addresses of this machine.
    """

    home: Path
    cache: str

    @property
    def env(self) -> dict[str, str]:
        proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
        return os.environ | proxies | {"SAILPLANE_HOME": str(self.home), "SAILPLANE_CACHE": self.cache}

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*args), env=self.env, capture_output=True, text=True, timeout=120, check=False
        )

    def json(self, *args: str) -> Any:
        result = self.run(*args, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def popen(self, *args: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command(*args), env=self.env, stdout=pipe, stderr=pipe, text=True)

    def start(self) -> Any:
        return self.json("local", "start", "--detach", *FREE_PORTS)

    def make_key(self) -> str:
        """An endpoint key for all services, as `KEY=$(sailplane keys create --all)` gives it."""
        result = self.run("keys", "create", "--all")
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def processes(self) -> list[psutil.Process]:
        """Every living process of this home, replicas and routers included."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            told = [*process.cmdline(), process.cwd(), *process.environ().values()]
            return process.pid != os.getpid() and any(str(self.home) in text for text in told)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False

    def _command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "sailplane", *args]


@pytest.fixture(scope="module")
def cache() -> str:
    return os.environ.get("SAILPLANE_CACHE", str(Path.home() / ".cache" / "sailplane"))


@pytest.fixture
def laptop(tmp_path: Path, cache: str) -> Iterator[Laptop]:
    laptop = Laptop(tmp_path / "home", cache)
    yield laptop
    for process in laptop.processes():  # what a failed test left behind
        process.kill()


def ask(endpoint: str, key: str, timeout_s: float = 10.0) -> httpx.Response:
    """The list of models, through the router and a redirect to a replica."""
    return httpx.get(
        f"{endpoint}/v1/models",
        headers={"Authorization": f"Bearer {key}"},
        follow_redirects=True,
        timeout=timeout_s,
    )


@pytest.fixture(scope="module")
def key(stack: Laptop) -> str:
    """A key that opens the stack's services, and which its router knows."""
    made = stack.make_key()
    endpoint = stack.json("status", "hello", "--endpoint")["endpoint"]
    until(lambda: ask(endpoint, made).is_success)
    return made


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cache: str) -> Iterator[Laptop]:
    """One started stack with the service hello on it, for the tests that leave it as it was."""
    laptop = Laptop(tmp_path_factory.mktemp("stack") / "home", cache)
    laptop.start()
    started = laptop.run("up", hello(laptop), "-n", "hello", "-y")
    assert started.returncode == 0, started.stderr
    yield laptop
    laptop.run("local", "stop", "--down")
    for process in laptop.processes():
        process.kill()


def hello(laptop: Laptop) -> str:
    """The example with one fixed replica, probed every second."""
    directory = laptop.home.parent / "hello"
    shutil.copytree(HELLO.parent, directory, dirs_exist_ok=True)
    text = (
        HELLO.read_text()
        .replace("min_replicas: 0", "min_replicas: 1")
        .replace("interval_seconds: 2", "interval_seconds: 1")
    )
    (directory / "service.yaml").write_text(text)
    return str(directory / "service.yaml")


def test_a_request_reaches_the_service_through_the_router(stack: Laptop, key: str) -> None:
    """The endpoint that `up` gives answers, after one redirect to the replica."""
    endpoint = stack.json("status", "hello", "--endpoint")["endpoint"]
    answer = ask(endpoint, key)
    assert answer.json()["data"][0]["id"] == "hello"
    assert [hop.status_code for hop in answer.history] == [307]


@pytest.mark.parametrize("base", ["/hello/v1", "/v1"])
def test_the_openai_client_needs_nothing_but_base_url_and_key(stack: Laptop, key: str, base: str) -> None:
    """Whole and streaming, by the service's own URL and by the one of all services, where `model` picks it."""
    edge = stack.json("local", "status")["edge_url"]
    with openai.OpenAI(base_url=f"{edge}{base}", api_key=key) as client:
        assert [model.id for model in client.models.list()] == ["hello"]
        question: Any = {"model": "hello", "messages": [{"role": "user", "content": "hi"}]}
        whole = client.chat.completions.create(**question)
        assert "You said: hi" in str(whole.choices[0].message.content)
        with client.chat.completions.create(**question, stream=True) as stream:
            words = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(words) == whole.choices[0].message.content
    assert len(words) > 2


def test_nobody_gets_in_without_a_key(stack: Laptop, key: str) -> None:
    """Neither at the router, with none, another or a revoked one, nor at the replica, whose address a redirect has told."""
    endpoint = stack.json("status", "hello", "--endpoint")["endpoint"]
    replica = ask(endpoint, key).history[0].headers["location"]
    url = httpx.URL(replica)
    assert httpx.get(f"{endpoint}/v1/models").status_code == 401
    assert ask(endpoint, key[:-1] + ("A" if key[-1] != "A" else "B")).status_code == 401
    for path in ("/v1/models", "/~forged/v1/models", url.path.replace("/v1/models", "/v1/other")):
        assert httpx.get(url.copy_with(path=path)).status_code in (401, 403)
    short_lived = stack.make_key()
    until(lambda: ask(endpoint, short_lived).is_success)
    stack.json("keys", "revoke", short_lived.split("_")[1])
    until(lambda: ask(endpoint, short_lived).status_code == 401)
    used = {one["id"]: one["last_used_at"] for one in stack.json("keys", "list")["keys"]}
    assert list(used) == [key.split("_")[1]]
    assert used[key.split("_")[1]] is not None


def test_a_killed_replica_is_unrouted_and_replaced(stack: Laptop, key: str) -> None:
    """Another replica takes its place, and the endpoint goes on."""
    endpoint = stack.json("status", "hello", "--endpoint")["endpoint"]
    (victim,) = ready_ids(stack)
    stack.json("replica", "kill", "hello", victim)
    until(lambda: ready_ids(stack) not in ([], [victim]))
    until(lambda: ask(endpoint, key).is_success)


@dataclass
class Load:
    """Sequential clients that ask again at once, and once, when a request fails."""

    endpoint: str
    key: str
    sent: dict[str, float] = field(default_factory=dict)  # replica's host and port -> when somebody was last sent there
    answered: int = 0
    retried: int = 0
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def client(self) -> None:
        shown = {"Authorization": f"Bearer {self.key}"}
        noted = {"response": [self._note]}
        with httpx.Client(event_hooks=noted, headers=shown, follow_redirects=True, timeout=10) as http:
            while not self.over.is_set():
                if self._fault(http):
                    self.retried += 1
                    if fault := self._fault(http):
                        self.failed.append(fault)
                self.answered += 1

    def _fault(self, http: httpx.Client) -> str:
        try:
            answer = http.get(f"{self.endpoint}/v1/models")
        except httpx.TransportError as error:
            return repr(error)
        return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text}"

    def _note(self, response: httpx.Response) -> None:
        if response.is_redirect:
            self.sent[httpx.URL(response.headers["location"]).netloc.decode()] = time.time()


def test_a_replica_killed_under_load_costs_no_request(laptop: Laptop) -> None:
    """No client fails after one retry, and the dead replica gets none for longer than a probe interval + 2 s.

    The pass that takes it out of the table asks for its replacement.
    """
    laptop.start()
    file = Path(hello(laptop))
    file.write_text(
        file.read_text().replace("min_replicas: 1", "min_replicas: 2").replace("max_replicas: 3", "max_replicas: 2")
    )
    laptop.json("up", str(file), "-n", "hello", "-y")
    until(lambda: len(ready_ids(laptop)) == 2)
    load = Load(laptop.json("status", "hello", "--endpoint")["endpoint"], laptop.make_key())
    until(lambda: ask(load.endpoint, load.key).is_success)
    with ThreadPoolExecutor(8) as clients:
        running = [clients.submit(load.client) for _ in range(8)]
        try:
            until(lambda: load.answered > 200 and len(load.sent) == 2)
            victim = ready_ids(laptop)[0]
            address = _address(laptop, victim)
            killed_at = _cut_power(laptop, victim)
            until(lambda: len({*ready_ids(laptop)} - {victim}) == 2 and len(load.sent) == 3)
        finally:
            load.over.set()
    assert [client.exception() for client in running] == [None] * 8
    assert load.failed == []
    assert load.sent[address] - killed_at < 1 + 2
    events = laptop.json("events", "hello")["events"]
    after = [event for event in events if datetime.fromisoformat(event["at"]).timestamp() > killed_at]
    unrouted = next(event for event in after if event["kind"] == "routes")
    requested = next(event for event in after if event["kind"] == "replica.pending")
    assert victim not in unrouted["message"]
    assert datetime.fromisoformat(unrouted["at"]).timestamp() - killed_at < 1 + 2
    assert after.index(unrouted) < after.index(requested) < [event["kind"] for event in after].index("replica.ready")
    assert sum(event["kind"] == "routes" for event in after[: after.index(requested)]) == 1  # of one and the same pass


def _address(laptop: Laptop, replica: str) -> str:
    with Client(partial(locate, Home(laptop.home))) as client:
        return next(httpx.URL(one.url).netloc.decode() for one in client.service("hello").replicas if one.id == replica)


def _cut_power(laptop: Laptop, replica: str) -> float:
    """SIGKILL to the agent and everything it started, behind the control plane's back; when it began."""
    at = time.time()
    for process in processes.processes_of(laptop.home / "local" / "replicas" / replica, None):
        process.kill()
    return at


def ready_ids(laptop: Laptop) -> list[str]:
    with Client(partial(locate, Home(laptop.home))) as client:
        return [replica.id for replica in client.service("hello").replicas if replica.status is ReplicaStatus.READY]


def test_the_router_comes_back_when_it_dies(stack: Laptop, key: str) -> None:
    """Clients wait while it restarts, on a socket that the supervisor holds; none is refused."""
    endpoint = stack.json("status", "hello", "--endpoint")["endpoint"]
    state = json.loads((stack.home / "local" / "state.json").read_text())
    psutil.Process(state["router"]["pid"]).kill()
    answers = [ask(endpoint, key) for _ in range(3)]
    until(lambda: ask(endpoint, key).is_success)
    # Without a table yet it says 503 and Retry-After, which clients of a router must expect at any time.
    assert {answer.status_code for answer in answers} <= {200, 503}


def test_a_router_that_starts_alone_serves_what_was_left_for_it(stack: Laptop, key: str) -> None:
    """With no control plane to ask: the snapshot that this one writes has its replicas and its keys."""
    home = Home(stack.home)
    environment = {
        "SAILPLANE_CONTROL_URL": "http://127.0.0.1:9",
        "SAILPLANE_ROUTER_TOKEN": home.secrets().router_token,
        "SAILPLANE_SNAPSHOT_URL": home.snapshot.as_uri(),
    }
    with socket.create_server(("127.0.0.1", 0)) as listener, Router(listener, environment, home.local):
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}/hello"
        until(lambda: ask(endpoint, key).is_success)
        assert ask(endpoint, "sp_0123456789_" + "A" * 43).status_code == 401


def test_a_second_start_finds_the_first(stack: Laptop) -> None:
    """It says where the running stack is and ends with 0."""
    running = stack.json("local", "status")
    again = stack.run("local", "start", "--detach", "--json")
    assert again.returncode == 0
    assert "running already" in again.stderr
    assert json.loads(again.stdout)["pid"] == running["pid"]


def test_stop_with_services_wants_to_be_told(stack: Laptop) -> None:
    """Without --keep or --down nothing is stopped; exit code 3 names both."""
    result = stack.run("local", "stop")
    assert result.returncode == 3
    assert "--keep" in result.stderr
    assert "--down" in result.stderr
    assert stack.json("status", "hello")["ready"] == 1


def test_capacity_is_written_for_the_local_provider(stack: Laptop) -> None:
    """With room for none, the next replica is refused for NO_CAPACITY; `unlimited` takes it back."""
    assert stack.json("local", "capacity", "0") == {"capacity": 0}
    assert json.loads((stack.home / "local" / "faults.json").read_text()) == {"capacity": 0}
    assert stack.json("local", "capacity", "unlimited") == {"capacity": None}
    assert stack.run("local", "capacity", "-1").returncode == 2


def test_only_this_machine_can_connect(stack: Laptop) -> None:
    """Everything that the stack and its replicas listen on is 127.0.0.1."""
    listening = [
        connection.laddr.ip
        for process in stack.processes()
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.parametrize("which", ["api_url", "edge_url"])
def test_nonsense_does_not_fill_the_log(stack: Laptop, which: str) -> None:
    """Neither what is no HTTP nor WebSocket handshakes, of which any number can be sent, leave a line."""
    url = httpx.URL(stack.json("local", "status")[which])
    before = (stack.home / "local" / "daemon.log").read_bytes()
    handshake = b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    for request in (b"\x16\x03\x01\r\n\r\n", handshake) * 3:
        with socket.create_connection((url.host, url.port or 0)) as client:
            client.sendall(request)
            assert client.recv(100).startswith(b"HTTP/1.1 ")
    assert (stack.home / "local" / "daemon.log").read_bytes() == before


def test_state_and_replicas_outlive_a_stop_and_a_sigkill(laptop: Laptop) -> None:
    """A stack stopped with --keep, and one killed outright, finds its service and the very same replica again."""
    laptop.start()
    laptop.json("up", hello(laptop), "-n", "hello", "-y")
    before = ready_ids(laptop)
    laptop.json("local", "stop", "--keep")
    assert laptop.run("status").returncode == 6
    laptop.start()
    until(lambda: ready_ids(laptop) == before)
    psutil.Process(laptop.json("local", "status")["pid"]).kill()
    laptop.start()
    until(lambda: ready_ids(laptop) == before)
    stopped = laptop.run("local", "stop", "--down")
    assert stopped.returncode == 0, stopped.stderr
    assert laptop.processes() == []


def test_a_killed_database_is_started_again_and_nothing_is_lost(laptop: Laptop) -> None:
    """Requests are answered all the while; afterwards the service and the very same replica are there."""
    laptop.start()
    laptop.json("up", hello(laptop), "-n", "hello", "-y")
    before = ready_ids(laptop)
    endpoint = laptop.json("status", "hello", "--endpoint")["endpoint"]
    key = laptop.make_key()
    state = laptop.home / "local"
    until(lambda: all(replica in "".join(f.read_text() for f in state.rglob("state/*.json")) for replica in before))
    until(lambda: ask(endpoint, key).is_success)  # the router has the table
    (database,) = (process for process in laptop.processes() if any("guarded" in word for word in process.cmdline()))
    database.kill()
    assert ask(endpoint, key).status_code == 200
    until(lambda: laptop.run("status", "hello").returncode == 0)
    assert ready_ids(laptop) == before


@pytest.mark.parametrize(("option", "detach"), [("--api-port", True), ("--edge-port", False)])
def test_a_taken_port_is_named_and_nothing_is_left(laptop: Laptop, option: str, detach: bool) -> None:
    """The error names the port and the option, exit code 3; no process of the stack remains. With --json it is a JSON object."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = {"--api-port": "--edge-port", "--edge-port": "--api-port"}[option]
        result = laptop.run("local", "start", *["--detach", "--json"] * detach, f"{option}={port}", f"{other}=0")
    assert result.returncode == 3
    told: dict[str, Any] = (
        json.loads(result.stderr.splitlines()[-1]) if detach else {"error": result.stderr, "exit_code": 3}
    )
    assert told["exit_code"] == 3
    assert str(port) in told["error"]
    assert option in told["error"]
    assert laptop.processes() == []


def test_ctrl_c_ends_a_stack_in_the_foreground(laptop: Laptop) -> None:
    """The first Ctrl-C stops everything in order; the command ends with 0 and no process is left."""
    with laptop.popen("local", "start", *FREE_PORTS, "--json") as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "{\n"
        said = interrupted(daemon)
    assert daemon.returncode == 0, said
    assert laptop.processes() == []
