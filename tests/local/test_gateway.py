"""The laptop's API Gateway, over real sockets, with a toy Chalice app behind it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import httpx
import pytest
import uvicorn
from chalice import Chalice, Response
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.api.paths import match_route
from sailplane.local.gateway import MAX_BODY_BYTES, Gateway, from_lambda


def toy_app() -> Chalice:
    app = Chalice(app_name="toy")

    @app.route("/things/{name}", methods=["GET", "PUT"])
    def thing(name: str) -> dict[str, object]:
        request = app.current_request
        query = request.query_params
        return {"name": name, "method": request.method, "tags": query.getlist("tag") if query else None}

    @app.route("/things/first")
    def first() -> dict[str, str]:
        return {"literal": "first"}

    @app.route("/echo", methods=["POST"], content_types=["application/octet-stream", "application/json"])
    def echo() -> Response:
        body = app.current_request.raw_body
        content_type = app.current_request.headers["content-type"]
        return Response(body, headers={"Content-Type": content_type, "Set-Cookie": ["a=1", "b=2"]}, status_code=201)

    @app.route("/slow/{name}")
    def slow(name: str) -> dict[str, object]:
        time.sleep(0.05)
        return {"asked": name, "current": app.current_request.uri_params["name"]}

    @app.route("/broken")
    def broken() -> None:
        raise ZeroDivisionError

    return app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    gateway = Gateway(toy_app, threads=8)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(gateway, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    gateway.close()


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


def test_passes_decoded_path_parameters_and_repeated_query_values(http: httpx.Client) -> None:
    """A parameter may hold an encoded slash, and a query value given twice arrives twice."""
    answer = http.put("/things/a%2Fb%20c?tag=1&tag=2&tag=")
    assert answer.json() == {"name": "a/b c", "method": "PUT", "tags": ["1", "2", ""]}
    assert answer.headers["content-type"] == "application/json"


def test_literal_segment_wins_over_a_parameter_and_a_trailing_slash_is_ignored(http: httpx.Client) -> None:
    """`/things/first/` is the literal route, whatever order the routes were declared in."""
    assert http.get("/things/first/").json() == {"literal": "first"}


def test_no_query_is_none_as_in_api_gateway(http: httpx.Client) -> None:
    """Without a query API Gateway sends null, and so does this."""
    assert http.get("/things/x").json()["tags"] is None


def test_binary_bodies_survive_both_ways(http: httpx.Client) -> None:
    """Bytes that are no text travel as base64 inside the event and come back unchanged; repeated headers stay repeated."""
    body = bytes(range(256))
    headers = {"content-type": "application/octet-stream", "accept": "application/octet-stream"}
    answer = http.post("/echo", content=body, headers=headers)
    assert (answer.status_code, answer.content) == (201, body)
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_unknown_path_is_a_404_problem(http: httpx.Client) -> None:
    """A path without a route answers problem+json that says where to look."""
    answer = http.get("/things/a/b/c")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["instance"] == "/things/a/b/c"
    assert "/openapi.json" in answer.json()["detail"]


def test_wrong_method_is_a_405_problem_with_allow(http: httpx.Client) -> None:
    """A known path with another method names the methods it has."""
    answer = http.delete("/things/a")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")
    assert answer.json()["status"] == 405


@pytest.mark.parametrize("chunked", [False, True])
def test_body_over_lambdas_limit_is_refused(http: httpx.Client, *, chunked: bool) -> None:
    """6 MB pass, one byte more is a 413 problem, with and without a Content-Length."""
    headers = {"content-type": "application/octet-stream", "accept": "application/octet-stream"}

    def content(size: int) -> bytes | Iterator[bytes]:
        return iter([b"\xff" * size]) if chunked else b"\xff" * size

    assert http.post("/echo", content=content(MAX_BODY_BYTES), headers=headers).status_code == 201
    answer = http.post("/echo", content=content(MAX_BODY_BYTES + 1), headers=headers)
    assert (answer.status_code, answer.json()["title"]) == (413, HTTPStatus.REQUEST_ENTITY_TOO_LARGE.phrase)


def test_concurrent_requests_do_not_see_each_other(url: str) -> None:
    """Every handler finds its own request in `app.current_request`, also when eight run at once."""
    with httpx.Client(base_url=url) as client, ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        answers = list(pool.map(lambda n: client.get(f"/slow/{n}").json(), range(16)))
        took_s = time.monotonic() - started
    assert [(a["asked"], a["current"]) for a in answers] == [(str(n), str(n)) for n in range(16)]
    assert took_s < 16 * 0.05, "the handlers ran one after the other"


def test_a_bug_in_a_handler_is_a_500_and_the_next_request_is_served(http: httpx.Client) -> None:
    """A crash costs one request and tells the client nothing of the inside."""
    answer = http.get("/broken")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert http.get("/things/x").status_code == 200


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/?%#{}"), min_size=1), min_size=1, max_size=3))
def test_match_route_never_confuses_lengths(segments: list[str]) -> None:
    """A route matches exactly the paths with as many segments as itself."""
    routes = ["/a", "/a/{x}", "/a/{x}/c"]
    path = "/" + "/".join(segments)
    match = match_route(routes, path)
    if match is not None:
        assert match[0].count("/") == len(segments)
        assert segments[0] == "a"


def test_from_lambda_keeps_the_handlers_content_type() -> None:
    """A handler's own Content-Type wins over the default, whatever its case, and is sent once."""
    result = {"statusCode": 404, "headers": {"Content-Type": "text/plain"}, "multiValueHeaders": {}, "body": "no"}
    assert dict(from_lambda(result).headers) == {b"content-type": b"text/plain", b"content-length": b"2"}
