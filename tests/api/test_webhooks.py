"""Webhooks over the API: made, listed, replaced and removed by their owner; deliveries are written down and no more."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
import standardwebhooks
from chalice.test import HTTPResponse

from chalicelib import identity, passes
from chalicelib.api.machines import on_function_url
from chalicelib.errors import Unreachable
from chalicelib.hooks.following import DELIVERIES_KEPT_S
from chalicelib.model import Hook, HookKind
from tests.api.conftest import SETTINGS, YAML, Api, assert_problem
from tests.fakes import START, Interposed
from tests.hooks.forge import FakeForge, Repositories

CONTROL_URL = "https://control.example"
HEAD, NEXT = "a" * 40, "b" * 40
GITHUB = {"kind": "github", "service": "svc", "repository": "acme/app"}

IMPOSSIBLE: tuple[tuple[dict[str, str], str], ...] = (
    ({"kind": "bitbucket"}, "kind"),
    ({"service": "Not A Name"}, "service"),
    ({"repository": ""}, ""),
    ({"repository": "acme"}, "repository"),
    ({"repository": "acme/.."}, "repository"),
    ({"repository": "acme/app?x=1"}, "repository"),
    ({"branch": "refs/../x"}, "branch"),
    ({"branch": "-x"}, "branch"),
    ({"branch": "a b"}, "branch"),
    ({"branch": ""}, "branch"),
    ({"path": "../service.yaml"}, "path"),
    ({"path": "/service.yaml"}, "path"),
    ({"path": ""}, "path"),
    ({"api_url": "http://github.example/api"}, "api_url"),
    ({"api_url": "https://user:pw@github.example"}, "api_url"),
    ({"api_url": "file:///etc/passwd"}, "api_url"),
    ({"token_secret": "not a name"}, "token_secret"),
    ({"kind": "generic"}, ""),
    ({"kind": "generic", "repository": "", "branch": "release"}, ""),
    ({"kind": "generic", "repository": "", "path": "deploy/service.yaml"}, ""),
    ({"secret": "mine"}, "secret"),
)


@pytest.fixture(autouse=True)
def reachable(api: Api) -> FakeForge:
    """A control plane that knows its address, and a forge."""
    forge = FakeForge(Repositories())
    forges = {HookKind.GITHUB: forge, HookKind.GITLAB: forge}
    settings = replace(SETTINGS, control_url=CONTROL_URL)
    api.world.runtime = replace(api.world.runtime, settings=settings, forges=forges)
    return forge


def make(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/v1/webhooks", {**GITHUB, **fields})
    assert answer.status_code == 201, answer.body
    made: dict[str, Any] = answer.json_body
    return made


def hook_of(api: Api, made: Mapping[str, Any]) -> Hook:
    hook = api.world.runtime.store.hook(made["id"])
    assert hook
    return hook


@dataclass
class Sender:
    """GitHub, as far as its deliveries go."""

    api: Api
    hook: Mapping[str, Any]
    delivered: int = 0
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def push(self, commit: str = HEAD, **changes: Any) -> HTTPResponse:
        document = {"ref": "refs/heads/main", "after": commit, "repository": {"full_name": "acme/app"}, **changes}
        self.delivered += 1
        return self.send(json.dumps({**document, "n": self.delivered}).encode(), f"delivery-{self.delivered}")

    def send(self, body: bytes, delivery: str, event: str = "push") -> HTTPResponse:
        digest = hmac.new(self.hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": delivery, "X-GitHub-Event": event}
        path = self.path or f"/v1/hooks/{self.hook['id']}"
        return self.api.call("POST", path, body, key=None, **{**headers, **self.headers})


# --- the owner ---


def test_a_webhook_tells_what_to_paste(api: Api) -> None:
    """Its address and, this once, its secret; the first look at the branch is asked for."""
    api.world.runtime.secrets.write("forge-token", "text")
    made = make(api, token_secret="forge-token", branch="release/1", path="deploy/svc.yaml")
    assert made["url"] == f"{CONTROL_URL}/v1/hooks/{made['id']}"
    assert made["secret"].startswith("whsec_")
    assert api.poked == ["svc"]
    (listed,) = api.get("/v1/webhooks").json_body["webhooks"]
    assert listed == {name: value for name, value in made.items() if name != "secret"}
    assert (listed["branch"], listed["path"], listed["api_url"]) == (
        "release/1",
        "deploy/svc.yaml",
        "https://api.github.com",
    )
    assert (listed["pushed"], listed["outcome"], listed["trouble"]) == (None, None, "")
    assert hook_of(api, made).is_pending


def test_a_service_follows_one_thing(api: Api) -> None:
    """Two would take turns at it: the second is refused, by the name of the first, until that is removed."""
    made = make(api)
    for fields in ({**GITHUB, "branch": "next"}, {"kind": "generic", "service": "svc"}):
        detail = assert_problem(api.post("/v1/webhooks", fields), 409)["detail"]
        assert "follows main of acme/app already" in detail
        assert f"sailplane webhook remove {made['id']}" in detail
    assert len(api.world.store.hooks()) == 1
    api.call("DELETE", f"/v1/webhooks/{made['id']}")
    make(api, branch="next")


def test_a_webhook_is_for_the_repository_that_its_name_is_known_for(api: Api, reachable: FakeForge) -> None:
    """By another webhook, or a trust: a second one made after the name was taken over deploys nothing of the new owner's."""
    make(api)
    reachable.repositories.push("acme/app", "main", {"service.yaml": YAML})
    passes.deploy_pushes(api.world.runtime)
    reachable.repositories.numbers["acme/app"] = 75
    second = make(api, service="second")
    assert hook_of(api, second).repository_id == "74"
    passes.deploy_pushes(api.world.runtime)
    assert api.world.runtime.store.service_names() == ("svc",)
    assert "number 75" in hook_of(api, second).trouble


