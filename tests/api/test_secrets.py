"""Secrets at the control API: kept, named, told to the replica that starts and to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from chalice.test import HTTPResponse

from chalicelib import identity, lifecycle
from chalicelib.errors import Unreachable
from chalicelib.launching import launch_request
from chalicelib.model import EngineSpec, Replica, ReplicaStatus, Requirement, Scope
from chalicelib.ports import Commit
from chalicelib.providers.boot import configuration
from tests.api.conftest import SETTINGS, YAML, Api, assert_problem
from tests.fakes import Interposed, offer, spec

TEXT = "hf_0123456789abcdef"
TOLD = {"envs": {"HF_TOKEN": TEXT, "DB": "postgres://…"}}
NAMING = YAML + "secrets: {HF_TOKEN: , DB: {ref: prod-db}}\n"


def _set(api: Api, name: str = "HF_TOKEN", text: Any = TEXT, services: Any = ("*",)) -> HTTPResponse:
    return api.call("PUT", f"/v1/secrets/{name}", {"text": text, "services": services})


def _secrets(api: Api) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = api.get("/v1/secrets").json_body["secrets"]
    return listed


@pytest.fixture
def replica(api: Api) -> Replica:
    """A replica that starts, of a service that names two secrets, which there are."""
    _set(api)
    _set(api, "prod-db", "postgres://…")
    engine = EngineSpec(port=80, run="serve", secrets=(("HF_TOKEN", "HF_TOKEN"), ("DB", "prod-db")))
    service = api.world.create("svc", replace(spec(), engine=engine))
    made = lifecycle.new_replica(
        service, slot=0, generation=1, offer=offer("gcp"), requirement=Requirement(), boot_nonce="nonce-0", now=0.0
    )
    api.world.store.commit("svc", None, Commit(replicas=(made,)))
    return made


def _while(api: Api, moment: str, happens: Callable[[], object], asked: Callable[[], HTTPResponse]) -> HTTPResponse:
    """What is answered when something else happens, once, at a moment (`after read`) of the work on it."""
    kept, still = api.world.runtime, [happens]

    def at(call: str) -> None:
        if call == moment and still:
            api.world.runtime = kept
            still.pop()()

    ports: dict[str, Any] = {"store": Interposed(kept.store, at), "secrets": Interposed(kept.secrets, at)}
    api.world.runtime = replace(kept, **ports)
    answer = asked()
    api.world.runtime = kept
    assert not still, f"{moment!r} never came"
    return answer


def _ask(
    api: Api, replica: Replica, *, key: str | None = None, nonce: str = "nonce-0", name: str = "", asker: str = "a" * 32
) -> HTTPResponse:
    token = identity.agent_token(SETTINGS.agent_key, replica.id, "nonce-0")
    path = f"/v1/replicas/{name or replica.id}/secrets"
    return api.call("POST", path, {"boot_nonce": nonce, "asker": asker}, key=token if key is None else key)


def test_a_secret_is_kept_named_and_forgotten(api: Api) -> None:
    """Its name, version and instant are told; its text is in no answer."""
    answers = [_set(api), _set(api, text="another"), api.get("/v1/secrets"), api.call("DELETE", "/v1/secrets/HF_TOKEN")]
    assert [answer.status_code for answer in answers] == [200] * 4
    (listed,) = answers[2].json_body["secrets"]
    assert (listed["name"], listed["version"], listed["used_by"]) == ("HF_TOKEN", 2, [])
    assert listed["changed_at"].startswith("2027-01-15")
    assert _secrets(api) == []
    assert not any(text in answer.body.decode() for answer in answers for text in (TEXT, "another"))


@pytest.mark.parametrize("services", [None, ["Chat"], ["*-llm"], ["llm-**"], ["a"] * 101, "*"])
def test_a_new_secret_is_for_nobody_unasked(api: Api, services: Any) -> None:
    """Whoever keeps it says for which services, in names or their beginnings; nothing is kept until then."""
    assert_problem(_set(api, services=services), 422)
    assert _secrets(api) == []
    assert api.world.store.secret_bindings() == ()


def test_who_may_use_a_secret_stays_when_its_text_changes(api: Api) -> None:
    """Said anew it is replaced, added to by `allow`, narrowed by `only`, and forgotten with the secret."""
    assert _set(api, services=["svc", "llm-*", "svc"]).json_body["services"] == ["llm-*", "svc"]
    assert _set(api, services=None).json_body["services"] == ["llm-*", "svc"]
    assert _set(api, services=["svc"]).json_body["services"] == ["svc"]
    allow = partial(api.post, "/v1/secrets/HF_TOKEN/services")
    assert allow({"services": ["chat"]}).json_body["services"] == ["chat", "svc"]
    assert allow({"services": ["*"]}).json_body["services"] == ["*"]
    assert allow({"services": [], "only": True}).json_body["services"] == []
    assert _secrets(api)[0]["services"] == []
    api.call("DELETE", "/v1/secrets/HF_TOKEN")
    assert_problem(_set(api, services=None), 422)
    assert_problem(allow({"services": ["svc"]}), 404)


def test_a_text_that_nobody_has_given_to_a_service_is_for_none(api: Api, replica: Replica) -> None:
    """As it lies there when the table is lost, or from before secrets had services: shut, with the command that opens it."""
    for binding in api.world.store.secret_bindings():
        api.world.store.unbind_secret(binding)
    assert [one["services"] for one in _secrets(api)] == [[], []]
    refused = assert_problem(api.post("/v1/services", {"name": "other", "yaml": NAMING}), 422)["problems"]
    assert "sailplane secrets allow HF_TOKEN other" in refused[0]["hint"]
    assert "sailplane secrets allow HF_TOKEN svc" in assert_problem(_ask(api, replica), 403)["detail"]
    assert "--service NAME" in assert_problem(_set(api, text="another", services=None), 422)["detail"]
    for name in ("HF_TOKEN", "prod-db"):
        assert api.post(f"/v1/secrets/{name}/services", {"services": ["svc"]}).json_body["services"] == ["svc"]
    assert _ask(api, replica).json_body == TOLD


def test_a_service_cannot_name_another_ones_secret(api: Api) -> None:
    """Neither new nor by an update; the refusal says which, where in the file, and what to do."""
    for name in ("HF_TOKEN", "prod-db"):
        _set(api, name, services=["llm-*"])
    assert api.post("/v1/services", {"name": "svc", "yaml": YAML}).status_code == 201
    for refused in (
        api.post("/v1/services", {"name": "llm", "yaml": NAMING}),
        api.call("PUT", "/v1/services/svc", {"yaml": NAMING}),
    ):
        problems = assert_problem(refused, 422)["problems"]
        assert [one["path"] for one in problems] == ["secrets.HF_TOKEN", "secrets.DB"]
        assert "'prod-db' is not for the service" in problems[1]["reason"]
        assert "sailplane secrets allow prod-db" in problems[1]["hint"]
    assert api.post("/v1/services", {"name": "llm-1", "yaml": NAMING}).status_code == 201
    for name in ("HF_TOKEN", "prod-db"):
        api.post(f"/v1/secrets/{name}/services", {"services": ["svc"]})
    assert api.call("PUT", "/v1/services/svc", {"yaml": NAMING}).status_code == 200


@pytest.mark.parametrize("text", ["", "x" * 4097, "ü" * 2049, "a\0b", "a{{b}}", 5, None, [TEXT]])
def test_what_cannot_be_kept_is_refused_unseen(api: Api, text: Any) -> None:
    """Too long to be kept for nothing, or no text for a variable."""
    problem = assert_problem(_set(api, text=text), 422)
    assert problem["problems"][0]["path"] == "text"
    assert not isinstance(text, str) or not text or text not in str(problem)
    assert _secrets(api) == []


@pytest.mark.parametrize("name", ["1st", "a%20b", "..", "a%2Fb", "%2e%2e%2fSAILPLANE_ADMIN_KEY", "x" * 129, "ü"])
def test_a_name_leads_nowhere_else(api: Api, name: str) -> None:
    """Next to the secrets lies what configures the control plane: only plain names are looked up."""
    assert _set(api, name).status_code in (404, 422)
    assert api.call("DELETE", f"/v1/secrets/{name}").status_code == 404
    assert api.world.runtime.secrets.known() == ()


def test_an_unknown_one_is_not_removed(api: Api) -> None:
    """The nearest is named."""
    _set(api)
    assert "HF_TOKEN?" in assert_problem(api.call("DELETE", "/v1/secrets/HF_TOKE"), 404)["detail"]


def test_a_service_needs_its_secrets(api: Api) -> None:
    """Nothing is created while one is missing; what is used is not removed by mistake."""
    problem = assert_problem(api.post("/v1/services", {"name": "svc", "yaml": NAMING}), 422)
    assert [(one["path"], one["hint"]) for one in problem["problems"]] == [
        ("secrets.HF_TOKEN", "sailplane secrets set HF_TOKEN --service svc"),
        ("secrets.DB", "sailplane secrets set prod-db --service svc"),
    ]
    assert api.get("/v1/services").json_body["services"] == []
    assert _set(api).json_body["used_by"] == []
    _set(api, "prod-db")
    assert api.post("/v1/services", {"name": "svc", "yaml": NAMING}).status_code == 201
    assert [one["used_by"] for one in _secrets(api)] == [["svc"], ["svc"]]
    assert "used by svc" in assert_problem(api.call("DELETE", "/v1/secrets/prod-db"), 422)["detail"]
    assert len(_secrets(api)) == 2
    assert api.call("DELETE", "/v1/secrets/prod-db?force=true").json_body["used_by"] == ["svc"]


def test_a_webhooks_token_is_not_removed_by_mistake(api: Api) -> None:
    """The forge would refuse us; who lists secrets sees which webhook has it."""
    settings = replace(SETTINGS, control_url="https://control.example")
    api.world.runtime = replace(api.world.runtime, settings=settings)
    _set(api, "forge")
    wanted = {"kind": "github", "service": "svc", "repository": "team/repo", "token_secret": "forge"}
    hook = api.post("/v1/webhooks", wanted).json_body["id"]
    assert [(one["used_by"], one["webhooks"]) for one in _secrets(api)] == [([], [hook])]
    assert f"webhook {hook}" in assert_problem(api.call("DELETE", "/v1/secrets/forge"), 422)["detail"]
    assert api.call("DELETE", "/v1/secrets/forge?force=true").status_code == 200


def test_an_update_takes_changed_secrets(api: Api) -> None:
    """The same file again is a new version once a secret was changed, and nothing as long as none was."""
    _set(api)
    _set(api, "prod-db")
    api.post("/v1/services", {"name": "svc", "yaml": NAMING})
    assert api.call("PUT", "/v1/services/svc", {"yaml": NAMING}).json_body["version"] == 1
    _set(api, "other")
    assert api.call("PUT", "/v1/services/svc", {"yaml": NAMING}).json_body["version"] == 1
    assert _set(api).json_body["used_by"] == ["svc"]
    assert api.call("PUT", "/v1/services/svc", {"yaml": NAMING}).json_body["version"] == 2


def test_services_without_secrets_ask_nobody_for_any(api: Api) -> None:
    """A store of secrets that does not answer, or may not be asked, is in nobody else's way."""

    class Silent:
        def known(self) -> None:
            raise Unreachable("AWS refused ssm:GetParametersByPath: AccessDeniedException.")

    api.world.runtime = replace(api.world.runtime, secrets=Silent())  # type: ignore[arg-type]  # no more is called
    assert api.post("/v1/services", {"name": "svc", "yaml": YAML}).status_code == 201
    refused = assert_problem(api.post("/v1/services", {"name": "svc2", "yaml": NAMING}), 503)
    assert "ssm:GetParametersByPath" in refused["detail"]


