"""A forge on this machine: repositories in memory, behind the part of GitHub's and GitLab's REST APIs that adapters use.

What is served follows https://docs.github.com/en/rest and https://docs.gitlab.com/api/; anything else is refused, so that an
adapter that strays from them is seen.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from chalicelib.errors import NotFound, Unreachable
from chalicelib.model import CommitStatus
from chalicelib.ports import Repository

TOKEN = "token-of-the-forge"


@dataclass
class Repositories:
    """What a forge has: branches, files by commit and path, statuses as they were set."""

    branches: dict[tuple[str, str], str] = field(default_factory=dict)  # (repository, branch) -> commit
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)  # (repository, commit, path)
    statuses: list[tuple[str, str, str, str]] = field(default_factory=list)  # (repository, commit, state, description)
    numbers: dict[str, int] = field(default_factory=dict)  # of repositories, where it is not 74
    pushes: int = 0

    def number(self, repository: str) -> int | None:
        """None where there is no such repository."""
        is_there = any(name == repository for name, _ in self.branches)
        return self.numbers.get(repository, 74) if is_there else None

    def push(self, repository: str, branch: str, files: Mapping[str, str | bytes]) -> str:
        """The commit that the branch is at now."""
        self.pushes += 1
        commit = hashlib.sha1(f"{repository} {branch} {self.pushes}".encode(), usedforsecurity=False).hexdigest()
        for path, content in files.items():
            self.files[repository, commit, path] = content.encode() if isinstance(content, str) else content
        self.branches[repository, branch] = commit
        return commit


@dataclass
class FakeForge:
    """`ports.Forge` without HTTP. `down` answers nothing; `is_late` shows each branch as it was a push ago, once."""

    repositories: Repositories
    down: bool = False
    asked: int = 0
    late: dict[tuple[str, str], str] = field(default_factory=dict)

    def number(self, repository: Repository) -> str:
        self._answer()
        if (number := self.repositories.number(repository.name)) is None:
            raise NotFound(f"no repository {repository.name}")
        return str(number)

    def head(self, repository: Repository, branch: str) -> str:
        self._answer()
        place = (repository.name, branch)
        if place not in self.repositories.branches:
            raise NotFound(f"no branch {branch}")
        return self.late.pop(place, self.repositories.branches[place])

    def file(self, repository: Repository, path: str, commit: str) -> str:
        self._answer()
        if (repository.name, commit, path) not in self.repositories.files:
            raise NotFound(f"There is no file {path} at commit {commit[:10]}.")
        return self.repositories.files[repository.name, commit, path].decode()

    def tell(self, repository: Repository, commit: str, status: CommitStatus, message: str) -> None:
        self._answer()
        self.repositories.statuses.append((repository.name, commit, status.value, message))

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise Unreachable("the forge is down")


@dataclass(frozen=True)
class Answer:
    """What the server says to one request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """The forge over HTTP. `instead` is what every request is answered while it is set; `keys` are its OIDC issuer's."""

    url: str
    repositories: Repositories = field(default_factory=Repositories)
    instead: Answer | None = None
    keys: list[Mapping[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    @property
    def github_api(self) -> str:
        return f"{self.url}/api/v3"

    @property
    def gitlab_api(self) -> str:
        return f"{self.url}/api/v4"

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One request's answer. `headers` by lower-case name."""
        self.requests.append((method, target, headers))
        if self.instead:
            return self.instead
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path in ("/.well-known/jwks", "/oauth/discovery/keys"):
            return _json(200, {"keys": self.keys})
        if parts.path.startswith("/api/v3/"):
            return self._github(method, parts.path.removeprefix("/api/v3"), query, headers, body)
        return self._gitlab(method, parts.path.removeprefix("/api/v4"), query, headers, body)

    def _github(  # noqa: PLR0911 one return for each thing that it may say
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        if "user-agent" not in headers:
            return Answer(403, b"Request forbidden by administrative rules.")
        if headers.get("authorization", f"Bearer {TOKEN}") != f"Bearer {TOKEN}":
            return _json(401, {"message": "Bad credentials"})
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)", path):
            number = self.repositories.number(match[1])
            return _json(200, {"id": number, "full_name": match[1]}) if number else _json(404, {"message": "Not Found"})
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)/git/ref/heads/(.+)", path):
            name, branch = match[1], unquote(match[2])
            commit = self.repositories.branches.get((name, branch)) if method == "GET" else None
            found = {"ref": f"refs/heads/{branch}", "object": {"type": "commit", "sha": commit, "url": "…"}}
            return _json(200, found) if commit else _json(404, {"message": "Not Found"})
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)/contents/(.+)", path):
            assert headers["accept"] == "application/vnd.github.raw+json"
            content = self.repositories.files.get((match[1], query["ref"], unquote(match[2])))
            return Answer(200, content) if content is not None else _json(404, {"message": "Not Found"})
        if (match := re.fullmatch(r"/repos/([^/]+/[^/]+)/statuses/([0-9a-f]{40})", path)) and method == "POST":
            if "authorization" not in headers:
                return _json(404, {"message": "Not Found"})
            status = json.loads(body)
            assert status["state"] in ("error", "failure", "pending", "success")
            if len(status["description"]) > 140:
                return _json(422, {"message": "Validation Failed"})
            self.repositories.statuses.append((match[1], match[2], status["state"], status["description"]))
            return _json(201, {"id": 1, **status})
        return _json(404, {"message": "Not Found"})

    def _gitlab(  # noqa: PLR0911 one return for each thing that it may say
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        if headers.get("private-token", TOKEN) != TOKEN:
            return _json(401, {"message": "401 Unauthorized"})
        match = re.fullmatch(r"/projects/([^/]+)(?:/(.+))?", path)
        assert match, path
        name, place = unquote(match[1]), match[2]
        if place is None:
            number = self.repositories.number(name)
            return _json(200, {"id": number, "path_with_namespace": name}) if number else _json(404, {})
        if found := re.fullmatch(r"repository/branches/([^/]+)", place):
            commit = self.repositories.branches.get((name, unquote(found[1]))) if method == "GET" else None
            return _json(200, {"name": found[1], "commit": {"id": commit}}) if commit else _json(404, {})
        if found := re.fullmatch(r"repository/files/([^/]+)/raw", place):
            content = self.repositories.files.get((name, query["ref"], unquote(found[1])))
            return Answer(200, content) if content is not None else _json(404, {"message": "404 File Not Found"})
        if (found := re.fullmatch(r"statuses/([0-9a-f]{40})", place)) and method == "POST":
            if "private-token" not in headers:
                return _json(401, {"message": "401 Unauthorized"})
            return self._set(name, found[1], json.loads(body))
        return _json(404, {"error": "404 Not Found"})

    def _set(self, name: str, commit: str, status: Mapping[str, str]) -> Answer:
        """As GitLab before 18.3: a status that is set to what it is already is an error."""
        assert status["state"] in ("pending", "running", "success", "failed", "canceled", "skipped")
        state = {"failed": "failure"}.get(status["state"], status["state"])
        if any(known[:3] == (name, commit, state) for known in self.repositories.statuses):
            return _json(400, {"message": f"Cannot transition status via :{status['state']} from :{status['state']}"})
        if len(status["description"]) > 255:
            return _json(400, {"message": "description is too long"})
        self.repositories.statuses.append((name, commit, state, status["description"]))
        return _json(201, {"id": 1})


@contextmanager
def served() -> Iterator[Server]:
    """A forge while the body runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {key.lower(): value for key, value in self.headers.items()}
            answer = forge.answer(self.command, self.path, headers, body)
            self.send_response(answer.status)
            for key, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_GET  # noqa: N815 http.server's name

        def log_message(self, *_args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        forge = Server(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield forge
        finally:
            server.shutdown()
            thread.join()


def _json(status: int, document: object) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"content-type": "application/json"})
