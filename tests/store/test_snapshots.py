"""Where the routing table is left: what both places promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from chalicelib.amazon import Amazon
from chalicelib.errors import Unreachable
from chalicelib.ports import Snapshots
from chalicelib.snapshots.file import FileSnapshots
from chalicelib.snapshots.s3 import S3Snapshots

TEXT = 'sailplane-table 1 0a1b2c3d 00ff\n{"services":"ü"}'


class _S3(BaseHTTPRequestHandler):
    """One bucket, `ours`, of an account that may not list it; everything as S3 answers it."""

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._bucket_is_ours():
            self.server.objects[self.path] = body  # type: ignore[attr-defined]  # put there by `s3` below
            self._answer(200)

    def do_GET(self) -> None:
        found = self.server.objects.get(self.path)  # type: ignore[attr-defined]  # as above
        if not self._bucket_is_ours():
            return
        if found is None:
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        else:
            self._answer(200, found)

    def _bucket_is_ours(self) -> bool:
        if self.path.startswith("/ours/") and "/s3/aws4_request" in self.headers["Authorization"]:
            return True
        self._answer(404, b"<Error><Code>NoSuchBucket</Code><Message>There is no such bucket</Message></Error>")
        return False

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests are silent."""


@pytest.fixture(autouse=True)
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, as functions have them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def snapshots_in(endpoint_url: str, bucket: str) -> S3Snapshots:
    amazon = Amazon("us-east-1", endpoint_url, pause=lambda _attempt: None)
    return S3Snapshots(amazon, bucket, "edge/table")


@pytest.fixture
def s3() -> Iterator[str]:
    """The endpoint of a stand-in for S3."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _S3) as server:
        server.objects = {}  # type: ignore[attr-defined]  # a handler is made for each request, the server stays
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["file", "s3"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Snapshots]:
    if request.param == "file":
        return lambda: FileSnapshots(tmp_path / "table")
    url = request.getfixturevalue("s3")
    return lambda: snapshots_in(url, "ours")


def test_nothing_is_there_at_first(make: Callable[[], Snapshots]) -> None:
    """An empty text, and no error."""
    assert make().read() == ""


def test_what_was_written_last_is_read(make: Callable[[], Snapshots]) -> None:
    """Byte for byte, by another process too, and whole: a shorter text leaves nothing of a longer one."""
    make().write(TEXT * 1000)
    make().write(TEXT)
    assert make().read() == TEXT


def test_a_file_is_replaced_and_never_half_written(tmp_path: Path) -> None:
    """Whoever has the old one open goes on reading the old one, and nothing else is left in its directory."""
    path = tmp_path / "table"
    snapshots = FileSnapshots(path)
    snapshots.write("first")
    with path.open() as reader:
        snapshots.write("second")
        assert reader.read() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table"]


def test_a_place_that_does_not_do_is_unreachable(tmp_path: Path, s3: str) -> None:
    """Named in the message, never raised as anything that would end a pass."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff")
    absent = snapshots_in(s3, "no-such-bucket")
    nobody = snapshots_in("http://127.0.0.1:1", "bucket")
    for broken in (
        FileSnapshots(tmp_path / "missing" / "table"),
        FileSnapshots(tmp_path / "directory"),
        absent,
        nobody,
    ):
        with pytest.raises(Unreachable, match=r"missing/table|directory|no-such-bucket|s3://bucket/edge/table"):
            broken.write(TEXT)
    for broken in (FileSnapshots(tmp_path / "directory"), FileSnapshots(tmp_path / "binary"), absent, nobody):
        with pytest.raises(Unreachable, match="cannot be read"):
            broken.read()