def test_a_token_that_is_not_there_is_said_at_once(api: Api) -> None:
    """And not a minute later in the service's events; with the command that keeps it."""
    detail = assert_problem(api.post("/v1/webhooks", {**GITHUB, "token_secret": "nope"}), 422)["detail"]
    assert "sailplane secrets set nope --no-service" in detail
    assert api.world.store.hooks() == ()


def test_the_secret_is_kept_nowhere(api: Api) -> None:
    """It is derived from the deployment's key, the webhook and its generation: two share nothing."""
    first, second = make(api), make(api, service="second")
    assert first["secret"] != second["secret"]
    assert first["secret"].removeprefix("whsec_") not in repr(api.world.runtime.store.hooks())


def test_a_webhook_shows_how_it_goes(api: Api, reachable: FakeForge) -> None:
    """What was pushed last, and what became of it: a version, or why there is none."""
    made = make(api)
    bad = reachable.repositories.push("acme/app", "main", {"service.yaml": "service: {replicas: -1}"})
    Sender(api, made).push(bad)
    (pending,) = api.get("/v1/webhooks").json_body["webhooks"]
    assert pending["pushed"] == {"commit": bad, "at": "2027-01-15T08:00:00Z", "pending": True}
    passes.deploy_pushes(api.world.runtime)
    (refused,) = api.get("/v1/webhooks").json_body["webhooks"]
    assert (refused["pushed"]["pending"], refused["outcome"]["version"]) == (False, None)
    assert "service.replicas" in refused["outcome"]["message"]
    reachable.repositories.push("acme/app", "main", {"service.yaml": YAML})
    api.world.clock.advance(300)
    passes.deploy_pushes(api.world.runtime)
    (deployed,) = api.get("/v1/webhooks").json_body["webhooks"]
    assert deployed["outcome"]["version"] == 1


def test_a_webhook_that_is_made_twice_under_one_key_is_one(api: Api) -> None:
    """Though the first attempt died before it was answered: the same id, and the same secret."""
    runtime = api.world.runtime
    died: list[str] = []

    def die(what: str) -> None:
        if what == "after create_hook" and not died:
            died.append(what)
            raise Unreachable("the answer was lost")

    store: Any = Interposed(runtime.store, die)
    api.world.runtime = replace(runtime, store=store)
    key = {"Idempotency-Key": "one"}
    assert_problem(api.call("POST", "/v1/webhooks", GITHUB, **key), 503)
    made = api.call("POST", "/v1/webhooks", GITHUB, **key).json_body
    assert [hook.id for hook in runtime.store.hooks()] == [made["id"]]
    assert api.call("POST", "/v1/webhooks", GITHUB, **key).json_body == made


def test_what_no_webhook_can_be_is_refused(api: Api) -> None:
    """By the name of what is wrong; nothing is made."""
    for change, path in IMPOSSIBLE:
        problem = assert_problem(api.post("/v1/webhooks", {**GITHUB, **change}), 422)
        assert [one["path"] for one in problem["problems"]] == [path], change
    assert api.world.runtime.store.hooks() == ()


