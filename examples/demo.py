"""The whole path on this machine: deploy, make a key, call, scale out, lose a replica under load, sleep, wake, tear down.

Run by `make demo`. Every step is observed, not assumed: a step that does not happen in its time ends the demo with a
non-zero exit code, after everything it started has been stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import openai
import psutil

SPEC = Path(__file__).parent / "hello" / "service.yaml"
SAILPLANE = str(Path(sys.executable).with_name("sailplane"))
REQUESTS_PER_S = 24.0  # two replicas at 5 requests/s would not do
CLIENTS = 8


class DemoFailed(Exception):
    """A step did not happen."""


@dataclass
class Demo:
    """The steps so far, for the table at the end."""

    home: Path
    steps: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Time a step; what it saw goes into the table."""
        print(f"\n── {title}", flush=True)
        seen: list[str] = []
        started = time.monotonic()
        yield seen.append
        self.steps.append((title, "; ".join(seen), time.monotonic() - started))
        for line in seen:
            print(f"   ✔ {line}", flush=True)

    def sailplane(self, *arguments: str) -> str:
        """Run the command as a user would and return what it printed as data."""
        print(f"   $ sailplane {' '.join(arguments)}", flush=True)
        run = subprocess.run(
            [SAILPLANE, *arguments], env=self.environment, stdout=subprocess.PIPE, text=True, check=False, timeout=120
        )
        if run.returncode:
            raise DemoFailed(f"`sailplane {' '.join(arguments)}` ended with {run.returncode}:\n{run.stdout}")
        return run.stdout

    def status(self) -> dict[str, Any]:
        """The service as `sailplane status --json` shows it, without printing the command each time."""
        run = subprocess.run(
            [SAILPLANE, "status", "hello", "--json"], env=self.environment, capture_output=True, text=True, check=True
        )
        document: dict[str, Any] = json.loads(run.stdout)
        return document

    def wait_for(self, what: str, true: Callable[[dict[str, Any]], bool], timeout_s: float) -> dict[str, Any]:
        """Poll the status until it is as expected."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = self.status()
            if true(status):
                return status
            time.sleep(0.2)
        raise DemoFailed(f"{what}: not within {timeout_s:.0f} s. Last seen: {json.dumps(self.status(), indent=2)}")

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with a state directory of its own."""
        return {**os.environ, "SAILPLANE_HOME": str(self.home), "NO_COLOR": "1", "NO_PROXY": "127.0.0.1"}


class Load:
    """Clients that call the service at a steady pace, follow redirects and retry a broken request once, at once."""

    def __init__(self, endpoint: str, key: str) -> None:
        self.answers: Counter[str] = Counter()  # by replica
        self.errors: list[str] = []
        self.retried = 0
        self._endpoint = endpoint
        self._key = key
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers_of(self, replicas: set[str], timeout_s: float) -> None:
        """Wait until each of them has answered a request."""
        deadline = time.monotonic() + timeout_s
        while silent := replicas - self.answers.keys():
            if time.monotonic() > deadline:
                raise DemoFailed(f"ready, but without a request for {timeout_s:.0f} s: {', '.join(sorted(silent))}")
            time.sleep(0.1)

    def _client(self) -> None:
        with httpx.Client(headers=bearer(self._key), follow_redirects=True, timeout=10) as client:
            while not self._ended.wait(CLIENTS / REQUESTS_PER_S):
                error = self._call(client)
                if error:
                    with self._lock:
                        self.retried += 1
                    error = self._call(client)
                if error:
                    self.errors.append(error)

    def _call(self, client: httpx.Client) -> str:
        try:
            answer = client.get(f"{self._endpoint}/v1/models")
        except httpx.TransportError as error:
            return repr(error)
        if answer.status_code != 200:
            return f"HTTP {answer.status_code}: {answer.text}"
        with self._lock:
            self.answers[answer.headers["X-Replica-Id"]] += 1
        return ""