def test_a_starting_replica_is_told_its_secrets(api: Api, replica: Replica) -> None:
    """By variable; again when the answer was lost; those of its own version."""
    assert _ask(api, replica).json_body == TOLD
    api.world.update(spec("v2"))
    assert _ask(api, replica).json_body == TOLD


def test_the_first_who_asks_is_the_only_one_who_is_told(api: Api, replica: Replica) -> None:
    """The agent asks as soon as it runs: whoever has its token from then on is refused, and a thief who was first is noticed."""
    assert _ask(api, replica).status_code == 200
    assert "Somebody else has been told" in assert_problem(_ask(api, replica, asker="b" * 32), 403)["detail"]
    assert _ask(api, replica).status_code == 200


def test_who_does_not_say_who_asks_is_not_told(api: Api, replica: Replica) -> None:
    """Or a thief could be first without being noticed; the agent after it is."""
    assert_problem(_ask(api, replica, asker=""), 422)
    token = identity.agent_token(SETTINGS.agent_key, replica.id, "nonce-0")
    assert_problem(api.call("POST", f"/v1/replicas/{replica.id}/secrets", {"boot_nonce": "nonce-0"}, key=token), 422)
    assert _ask(api, replica).status_code == 200


def test_its_machine_is_not_told_them_at_boot(api: Api, replica: Replica) -> None:
    """The configuration, which lies on a disk, says where to ask and nothing else."""
    service = api.world.state().service
    told = configuration(launch_request(replica, service.spec, SETTINGS), "gcp", "https://control.example")
    assert told["secrets_url"] == f"https://control.example/v1/replicas/{replica.id}/secrets"
    assert TEXT not in str(told)


