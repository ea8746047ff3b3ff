"""ETag and If-Match: nobody undoes what they have not seen."""

from __future__ import annotations

import pytest
from chalice.test import HTTPResponse

from tests.api.conftest import YAML, Api, assert_problem

ONE = "/v1/services/svc"
NEW = {"name": "svc", "yaml": YAML}
CHANGED = {"yaml": YAML.replace("replicas: 2", "replicas: 1")}
AGAIN = {"yaml": YAML.replace("replicas: 2", "replicas: 3")}


def tag(response: HTTPResponse) -> str:
    """The tag in the header, which is the one in the body."""
    found: str = response.headers["ETag"]
    assert response.json_body["etag"] == found
    return found


def change(api: Api, body: dict[str, str], condition: str) -> HTTPResponse:
    return api.call("PUT", ONE, body, **{"If-Match": condition})


def test_every_answer_with_a_service_says_its_tag(api: Api) -> None:
    """It changes with the file and not with what replicas do, so that it says what its owner means to change."""
    made = tag(api.post("/v1/services", NEW))
    api.world.tick(4)
    shown = api.get(ONE)
    assert tag(shown) == made == api.get("/v1/services").json_body["services"][0]["etag"]
    changed = tag(api.call("PUT", ONE, CHANGED))
    assert changed != made
    assert tag(api.call("PUT", ONE, CHANGED)) == changed == tag(api.call("DELETE", ONE))


def test_a_name_used_again_has_another_tag(api: Api) -> None:
    """Whoever has seen the service of before does not change this one."""
    before = tag(api.post("/v1/services", NEW))
    api.call("DELETE", ONE)
    api.world.tick(20)
    api.post("/v1/services", NEW)
    assert_problem(change(api, CHANGED, before), 412)


def test_a_change_of_what_was_seen_is_made(api: Api) -> None:
    """Also where it is one of several tags, and where any will do."""
    first = tag(api.post("/v1/services", NEW))
    second = tag(change(api, CHANGED, first))
    third = change(api, AGAIN, f'"another", {second}')
    assert third.status_code == 200
    assert change(api, CHANGED, "*").status_code == 200


@pytest.mark.parametrize("condition", ['"another"', "W/{tag}", "", "x", '"', "{bare}"])
def test_a_change_of_anything_else_is_not(api: Api, condition: str) -> None:
    """412, with the tag of now: another version, a weak tag, and what is no tag at all. In doubt nothing is changed."""
    now = tag(api.post("/v1/services", NEW))
    condition = condition.format(tag=now, bare=now.strip('"'))
    refused = change(api, CHANGED, condition)
    assert assert_problem(refused, 412)["type"] == "urn:sailplane:problem:precondition"
    assert refused.headers["ETag"] == now
    assert_problem(api.call("DELETE", ONE, **{"If-Match": condition}), 412)
    assert tag(api.get(ONE)) == now
    assert api.get(ONE).json_body["status"] != "SHUTTING_DOWN"


def test_what_is_so_already_is_no_change(api: Api) -> None:
    """RFC 9110 lets a server say yes to a retry whose first attempt moved the tag; there is nothing to undo."""
    first = tag(api.post("/v1/services", NEW))
    change(api, CHANGED, first)
    assert change(api, CHANGED, first).status_code == 200
    api.call("DELETE", ONE)
    assert api.call("DELETE", ONE, **{"If-Match": first}).status_code == 202


def test_what_is_not_there_is_not_found(api: Api) -> None:
    """Whatever the condition."""
    assert_problem(change(api, CHANGED, '"x"'), 404)