def test_a_control_plane_without_an_address_makes_none(api: Api) -> None:
    """Nobody could deliver to it; and without a key of its own nothing could be signed."""
    told = api.world.runtime.settings
    for settings in (replace(told, control_url=""), replace(told, agent_key="")):
        api.world.runtime = replace(api.world.runtime, settings=settings)
        assert "SAILPLANE_" in assert_problem(api.post("/v1/webhooks", GITHUB), 422)["detail"]


def test_a_removed_webhook_takes_nothing(api: Api) -> None:
    """Its deliveries are refused as if it had never been; to remove it again is an error."""
    made = make(api)
    assert api.call("DELETE", f"/v1/webhooks/{made['id']}").json_body == {"id": made["id"]}
    assert_problem(Sender(api, made).push(), 401)
    assert_problem(api.call("DELETE", f"/v1/webhooks/{made['id']}"), 404)


def test_two_secrets_are_good_for_a_while(api: Api) -> None:
    """The new one at once, the old one until the overlap ends, and of three never the first."""
    made = make(api)
    second = api.post(f"/v1/webhooks/{made['id']}/rotate", {"overlap_s": 60}).json_body
    old, new = Sender(api, made), Sender(api, second, delivered=100)
    assert (old.push().status_code, new.push().status_code) == (202, 202)
    api.world.clock.advance(60)
    assert (old.push().status_code, new.push().status_code) == (401, 202)
    third = api.post(f"/v1/webhooks/{made['id']}/rotate", {}).json_body
    assert len({made["secret"], second["secret"], third["secret"]}) == 3
    assert (old.push().status_code, new.push().status_code) == (401, 202)
    assert_problem(api.post("/v1/webhooks/0000000000/rotate", {}), 404)


# --- the sender ---


def test_a_push_is_written_down_and_asked_for(api: Api) -> None:
    """Before it is answered; nothing is deployed, and no forge asked, until a pass comes."""
    made = make(api)
    api.poked.clear()
    answer = Sender(api, made).push()
    assert (answer.status_code, answer.json_body["result"]) == (202, "accepted")
    hook = hook_of(api, made)
    assert hook.push
    assert (hook.push.commit, hook.push.received_at, hook.is_pending) == (HEAD, START, True)
    assert api.poked == ["svc"]
    assert api.world.runtime.store.service_names() == ()


def test_a_delivery_costs_a_read_and_a_write(api: Api) -> None:
    """One of the hook, one again under which the write holds, and that write: it is answered within a second."""
    made, asked = make(api), []
    runtime = api.world.runtime
    store: Any = Interposed(runtime.store, lambda what: asked.append(what) if what.startswith("before") else None)
    api.world.runtime = replace(runtime, store=store)
    Sender(api, made).push()
    assert asked == ["before hook", "before hook", "before record_push"]


@pytest.mark.parametrize("path", ["/v1/hooks/{id}", "/v1/hooks/github", "/v1/hooks/no-id"])
def test_what_cannot_be_signed_costs_nothing(api: Api, path: str) -> None:
    """Without a header of a signature's form, or at an address that none can have, nothing is read or parsed."""
    made = make(api)
    runtime, neither = api.world.runtime, Any
    api.world.runtime = replace(runtime, store=neither)  # type: ignore[arg-type]  # to touch it would be an error
    headers = (
        {} if "no-id" in path else {"X-Hub-Signature-256": "sha256=", "X-Gitlab-Token": "x", "Webhook-Signature": "?"}
    )
    sender = Sender(api, made, path=path.format(**made), headers=headers)
    detail = assert_problem(sender.send(b"no json", "a"), 401)["detail"]
    api.world.runtime = runtime
    assert assert_problem(Sender(api, {**made, "secret": "wrong"}).push(), 401)["detail"] == detail


def test_the_address_for_all_takes_no_large_delivery(api: Api) -> None:
    """What has to be read before it is known whose it is is small; a webhook's own address takes more."""
    body = json.dumps(
        {"ref": "refs/heads/main", "after": HEAD, "repository": {"full_name": "acme/app"}, "x": "x" * 2**18}
    )
    made = make(api)
    assert_problem(Sender(api, made, path="/v1/hooks/github").send(body.encode(), "a"), 413)
    assert Sender(api, made).send(body.encode(), "a").json_body["result"] == "accepted"