@pytest.mark.parametrize("status", list(ReplicaStatus))
def test_only_a_replica_that_starts_is_told(api: Api, replica: Replica, status: ReplicaStatus) -> None:
    """A token that leaks from a machine later opens nothing."""
    api.world.store.commit("svc", None, Commit(replicas=(lifecycle.moved(api.world.replicas()[0], status, 1.0),)))
    may = status in (ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING)
    assert _ask(api, replica).status_code == (200 if may else 404)


@pytest.mark.parametrize("key", ["", "wrong", SETTINGS.admin_key, SETTINGS.router_tokens[0]])
def test_nobody_else_is_told(api: Api, replica: Replica, key: str) -> None:
    """401 without a look into the store, for the owner's key too: no key reads a text."""
    neither: Any = None  # to touch one would be an error
    api.world.runtime = replace(api.world.runtime, store=neither, secrets=neither)
    assert_problem(_ask(api, replica, key=key), 401)
    assert_problem(_ask(api, replica, nonce="another"), 401)
    assert_problem(_ask(api, replica, name="svc-u1d0-0-2"), 401)


def test_without_an_agent_key_nobody_is_told(api: Api, replica: Replica) -> None:
    """Tokens derived from an empty key could be derived by anybody."""
    api.world.runtime = replace(api.world.runtime, settings=replace(SETTINGS, agent_key=""))
    assert_problem(_ask(api, replica, key=identity.agent_token("", replica.id, "nonce-0")), 401)


