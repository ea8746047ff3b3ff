"""`secrets:` of a service file: SkyServe's references and ours are honoured, texts are refused and never repeated."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest

from chalicelib import spec
from chalicelib.errors import SpecError
from chalicelib.model import Secret

TEXT = "hf_0123456789abcdef"
REST = "service: {readiness_probe: /, ports: 80}\nrun: serve\n"


def _bound(secrets: str) -> dict[str, str]:
    return dict(spec.parse(f"secrets: {secrets}\n{REST}").spec.engine.secrets)


def _refused(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        spec.parse(text)
    assert TEXT not in "".join(traceback.format_exception(caught.value)), "neither told nor logged"
    return caught.value


@pytest.mark.parametrize(
    ("secrets", "bound"),
    [
        ("{HF_TOKEN: , WANDB: null}", {"HF_TOKEN": "HF_TOKEN", "WANDB": "WANDB"}),
        ('{"secrets:HF_TOKEN": }', {"HF_TOKEN": "HF_TOKEN"}),
        ("['secrets:HF_TOKEN', 'secrets:WANDB']", {"HF_TOKEN": "HF_TOKEN", "WANDB": "WANDB"}),
        ("{DB: {ref: prod-db.password}, DB2: {ref: prod-db.password}}", dict.fromkeys(["DB", "DB2"], "prod-db.password")),
        ("{}", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_references_are_read(secrets: str, bound: dict[str, str]) -> None:
    """SkyServe's three forms, and a secret that is called otherwise than its variable."""
    assert _bound(secrets) == bound


