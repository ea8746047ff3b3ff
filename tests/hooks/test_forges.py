"""What the adapters of both forges promise, asked of a forge on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.errors import Invalid, NotFound, Unreachable
from chalicelib.forges.github import GitHub
from chalicelib.forges.gitlab import GitLab
from chalicelib.forges.http import MAX_BYTES, Http
from chalicelib.forges.issuers import JwksKeys
from chalicelib.model import CommitStatus, HookKind
from chalicelib.ports import Forge, Repository
from tests.fakes import FakeClock
from tests.hooks.forge import TOKEN, Answer, Server, served

NAMES = {HookKind.GITHUB: "acme/app.web", HookKind.GITLAB: "acme/team/app.web"}
MISSING = "0123456789" * 4


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with served() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.instead = None
    running.repositories.statuses.clear()
    running.requests.clear()
    return running


@pytest.fixture(params=[HookKind.GITHUB, HookKind.GITLAB])
def kind(request: pytest.FixtureRequest) -> HookKind:
    found: HookKind = request.param
    return found


@pytest.fixture(scope="module")
def http() -> Http:
    """One for all: it reads the certificates once."""
    return Http()


@pytest.fixture
def forge(kind: HookKind, http: Http) -> Forge:
    return GitHub(http) if kind is HookKind.GITHUB else GitLab(http)


@pytest.fixture
def repository(server: Server, kind: HookKind) -> Repository:
    api = server.github_api if kind is HookKind.GITHUB else server.gitlab_api
    return Repository(api, NAMES[kind], TOKEN)


def test_a_branch_is_followed_to_its_file(server: Server, forge: Forge, repository: Repository) -> None:
    """Its head is the latest push, and the file is read as of a commit, whatever the branch and the path are called."""
    branch, path = "release/2026 ü#1", "deploy/räume/service file.yaml"
    first = server.repositories.push(repository.name, branch, {path: "one: ü\n"})
    assert forge.head(repository, branch) == first
    second = server.repositories.push(repository.name, branch, {path: "two\n"})
    assert forge.head(repository, branch) == second
    assert [forge.file(repository, path, commit) for commit in (first, second)] == ["one: ü\n", "two\n"]


def test_a_repository_has_a_number(server: Server, forge: Forge, repository: Repository) -> None:
    """Which tells it from a later one of its name; what is not there has none."""
    server.repositories.push(repository.name, "main", {})
    server.repositories.numbers[repository.name] = 1_296_269
    assert forge.number(repository) == "1296269"
    with pytest.raises(NotFound, match="404"):
        forge.number(Repository(repository.api_url, "acme/other", TOKEN))
    server.instead = Answer(200, b'{"id": "none"}')
    with pytest.raises(Unreachable):
        forge.number(repository)


def test_what_is_not_there_is_not_found(server: Server, forge: Forge, repository: Repository) -> None:
    """A repository, a branch, a file, a commit; the message says which."""
    commit = server.repositories.push(repository.name, "main", {"a.yaml": "a"})
    elsewhere = Repository(repository.api_url, "acme/other", TOKEN)
    with pytest.raises(NotFound, match="404"):
        forge.head(elsewhere, "main")
    with pytest.raises(NotFound, match="gone"):
        forge.head(repository, "gone")
    with pytest.raises(NotFound, match=rf"no file b\.yaml at commit {commit[:10]}"):
        forge.file(repository, "b.yaml", commit)
    with pytest.raises(NotFound, match=r"no file a\.yaml"):
        forge.file(repository, "a.yaml", MISSING)


def test_a_status_stands_beside_its_commit(server: Server, forge: Forge, repository: Repository) -> None:
    """Good or bad, on one line, no longer than the forge takes; to set it twice is fine."""
    commit = server.repositories.push(repository.name, "main", {})
    for status in (CommitStatus.PENDING, *[CommitStatus.SUCCESS] * 2):
        forge.tell(repository, commit, status, "version 2\n  of svc")
    forge.tell(repository, commit, CommitStatus.FAILURE, "x" * 300)
    waiting, good, bad = dict.fromkeys(server.repositories.statuses)
    assert waiting == (repository.name, commit, "pending", "version 2 of svc")
    assert good == (repository.name, commit, "success", "version 2 of svc")
    assert bad[2] == "failure"
    assert bad[3].endswith("x…")


def test_a_token_is_shown_only_where_there_is_one(server: Server, forge: Forge, repository: Repository) -> None:
    """Public repositories are read without; a wrong one is refused, and never repeated."""
    commit = server.repositories.push(repository.name, "main", {"a.yaml": "a"})
    public = Repository(repository.api_url, repository.name)
    assert forge.file(public, "a.yaml", forge.head(public, "main")) == "a"
    assert not any({"authorization", "private-token"} & headers.keys() for _, _, headers in server.requests)
    with pytest.raises((Invalid, NotFound)):
        forge.tell(public, commit, CommitStatus.SUCCESS, "")
    wrong = Repository(repository.api_url, repository.name, "wrong-token")
    with pytest.raises(Invalid, match="token is refused") as refusal:
        forge.head(wrong, "main")
    assert "wrong-token" not in str(refusal.value) + repr(wrong)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(500), Unreachable),
        (Answer(502, b"<html>"), Unreachable),
        (Answer(429, b"slow down"), Unreachable),
        (Answer(403, b"", {"x-ratelimit-remaining": "0"}), Unreachable),
        (Answer(403, b"", {"retry-after": "60"}), Unreachable),
        (Answer(200, b"<html>log in</html>"), Unreachable),
        (Answer(200, b"[]"), Unreachable),
        (Answer(403, b"no"), Invalid),
        (Answer(301, b"", {"location": "http://127.0.0.1:9/"}), Invalid),
        (Answer(422, b"what?"), Invalid),
        (Answer(200, b"x" * (MAX_BYTES + 1)), Invalid),
        (Answer(404), NotFound),
    ],
    ids=lambda value: f"{value.status}-{len(value.body)}-{len(value.headers)}" if isinstance(value, Answer) else None,
)
def test_every_answer_has_its_name(
    server: Server, forge: Forge, repository: Repository, answer: Answer, error: type[Exception]
) -> None:
    """Later, mend it, or it is not there: nothing else ever comes out of an adapter."""
    server.instead = answer
    with pytest.raises(error):
        forge.head(repository, "main")


def test_nobody_there_is_unreachable(forge: Forge, repository: Repository) -> None:
    """A closed port, in words that name the host."""
    nowhere = Repository("http://127.0.0.1:9", repository.name, TOKEN)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        forge.head(nowhere, "main")


@pytest.mark.parametrize("token", ["SECRET ", "SECRET\nSECRET", "SECR\u00c9T"])
def test_a_token_that_cannot_be_sent_is_not_told(server: Server, kind: HookKind, forge: Forge, token: str) -> None:
    """What is wrong with it is said without it: the message is written beside the webhook, and logged."""
    api = server.github_api if kind is HookKind.GITHUB else server.gitlab_api
    with pytest.raises(Invalid, match="sailplane secrets set") as refused:
        forge.head(Repository(api, NAMES[kind], token), "main")
    assert "SECR" not in str(refused.value)
    assert server.requests == []


def test_a_file_is_text(server: Server, forge: Forge, repository: Repository) -> None:
    """What is no UTF-8 is refused."""
    commit = server.repositories.push(repository.name, "main", {"a.yaml": b"\xff\xfe"})
    with pytest.raises(Invalid, match="UTF-8"):
        forge.file(repository, "a.yaml", commit)


# --- issuers' keys ---


def test_keys_are_kept_and_fetched_again(server: Server, http: Http) -> None:
    """For an hour; a key id that is not known has the issuer asked once a minute, no more often."""
    clock = FakeClock()
    keys, url = JwksKeys(http, clock), f"{server.url}/.well-known/jwks"
    first = {"kid": "a", "kty": "RSA", "n": "…", "e": "AQAB"}
    server.keys[:] = [first, {"kid": "hmac", "kty": "oct", "k": "c2VjcmV0"}, {**first, "kid": "enc", "use": "enc"}]
    assert keys.find(url, "a") == first
    assert [keys.find(url, name) for name in ("hmac", "enc", "b", "c")] == [None] * 4
    assert len(server.requests) == 1
    server.keys.append({**first, "kid": "b"})
    clock.advance(60)
    assert keys.find(url, "b") == {**first, "kid": "b"}
    server.keys[:] = []
    clock.advance(3599)
    assert keys.find(url, "a") == first
    clock.advance(1)
    assert keys.find(url, "a") is None
    assert len(server.requests) == 3


def test_an_issuer_that_is_down_is_left_alone(server: Server, http: Http) -> None:
    """For 5 s, 10 s … 60 s, however many tokens come; what it has told before goes on being good for its hour."""
    clock = FakeClock()
    keys, url = JwksKeys(http, clock), f"{server.url}/.well-known/jwks"
    server.keys[:] = [{"kid": "a", "kty": "RSA", "n": "…", "e": "AQAB"}]
    server.instead = Answer(503)
    for asked, pause_s in enumerate((5.0, 10.0, 20.0, 40.0, 60.0, 60.0), start=1):
        for _ in range(3):
            with pytest.raises(Unreachable, match="503"):
                keys.find(url, "a")
        assert len(server.requests) == asked
        clock.advance(pause_s)
    server.instead = None
    assert keys.find(url, "a")
    server.instead = Answer(503)
    clock.advance(60)
    for _ in range(3):
        with pytest.raises(Unreachable):
            keys.find(url, "invented")
        assert keys.find(url, "a")
    assert len(server.requests) == 8
    clock.advance(4)
    with pytest.raises(Unreachable):
        keys.find(url, "invented")
    assert len(server.requests) == 8


@pytest.mark.parametrize("body", [b"", b"[]", b'{"keys": 1}', b'{"keys": [1]}', b'{"keys": null}', b"{}"])
def test_keys_that_are_none_are_unreachable(server: Server, http: Http, body: bytes) -> None:
    """An issuer that answers something else proves nothing, and breaks nothing."""
    server.instead = Answer(200, body)
    with pytest.raises(Unreachable, match="keys"):
        JwksKeys(http, FakeClock()).find(f"{server.url}/.well-known/jwks", "a")
