"""Every error leaves the API as RFC 9457 problem details, whoever noticed it, and tells nothing of the inside."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from chalice.test import Client

from chalicelib import errors
from chalicelib.api import problems
from chalicelib.api.app import create_app
from tests.api.conftest import ADMIN_KEY, Api, assert_problem
from tests.fakes import World

PROTECTED = (
    ("GET", "/v1/info"),
    ("GET", "/v1/cost"),
    ("GET", "/v1/services/svc/cost"),
    ("GET", "/metrics"),
    ("GET", "/v1/backup"),
    ("POST", "/v1/backup/entries"),
    ("GET", "/v1/services/svc/metrics"),
    ("POST", "/v1/services"),
    ("GET", "/v1/services"),
    ("GET", "/v1/services/svc"),
    ("PUT", "/v1/services/svc"),
    ("DELETE", "/v1/services/svc"),
    ("GET", "/v1/services/svc/versions"),
    ("GET", "/v1/services/svc/versions/1"),
    ("GET", "/v1/services/svc/events"),
    ("GET", "/v1/services/svc/why"),
    ("GET", "/v1/services/svc/replicas/0-1/log"),
    ("POST", "/v1/services/svc/replicas/0-1/drain"),
    ("POST", "/v1/services/svc/replicas/0-1/preempt"),
    ("POST", "/v1/services/svc/replicas/0-1/kill"),
    ("DELETE", "/v1/intake"),
    ("PUT", "/v1/intake"),
    ("GET", "/v1/leftovers"),
    ("POST", "/v1/leftovers/remove"),
    ("PUT", "/v1/intake"),
    ("DELETE", "/v1/intake"),
    ("POST", "/v1/keys"),
    ("GET", "/v1/keys"),
    ("DELETE", "/v1/keys/0123456789"),
    ("POST", "/v1/keys/0123456789/rotate"),
    ("POST", "/v1/admin-keys"),
    ("GET", "/v1/admin-keys"),
    ("DELETE", "/v1/admin-keys/0123456789"),
    ("GET", "/v1/secrets"),
    ("PUT", "/v1/secrets/HF_TOKEN"),
    ("POST", "/v1/secrets/HF_TOKEN/services"),
    ("DELETE", "/v1/secrets/HF_TOKEN"),
    ("GET", "/v1/audit"),
    ("POST", "/v1/edge/exchange"),
    ("POST", "/v1/webhooks"),
    ("GET", "/v1/webhooks"),
    ("DELETE", "/v1/webhooks/a-hook"),
    ("POST", "/v1/webhooks/a-hook/rotate"),
    ("POST", "/v1/trusts"),
    ("GET", "/v1/trusts"),
    ("DELETE", "/v1/trusts/a-trust"),
)


def test_every_route_is_open_or_in_the_list_of_protected_ones(api: Api) -> None:
    """A new route cannot be forgotten by the tests of authentication below."""
    routes = {(method, path) for path, methods in api.app.routes.items() for method in methods}
    parts = {"svc": "{name}", "HF_TOKEN": "{name}", "0-1": "{replica}", "0123456789": "{key_id}", "1": "{number}"}
    parts |= {"a-hook": "{hook_id}", "a-trust": "{trust_id}"}
    named = {(method, "/".join(parts.get(part, part) for part in path.split("/"))) for method, path in PROTECTED}
    of_replicas = {("POST", f"/v1/replicas/{{replica_id}}/{what}") for what in ("interruption", "secrets")}
    machines = {("POST", "/v1/boot"), *of_replicas}  # see test_boot, test_secrets
    senders = {("POST", f"/v1/hooks/{whose}") for whose in ("{hook_id}", "github")}  # see test_webhooks
    jobs = {("POST", f"/v1/auth/{whose}") for whose in ("github", "gitlab")}  # see test_trusts
    assert routes == named | machines | senders | jobs | {("GET", "/healthz"), ("GET", "/openapi.json")}


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("key", [None, "", "wrong", ADMIN_KEY[:-1], ADMIN_KEY + "x", "schlüssel"])
def test_without_the_right_key_nothing_is_answered(api: Api, method: str, path: str, key: str | None) -> None:
    """401 with a challenge, before the body is looked at."""
    response = api.call(method, path, b"not json", key=key)
    assert_problem(response, 401)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_one_key_does_not_open_the_others_door(api: Api) -> None:
    """The router's token commands no service, the admin's key is no router's."""
    assert api.call("GET", "/v1/services", key=api.world.runtime.settings.router_tokens[0]).status_code == 401
    assert api.call("POST", "/v1/edge/exchange", {}, key=ADMIN_KEY).status_code == 401


