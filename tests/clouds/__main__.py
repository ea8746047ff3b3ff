"""`python -m tests.clouds --root DIR aws gcp azure`: the boxed clouds as a process, for `sailplane local start --clouds`.

On stdout one JSON object a line: first where everything is, then every event as EventBridge would deliver it. SIGTERM, or
the end of whoever reads stdout, ends the clouds and every machine in them.
"""

from __future__ import annotations

import argparse
import json
import secrets
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.clouds import start
from tests.clouds.box import Box, Fault, HttpServer
from tests.clouds.machines import Machines

ADVANCE_EVERY_S = 0.1
_FAULTS = ("capacity", "quota", "list_lag_s", "operation_s", "answer_after_s", "down")


class WallClock:
    """The machine's."""

    def now(self) -> float:
        return time.time()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="tests.clouds", description="AWS, GCP and Azure on this machine.")
    parser.add_argument("clouds", nargs="+", choices=sorted(start.CLOUDS), metavar="CLOUD")
    parser.add_argument("--root", type=Path, required=True, help="where machines keep their files")
    arguments = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this
    say = _Speaker(ended)
    with ExitStack() as stack:
        machines = Machines(arguments.root)
        stack.callback(machines.close)
        boxes: dict[str, Box] = {}
        for name in arguments.clouds:
            boxes[name] = start.CLOUDS[name](machines, WallClock(), on_event=say)
            stack.callback(boxes[name].close)
        admin = _Admin(boxes)
        stack.callback(admin.close)
        say({"endpoints": {name: box.endpoint_url for name, box in boxes.items()}, "admin": admin.url})
        while say.is_heard() and not ended.wait(ADVANCE_EVERY_S):
            for box in boxes.values():
                box.advance()


class _Speaker:
    """Writes JSON lines; nobody listening any more is the end."""

    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended
        self._lock = threading.Lock()

    def __call__(self, document: Mapping[str, Any]) -> None:
        with self._lock:
            try:
                sys.stdout.write(json.dumps(document) + "\n")
                sys.stdout.flush()
            except OSError:
                self._ended.set()

    def is_heard(self) -> bool:
        """Whether somebody may still read: of a pipe that nobody does, an error is told unasked."""
        pipe = select.poll()
        pipe.register(sys.stdout, 0)
        return not pipe.poll(0)


class _Admin:
    """What a cloud does not let anybody do: break machines, be out of capacity. Behind a key, as the clouds are."""

    def __init__(self, boxes: Mapping[str, Box]) -> None:
        self._boxes = boxes
        self._key = secrets.token_hex(16)
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                admin.serve(self)

            def log_message(self, *_: object) -> None:
                """No access log."""

        self._server = HttpServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()
        self.url = f"http://{self._key}@127.0.0.1:{self._server.server_address[1]}"
        self._actions: dict[str, Callable[[Box, dict[str, Any]], Any]] = {
            "/preempt": lambda box, body: box.preempt(_machine(box, body["replica_id"]), body["notice_s"]),
            "/kill": lambda box, body: box.kill(_machine(box, body["replica_id"])),
            "/faults": _set_faults,
            "/machines": lambda box, _: [vars(machine) for machine in box.machines()],
        }

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])) or b"{}")
        action = self._actions.get(request.path)
        box = self._boxes.get(body.get("cloud", ""))
        if not secrets.compare_digest(request.headers.get("Authorization", ""), f"Bearer {self._key}"):
            answer, status = None, 401
        elif action is None or box is None:
            answer, status = None, 404
        else:
            try:
                answer, status = action(box, body), 200
            except LookupError:
                answer, status = None, 404
        text = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        with suppress(OSError):
            request.wfile.write(text)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _machine(box: Box, replica_id: str) -> str:
    """The machine that runs as the replica. Raises `LookupError`."""
    running = [machine.id for machine in box.machines() if machine.replica_id == replica_id and machine.running]
    return running[0]


def _set_faults(box: Box, body: dict[str, Any]) -> None:
    for name in _FAULTS:
        if name in body:
            setattr(box.faults, name, body[name])
    for operation, fault in body.get("once", {}).items():
        box.faults.once(operation, Fault[fault])


if __name__ == "__main__":
    main()
