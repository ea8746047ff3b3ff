"""CI jobs without a key: which tokens are exchanged for one, and which prove nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jwt
import pytest
from chalice.test import HTTPResponse
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chalicelib import identity
from chalicelib.errors import Unreachable
from chalicelib.model import Hook, HookKind, Scope
from tests.api.conftest import SETTINGS, YAML, Api, assert_problem
from tests.fakes import START, Interposed

CONTROL_URL = "https://control.example"
GITHUB, GITLAB = "https://token.actions.githubusercontent.com", "https://gitlab.com"
CLAIMS: dict[str, Any] = {
    "iss": GITHUB,
    "aud": CONTROL_URL,
    "sub": "repo:acme/app:ref:refs/heads/main",
    "repository": "acme/app",
    "repository_id": "74",
    "ref": "refs/heads/main",
    "event_name": "push",
    "jti": "example-id",
    "iat": START,
    "nbf": START - 5,
    "exp": START + 300,
}
GITLAB_CLAIMS: dict[str, Any] = {
    **{name: CLAIMS[name] for name in ("aud", "jti", "iat", "nbf", "exp")},
    "iss": GITLAB,
    "sub": "project_path:acme/team/app:ref_type:branch:ref:main",
    "project_path": "acme/team/app",
    "project_id": "15",
    "ref": "main",
    "ref_type": "branch",
    "pipeline_source": "push",
}
TRUST = {"kind": "github", "repository": "acme/app", "ref": "refs/heads/main", "services": ["svc"]}


FALSE_CLAIMS: tuple[dict[str, Any], ...] = (
    {"aud": "https://github.com/acme"},
    {"aud": "https://control.example.evil"},
    {"aud": []},
    {"aud": None},
    {"iss": "https://evil.example"},
    {"iss": f"{GITHUB}/"},
    {"iss": None},
    {"iss": 1},
    {"exp": START},
    {"exp": START - 1},
    {"exp": None},
    {"exp": "never"},
    {"exp": True},
    {"iat": START + 61, "nbf": 0},
    {"nbf": START + 61},
    {"jti": None},
    {"jti": ""},
    {"sub": None},
    {"sub": "repo:evil/app:ref:refs/heads/main"},
    {"sub": "repo:acme/app2:ref:refs/heads/main"},
    {"sub": "repo:acme/app@x:ref:refs/heads/main"},
    {"repository": "evil/app"},
    {"repository": None},
    {"repository": ["acme/app"]},
    {"event_name": "pull_request"},
    {"event_name": "pull_request_target"},
    {"event_name": "pull_request_review", "ref": "refs/pull/7/merge"},
)
# What a trust says, what a token says, and what comes of it.
COVERED: tuple[tuple[dict[str, Any], dict[str, Any], int], ...] = (
    ({}, {}, 201),
    ({}, {"repository": "Acme/App", "sub": "repo:Acme/App:ref:refs/heads/main"}, 201),
    ({}, {"sub": "repo:acme@12/app@74:ref:refs/heads/main"}, 201),
    ({}, {"aud": ["other", CONTROL_URL]}, 201),
    ({}, {"ref": "refs/heads/main2"}, 403),
    ({}, {"ref": "refs/tags/main"}, 403),
    ({}, {"ref": None}, 403),
    ({"repository": "acme/other"}, {}, 403),
    ({"ref": "refs/heads/release/*"}, {}, 403),
    ({"ref": "refs/heads/release/*"}, {"ref": "refs/heads/release/1"}, 201),
    ({"ref": "refs/heads/m*"}, {}, 201),
    ({"ref": "", "environment": "prod"}, {}, 403),
    ({"ref": "", "environment": "prod"}, {"environment": "prod", "ref": "refs/heads/x"}, 201),
    ({"environment": "prod"}, {}, 403),
    ({"environment": "prod"}, {"environment": "prod"}, 201),
    ({"environment": "prod"}, {"environment": "prod", "ref": "refs/heads/x"}, 403),
    ({"repository_id": "74"}, {}, 201),
    ({"repository_id": "75"}, {}, 403),
    ({"issuer": "https://ghes.example/_services/token"}, {}, 401),
    ({"issuer": "https://ghes.example/_services/token"}, {"iss": "https://ghes.example/_services/token"}, 201),
)
TOO_WIDE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ref": ""}, ""),
    ({"ref": "main"}, "ref"),
    ({"ref": "refs/pull/1/merge"}, "ref"),
    ({"ref": "*"}, "ref"),
    ({"ref": "refs/*/main"}, "ref"),
    ({"repository": "*"}, "repository"),
    ({"repository": "acme/*"}, "repository"),
    ({"repository": ""}, "repository"),
    ({"services": []}, "services"),
    ({"services": ["Not A Name"]}, "services.0"),
    ({"issuer": "http://issuer.example"}, "issuer"),
    ({"repository_id": "x"}, "repository_id"),
    ({"kind": "other"}, "kind"),
)


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def foreign_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Issuers:
    """`ports.IssuerKeys` that knows one key, and what it was asked for."""

    key: Mapping[str, str]
    asked: list[tuple[str, str]]

    def find(self, jwks_url: str, key_id: str) -> Mapping[str, str] | None:
        self.asked.append((jwks_url, key_id))
        return self.key if key_id == "k1" else None


@dataclass
class Jobs:
    """CI: makes tokens and has them exchanged."""

    api: Api
    key: rsa.RSAPrivateKey
    issuers: Issuers

    def token(self, changes: Mapping[str, Any] | None = None, **header: Any) -> str:
        claims = {name: value for name, value in {**CLAIMS, **(changes or {})}.items() if value is not None}
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "k1", **header})

    def exchange(self, token: str, kind: str = "github") -> HTTPResponse:
        return self.api.call("POST", f"/v1/auth/{kind}", {"token": token}, key=None)

    def trust(self, **fields: Any) -> dict[str, Any]:
        answer = self.api.post("/v1/trusts", {**TRUST, **fields})
        assert answer.status_code == 201, answer.body
        made: dict[str, Any] = answer.json_body
        return made


@pytest.fixture
def jobs(api: Api, private_key: rsa.RSAPrivateKey) -> Jobs:
    public = jwt.algorithms.RSAAlgorithm.to_jwk(private_key.public_key(), as_dict=True)
    issuers = Issuers({**public, "kid": "k1", "use": "sig", "alg": "RS256"}, [])
    settings = replace(SETTINGS, control_url=CONTROL_URL)
    api.world.runtime = replace(api.world.runtime, settings=settings, issuer_keys=issuers)
    return Jobs(api, private_key, issuers)


def test_a_trusted_job_gets_a_short_lived_key(jobs: Jobs) -> None:
    """It deploys the trust's services for 15 minutes, and does nothing else."""
    trust = jobs.trust()
    assert (trust["issuer"], trust["audience"]) == (GITHUB, CONTROL_URL)
    answer = jobs.exchange(jobs.token())
    assert answer.status_code == 201
    made = answer.json_body
    (kept,) = jobs.api.world.store.admin_keys()
    assert (kept.scopes, kept.services, kept.expires_at) == (frozenset({Scope.DEPLOY}), ("svc",), START + 900)
    assert (kept.name, kept.created_by) == ("acme/app@refs/heads/main", f"trust {trust['id']}")
    assert kept.hash == identity.admin_key_hash(made["key"])
    assert jobs.issuers.asked == [(f"{GITHUB}/.well-known/jwks", "k1")]

    def status(method: str, path: str, body: Any = None) -> int:
        return int(jobs.api.call(method, path, body, key=made["key"]).status_code)

    assert status("POST", "/v1/services", {"name": "svc", "yaml": YAML}) == 201
    assert status("PUT", "/v1/services/svc", {"yaml": YAML}) == 200
    assert status("POST", "/v1/services", {"name": "other", "yaml": YAML}) == 403
    assert [status("GET", f"/v1/{what}") for what in ("admin-keys", "webhooks", "trusts", "keys")] == [403] * 4
    jobs.api.world.clock.advance(900)
    assert status("GET", "/v1/services/svc") == 401


