"""One JSON object a line, with what belongs to it and without what opens anything."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import identity
from chalicelib.ports import Settings
from chalicelib.telemetry import log
from chalicelib.telemetry.redaction import HIDDEN, clean, redacted
from edge_router.grants import ONE, Grants, Use
from edge_router.quotas import Share
from edge_router.sealing import secrets
from edge_router.table import Replica

ADMIN = "an-admin-key-that-was-configured-$%&"
SECRET = bytes(range(32))
ENDPOINT_KEY = identity.endpoint_key("0123456789", SECRET)
AGENT_TOKEN = identity.agent_token("k" * 32, "svc-1-0-1", "nonce")


def line(message: str, *args: object, **fields: Any) -> dict[str, Any]:
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "created": 0.5, "msg": message, "args": args})
    for name, value in fields.items():
        setattr(record, name, value)
    text = log.JsonLines((ADMIN,)).format(record)
    assert "\n" not in text
    document: dict[str, Any] = json.loads(text)
    return document


def test_a_line_has_the_time_the_level_and_what_was_given_beside() -> None:
    """By the names that Lambda's filters know; the invocation's id is taken from where Lambda's runtime leaves it."""
    assert line("pass %s", "over", service="hello", acted=True, failures=("one",), aws_request_id="r-1") == {
        "timestamp": "1970-01-01T00:00:00.500Z",
        "level": "INFO",
        "message": "pass over",
        "logger": "x",
        "request_id": "r-1",
        "service": "hello",
        "acted": True,
        "failures": ["one"],
    }


def test_a_requests_own_id_takes_precedence() -> None:
    """It is the one that the caller was told."""
    assert line("x", aws_request_id="lambda", request_id="gateway")["request_id"] == "gateway"


def test_an_exception_is_part_of_its_line() -> None:
    """With its traceback, and without the key that stands in its message."""
    told = {}
    try:
        int(ADMIN)
    except ValueError:
        told = line("broken", exc_info=sys.exc_info())
    assert "Traceback" in told["error"]
    assert ADMIN not in told["error"]


def grant() -> str:
    replica = Replica(
        id="svc-1-0-1", url="http://10.0.0.1", boot="b", in_flight=0, weight=1.0, ready_at=0.0, location=""
    )
    use = Use("svc", b"GET", b"/")
    issued = Grants(secrets("r" * 32)).issue(replica, use, key_id="-", share=Share(None, None), scope=ONE, now=1.8e9)
    return issued.decode()


@pytest.mark.parametrize(
    ("text", "secret", "left"),
    [
        (f"key {ENDPOINT_KEY} was used", ENDPOINT_KEY[14:], "sp_0123456789_***"),
        (f"key {identity.admin_key('0123456789', SECRET)}.", ENDPOINT_KEY[14:], "sa_0123456789_***"),
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi", "Bearer ***"),
        ('{"authorization": "basic dXNlcjpwYXNz"}', "dXNlcjpwYXNz", "basic ***"),
        ("http://key:pass@127.0.0.1:8000/x", "pass", "://***@127.0.0.1"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=deadbeef01&a=1", "deadbeef01", "X-Amz-Signature=***&a=1"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7", HIDDEN),
        ("HF_TOKEN=hf_abcdefghijklmnopqrstuvwx", "abcdefghij", HIDDEN),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK", "SflKxwRJSMeK", HIDDEN),
        (f"http://10.0.0.7/{AGENT_TOKEN}/x", AGENT_TOKEN, f"/{HIDDEN}/x"),
        (f"location http://10.0.0.7/{grant()}/v1", grant().rpartition(".")[2], f".x.{HIDDEN}"),
    ],
    ids=["endpoint", "admin", "bearer", "basic", "userinfo", "presigned", "akia", "hf", "jwt", "agent", "grant"],
)
def test_what_opens_something_is_hidden(text: str, secret: str, left: str) -> None:
    """Every form of ours and the usual ones of others; what tells which it was stays."""
    assert secret in text
    assert secret not in redacted(text)
    assert left in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "svc-ab12-0-1: aws/us-east-1/use1-az1 says InsufficientInstanceCapacity",
        "GET /v1/services/hello/events?limit=200",
        "3 replicas at $1.25 an hour, i-0123456789abcdef0",
    ],
)
def test_what_opens_nothing_stays(text: str) -> None:
    """A log that hides too much is no log."""
    assert redacted(text) == text


@given(
    st.recursive(st.text(max_size=8), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
)
def test_a_known_secret_is_found_wherever_it_stands(around: Any) -> None:
    """In any text of any list or mapping that is given beside the message, with whatever characters JSON would escape."""
    known = 'a"b\\c-0123456789'
    told = clean(
        [around, {known: [f"x{known}y", {"deep": (known,)}]}, ValueError(known)], lambda t: redacted(t, (known,))
    )
    assert known not in str(told)
    assert json.loads(json.dumps(told)) == told


def test_a_process_writes_everything_so() -> None:
    """Whatever handlers there are, or one on stderr; talkative libraries from WARNING on; the settings' keys are known."""
    bare, ready = logging.Logger("bare"), logging.Logger("ready")  # noqa: LOG001 the root of all is every test's
    handler = logging.NullHandler()
    ready.addHandler(handler)
    for root in (bare, ready):
        log.configure(log.secrets_of(Settings(admin_key=ADMIN, router_tokens=("r" * 32,))), root)
        assert all(isinstance(one.formatter, log.JsonLines) for one in root.handlers)
        assert root.level == logging.INFO
    assert (len(bare.handlers), ready.handlers) == (1, [handler])
    assert log.secrets_of(Settings(admin_key=ADMIN, router_tokens=("r" * 32,))) == (ADMIN, "r" * 32)