def test_a_secret_that_was_removed_is_named(api: Api, replica: Replica) -> None:
    """The agent says so and gives up; its engine must not start without."""
    api.world.runtime.secrets.delete("prod-db")
    problem = assert_problem(_ask(api, replica), 404)
    assert "no secret 'prod-db'" in problem["detail"]
    assert "sailplane secrets set prod-db" in problem["detail"]
    assert TEXT not in str(problem)


def test_a_secret_that_was_taken_from_the_service_is_not_told(api: Api, replica: Replica) -> None:
    """Whatever its file was accepted for: who may use it counts when it is given out."""
    api.post("/v1/secrets/prod-db/services", {"services": ["other"], "only": True})
    problem = assert_problem(_ask(api, replica), 403)
    assert "'prod-db' is not for the service 'svc'" in problem["detail"]
    assert "sailplane secrets allow prod-db svc" in problem["detail"]
    assert TEXT not in str(problem)
    api.post("/v1/secrets/prod-db/services", {"services": ["svc"]})
    assert _ask(api, replica).status_code == 200


def test_an_old_text_is_never_for_the_services_of_a_new_one(api: Api, replica: Replica) -> None:
    """Who stays may use both; others are shut out before the new text is written, which may fail, and let in after it."""
    _set(api, services=["prod", "both-1"])
    wanted = partial(_set, api, text="new", services=["svc", "both-*"])

    def refused() -> None:
        raise Unreachable("AWS refused ssm:PutParameter: ThrottlingException.")

    assert_problem(_while(api, "before write", refused, wanted), 503)
    assert _secrets(api)[0]["services"] == ["both-1"]
    assert_problem(_ask(api, replica), 403)
    assert wanted().json_body["services"] == ["both-*", "svc"]
    assert _ask(api, replica).json_body["envs"]["HF_TOKEN"] == "new"


