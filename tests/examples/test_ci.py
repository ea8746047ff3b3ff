"""The CI examples run as they stand: their commands exist, and a job with their settings gets a key and deploys with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import rsa

from sailplane.cli import cli
from tests.cli.conftest import YAML, Plane, plane
from tests.hooks.forge import Answer, Server, served

__all__ = ["plane"]

CI = Path(__file__).resolve().parents[2] / "examples" / "ci"
GITHUB: dict[str, Any] = yaml.safe_load((CI / "github-deploy.yml").read_text())
GITLAB: dict[str, Any] = yaml.safe_load((CI / "gitlab-ci.yml").read_text())
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


def run(plane: Plane, script: list[str], env: Mapping[str, str]) -> list[Result]:
    """The script's lines in a shell that knows as much as they need: variables, and sailplane."""
    shell = {**env, "SAILPLANE_HOME": str(plane.directory)}
    plane.file(YAML.replace("replicas: 2", "replicas: 1"))
    results = []
    for line in script:
        assigned, _, command = line.rpartition("$(") if "$(" in line else ("", "", line)
        words = [_expanded(word, shell) for word in shlex.split(command.rstrip(")"))]
        if words[0] in ("pip", "echo", "export"):
            continue
        assert words[0] == "sailplane", line
        words = [str(plane.directory / word) if word == "service.yaml" else word for word in words]
        results.append(CliRunner().invoke(cli, words[1:], env=shell))
        if assigned:
            shell[assigned.rstrip("=")] = results[-1].stdout.strip()
    return results


def _expanded(word: str, shell: Mapping[str, str]) -> str:
    return shell[word[1:]] if word.startswith("$") else word


def test_the_github_workflow_deploys(trusting: Plane, issuer: Issuer, forge: Server) -> None:
    """It may ask who it is, its job is proven by the token that GitHub gives, and its key changes the service."""
    assert GITHUB["permissions"] == {"contents": "read", "id-token": "write"}
    names = {"iss": "https://token.actions.githubusercontent.com", "repository": "acme/app"}
    token = issuer.token(
        trusting, sub="repo:acme/app:ref:refs/heads/main", ref="refs/heads/main", event_name="push", **names
    )
    forge.instead = Answer(200, f'{{"value": "{token}"}}'.encode())
    env = {**GITHUB["jobs"]["deploy"]["env"], "SAILPLANE_URL": trusting.url, "SAILPLANE_AUDIENCE": trusting.url}
    asked = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{forge.url}/token?v=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner"}
    results = run(trusting, GITHUB_SCRIPT, env | asked)
    assert [result.exit_code for result in results] == [0, 0, 0], [result.exception for result in results]
    ((_, target, headers),) = forge.requests
    assert target == f"/token?v=1&audience={quote(trusting.url, safe='')}"
    assert headers["authorization"] == "Bearer runner"
    assert trusting.world.state("llm").service.spec_version == 2


def test_the_gitlab_job_deploys(trusting: Plane, issuer: Issuer) -> None:
    """With the token that its `id_tokens` make."""
    job = GITLAB["deploy"]
    ((variable, made),) = job["id_tokens"].items()
    claims = {"iss": "https://gitlab.com", "project_path": "acme/app", "ref": "main", "ref_type": "branch"}
    token = issuer.token(trusting, sub="project_path:acme/app:ref_type:branch:ref:main", **claims)
    env = {**job["variables"], "SAILPLANE_URL": trusting.url, "SAILPLANE_AUDIENCE": trusting.url, variable: token}
    results = run(trusting, job["script"], env)
    assert made == {"aud": "$SAILPLANE_AUDIENCE"}
    assert [result.exit_code for result in results] == [0, 0, 0], [result.exception for result in results]
    assert trusting.world.state("llm").service.spec_version == 2


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
