"""The user data: small, the same each time, free of secrets but one, and fit for the Python of any image."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import zipfile
from collections.abc import Iterator
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from chalicelib.model import CapacityType, EngineSpec, LaunchRequest, Location, Offer
from chalicelib.providers import boot, first_boot
from tests.providers.contract import launch_request

ROOT = Path(first_boot.__file__).parent.parent.parent
OFFER = Offer(Location("aws", "us-east-1", "use1-az1"), "g6.xlarge", 4, 16, CapacityType.SPOT, 0.3)
ENGINE = EngineSpec(port=8000, run="serve secretly", setup="prepare secretly", envs=(("TOKEN", "a secret value"),))


@pytest.fixture(scope="module")
def request_() -> LaunchRequest:
    return launch_request(OFFER, "hello-k3f9-0-1", ENGINE)


def _user_data(request: LaunchRequest) -> str:
    return boot.user_data("aws", "https://control.example/api", request)


def _program(script: str) -> str:
    found = re.search(r"<<'SAILPLANE'\n(.*)^SAILPLANE$", script, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def test_it_fits_into_every_clouds_user_data(request_: LaunchRequest) -> None:
    """EC2 takes 16 KB. Plain ASCII, so that characters are bytes and no encoding is guessed."""
    script = _user_data(request_)
    assert script.isascii()
    assert len(script) < 12_000
    assert script.startswith("#!/bin/bash\n")


def test_the_same_request_gives_the_same_text(request_: LaunchRequest) -> None:
    """EC2 refuses a known ClientToken with other user data; another replica's differs in its ticket only."""
    assert _user_data(request_) == _user_data(request_)
    other = launch_request(OFFER, "hello-k3f9-1-2", ENGINE)
    lines = zip(_user_data(request_).splitlines(), _user_data(other).splitlines(), strict=True)
    assert [ours for ours, theirs in lines if ours != theirs] == [
        line for line in _user_data(request_).splitlines() if line.startswith("main({")
    ]


def test_it_holds_no_secret_but_the_boot_token(request_: LaunchRequest) -> None:
    """Whoever may read a machine's user data learns nothing that is still worth anything."""
    script = _user_data(request_)
    assert script.count(request_.boot_token) == 1
    for secret in (request_.agent_token, request_.replica.boot_nonce, "secret"):
        assert secret not in script.replace("import secrets", "").replace("secrets.token_hex", "")


def test_nothing_in_the_ticket_can_leave_its_place(request_: LaunchRequest) -> None:
    """Quotes, dollar signs and line breaks of the configuration stay text; the shell reads none of it."""
    url = "https://control.example/'\"$(reboot)`\\\nSAILPLANE\n{}%s"
    program = ast.parse(_program(boot.user_data("gcp", url, request_)))
    call = program.body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    ticket = ast.literal_eval(call.value.args[0])
    assert ticket == {
        "cloud": "gcp",
        "control_url": url,
        "replica_id": "hello-k3f9-0-1",
        "boot_token": request_.boot_token,
    }


def test_it_is_what_an_old_python_understands(request_: LaunchRequest, tmp_path: Path) -> None:
    """Syntax of Python 3.6, the standard library only; and bash takes the whole."""
    script = _user_data(request_)
    tree = ast.parse(_program(script), feature_version=(3, 6))
    imported = {
        name.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert imported <= sys.stdlib_module_names
    subprocess.run(["bash", "-n"], input=script.encode(), check=True)
    program = tmp_path / "program.py"
    program.write_text(_program(script))
    subprocess.run(["python3", "-m", "py_compile", str(program)], check=True, cwd=tmp_path)


def test_uv_is_the_one_that_locks_the_project() -> None:
    """One version in the whole project."""
    pinned = re.search(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned
    assert f"uv-{pinned[1]}" == first_boot.UV
    for url, digest in first_boot.UV_WHEELS.values():
        assert url.startswith("https://files.pythonhosted.org/")
        assert f"/{first_boot.UV}-py3-none-manylinux" in url
        assert re.fullmatch("[0-9a-f]{64}", digest)


def test_a_python_with_other_libraries_does_not_do() -> None:
    """The agent runs with what it was tested with, or not on that Python."""
    own = [version(name) for name in first_boot.NEEDED]
    for wanted, fits in ((own, True), (["0.0.1", own[1]], False), ([own[0], "0.0.1"], False)):
        assert (subprocess.run([sys.executable, "-c", first_boot.IS_FIT, *wanted], check=False).returncode == 0) == fits
    assert first_boot.fit_python("# as locked\naiohttp==0.0.1 \\\n    --hash=sha256:0\nhttptools==0.0.1 \\\n") == ""


def test_the_libraries_that_are_looked_at_are_pinned() -> None:
    """By the file that machines get."""
    text = (ROOT / "replica_agent" / "requirements.txt").read_text()
    assert all(f"\n{name}==" in text for name in first_boot.NEEDED)


@pytest.fixture
def control_plane() -> Iterator[ThreadingHTTPServer]:
    """Answers every POST with the status that its path begins with."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            _, status, kind, *_ = self.path.split("/")
            self.send_response(int(status))
            self.send_header("Content-Type", f"application/{kind}")
            self.end_headers()
            self.wfile.write(b'{"detail": "somebody else has it"}')

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _claim(server: ThreadingHTTPServer, status: int, kind: str = "problem+json") -> object:
    control_url = f"http://127.0.0.1:{server.server_port}/{status}/{kind}"
    return first_boot.claim({"control_url": control_url, "replica_id": "r", "boot_token": "hush"}, "key")


@pytest.mark.parametrize("status", [401, 403, 410])
def test_a_refusal_ends_the_boot_at_once(control_plane: ThreadingHTTPServer, status: int) -> None:
    """Asking again cannot help; what the control plane said stands on the console."""
    with pytest.raises(SystemExit, match="somebody else has it"):
        first_boot.insist(time.monotonic() + 60, "control plane", lambda: _claim(control_plane, status))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "problem+json"), (429, "json"), (500, "json"), (503, "html"), (403, "html"), (401, "json")],
)
def test_other_answers_are_trouble_that_may_pass(control_plane: ThreadingHTTPServer, status: int, kind: str) -> None:
    """A control plane that is being deployed answers like that, or a firewall in front of it that is being changed."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        _claim(control_plane, status, kind)
    raised.value.close()
    assert isinstance(raised.value, first_boot.TROUBLE)


def test_trouble_is_met_with_patience_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """A network that is not up, an answer that is none: again after a pause, until the deadline."""
    troubles: list[Exception] = [ConnectionRefusedError("not up")]
    assert first_boot.insist(time.monotonic() + 60, "metadata", _raising(troubles)) == "answered"
    assert "not up; again in 1 s" in capsys.readouterr().out
    for trouble in (
        TimeoutError("late"),
        json.JSONDecodeError("no JSON", "", 0),
        zipfile.BadZipFile("torn"),
        IncompleteRead(b""),
    ):
        with pytest.raises(SystemExit, match="giving up"):
            first_boot.insist(time.monotonic(), "metadata", _raising([trouble]))


def _raising(troubles: list[Exception]) -> object:
    def attempt() -> str:
        if troubles:
            raise troubles.pop()
        return "answered"

    return attempt


def test_the_agents_archive_is_the_same_each_time() -> None:
    """Made anew from the same sources it has the same bytes, whenever and by whomever."""
    first = boot.agent_archive()
    boot.agent_archive.cache_clear()
    assert boot.agent_archive() == first
    assert len(first) < 100_000
