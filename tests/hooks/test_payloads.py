"""What a delivery says: a push to the branch that is followed, or why it is none."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import Invalid
from chalicelib.hooks.payloads import Ignored, read
from chalicelib.model import Hook, HookKind, Push

NOW = 1_800_000_000.0
HEAD = "1481a2de7b2a7d02428ad93446ab166be7793fbb"
HOOK = Hook("0123456789", HookKind.GITHUB, "svc", NOW, repository="Acme/App", branch="main", path="service.yaml")
PUSHED_TO_GITHUB = {
    "ref": "refs/heads/main",
    "before": "0" * 40,
    "after": HEAD,
    "created": True,
    "deleted": False,
    "forced": False,
    "repository": {"id": 1, "full_name": "acme/app"},
    "commits": [],
}
PUSHED_TO_GITLAB = {
    "object_kind": "push",
    "before": "0" * 40,
    "after": HEAD,
    "ref": "refs/heads/main",
    "checkout_sha": HEAD,
    "project_id": 15,
    "project": {"id": 15, "path_with_namespace": "acme/app"},
}
PUSHED_OTHERWISE = {
    "type": "push",
    "timestamp": "2026-11-22T18:00:00.250Z",
    "data": {"commit": "v1.2", "yaml": "service: {}"},
}
KINDS: dict[HookKind, tuple[dict[str, str], dict[str, Any]]] = {
    HookKind.GITHUB: ({"x-github-event": "push", "content-type": "application/json"}, PUSHED_TO_GITHUB),
    HookKind.GITLAB: ({"x-gitlab-event": "Push Hook"}, PUSHED_TO_GITLAB),
    HookKind.GENERIC: ({}, PUSHED_OTHERWISE),
}
FORGES = (HookKind.GITHUB, HookKind.GITLAB)


def reading(kind: HookKind, **changes: Any) -> Push | Ignored:
    headers, document = KINDS[kind]
    return read(replace(HOOK, kind=kind), headers, json.dumps({**document, **changes}).encode(), NOW)


@pytest.mark.parametrize("kind", FORGES)
@pytest.mark.parametrize("changes", [{}, {"forced": True}, {"before": HEAD}, {"later_release": {"of": "the forge"}}])
def test_a_push_tells_of_a_commit(kind: HookKind, changes: dict[str, Any]) -> None:
    """A forced one and the first one of a branch too; fields of later releases are no matter."""
    number = {HookKind.GITHUB: "1", HookKind.GITLAB: "15"}[kind]
    assert reading(kind, **changes) == Push(HEAD, NOW, repository_id=number)


@pytest.mark.parametrize("kind", FORGES)
def test_a_repository_is_known_by_its_number(kind: HookKind) -> None:
    """Another one that has taken its name deploys nothing; the same one under another name is told to be followed anew."""
    headers, document = KINDS[kind]
    number = {HookKind.GITHUB: "1", HookKind.GITLAB: "15"}[kind]

    def said(repository_id: str, **changes: Any) -> Push | Ignored:
        hook = replace(HOOK, kind=kind, repository_id=repository_id)
        return read(hook, headers, json.dumps({**document, **changes}).encode(), NOW)

    assert isinstance(said(number), Push)
    other = said("2")
    assert isinstance(other, Ignored)
    assert f"another repository by now, number {number}" in other.why
    assert "sailplane webhook remove 0123456789" in other.why
    of_the_same = {
        "repository": {"id": 1, "full_name": "acme/new"},
        "project": {"id": 15, "path_with_namespace": "acme/new"},
    }
    renamed = said(number, **of_the_same)
    assert isinstance(renamed, Ignored)
    assert "is called acme/new by now: make the webhook again" in renamed.why


def test_a_generic_push_brings_its_file() -> None:
    """With the instant that tells which of two is the later."""
    assert reading(HookKind.GENERIC) == Push("v1.2", NOW, 1_795_370_400.25, "service: {}")


def test_github_s_other_content_type_is_read() -> None:
    """A form with the document in it, which is what GitHub proposes."""
    headers = {"x-github-event": "push", "content-type": "application/x-www-form-urlencoded"}
    body = urlencode({"payload": json.dumps(PUSHED_TO_GITHUB)}).encode()
    assert read(HOOK, headers, body, NOW) == Push(HEAD, NOW, repository_id="1")


@pytest.mark.parametrize("kind", FORGES)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ref": "refs/heads/main2"}, "another ref"),
        ({"ref": "refs/tags/main"}, "another ref"),
        ({"ref": "main"}, "another ref"),
        ({"after": "0" * 40, "deleted": True, "checkout_sha": None}, "was deleted"),
        (
            {"repository": {"full_name": "acme/app2"}, "project": {"path_with_namespace": "evil/app"}},
            "another repository",
        ),
    ],
)
def test_other_pushes_mean_nothing(kind: HookKind, changes: dict[str, Any], why: str) -> None:
    """The answer says why, where the sender's owner sees it."""
    said = reading(kind, **changes)
    assert isinstance(said, Ignored)
    assert why in said.why