@pytest.mark.parametrize("moment", ["before read", "after read"])
@pytest.mark.parametrize(("before", "after"), [("svc", "other"), ("other", "svc")])
def test_nobody_is_told_one_text_by_the_right_to_another(
    api: Api, replica: Replica, moment: str, before: str, after: str
) -> None:
    """A text is set for others while a replica asks: it is to ask again, as its agent does."""
    _set(api, text="old", services=[before])
    changed = partial(_set, api, text="new", services=[after])
    told = _while(api, moment, changed, partial(_ask, api, replica))
    assert "is being changed" in assert_problem(told, 503)["detail"]
    assert _ask(api, replica).status_code == (200 if after == "svc" else 403)


@pytest.mark.parametrize("moment", ["unbind_secret", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_secret_that_is_set_while_it_is_removed_is_not_open(api: Api, when: str, moment: str) -> None:
    """It is for those whom the new text was set for, or gone."""
    _set(api, services=["prod"])
    remove = partial(api.call, "DELETE", "/v1/secrets/HF_TOKEN?force=true")
    assert _while(api, f"{when} {moment}", partial(_set, api, services=["svc"]), remove).status_code == 200
    assert [one["services"] for one in _secrets(api)] in ([], [["svc"]])


def test_what_two_say_at_once_holds(api: Api) -> None:
    """One narrows, or sets anew, while another adds."""
    _set(api, services=["prod", "guest"])
    allow = partial(api.post, "/v1/secrets/HF_TOKEN/services")
    narrowed = partial(allow, {"services": ["prod"], "only": True})
    added = _while(api, "before bind_secret", narrowed, partial(allow, {"services": ["chat"]}))
    assert added.json_body["services"] == ["chat", "prod"]
    for moment in ("before bind_secret", "after write"):
        one = _while(api, moment, partial(_set, api, services=["a"]), partial(_set, api, services=["b"]))
        assert one.json_body["services"] == ["b"]


@pytest.mark.parametrize(
    ("scope", "statuses"), [(Scope.SECRETS, (200, 200, 200, 200)), (Scope.DEPLOY, (200, 403, 403, 403))]
)
def test_keys_keep_to_their_scopes(api: Api, scope: Scope, statuses: tuple[int, ...]) -> None:
    """Who rotates sees what there is and need not deploy; who deploys sees it too, and changes none."""
    made = api.post("/v1/admin-keys", {"name": "ci", "scopes": [scope.value]}).json_body["key"]
    _set(api)
    asked = (
        ("GET", "/v1/secrets", None),
        ("PUT", "/v1/secrets/A", {"text": "x", "services": ["*"]}),
        ("POST", "/v1/secrets/HF_TOKEN/services", {"services": ["svc"]}),
        ("DELETE", "/v1/secrets/HF_TOKEN", None),
    )
    assert tuple(api.call(*one, key=made).status_code for one in asked) == statuses


def test_a_limited_key_sees_its_own_services_only(api: Api) -> None:
    """Names of secrets it needs; not who else uses them."""
    for name in ("HF_TOKEN", "prod-db"):
        _set(api, name)
    for name in ("mine", "theirs"):
        api.post("/v1/services", {"name": name, "yaml": NAMING})
    _set(api, "prod-db", services=["theirs"])
    limited = {"name": "ci", "scopes": ["deploy", "secrets"], "services": ["mine"]}
    made = api.post("/v1/admin-keys", limited).json_body["key"]
    listed = api.call("GET", "/v1/secrets", key=made).json_body["secrets"]
    assert [one["used_by"] for one in listed] == [["mine"], ["mine"]]
    assert [one["services"] for one in listed] == [["mine"], []]
    assert_problem(api.call("PUT", "/v1/secrets/HF_TOKEN", {"text": "x"}, key=made), 403)