def test_a_token_is_good_for_one_key(jobs: Jobs) -> None:
    """Who catches one that was used can do nothing with it."""
    jobs.trust()
    token = jobs.token()
    assert jobs.exchange(token).status_code == 201
    assert_problem(jobs.exchange(token), 401)
    assert jobs.exchange(jobs.token({"jti": "another"})).status_code == 201
    assert len(jobs.api.world.store.admin_keys()) == 2


def test_gitlab_s_jobs_are_known_by_their_own_claims(jobs: Jobs) -> None:
    """Project and branch, from keys of GitLab's own; on GitHub's route they prove nothing."""
    jobs.trust(kind="gitlab", repository="acme/team/app")
    token = jobs.token({**dict.fromkeys(CLAIMS), **GITLAB_CLAIMS})
    assert_problem(jobs.exchange(token), 401)
    assert jobs.exchange(token, "gitlab").json_body["services"] == ["svc"]
    assert jobs.issuers.asked == [(f"{GITLAB}/oauth/discovery/keys", "k1")]
    tag = {**dict.fromkeys(CLAIMS), **GITLAB_CLAIMS, "ref_type": "tag", "jti": "other"}
    assert_problem(jobs.exchange(jobs.token(tag), "gitlab"), 403)
    forked = {**tag, "ref_type": "branch", "pipeline_source": "merge_request_event"}
    assert_problem(jobs.exchange(jobs.token(forked), "gitlab"), 401)
    child = {**forked, "pipeline_source": "parent_pipeline", "ref_path": "refs/merge-requests/7/head"}
    assert_problem(jobs.exchange(jobs.token(child), "gitlab"), 401)


