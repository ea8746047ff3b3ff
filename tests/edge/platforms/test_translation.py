"""What each platform makes of a request, where the contract cannot see it: addresses, cookies, paths without a header."""

from __future__ import annotations

import flask
import pytest
from azure.functions import HttpRequest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from edge_router.messages import Request, Response
from edge_router.platforms import aws, azure, gcp
from tests.edge.platforms.runtimes import function_url_event, host_message

OK = Response(204, ())


class Seen(list[Request]):
    """Answers requests and keeps them."""

    def answer(self, request: Request) -> Response:
        self.append(request)
        return OK


def test_lambda_tells_who_asks_and_brings_cookies_back_together() -> None:
    """The address is the one that AWS saw; a sticky header may be `cookie`."""
    seen = Seen()
    event = function_url_event("GET", "/x", {"Cookie": "a=1; b=2", "X-Thing": "é\ud800"}, b"")
    aws.handler_of(seen.answer)(event, None)
    assert seen[0].ip == "203.0.113.7"
    assert seen[0].headers[b"cookie"] == b"a=1; b=2"
    assert seen[0].headers[b"x-thing"] == "é?".encode()


@pytest.mark.parametrize("body", [None, ""])
def test_lambda_may_send_no_body(body: str | None) -> None:
    """Absent, null or empty, it is empty."""
    seen = Seen()
    event = function_url_event("POST", "/x", {}, b"")
    aws.handler_of(seen.answer)(event if body is None else event | {"body": body}, None)
    aws.handler_of(seen.answer)(event | {"body": body}, None)
    assert [request.body for request in seen] == [b"", b""]


@given(body=st.binary(max_size=200))
def test_lambda_bodies_are_bytes_again(body: bytes) -> None:
    """Whether they came as text or as base64."""
    seen = Seen()
    aws.handler_of(seen.answer)(function_url_event("POST", "/x", {"Content-Type": "image/png"}, body), None)
    assert seen[0].body == body


@pytest.mark.parametrize(
    ("forwarded", "ip"), [("203.0.113.7", "203.0.113.7"), ("6.6.6.6, 203.0.113.7", "203.0.113.7"), ("", "192.0.2.1")]
)
def test_google_tells_who_asks(forwarded: str, ip: str) -> None:
    """The last address of X-Forwarded-For is the front end's word, what stands before it the client's."""
    seen = Seen()
    headers = [("X-Forwarded-For", forwarded)] if forwarded else []
    environ = EnvironBuilder("/x", headers=headers, environ_overrides={"REMOTE_ADDR": "192.0.2.1"}).get_environ()
    gcp.view_of(seen.answer)(flask.Request(environ))
    assert seen[0].ip == ip


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("203.0.113.7:50123", "203.0.113.7"),
        ("6.6.6.6, 203.0.113.7:50123", "203.0.113.7"),
        ("[2001:db8::7]:50123", "[2001:db8::7]"),
        ("203.0.113.7", "203.0.113.7"),
    ],
)
def test_azure_tells_who_asks(forwarded: str, ip: str) -> None:
    """Without the port, by which every request would be another client's."""
    seen = Seen()
    ask_azure(seen, host_message("GET", "/x", {}, b"")["url"], {"x-forwarded-for": forwarded})
    assert seen[0].ip == ip


def test_azure_without_its_front_end() -> None:
    """The path is the host's then, encoded anew; the query is untouched."""
    seen = Seen()
    ask_azure(seen, "https://edge.example/a%20b/%C3%A9?q=%2F&x", {})
    ask_azure(seen, "https://edge.example", {})
    assert [(request.path, request.query) for request in seen] == [(b"/a%20b/%C3%A9", b"q=%2F&x"), (b"/", b"")]
    assert seen[0].ip == ""


def ask_azure(seen: Seen, url: str, headers: dict[str, str]) -> None:
    [function] = azure.app_of(seen.answer).get_functions()
    function.get_user_function()(HttpRequest("GET", url, headers=headers, body=b""))