def main() -> int:
    """Run the demo in a directory of its own and leave nothing behind."""
    missing = [program for program in ("bash", "curl") if shutil.which(program) is None]
    if missing:
        print(f"✘ The demo needs {' and '.join(missing)}: install that first.", file=sys.stderr)
        return 1
    home = Path(tempfile.mkdtemp(prefix="sailplane-demo-"))
    demo = Demo(home)
    os.environ.update(demo.environment)  # for curl and the clients in this process too
    started = time.monotonic()
    try:
        play(demo)
    except (DemoFailed, subprocess.SubprocessError, httpx.HTTPError, openai.OpenAIError) as error:
        print(f"\n✘ {error}", file=sys.stderr)
        return 1
    finally:
        stop_everything(demo)
        shutil.rmtree(home, ignore_errors=True)
    print_table(demo, time.monotonic() - started)
    return 0


def play(demo: Demo) -> None:
    """All the steps, in order."""
    with demo.step("Start the control plane on this machine") as saw:
        demo.sailplane("local", "start", "--detach", "--api-port", "0", "--edge-port", "0")
        saw("API, edge router and a DynamoDB stand-in, all on 127.0.0.1")
    with demo.step("Deploy examples/hello") as saw:
        demo.sailplane("up", str(SPEC), "-n", "hello", "-y")
        endpoint = demo.sailplane("status", "hello", "--endpoint").strip()
        saw(f"READY at {endpoint}")
    with demo.step("Let nobody in but who shows a key") as saw:
        saw(f"without one: HTTP {httpx.get(f'{endpoint}/v1/models').status_code}")
        key = demo.sailplane("keys", "create", "hello", "--name", "demo", "--expires", "1h").strip()
        saw(f"made {key.rpartition('_')[0]}_…, known to the router after {until_known(endpoint, key):.1f} s")
    with demo.step("Call it with curl -L") as saw:
        saw(curl(endpoint, key))
    with demo.step("Call it with the OpenAI client, streaming") as saw:
        saw(chat(endpoint, key))
    with Load(endpoint, key) as load:
        with demo.step(f"Drive {REQUESTS_PER_S:.0f} requests/s until it scales out") as saw:
            status = demo.wait_for("three ready replicas", lambda seen: seen["ready"] >= 3, 60)
            # A replica is READY a moment before the router hears of it, and one alone in its table has no successor.
            load.wait_for_answers_of(ready(status), 10)
            saw(f"1 → {status['ready']} replicas ready and answering")
        with demo.step("Kill a replica under that load") as saw:
            kill_one(demo, load, status, saw)
    with demo.step("The load's verdict") as saw:
        if load.errors:
            raise DemoFailed(f"{len(load.errors)} requests failed, the first: {load.errors[0]}")
        saw(
            f"{load.answers.total()} requests answered by {len(load.answers)} replicas, {load.retried} retried once, 0 failed"
        )
    with demo.step("Leave it alone until it is at zero") as saw:
        demo.wait_for("no replica left", lambda seen: seen["status"] == "IDLE" and not live(seen), 90)
        saw("IDLE, no replica, no process")
    with demo.step("Wake it with a request") as saw:
        saw(wake(endpoint, key))
    with demo.step("Tear down") as saw:
        demo.sailplane("down", "hello", "-y")
        demo.sailplane("local", "stop")
        left = processes(demo.home)
        if left:
            raise DemoFailed(f"processes left behind: {left}")
        saw("no process left")


def bearer(key: str) -> dict[str, str]:
    """The header that shows the key."""
    return {"Authorization": f"Bearer {key}"}