def test_a_replay_has_no_effect(api: Api) -> None:
    """Neither the same delivery, for three days and more, nor the same body under another name."""
    made = make(api)
    sender = Sender(api, made)
    sender.push()
    sender.push(NEXT)
    before = hook_of(api, made)
    body = json.dumps(
        {"ref": "refs/heads/main", "after": HEAD, "repository": {"full_name": "acme/app"}, "n": 1}
    ).encode()
    for wait_s in (0, 3 * 86_400):
        api.world.clock.advance(wait_s)
        for delivery in ("delivery-1", "another-name"):
            answer = sender.send(body, delivery)
            assert (answer.status_code, answer.json_body["result"]) == (202, "duplicate")
    assert hook_of(api, made) == before
    assert DELIVERIES_KEPT_S > 3 * 86_400


def test_strangers_are_refused_alike(api: Api) -> None:
    """A wrong signature, a wrong body, another webhook's secret, a webhook that is not there: one answer, and no effect."""
    made, other = make(api), make(api, service="second")
    before = api.world.runtime.store.hooks()
    nobody = {**made, "id": "0000000000"}
    stranger = {**made, "secret": "whsec_AAAA"}
    wrong = Sender(api, made, headers={"X-Hub-Signature-256": "sha256=" + "0" * 64})
    answers = [Sender(api, one).push() for one in (nobody, stranger, {**made, "secret": other["secret"]})]
    answers += [wrong.push(), Sender(api, made, headers={"X-GitHub-Delivery": ""}).push()]
    details = {assert_problem(answer, 401)["detail"] for answer in answers}
    assert len(details) == 1
    assert api.world.runtime.store.hooks() == before


def test_a_control_plane_without_a_key_takes_nothing(api: Api) -> None:
    """What everybody can derive signs nothing."""
    made = make(api)
    runtime = api.world.runtime
    api.world.runtime = replace(runtime, settings=replace(runtime.settings, agent_key=""))
    derivable = {**made, "secret": identity.webhook_secret("", made["id"], 1)}
    assert_problem(Sender(api, derivable).push(), 401)


def test_a_ping_is_answered(api: Api) -> None:
    """In words that its owner sees in GitHub's list of deliveries."""
    made = make(api)
    answer = Sender(api, made).send(b'{"zen": "Speak like a human."}', "ping-1", "ping")
    assert (answer.status_code, answer.json_body["result"]) == (202, "ignored")
    assert answer.json_body["message"] == "pong: pushes to main of acme/app will deploy svc"


def test_what_means_nothing_changes_nothing(api: Api) -> None:
    """Another branch, another repository, a branch that was deleted, another event."""
    made = make(api)
    before, sender = hook_of(api, made), Sender(api, made)
    api.poked.clear()
    sent = [
        sender.push(ref="refs/heads/other"),
        sender.push(repository={"full_name": "evil/app"}),
        sender.push("0" * 40),
        sender.send(b"{}", "e", "issues"),
    ]
    assert [answer.json_body["result"] for answer in sent] == ["ignored"] * 4
    assert (hook_of(api, made), api.poked) == (before, [])


def test_a_delivery_of_another_form_is_said_so(api: Api) -> None:
    """422 for what is signed and yet no push; 415 and 413 before anything is read."""
    made = make(api)
    sender = Sender(api, made)
    assert_problem(sender.send(b'{"ref": 1}', "a"), 422)
    assert_problem(sender.send(b"\xff", "b"), 422)
    assert_problem(sender.send(b"x" * (4 * 1024 * 1024 + 1), "c"), 413)
    sender.headers["Content-Type"] = "text/plain"
    assert_problem(sender.push(), 415)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/x-www-form-urlencoded"])