def test_a_token_with_a_false_claim_proves_nothing(jobs: Jobs) -> None:
    """Though the issuer signed it: one answer for all, and no key."""
    jobs.trust()
    jobs.trust(repository="evil/other")
    for changes in FALSE_CLAIMS:
        token = jobs.token(changes) if changes != {"iss": 1} else _with_payload(jobs, {**CLAIMS, **changes})
        answer = jobs.exchange(token)
        assert answer.status_code == 401, changes
        assert CONTROL_URL in assert_problem(answer, 401)["detail"]
    assert jobs.api.world.store.admin_keys() == ()


def test_what_could_not_be_proven_costs_no_look_into_the_store(jobs: Jobs) -> None:
    """For somebody else, expired, or no token at all: neither trusts nor keys are read for it."""
    jobs.trust()
    tokens = [
        jobs.token(changes) for changes in ({"aud": "https://other"}, {"aud": None}, {"exp": START}, {"exp": "x"})
    ]
    jobs.api.world.runtime = replace(jobs.api.world.runtime, store=Any)  # type: ignore[arg-type]  # to touch it would be an error
    for token in (*tokens, "a.b.c", "x"):
        assert_problem(jobs.exchange(token), 401)
    assert jobs.issuers.asked == []


def _with_payload(jobs: Jobs, claims: Mapping[str, Any]) -> str:
    return jwt.PyJWS().encode(json.dumps(claims).encode(), jobs.key, algorithm="RS256", headers={"kid": "k1"})


def test_a_trust_covers_what_it_says(jobs: Jobs) -> None:
    """Repository, ref, environment and number as they are; a 403 says what the job is, which its log may show."""
    for number, (fields, changes, status) in enumerate(COVERED):
        trust = jobs.trust(**fields)
        answer = jobs.exchange(jobs.token({"jti": f"{number}", **changes}))
        assert answer.status_code == status, (fields, changes, answer.body)
        if status == 403:
            said = "another repository by now" if "repository_id" in fields else "No trust covers acme/app at"
            assert said in json.loads(answer.body)["detail"]
        jobs.api.call("DELETE", f"/v1/trusts/{trust['id']}")


def test_the_first_job_pins_its_repository(jobs: Jobs) -> None:
    """A later repository of the same name gets no key, and is told why; the first one's go on getting them."""
    trust = jobs.trust()
    other = jobs.trust(ref="refs/heads/other")
    for number, (repository_id, status) in enumerate([("74", 201), ("75", 403), (None, 403), ("74", 201)]):
        answer = jobs.exchange(jobs.token({"jti": f"{number}", "repository_id": repository_id}))
        assert answer.status_code == status, answer.body
        if repository_id == "75":
            detail = json.loads(answer.body)["detail"]
            assert f"number 75: trust {trust['id']} is for number 74" in detail
            assert f"sailplane trust remove {trust['id']}" in detail
    numbers = {one["id"]: one["repository_id"] for one in jobs.api.get("/v1/trusts").json_body["trusts"]}
    assert numbers == {trust["id"]: "74", other["id"]: "74"}, "of what was never used too"


