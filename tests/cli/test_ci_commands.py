"""`sailplane webhook` and `sailplane trust`: what is made, what is printed to paste, what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from chalicelib import identity
from chalicelib.model import HookKind, Outcome, Push
from chalicelib.ports import Commit
from sailplane.cli.exits import Exit
from tests.cli.conftest import Plane

CONTROL_URL = "https://control.example"


@pytest.fixture
def ci(plane: Plane) -> Plane:
    runtime = plane.world.runtime
    plane.world.runtime = replace(runtime, settings=replace(runtime.settings, control_url=CONTROL_URL))
    return plane


def test_what_github_wants_is_printed(ci: Plane) -> None:
    """Field by field as its form has them, the secret among them; what is to know stands on stderr."""
    result = ci.run("webhook", "create", "svc", "--github", "acme/app", "--file", "deploy/svc.yaml")
    (hook,) = ci.world.store.hooks()
    assert (hook.kind, hook.service, hook.repository) == (HookKind.GITHUB, "svc", "acme/app")
    assert (hook.branch, hook.path, hook.token_secret) == ("main", "deploy/svc.yaml", "")
    secret = identity.webhook_secret("a" * 32, hook.id, 1)
    assert result.stdout.splitlines() == [
        "At acme/app, Settings > Webhooks > Add webhook:",
        f"  Payload URL       {CONTROL_URL}/v1/hooks/{hook.id}",
        "  Content type      application/json",
        f"  Secret            {secret}",
        "  SSL verification  Enable",
        "  Events            Just the push event",
    ]
    assert secret not in result.stderr
    assert "Without --token-secret only a public repository can be read" in result.stderr
    assert "sailplane events svc" in result.stderr


def test_what_gitlab_and_others_want_is_printed(ci: Plane) -> None:
    """In their words."""
    ci.world.runtime.secrets.write("gl", "token")
    gitlab = ci.run(
        *("webhook", "create", "svc", "--gitlab", "acme/team/app", "--branch", "prod", "--token-secret", "gl"),
        *("--api-url", "https://gitlab.example/api/v4"),
    )
    assert "Push events, wildcard pattern prod" in gitlab.stdout
    assert "Signing token" in gitlab.stdout
    assert "Without --token-secret" not in gitlab.stderr
    generic = ci.run("webhook", "create", "other", "--generic")
    assert "standardwebhooks.com" in generic.stdout
    assert '"timestamp": NOW,' in generic.stdout  # whoever pastes a constant has all but one push taken for old
    hooks = {hook.kind: hook for hook in ci.world.store.hooks()}
    assert hooks[HookKind.GITLAB].api_url == "https://gitlab.example/api/v4"
    assert f"/v1/hooks/{hooks[HookKind.GENERIC].id}" in generic.stdout


@pytest.mark.parametrize(
    ("url", "is_reached"),
    [
        ("https://control.example", True),
        ("https://8.8.8.8", True),
        ("http://127.0.0.1:46580", False),
        ("http://[::1]:46580", False),
        ("https://10.1.2.3", False),
        ("http://laptop:46580", False),
        ("https://control.corp.internal", False),
    ],
)
def test_an_address_that_no_forge_reaches_is_said(ci: Plane, url: str, is_reached: bool) -> None:
    """A laptop's control plane takes deliveries from its own network only; polling works from anywhere."""
    ci.world.runtime = replace(ci.world.runtime, settings=replace(ci.world.runtime.settings, control_url=url))
    webhook = ci.run("webhook", "create", "svc", "--github", "acme/app")
    trust = ci.run("trust", "create", "svc", "--github", "acme/app", "--branch", "main")
    assert ("every five minutes" in webhook.stderr, "Only jobs that run" in trust.stderr) == (not is_reached,) * 2
    assert (webhook.exit_code, trust.exit_code) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("svc",), "Give one of --github"),
        (("svc", "--github", "a/b", "--generic"), "Give one of --github"),
        (("svc", "--generic", "--branch", "main"), "leave out --branch"),
        (("svc", "--github", "a/b", "--token-secret", "nope"), "sailplane secrets set nope --no-service"),
        (("Not_A_Name", "--generic"), "cannot name a service"),
        (("svc", "--github", "acme"), "--github"),
        (("svc", "--github", "acme/app/x"), "no OWNER/REPO"),
        (("svc", "--gitlab", "acme"), "expected owner/name"),
        (("svc", "--github", "a/b", "--api-url", "http://x"), "expected https"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(ci: Plane, arguments: tuple[str, ...], said: str) -> None:
    """Nothing is made."""
    result = ci.run("webhook", "create", *arguments)
    assert result.exit_code in (Exit.INVALID, 2)
    assert said in result.stderr
    assert ci.world.store.hooks() == ()


def test_how_webhooks_go_is_listed(ci: Plane) -> None:
    """The last push and whether it waits, the version it has become or why it was refused, and what is in the way."""
    assert ci.run("webhook", "list").stdout == "No webhooks.\n"
    ci.run("webhook", "create", "svc", "--github", "acme/app")
    (hook,) = ci.world.store.hooks()
    known = replace(
        hook,
        push=Push("abcdef0123456789", 1_800_000_000.0),
        outcome=Outcome("0123456789abcdef", 1_800_000_000.0, 0, "line 1:\n wrong", is_told=True),
        trouble="the token is refused",
    )
    ci.world.store.commit("svc", None, Commit(hook=known))
    listed = ci.run("webhook", "list")
    (row,) = listed.stdout.splitlines()[1:]
    assert "github acme/app main service.yaml" in row
    assert "abcdef0123 2027-01-15 08:00 (waits)" in row
    assert row.endswith("0123456789 refused: line 1: wrong")
    assert f"{hook.id}: the token is refused" in listed.stderr
    assert ci.json("webhook", "list")["webhooks"][0]["outcome"]["version"] is None


def test_a_webhook_is_replaced_and_removed_by_its_service(ci: Plane) -> None:
    """Or by its id, where a service has several; an unknown one stops everything."""
    ci.run("webhook", "create", "svc", "--github", "acme/app")
    (hook,) = ci.world.store.hooks()
    rotated = ci.run("webhook", "rotate", "svc", "--overlap", "1h")
    assert identity.webhook_secret("a" * 32, hook.id, 2) in rotated.stdout
    assert "Settings > Webhooks > Edit:" in rotated.stdout
    assert re.search(r"old secret is taken until \d{4}-.* UTC", rotated.stderr)
    second = ci.run("webhook", "create", "svc", "--generic")
    assert (second.exit_code, "Next:\n  sailplane webhook remove svc" in second.stderr) == (Exit.CONFLICT, True)
    ci.world.store.create_hook(replace(hook, id="restored00", version=0))  # an older release allowed two
    several = ci.run("webhook", "remove", "svc")
    assert (several.exit_code, "may mean" in several.stderr) == (Exit.INVALID, True)
    unknown = ci.run("webhook", "remove", hook.id, "other")
    assert (unknown.exit_code, "sailplane webhook list" in unknown.stderr) == (Exit.NOT_FOUND, True)
    assert len(ci.world.store.hooks()) == 2
    assert ci.json("webhook", "remove", hook.id) == {"removed": [hook.id]}
    assert ci.run("webhook", "remove", "svc").exit_code == 0
    assert ci.world.store.hooks() == ()


def test_a_trust_says_what_a_workflow_has_to_know(ci: Plane) -> None:
    """The control plane, the audience, and the example to start from."""
    result = ci.run("trust", "create", "svc", "second", "--github", "acme/app", "--branch", "main")
    (trust,) = ci.world.store.trusts()
    assert (trust.repository, trust.ref, trust.services) == ("acme/app", "refs/heads/main", ("svc", "second"))
    assert result.stdout.splitlines() == [
        "Jobs of acme/app on the branch main may deploy svc, second.",
        f"  SAILPLANE_URL       {ci.url}",
        f"  SAILPLANE_AUDIENCE  {CONTROL_URL}",
    ]
    assert "examples/ci/github-deploy.yml" in result.stderr
    made = ci.json("trust", "create", "--all", "--gitlab", "a/b", "--tag", "v*", "--environment", "prod")
    assert (made["kind"], made["ref"], made["services"], made["url"]) == ("gitlab", "refs/tags/v*", ["*"], ci.url)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--github", "a/b", "--branch", "main"), "Name the services"),
        (("svc", "--all", "--github", "a/b", "--branch", "main"), "Name the services"),
        (("svc", "--branch", "main"), "Give one of --github"),
        (("svc", "--github", "a/b", "--gitlab", "a/b", "--branch", "main"), "Give one of --github"),
        (("svc", "--github", "a/b"), "whoever may push any branch"),
        (("svc", "--github", "a/b", "--branch", "m", "--tag", "v1"), "two trusts"),
        (("Not_A_Name", "--github", "a/b", "--branch", "main"), "cannot name a service"),
        (("svc", "--github", "a", "--branch", "main"), "no OWNER/REPO"),
        (("svc", "--gitlab", "a", "--branch", "main"), "owner/name"),
    ],
)
def test_a_trust_that_is_too_wide_is_refused(ci: Plane, arguments: tuple[str, ...], said: str) -> None:
    """Nothing is made."""
    result = ci.run("trust", "create", *arguments)
    assert result.exit_code in (Exit.INVALID, 2)
    assert said in result.stderr
    assert ci.world.store.trusts() == ()


def test_trusts_are_listed_and_removed(ci: Plane) -> None:
    """By id; an unknown one stops everything."""
    assert ci.run("trust", "list").stdout == "No trusts.\n"
    made = ci.json("trust", "create", "svc", "--github", "acme/app", "--environment", "prod")
    (row,) = ci.run("trust", "list").stdout.splitlines()[1:]
    assert row.split()[:6] == [made["id"], "github", "acme/app", "any", "prod", "svc"]
    unknown = ci.run("trust", "remove", made["id"], "other")
    assert (unknown.exit_code, "sailplane trust list" in unknown.stderr) == (Exit.NOT_FOUND, True)
    assert len(ci.world.store.trusts()) == 1
    assert ci.json("trust", "remove", made["id"]) == {"removed": [made["id"]]}