def test_basic_credentials_are_refused_even_with_the_key_in_them(api: Api) -> None:
    """Only the Bearer scheme counts."""
    assert_problem(api.call("GET", "/v1/info", key=None, Authorization=f"Basic {ADMIN_KEY}"), 401)


def test_a_key_that_was_never_set_lets_nobody_in(api: Api) -> None:
    """An empty key on both sides is no match."""
    api.world.runtime = replace(api.world.runtime, settings=replace(api.world.runtime.settings, admin_key=""))
    assert_problem(api.call("GET", "/v1/info", key=""), 401)


def test_chalices_own_errors_are_problems_too(api: Api) -> None:
    """A method that is not there keeps its Allow header; a media type that is not JSON is named."""
    response = api.call("PATCH", "/v1/services")
    assert_problem(response, 405)
    assert set(response.headers["Allow"].split(", ")) == {"GET", "POST"}
    document = assert_problem(api.client.http.post("/v1/services", headers={"Content-Type": "text/yaml"}), 415)
    assert "text/yaml" in document["detail"]
    assert document["instance"] == "/v1/services"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"name": "x"} trailing'])
def test_a_body_that_is_not_json_is_a_400(api: Api, body: bytes) -> None:
    """Malformed is told apart from unacceptable."""
    assert "not JSON" in assert_problem(api.call("POST", "/v1/services", body), 400)["detail"]


def test_everything_wrong_with_a_body_is_listed_at_once(api: Api) -> None:
    """Unknown, missing and ill-typed members each get a path and a reason."""
    document = assert_problem(api.post("/v1/services", {"name": 7, "yml": "", "envs": {"A": 1}}), 422)
    assert {problem["path"] for problem in document["problems"]} == {"name", "yml", "yaml", "envs.A"}
    reasons = {problem["path"]: problem["reason"] for problem in document["problems"]}
    assert (reasons["yml"], reasons["yaml"]) == ("there is no field of that name", "is missing")


def test_a_body_beyond_the_bound_is_refused_unparsed(api: Api) -> None:
    """413, with the figures."""
    assert "accepted here" in assert_problem(api.call("POST", "/v1/services", b"x" * 300_000), 413)["detail"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Invalid("no"), 422),
        (errors.NotFound("no"), 404),
        (errors.Exists("no"), 409),
        (errors.Conflict("no"), 412),
        (errors.LeaseHeld("no"), 423),
        (errors.Unreachable("no"), 503),
    ],
)
def test_the_error_tree_maps_to_statuses(error: errors.SailplaneError, status: int) -> None:
    """One status for each thing that a caller may do next; "later" says how much later."""
    response = problems.answer_for(error)
    assert response.status_code == response.body["status"] == status
    assert ("Retry-After" in response.headers) == (status == 503)


def test_a_store_that_is_down_is_a_503(world: World) -> None:
    """The caller learns that waiting helps."""

    class Down:
        def service_names(self) -> tuple[str, ...]:
            raise errors.Unreachable("DynamoDB does not answer")

    world.runtime = replace(world.runtime, store=Down())  # type: ignore[arg-type]  # it needs no more for this
    response = Api(world).get("/v1/services")
    assert "DynamoDB" in assert_problem(response, 503)["detail"]
    assert response.headers["Retry-After"] == "5"


@pytest.mark.parametrize("error", [ValueError("secret inside"), errors.Fenced("secret inside")])
def test_an_unexpected_error_tells_nothing_but_where_to_look(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """500 with the request's id; the id and the traceback are in the log, the message is not in the answer."""

    def broken() -> Any:
        raise error

    event = _event("GET", "/v1/info", "request-42")
    with caplog.at_level(logging.ERROR):
        answer = create_app(broken)(event, None)
    assert answer["statusCode"] == 500
    assert "request-42" in answer["body"]
    assert "secret" not in answer["body"]
    assert "request-42" in caplog.text
    assert "secret inside" in caplog.text


def test_an_event_that_is_no_request_is_a_problem_as_well(api: Api) -> None:
    """Whatever invokes the function gets the same form back."""
    answer = api.app({"requestContext": {}}, None)
    assert answer["statusCode"] == 500
    assert answer["headers"]["Content-Type"] == "application/problem+json"


def test_healthz_needs_no_key_and_no_store(api: Api) -> None:
    """The laptop's supervisor asks it before anything else."""
    response = Client(api.app).http.get("/healthz")
    assert (response.status_code, response.json_body) == (200, {"status": "ok"})


def _event(method: str, path: str, request_id: str) -> dict[str, Any]:
    return {
        "requestContext": {"httpMethod": method, "resourcePath": path, "path": path, "requestId": request_id},
        "headers": {},
        "pathParameters": None,
        "multiValueQueryStringParameters": None,
        "stageVariables": None,
        "body": None,
    }
