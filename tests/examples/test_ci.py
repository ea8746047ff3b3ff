"""The CI examples run as they stand: a job with their settings and their one line gets a key and deploys with it."""

from __future__ import annotations

import runpy
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cli.conftest import YAML, Plane, plane
from tests.hooks.forge import Answer, Server, served

__all__ = ["plane"]

CI = Path(__file__).resolve().parents[2] / "examples" / "ci"
GITHUB: dict[str, Any] = yaml.safe_load((CI / "github-deploy.yml").read_text())
GITLAB: dict[str, Any] = yaml.safe_load((CI / "gitlab-ci.yml").read_text())
CHANGED = YAML.replace("replicas: 2", "replicas: 1")
GITHUB_SCRIPT = [line for step in GITHUB["jobs"]["deploy"]["steps"] for line in step.get("run", "").splitlines()]


@dataclass
class Issuer:
    """`ports.IssuerKeys` of one forge's CI."""

    private: rsa.RSAPrivateKey

    def find(self, jwks_url: str, key_id: str) -> Mapping[str, str] | None:
        del jwks_url
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": key_id}

    def token(self, plane: Plane, **claims: str) -> str:
        now = plane.world.clock.now()
        timed = {"aud": plane.url, "jti": "1", "iat": now, "exp": now + 1e6}
        return jwt.encode({**timed, **claims}, self.private, algorithm="RS256", headers={"kid": "k"})


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture
def forge() -> Iterator[Server]:
    with served() as server:
        yield server


@pytest.fixture
def trusting(plane: Plane, issuer: Issuer) -> Plane:
    runtime = plane.world.runtime
    settings = replace(runtime.settings, control_url=plane.url)
    plane.world.runtime = replace(runtime, settings=settings, issuer_keys=issuer)
    assert plane.run("trust", "create", "llm", "--github", "acme/app", "--branch", "main").exit_code == 0
    assert plane.run("trust", "create", "llm", "--gitlab", "acme/app", "--branch", "main").exit_code == 0
    plane.up("llm")
    return plane


def run(plane: Plane, script: Sequence[str], env: Mapping[str, str], text: str = CHANGED) -> None:
    """The script's one line that deploys, as a job's shell would read it, in as little time as the plane needs."""
    (line,) = script
    python, program, service, file = shlex.split(line)
    assert (python, program) == ("python3", "deploy.py")
    path = Path(plane.file(text))
    assert path.name == file
    runpy.run_path(str(CI / program))["main"](service, path, env, pause=lambda _s: time.sleep(0.02))


def addresses(plane: Plane, told: Mapping[str, str]) -> dict[str, str]:
    """The variables of an example, with the plane's addresses in the places that its reader fills in."""
    assert told == {"SAILPLANE_URL": "https://CONTROL-PLANE", "SAILPLANE_AUDIENCE": "https://AUDIENCE"}
    return dict.fromkeys(told, plane.url)


def asked(plane: Plane, issuer: Issuer, forge: Server) -> dict[str, str]:
    """The variables of a GitHub job that may ask who it is."""
    names = {"iss": "https://token.actions.githubusercontent.com", "repository": "acme/app"}
    token = issuer.token(
        plane, sub="repo:acme/app:ref:refs/heads/main", ref="refs/heads/main", event_name="push", **names
    )
    forge.instead = Answer(200, f'{{"value": "{token}"}}'.encode())
    env = addresses(plane, GITHUB["jobs"]["deploy"]["env"])
    url = f"{forge.url}/token?v=1"
    return {**env, "ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner"}


def test_the_github_workflow_deploys(
    trusting: Plane, issuer: Issuer, forge: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may ask who it is, its job is proven by the token that GitHub gives, and its key changes the service."""
    assert GITHUB["permissions"] == {"contents": "read", "id-token": "write"}
    run(trusting, GITHUB_SCRIPT, asked(trusting, issuer, forge))
    ((_, target, headers),) = forge.requests
    assert target == f"/token?v=1&audience={quote(trusting.url, safe='')}"
    assert headers["authorization"] == "Bearer runner"
    assert trusting.world.state("llm").service.spec_version == 2
    assert "llm: version 2, READY." in capsys.readouterr().out


def test_the_gitlab_job_deploys(trusting: Plane, issuer: Issuer) -> None:
    """With the token that its `id_tokens` make."""
    job = GITLAB["deploy"]
    ((variable, made),) = job["id_tokens"].items()
    claims = {"iss": "https://gitlab.com", "project_path": "acme/app", "ref": "main", "ref_type": "branch"}
    token = issuer.token(trusting, sub="project_path:acme/app:ref_type:branch:ref:main", **claims)
    run(trusting, job["script"], {**addresses(trusting, job["variables"]), variable: token})
    assert made == {"aud": "$SAILPLANE_AUDIENCE"}
    assert trusting.world.state("llm").service.spec_version == 2


def test_a_version_that_fails_fails_the_job(trusting: Plane, issuer: Issuer, forge: Server) -> None:
    """With the engine's reason, while the version before serves on."""
    trusting.cloud.broken = True
    with pytest.raises(SystemExit, match=r"Version 2 fails, ENGINE_EXITED"):
        run(trusting, GITHUB_SCRIPT, asked(trusting, issuer, forge), CHANGED.replace("serve", "serve --twice"))


def test_a_file_that_is_refused_fails_the_job(trusting: Plane, issuer: Issuer, forge: Server) -> None:
    """With what is wrong and in which line; a job that nobody can vouch for is told what it lacks."""
    env = asked(trusting, issuer, forge)
    with pytest.raises(SystemExit, match=r"422 .*replicas"):
        run(trusting, GITHUB_SCRIPT, env, CHANGED.replace("replicas: 1", "replicas: -1"))
    with pytest.raises(SystemExit, match="id-token: write"):
        run(trusting, GITHUB_SCRIPT, addresses(trusting, GITHUB["jobs"]["deploy"]["env"]))
    assert trusting.world.state("llm").service.spec_version == 1


def test_who_does_not_answer_is_asked_again(trusting: Plane, issuer: Issuer, forge: Server) -> None:
    """Four times, and then the job ends with who it was."""
    env = asked(trusting, issuer, forge)
    forge.instead = Answer(503, b"down")
    with pytest.raises(SystemExit, match=r"/token\?v=1.*: 503 down"):
        run(trusting, GITHUB_SCRIPT, env)
    assert len(forge.requests) == 4


def test_a_job_without_a_token_is_told_what_it_lacks(trusting: Plane) -> None:
    """In the words of both forges; one whose token proves nothing, what to ask for."""
    at = ("--audience", trusting.url)
    lacking = trusting.run("trust", "key", *at)
    assert lacking.exit_code == 2
    assert "id-token: write" in lacking.stderr
    assert f"aud: {trusting.url}" in lacking.stderr
    wrong = trusting.run("trust", "key", *at, "--id-token", "x")
    assert (wrong.exit_code, f"for the audience {trusting.url}" in wrong.stderr) == (9, True)
    nobody = trusting.run("trust", "key", "--audience", "http://127.0.0.1:9", "--id-token", "x")
    assert "127.0.0.1 does not answer" in nobody.stderr