def test_deliveries_come_through_the_machines_address(api: Api, content_type: str) -> None:
    """A function URL hands on what it does not know for text as base64: what was signed is what is verified."""
    made = make(api)
    document = json.dumps({"ref": "refs/heads/main", "after": HEAD, "repository": {"full_name": "acme/app"}})
    body = urlencode({"payload": document}).encode() if "form" in content_type else document.encode()
    digest = hmac.new(made["secret"].encode(), body, hashlib.sha256).hexdigest()
    path = f"/v1/hooks/{made['id']}"
    event = {
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "content-type": content_type,
            "x-hub-signature-256": f"sha256={digest}",
            "x-github-delivery": "1",
            "x-github-event": "push",
        },
        "requestContext": {
            "http": {"method": "POST", "path": path, "sourceIp": "140.82.112.1"},
            "requestId": "r",
            "stage": "$default",
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    answer = on_function_url(api.app)(event, None)
    assert (answer["statusCode"], json.loads(answer["body"])["result"]) == (202, "accepted")


def test_a_store_that_is_down_loses_nothing(api: Api) -> None:
    """503: the forge shows the delivery as failed, and the next look at the branch finds the push."""
    made = make(api)
    runtime = api.world.runtime

    def refuse(what: str) -> None:
        if what == "before record_push":
            raise Unreachable("down")

    store: Any = Interposed(runtime.store, refuse)
    api.world.runtime = replace(runtime, store=store)
    sender = Sender(api, made)
    assert_problem(sender.push(), 503)
    api.world.runtime = runtime
    sender.delivered = 0
    assert sender.push().json_body["result"] == "accepted"


def test_github_may_have_one_address_for_all(api: Api) -> None:
    """/v1/hooks/github finds the webhooks of the repository by whose secret a delivery is signed."""
    made, other, elsewhere = make(api), make(api, service="second"), make(api, service="third", repository="acme/other")
    sender = Sender(api, made, path="/v1/hooks/github")
    assert sender.push().json_body == {
        "webhook": made["id"],
        "result": "accepted",
        "message": f"svc will follow, if {HEAD} is the newest",
    }
    assert hook_of(api, made).push
    assert not hook_of(api, other).push
    assert_problem(Sender(api, elsewhere, path="/v1/hooks/github").push(), 401)
    assert_problem(sender.push(repository={"full_name": "acme/unknown"}), 401)
    assert_problem(sender.send(b"no json", "x"), 422)


def test_gitlab_delivers_with_token_or_signature(api: Api) -> None:
    """One text serves as secret token and as signing token."""
    made = make(api, kind="gitlab", repository="acme/team/app")
    document = {"object_kind": "push", "ref": "refs/heads/main", "project": {"path_with_namespace": "acme/team/app"}}
    path, at = f"/v1/hooks/{made['id']}", datetime.fromtimestamp(START, UTC)

    def send(commit: str, **headers: str) -> HTTPResponse:
        body = json.dumps({**document, "after": commit}).encode()
        signature = standardwebhooks.Webhook(made["secret"]).sign("id-1", at, body.decode())
        known = {"signature": signature, "token": made["secret"]}
        filled = {name: value.format(**known) for name, value in headers.items()}
        return api.call("POST", path, body, key=None, **{"X-Gitlab-Event": "Push Hook", **filled})

    assert send(HEAD, **{"X-Gitlab-Token": "{token}", "Idempotency-Key": "id-0"}).json_body["result"] == "accepted"
    signed = {"webhook-id": "id-1", "webhook-timestamp": f"{START:.0f}", "webhook-signature": "{signature}"}
    assert send(NEXT, **signed).json_body["result"] == "accepted"
    assert send(NEXT, **signed).json_body["result"] == "duplicate"
    assert_problem(send(NEXT, **{"X-Gitlab-Token": "{token}x", "Idempotency-Key": "id-2"}), 401)
    hook = hook_of(api, made)
    assert hook.push
    assert hook.push.commit == NEXT


def test_generic_deliveries_bring_the_file(api: Api) -> None:
    """Signed as Standard Webhooks are; of two, the later by its own word is deployed."""
    answer = api.post("/v1/webhooks", {"kind": "generic", "service": "svc"})
    made = answer.json_body
    assert (made["repository"], made["branch"], made["path"]) == ("", "", "")

    def send(name: str, second: int, yaml: str) -> Any:
        data = {"commit": name, "yaml": yaml}
        body = json.dumps({"type": "push", "timestamp": f"2027-01-15T08:00:{second:02}Z", "data": data}).encode()
        now = api.world.clock.now()
        signature = standardwebhooks.Webhook(made["secret"]).sign(name, datetime.fromtimestamp(now, UTC), body.decode())
        headers = {"webhook-id": name, "webhook-timestamp": f"{now:.0f}", "webhook-signature": signature}
        return api.call("POST", f"/v1/hooks/{made['id']}", body, key=None, **headers).json_body["result"]

    later = YAML.replace("replicas: 2", "replicas: 3")
    two, one = ("two", 2, later), ("one", 1, YAML)
    assert [send(*each) for each in (two, one, two, one)] == ["accepted", "overtaken", "duplicate", "duplicate"]
    passes.deploy_pushes(api.world.runtime)
    assert [version.source for version in api.world.store.specs("svc")] == [later]
