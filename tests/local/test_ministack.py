"""The local DynamoDB as a process: installed whole or not at all, on 127.0.0.1 only, its state kept, nothing left running."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from chalicelib.errors import Invalid, Unreachable
from chalicelib.providers.local import files
from chalicelib.store.dynamodb import DynamoDBStore
from sailplane.local import ministack
from sailplane.local.ministack import MiniStack
from tests.fakes import FakeClock
from tests.store.nouns import RandomIds, service, spec
from tests.waiting import until

CACHE = Path(os.environ.get("SAILPLANE_CACHE", "~/.cache/sailplane")).expanduser()


@pytest.fixture(scope="module")
def python() -> Path:
    return ministack.environment(CACHE)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    ours = [p for p in psutil.Process().children(recursive=True) if str(tmp_path) in p.environ().get("STATE_DIR", "")]
    assert ours == []


def stand_in(directory: Path, script: str) -> Path:
    """What is started in place of MiniStack's Python."""
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def store(server: MiniStack) -> DynamoDBStore:
    return DynamoDBStore("sailplane", "us-east-1", clock=FakeClock(), ids=RandomIds(), endpoint_url=server.url)


def process_of(server: MiniStack) -> psutil.Process:
    assert server._process is not None
    return psutil.Process(server._process.pid)


def test_state_survives_a_restart(python: Path, home: Path) -> None:
    """What was written is there after a stop and a start, on whatever port."""
    with MiniStack(python, home) as server:
        store(server).create_table()
        store(server).create_service(service(), spec())
    with MiniStack(python, home) as server:
        store(server).create_table()
        assert store(server).service_names() == ("hello",)


def test_a_kill_costs_half_a_second_at_most(python: Path, home: Path) -> None:
    """What was written a moment before SIGKILL is there after `keep_up`, at the same address and with the same key."""
    with MiniStack(python, home) as server:
        there = store(server)
        there.create_table()
        there.create_service(service(), spec())
        until(lambda: "hello" in saved(home))
        server.keep_up()  # nothing to do
        process_of(server).kill()
        until(server.has_ended)
        server.keep_up()
        assert there.service_names() == ("hello",)


def saved(home: Path) -> str:
    """All that stands on disk."""
    return "".join(path.read_text() for path in (home / "state").glob("*.json"))


def test_it_listens_on_one_port_of_this_machine_only(python: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It executes what it is sent, so nobody else may reach it; it is out of Ctrl-C's reach and sees no credentials."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the user's own")
    with MiniStack(python, home) as server:
        process = process_of(server)
        listening = {c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
        assert listening == {("127.0.0.1", server.port)}
        assert os.getsid(process.pid) == process.pid
        assert "AWS_SECRET_ACCESS_KEY" not in process.environ()
        assert not server.has_ended()
        process.kill()
        process.wait()
        assert server.has_ended()


def test_nobody_without_its_key_is_served(python: Path, home: Path) -> None:
    """Not another user of this machine, not a page in the browser: what stands in it is run as the user's commands."""
    with MiniStack(python, home) as server:
        store(server).create_table()
        url = f"http://127.0.0.1:{server.port}"
        for key in (None, "test", "000000000000", "local"):
            headers = {"Origin": "http://evil.example", "X-Amz-Target": "DynamoDB_20120810.ListTables"}
            if key:
                headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/dynamodb/aws4_request"
            for method, path in (("POST", "/"), ("OPTIONS", "/"), ("POST", "/_ministack/reset"), ("GET", "/health")):
                answer = httpx.request(method, url + path, headers=headers, content=b"{}")
                assert (answer.status_code, answer.content) == (403, b""), key
                assert "access-control-allow-origin" not in answer.headers
        assert server._key not in " ".join(process_of(server).cmdline())
        assert store(server).service_names() == ()


def test_the_leftover_of_a_killed_supervisor_is_ended_with_its_state(python: Path, home: Path) -> None:
    """It cannot be stopped by who started it any more, yet holds what was written last."""
    abandoned = MiniStack(python, home).__enter__()
    store(abandoned).create_table()
    store(abandoned).create_service(service(), spec())
    with MiniStack(python, home) as server:
        assert abandoned.has_ended()
        assert store(server).service_names() == ("hello",)


def test_a_taken_port_is_named(python: Path, home: Path) -> None:
    """Nothing is started, and the message says which port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Invalid, match=f"Port {port} "), MiniStack(python, home, port):
            pass


def test_a_start_that_fails_shows_the_log(home: Path) -> None:
    """The last lines say why; what it had printed before the last ones is left out."""
    broken = stand_in(home, "seq 1 50; echo 'no module named ministack' >&2; exit 3")
    with pytest.raises(Unreachable, match="code 3") as raised, MiniStack(broken, home):
        pass
    assert str(raised.value).endswith("50\nno module named ministack")
    assert "\n20\n" not in str(raised.value)


def test_a_start_that_hangs_is_given_up(home: Path) -> None:
    """After its time it is ended, by force when it does not listen."""
    deaf = stand_in(home, "trap '' TERM; while :; do sleep 0.1; done")
    began = time.monotonic()
    with (
        pytest.raises(Unreachable, match=r"within 0\.3 s"),
        MiniStack(deaf, home, start_timeout_s=0.3, stop_timeout_s=0.3),
    ):
        pass
    assert time.monotonic() - began < 10


def test_a_failed_installation_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the error says what to do, and the next try starts from the beginning."""
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_CONFIG_FILE", os.devnull), ("PIP_FIND_LINKS", "")):
        monkeypatch.setenv(name, value)
    with pytest.raises(Unreachable, match=r"(?s)check the network.*No matching distribution"):
        ministack.environment(tmp_path)
    assert not list(tmp_path.glob("*/bin/ministack"))
    assert [path for path in tmp_path.iterdir() if path.suffix not in (".draft", ".lock")] == []


def test_two_starters_install_once(tmp_path: Path) -> None:
    """The second waits for the first and then finds it done."""
    found: list[Path] = []
    home = tmp_path / f"ministack-{ministack.VERSION}-py{sys.version_info.major}{sys.version_info.minor}"
    lock = home.with_name(f"{home.name}.lock")
    with files.exclusive(lock):
        second = threading.Thread(target=lambda: found.append(ministack.environment(tmp_path)))
        second.start()
        deadline = time.monotonic() + 30
        while [file.path for file in psutil.Process().open_files()].count(str(lock)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        python = home / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()
    second.join(timeout=30)
    assert found == [python]
    assert python.read_bytes() == b""