def test_who_takes_a_name_over_gets_what_no_trust_of_it_gives(jobs: Jobs) -> None:
    """Not by a trust that was never used either: what one of that name knows holds for all of them, and for later ones."""
    used, unused = jobs.trust(), jobs.trust(ref="", environment="production", services=["prod"])
    assert jobs.exchange(jobs.token({"jti": "own"})).status_code == 201
    store = jobs.api.world.store
    known = next(one for one in store.trusts() if one.id == unused["id"])
    store.change_trust(known, replace(known, repository_id=""))  # as an older release has left it
    jacked = {"repository_id": "666", "environment": "production", "repository": "ACME/app", "sub": "repo:ACME/app:x"}
    detail = assert_problem(jobs.exchange(jobs.token({"jti": "jacked", **jacked})), 403)["detail"]
    assert f"sailplane trust remove {used['id']}" in detail
    assert jobs.exchange(jobs.token({"jti": "own2", "environment": "production"})).json_body["services"] == [
        "prod",
        "svc",
    ]
    assert jobs.trust(ref="refs/heads/later")["repository_id"] == "74"
    detail = assert_problem(jobs.api.post("/v1/trusts", {**TRUST, "repository_id": "666"}), 422)["detail"]
    assert "number 666" in detail
    elsewhere = jobs.trust(issuer="https://ghes.example/_services/token")
    assert elsewhere["repository_id"] == "", "another forge has an acme/app of its own"


def test_what_a_webhook_knows_holds_for_trusts(jobs: Jobs) -> None:
    """It follows number 74 of that name, so a job of another number gets nothing, and is told which webhook says so."""
    jobs.trust()
    hook = Hook("0123456789", HookKind.GITHUB, "svc", START, repository="Acme/App", api_url="https://api.github.com")
    jobs.api.world.store.create_hook(replace(hook, repository_id="74"))
    detail = assert_problem(jobs.exchange(jobs.token({"jti": "jack", "repository_id": "75"})), 403)["detail"]
    assert "webhook 0123456789 is for number 74" in detail
    assert "sailplane webhook remove 0123456789" in detail
    assert jobs.exchange(jobs.token()).status_code == 201


def test_of_two_first_jobs_one_pins(jobs: Jobs) -> None:
    """The one that comes second at the store is judged by what the first has written."""
    jobs.trust()
    store = jobs.api.world.store

    def another_first(moment: str) -> None:
        if moment == "before change_trust":
            jobs.api.world.runtime = replace(jobs.api.world.runtime, store=store)
            assert jobs.exchange(jobs.token({"jti": "other", "repository_id": "75"})).status_code == 201

    jobs.api.world.runtime = replace(jobs.api.world.runtime, store=Interposed(store, another_first))
    assert_problem(jobs.exchange(jobs.token()), 403)


def test_several_trusts_add_up(jobs: Jobs) -> None:
    """A key for the services of all that cover the job."""
    jobs.trust()
    jobs.trust(ref="refs/heads/*", services=["b", "a"])
    jobs.trust(ref="refs/heads/other", services=["no"])
    assert jobs.exchange(jobs.token()).json_body["services"] == ["a", "b", "svc"]


# --- forgeries ---