@pytest.mark.parametrize(
    ("kind", "headers", "why"),
    [
        (HookKind.GITHUB, {"x-github-event": "ping"}, "pong"),
        (HookKind.GITHUB, {"x-github-event": "issues"}, "only pushes"),
        (HookKind.GITHUB, {}, "only pushes"),
        (HookKind.GITLAB, {"x-gitlab-event": "Tag Push Hook"}, "only pushes"),
        (HookKind.GITLAB, {}, "only pushes"),
    ],
)
def test_other_events_mean_nothing(kind: HookKind, headers: dict[str, str], why: str) -> None:
    """A ping is answered in words that show its sender's owner that all is well."""
    said = read(replace(HOOK, kind=kind), headers, b'{"zen": "Keep it logically awesome."}', NOW)
    assert isinstance(said, Ignored)
    assert why in said.why


def test_a_generic_push_is_not_of_the_future() -> None:
    """One from a clock that is years ahead would be the latest for years, and no other be deployed."""
    at = datetime.fromtimestamp(NOW, UTC)
    assert isinstance(reading(HookKind.GENERIC, timestamp=f"{at + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}"), Push)
    with pytest.raises(Invalid, match=r"timestamp: .* is 6 minutes ahead of this clock"):
        reading(HookKind.GENERIC, timestamp=f"{at + timedelta(minutes=6):%Y-%m-%dT%H:%M:%SZ}")
    with pytest.raises(Invalid, match=r"timestamp: "):
        reading(HookKind.GENERIC, timestamp="9999-12-31T23:59:59-23:59")


def test_other_types_mean_nothing() -> None:
    """Of a sender with more to say."""
    assert isinstance(reading(HookKind.GENERIC, type="deploy.done"), Ignored)


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        (HookKind.GITHUB, {"after": "HEAD"}, "after"),
        (HookKind.GITHUB, {"after": None}, "after"),
        (HookKind.GITHUB, {"repository": "acme/app"}, "repository"),
        (HookKind.GITLAB, {"project": None}, "project"),
        (HookKind.GITLAB, {"object_kind": "tag_push"}, "object_kind"),
        (HookKind.GENERIC, {"timestamp": "2026-11-22T18:00:00"}, "timestamp"),
        (HookKind.GENERIC, {"data": {"commit": "", "yaml": "x"}}, "data.commit"),
        (HookKind.GENERIC, {"data": {"commit": "a", "yaml": "x" * 65_537}}, "data.yaml"),
        (HookKind.GENERIC, {"data": {"commit": "a"}}, "data.yaml"),
        (HookKind.GENERIC, {"type": None}, "type"),
    ],
)
def test_what_has_another_form_is_refused(kind: HookKind, changes: dict[str, Any], named: str) -> None:
    """By the name of what is wrong."""
    with pytest.raises(Invalid, match=rf"\b{named}:"):
        reading(kind, **changes)


@given(body=st.binary(max_size=200), kind=st.sampled_from(HookKind))
def test_no_body_breaks_anything(body: bytes, kind: HookKind) -> None:
    """Whatever a sender with our secret sends is read, means nothing or is refused."""
    for headers in (KINDS[kind][0], {**KINDS[kind][0], "content-type": "application/x-www-form-urlencoded"}):
        try:
            said = read(replace(HOOK, kind=kind), headers, body, NOW)
        except Invalid:
            continue
        assert isinstance(said, Ignored)
