"""A router that starts while the control plane is gone."""

from __future__ import annotations

import calendar
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from edge_router import s3, snapshot
from edge_router.exchange import ExchangeFailed
from edge_router.messages import Request
from edge_router.s3 import Role
from tests.edge.fakes import seal, table
from tests.edge.test_router import new_router

DOCUMENT = table(("hello", "least_load", "READY", ["http://10.0.0.1"]))
DOCUMENT["services"]["hello"]["models"] = ["modèle"]
ASKED = Request(b"GET", b"/hello/x", b"", {})


class Storage(BaseHTTPRequestHandler):
    """Object storage with one sealed table, that answers 403 for what is not there, as S3 does."""

    def do_GET(self) -> None:
        is_signed = "Credential=AKIA/" in self.headers.get("authorization", "")
        is_there = self.path == "/bucket/tables/edge?versionId=7" or (is_signed and self.path == "/bucket/table")
        self.send_response(200 if is_there else 403)
        self.end_headers()
        self.wfile.write(seal(DOCUMENT).encode() if is_there else b"<Error/>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_cold_router_routes_by_the_snapshot(storage: str, tmp_path: Path) -> None:
    """From object storage over plain HTTP(S), from a private bucket in the name of the function's role, or from a file."""
    kept = tmp_path / "the table"
    kept.write_text(seal(DOCUMENT), "utf-8")
    role = Role("us-east-1", "AKIA", "secret", "session", storage)
    for url in (f"{storage}/bucket/tables/edge?versionId=7", "s3://bucket/table", kept.as_uri()):
        router = new_router()
        assert router.age_s == float("inf")
        snapshot.read(url, router, role)
        assert router.handle(ASKED).status == 307
        assert router.age_s == 0


@given(key=st.text(min_size=1, max_size=20), session=st.sampled_from(["", "session/+="]))
def test_a_question_to_s3_is_signed_as_amazon_does_it(key: str, session: str) -> None:
    """Held against botocore, which signs for the present moment: the same address, the same headers, for any key."""
    theirs = AWSRequest("GET", f"https://ours.s3.eu-west-1.amazonaws.com/{quote(key)}")
    S3SigV4Auth(Credentials("AKIA", "of-the-role", session or None), "s3", "eu-west-1").add_auth(theirs)
    at = calendar.timegm(time.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ"))
    url, headers = s3.question(f"s3://ours/{key}", Role("eu-west-1", "AKIA", "of-the-role", session), at)
    assert url == theirs.url
    del headers["host"]  # signed, and sent by the HTTP client itself
    assert headers == {name.lower(): value for name, value in theirs.headers.items()}


def test_a_snapshot_that_is_none_is_refused(storage: str, tmp_path: Path) -> None:
    """Not there, not readable, nobody listening, forged, older: the message says which, and the table in use stays."""
    forged, older = tmp_path / "forged", tmp_path / "older"
    forged.write_text(seal(DOCUMENT, "somebody's"))
    older.write_text(seal(DOCUMENT | {"issued_at": 5.0}))
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff\xfe")
    router = new_router()
    router.accept(seal(DOCUMENT))
    for url, why in (
        (f"{storage}/bucket/other", "storage answered 403"),
        ("s3://bucket/other", "storage answered 403"),
        ((tmp_path / "none").as_uri(), "cannot be read"),
        (garbage.as_uri(), "cannot be read"),
        (tmp_path.as_uri(), "cannot be read"),
        ("http://127.0.0.1:1/x", "no answer from the snapshot's storage at 127.0.0.1:1"),
        (forged.as_uri(), "sealed with another router token"),
        (older.as_uri(), "older than the current table"),
    ):
        with pytest.raises(ExchangeFailed, match=why):
            snapshot.read(url, router, Role("us-east-1", "AKIA", "secret", endpoint_url=storage))
    assert router.etag == "one"
    assert router.handle(ASKED).status == 307