def _unsigned(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join(parts)


def test_the_algorithm_is_not_the_token_s_to_choose(jobs: Jobs) -> None:
    """None at all, HMAC with the public key as the secret, another RSA padding: refused."""
    jobs.trust()
    pem = jobs.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = [
        f"{_unsigned({'alg': algorithm, 'kid': 'k1', 'typ': 'JWT'}, CLAIMS)}."
        for algorithm in ("none", "None", "NONE", "")
    ]
    for secret in (pem, json.dumps(jobs.issuers.key).encode(), b""):
        head = _unsigned({"alg": "HS256", "kid": "k1", "typ": "JWT"}, CLAIMS)
        mac = base64.urlsafe_b64encode(hmac.new(secret, head.encode(), hashlib.sha256).digest()).rstrip(b"=")
        forged.append(f"{head}.{mac.decode()}")
    forged += [jwt.encode(CLAIMS, jobs.key, algorithm=name, headers={"kid": "k1"}) for name in ("RS384", "PS256")]
    forged.append(f"{_unsigned({'alg': 'RS256', 'kid': 'k1'}, CLAIMS)}.")
    for token in forged:
        assert_problem(jobs.exchange(token), 401)
    assert jobs.api.world.store.admin_keys() == ()


def test_the_key_is_not_the_token_s_to_bring(jobs: Jobs, foreign_key: rsa.RSAPrivateKey) -> None:
    """A key of one's own, in the header or named by it, and an address to fetch it from: none is looked at."""
    jobs.trust()
    public = jwt.algorithms.RSAAlgorithm.to_jwk(foreign_key.public_key(), as_dict=True)
    stranger = replace(jobs, key=foreign_key)
    for header in ({}, {"jwk": public}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example/x"}):
        assert_problem(jobs.exchange(stranger.token(**header)), 401)
    asked = len(jobs.issuers.asked)
    for key_id in (None, "", "a\nb", "a b", "k" * 129, 1):
        named = {} if key_id is None else {"kid": key_id}
        forged = _unsigned({"alg": "RS256", "typ": "JWT", **named}, CLAIMS)
        assert_problem(jobs.exchange(f"{forged}.AAAA"), 401)
    assert len(jobs.issuers.asked) == asked
    assert_problem(jobs.exchange(jobs.token(kid="unknown")), 401)


def test_nobody_else_s_issuer_is_asked(jobs: Jobs) -> None:
    """What a token names is asked for keys only where some trust names it too."""
    assert_problem(jobs.exchange(jobs.token()), 401)
    jobs.trust()
    assert_problem(jobs.exchange(jobs.token({"iss": "http://169.254.169.254"})), 401)
    assert jobs.issuers.asked == []


def test_what_is_no_token_is_refused(jobs: Jobs) -> None:
    """Like one that proves nothing."""
    jobs.trust()
    for token in ("a", "a.b", "a.b.c", "....", "\0", "é.é.é", "e30.e30.e30", "e30.W10.", "x" * 16_000):
        assert_problem(jobs.exchange(token), 401)


def test_mutants_of_a_token_prove_nothing(jobs: Jobs) -> None:
    """Every twentieth character changed: 0 accepted."""
    jobs.trust()
    token = jobs.token()
    for place in range(0, len(token) - 1, 20):
        other = "A" if token[place] != "A" else "B"
        assert jobs.exchange(token[:place] + other + token[place + 1 :]).status_code == 401
    assert jobs.exchange(token).status_code == 201


def test_an_issuer_that_is_down_is_a_503(jobs: Jobs) -> None:
    """The job tries again; nothing is proven meanwhile."""
    jobs.trust()

    class Down:
        def find(self, jwks_url: str, key_id: str) -> Mapping[str, str] | None:
            raise Unreachable(f"{jwks_url} {key_id}")

    jobs.api.world.runtime = replace(jobs.api.world.runtime, issuer_keys=Down())
    assert_problem(jobs.exchange(jobs.token()), 503)
    jobs.api.world.runtime = replace(jobs.api.world.runtime, issuer_keys=None)
    assert_problem(jobs.exchange(jobs.token()), 401)


# --- the owner ---


def test_a_trust_that_is_too_wide_is_refused(jobs: Jobs) -> None:
    """By the name of what is wrong; a pull request's ref is nobody's to trust."""
    for change, path in TOO_WIDE:
        problem = assert_problem(jobs.api.post("/v1/trusts", {**TRUST, **change}), 422)
        assert problem["problems"][0]["path"].startswith(path), change
    assert jobs.api.world.store.trusts() == ()


def test_trusts_are_listed_and_removed(jobs: Jobs) -> None:
    """From then on the job's tokens are exchanged for nothing."""
    made = jobs.trust(environment="prod", services=["svc", "svc", "*"])
    assert jobs.api.get("/v1/trusts").json_body["trusts"] == [made]
    assert made["services"] == ["svc", "*"]
    assert jobs.api.call("DELETE", f"/v1/trusts/{made['id']}").json_body == {"id": made["id"]}
    assert_problem(jobs.api.call("DELETE", f"/v1/trusts/{made['id']}"), 404)
    assert_problem(jobs.exchange(jobs.token({"environment": "prod"})), 401)


def test_a_control_plane_without_an_address_trusts_nobody(jobs: Jobs) -> None:
    """Tokens are made out to it: without one, everybody's would do."""
    runtime = jobs.api.world.runtime
    jobs.trust()
    jobs.api.world.runtime = replace(runtime, settings=replace(runtime.settings, control_url=""))
    assert "SAILPLANE_CONTROL_URL" in assert_problem(jobs.api.post("/v1/trusts", TRUST), 422)["detail"]
    assert_problem(jobs.exchange(jobs.token({"aud": ""})), 401)
