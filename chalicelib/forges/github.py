"""GitHub's REST API, as much of it as following a branch takes.

https://docs.github.com/en/rest/git/refs#get-a-reference, …/rest/repos/repos#get-a-repository,
…/rest/repos/contents#get-repository-content, …/rest/commits/statuses#create-a-commit-status.
A fine-grained token needs "Contents: read" and "Commit statuses: write".
"""

from __future__ import annotations

from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from chalicelib.errors import Invalid, NotFound, Unreachable
from chalicelib.forges.http import Http
from chalicelib.model import CommitStatus
from chalicelib.ports import Repository

_MAX_DESCRIPTION = 140  # characters
_CONTEXT = "sailplane"


class _Reference(BaseModel):
    class Object(BaseModel):
        sha: str
        type: str

    ref: str
    object: Object


class _Repository(BaseModel):
    id: int


class GitHub:
    """`ports.Forge`, of github.com and of GitHub Enterprise Server, whose API is at https://HOST/api/v3."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def number(self, repository: Repository) -> str:
        answer = self._ask("GET", repository, "", "application/vnd.github+json")
        try:
            return str(_Repository.model_validate_json(answer).id)
        except ValidationError as error:
            raise Unreachable("GitHub's answer about the repository is not what it should be.") from error

    def head(self, repository: Repository, branch: str) -> str:
        answer = self._ask("GET", repository, f"/git/ref/heads/{quote(branch)}", "application/vnd.github+json")
        try:
            found = _Reference.model_validate_json(answer)
        except ValidationError as error:
            raise Unreachable(f"GitHub's answer about the branch {branch} is not what it should be.") from error
        return found.object.sha

    def file(self, repository: Repository, path: str, commit: str) -> str:
        place = f"/contents/{quote(path)}"
        try:
            content = self._ask("GET", repository, place, "application/vnd.github.raw+json", query={"ref": commit})
        except NotFound as error:
            raise NotFound(f"There is no file {path} at commit {commit[:10]} of {repository.name}.") from error
        return text(content, path)

    def tell(self, repository: Repository, commit: str, status: CommitStatus, message: str) -> None:
        told = {
            "state": status.value,
            "description": shortened(message, _MAX_DESCRIPTION),
            "context": _CONTEXT,
        }
        self._ask("POST", repository, f"/statuses/{quote(commit)}", "application/vnd.github+json", body=told)

    def _ask(
        self,
        method: str,
        repository: Repository,
        place: str,
        accept: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, str] | None = None,
    ) -> bytes:
        headers = {"Accept": accept, "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "sailplane"}
        if repository.token:
            headers["Authorization"] = f"Bearer {repository.token}"
        url = f"{repository.api_url}/repos/{quote(repository.name)}{place}"
        return self._http.ask(method, url, headers, query=query, body=body)


def text(content: bytes, path: str) -> str:
    """A file as text. Raises `Invalid`."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 text.") from error


def shortened(message: str, most: int) -> str:
    """The message on one line of at most so many characters."""
    line = " ".join(message.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