@pytest.mark.parametrize(
    ("secrets", "path", "reason", "hint"),
    [
        (f"{{HF_TOKEN: {TEXT}}}", "secrets.HF_TOKEN", "holds a secret's text", "`sailplane secrets set HF_TOKEN --service SERVICE`, and write `HF_TOKEN:`"),
        (f'{{"secrets:HF_TOKEN": {TEXT}}}', "secrets.secrets:HF_TOKEN", "holds a secret's text", "sailplane secrets set HF_TOKEN"),
        ("{PIN: 1234}", "secrets.PIN", "holds a secret's text", "sailplane secrets set PIN"),
        ("{ON: false}", "secrets.ON", "holds a secret's text", ""),
        (f"[{TEXT}]", "secrets[0]", "is not a reference", "secrets:NAME"),
        (f"[[{TEXT}]]", "secrets[0]", "must be text, not a list", ""),
        (TEXT, "secrets", "must be a map or a list, not text", ""),
        ("{HF_TOKEN: [a]}", "secrets.HF_TOKEN", "not a list", ""),
        ("{hf-token: }", "secrets.hf-token", "not a variable's name", "HF_TOKEN: {ref: hf-token}"),
        ("{team.hf: }", "secrets.team.hf", "not a variable's name", "TEAM_HF: {ref: team.hf}"),
        ("{global.HF_TOKEN: }", "secrets.global.HF_TOKEN", "a scope", "write HF_TOKEN"),
        ("['secrets:workspace.HF_TOKEN']", "secrets[0]", "a scope", "write secrets:HF_TOKEN"),
        ("{HF_TOKEN: , 'secrets:HF_TOKEN': }", "secrets.secrets:HF_TOKEN", "twice", ""),
        ("['secrets:A', 'secrets:A']", "secrets[1]", "gives A twice", ""),
        ("{SAILPLANE_PORT: }", "secrets.SAILPLANE_PORT", "sets itself", ""),
        (f"{{HF_TOKEN: {{ref: '{TEXT}!'}}}}", "secrets.HF_TOKEN.ref", "not a secret's name", "secrets list"),
        (f"{{HF_TOKEN: {{ref: a, reff: {TEXT}}}}}", "secrets.HF_TOKEN.reff", "not a known key", ""),
        ("{HF_TOKEN: {}}", "secrets.HF_TOKEN.ref", "is required", ""),
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(secrets: str, path: str, reason: str, hint: str) -> None:
    """With where it stands and the exact fix; a text, wherever it was put, is not repeated."""
    (problem,) = _refused(f"secrets: {secrets}\n{REST}").problems
    assert problem.path == path
    assert reason in problem.reason
    assert hint in problem.hint
    assert problem.line == 1


def test_a_variable_has_one_source() -> None:
    """A name among envs too, in the file or on the command line, would hide which of the two is meant."""
    (problem,) = _refused(f"envs: {{A: {TEXT}}}\nsecrets: {{A: }}\n{REST}").problems
    assert (problem.path, problem.reason) == ("secrets.A", "gives A, which is among envs too")
    with pytest.raises(SpecError, match="among envs too"):
        spec.parse(f"secrets: {{A: }}\n{REST}", env_overrides={"A": TEXT})


@pytest.mark.parametrize(
    ("rest", "path", "hint"),
    [
        ("service: {readiness_probe: {path: /, headers: {Authorization: Bearer $A}}, ports: 80}",
         "service.readiness_probe.headers.Authorization", "access: {engine_key_env: A}"),
        ("service: {readiness_probe: '/x?token=${A}', ports: 80}", "service.readiness_probe", "setup and run find it in $A"),
        ("workdir: {url: 'https://$A@example.com/x.git'}\n" + REST, "workdir.url", "setup and run"),
        ("file_mounts: {/x: 's3://$A'}\n" + REST, "file_mounts./x", "setup and run"),
    ],
)  # fmt: skip
def test_a_text_cannot_be_put_into_the_file(rest: str, path: str, hint: str) -> None:
    """SkyServe would replace `$A`; here nobody knows the text but the replica, so it is refused and not sent as it stands."""
    problems = _refused(f"secrets: {{A: }}\nrun: serve $A\n{rest}".replace("run: serve\n", "")).problems
    assert [problem.path for problem in problems] == [path]
    assert hint in problems[0].hint


def test_an_engines_key_may_be_a_secret() -> None:
    """Named, or vLLM's own; behind an open endpoint vLLM's goes on keeping strangers out, as one of envs does."""
    named = spec.parse(
        "secrets: {MINE: }\nservice: {readiness_probe: /, ports: 80, access: {engine_key_env: MINE}}\nrun: x"
    )
    assert named.spec.routing.engine_key_env == "MINE"
    assert spec.parse("secrets: {VLLM_API_KEY: }\n" + REST).spec.routing.engine_key_env == "VLLM_API_KEY"
    opened = "secrets: {VLLM_API_KEY: }\nservice: {readiness_probe: /, ports: 80, access: {keys: open}}\nrun: x"
    assert spec.parse(opened).spec.routing.engine_key_env == ""


def test_a_private_registry_is_named_whole_or_not_at_all() -> None:
    """SkyServe's three variables, the password being a secret, or all of them."""
    mine = "{SKYPILOT_DOCKER_SERVER: registry.example, SKYPILOT_DOCKER_USERNAME: ci}"
    whole = spec.parse(f"envs: {mine}\nsecrets: {{SKYPILOT_DOCKER_PASSWORD: {{ref: registry}}}}\n{REST}").spec.engine
    assert whole.secrets == (("SKYPILOT_DOCKER_PASSWORD", "registry"),)
    (problem,) = _refused(f"envs: {mine}\n{REST}").problems
    assert "SKYPILOT_DOCKER_PASSWORD" in problem.reason


def test_managed_secrets_are_pointed_to_secrets() -> None:
    """SkyServe's list of references that may be mounted as files, which Sailplane has no counterpart for."""
    (problem,) = _refused(f"managed_secrets: [HF_TOKEN]\n{REST}").problems
    assert problem.path == "managed_secrets"
    assert "secrets:" in problem.hint


def test_what_has_no_secrets_keeps_its_digest() -> None:
    """The digest of a service from before there were secrets: a new release must not replace everybody's replicas."""
    bare = spec.parse(REST).spec
    assert bare.fingerprint == "17f6fa837134cd688b0b4fa1764699aa816032ada1fe7e9d3fa52e05ad07078d"
    assert spec.with_secrets(bare, "svc", []) is bare
    assert spec.parse("secrets: {A: }\n" + REST).spec.fingerprint != bare.fingerprint
    other = spec.parse("secrets: {A: {ref: B}}\n" + REST).spec.fingerprint
    assert other not in (bare.fingerprint, spec.parse("secrets: {A: }\n" + REST).spec.fingerprint)


def test_a_changed_secret_makes_another_version() -> None:
    """So that an update with the same file replaces the replicas that have the old text; other secrets mean nothing."""
    wanted = spec.parse("secrets: {A: , B: {ref: A}}\n" + REST).spec
    first, other = Secret("A", 1, 1_800_000_000.123, ("svc",)), Secret("C", 1, 1.0)
    bound = spec.with_secrets(wanted, "svc", [first])
    assert bound == spec.with_secrets(wanted, "svc", [other, first])
    for changed in (replace(first, version=2), replace(first, changed_at=first.changed_at + 1)):
        assert spec.with_secrets(wanted, "svc", [changed]).fingerprint != bound.fingerprint
    assert replace(bound, fingerprint=wanted.fingerprint) == wanted


def test_missing_secrets_are_named_all_at_once() -> None:
    """Each with the command that mends it, as one that nobody has given to a service."""
    wanted = spec.parse("secrets: {A: , B: {ref: team-b}, C: , D: }\n" + REST).spec
    with pytest.raises(SpecError) as caught:
        spec.with_secrets(wanted, "svc", [Secret("C", 1, 0.0, ("svc",)), Secret("D", 1, 0.0)])
    assert [(one.path, one.hint) for one in caught.value.problems] == [
        ("secrets.A", "sailplane secrets set A --service svc"),
        ("secrets.B", "sailplane secrets set team-b --service svc"),
        ("secrets.D", "whoever keeps it may allow it: sailplane secrets allow D svc"),
    ]