def until_known(endpoint: str, key: str) -> float:
    """Ask until the router lets the key in; the seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < 15:
        if httpx.get(f"{endpoint}/v1/models", headers=bearer(key), follow_redirects=True).status_code == 200:
            return time.monotonic() - started
        time.sleep(0.1)
    raise DemoFailed("the router did not learn of the key within 15 s")


def curl(endpoint: str, key: str) -> str:
    """The model list through a plain curl that follows the redirect."""
    print(f'   $ curl -L -H "Authorization: Bearer $KEY" {endpoint}/v1/models', flush=True)
    command = ["curl", "--silent", "--show-error", "--fail", "--location", "--config", "-", f"{endpoint}/v1/models"]
    # Through stdin, because everybody on this machine can read a command line.
    header = f'header = "Authorization: Bearer {key}"'
    answer = subprocess.run(command, input=header, capture_output=True, text=True, check=True, timeout=30).stdout
    return f"models: {', '.join(model['id'] for model in json.loads(answer)['data'])}"


def chat(endpoint: str, key: str) -> str:
    """A streamed chat completion by the official client."""
    client = openai.OpenAI(base_url=f"{endpoint}/v1", api_key=key)
    messages: Any = [{"role": "user", "content": "Say hello."}]
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(model="hello", messages=messages, stream=True)
        if chunk.choices
    ]
    if len(pieces) < 2:
        raise DemoFailed(f"the answer did not stream: {pieces}")
    return f"{len(pieces)} chunks: {''.join(pieces)!r}"


def kill_one(demo: Demo, load: Load, status: dict[str, Any], saw: Callable[[str], None]) -> None:
    """SIGKILL to a ready replica; watch it leave the routes and a replacement become ready."""
    victim = next(replica["id"] for replica in status["replicas"] if replica["status"] == "READY")
    known = {replica["id"] for replica in status["replicas"]}
    demo.sailplane("replica", "kill", "hello", victim)
    killed = time.monotonic()
    demo.wait_for("the victim unrouted", lambda seen: victim not in ready(seen), 10)
    saw(f"{victim} unrouted after {time.monotonic() - killed:.1f} s")
    seen = demo.wait_for("a replacement ready", lambda seen: bool(ready(seen) - known) and seen["ready"] >= 3, 30)
    replacement = min(ready(seen) - known)
    load.wait_for_answers_of({replacement}, 15)
    saw(f"{replacement} took its place and serves after {time.monotonic() - killed:.1f} s")


def wake(endpoint: str, key: str) -> str:
    """One request of a client that follows redirects, as all stock ones do; what it took."""
    started = time.monotonic()
    with httpx.Client(headers=bearer(key), follow_redirects=True, timeout=40) as client:
        answer = client.get(f"{endpoint}/v1/models")
    if answer.status_code != 200:
        raise DemoFailed(f"a sleeping service answered HTTP {answer.status_code}: {answer.text}")
    return f"held for {time.monotonic() - started:.1f} s, then answered with 200, redirects: {len(answer.history)}"


def ready(status: dict[str, Any]) -> set[str]:
    """Ids of ready replicas."""
    return {replica["id"] for replica in status["replicas"] if replica["status"] == "READY"}


def live(status: dict[str, Any]) -> list[str]:
    """Ids of replicas whose machine may exist."""
    return [replica["id"] for replica in status["replicas"] if replica["status"] != "TERMINATED"]


def processes(home: Path) -> list[str]:
    """Whatever still runs out of the demo's directory."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(home) in word for word in words):
            found.append(f"{process.pid} {' '.join(words)}")
    return found


def stop_everything(demo: Demo) -> None:
    """Also after a failure or Ctrl-C: services down, stack stopped."""
    if processes(demo.home):
        print("\n   stopping what the demo started", flush=True)
        command = [SAILPLANE, "local", "stop", "--down"]
        subprocess.run(command, env=demo.environment, check=False, capture_output=True, timeout=120)


def print_table(demo: Demo, total_s: float) -> None:
    """What was seen, with times."""
    width = max(len(title) for title, _, _ in demo.steps)
    print(f"\n{'STEP':<{width}}  SECONDS  SEEN")
    for title, seen, seconds in demo.steps:
        print(f"{title:<{width}}  {seconds:7.1f}  {seen}")
    print(f"\nAll of it in {total_s:.0f} s.")


if __name__ == "__main__":
    sys.exit(main())
