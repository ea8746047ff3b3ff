"""GitLab's REST API, as much of it as following a branch takes.

https://docs.gitlab.com/api/branches/#get-single-repository-branch, …/api/repository_files/#get-raw-file-from-repository,
…/api/commits/#set-commit-pipeline-status. A project access token needs the role Developer and the scope `api`, or
`read_repository` and `read_api` where statuses are not wanted.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from chalicelib.errors import Invalid, NotFound, Unreachable
from chalicelib.forges.github import shortened, text
from chalicelib.forges.http import Http
from chalicelib.model import CommitStatus
from chalicelib.ports import Repository

API_URL: Final = "https://gitlab.com/api/v4"
_MAX_DESCRIPTION = 255  # characters
_NAME = "sailplane"
# What GitLab before 18.3 says when the status is what it is to be set to.
_SAME_ALREADY = "Cannot transition status"


class _Branch(BaseModel):
    class Commit(BaseModel):
        id: str

    commit: Commit


class _Project(BaseModel):
    id: int


class GitLab:
    """`ports.Forge`, of gitlab.com and of every other GitLab, whose API is at https://HOST/api/v4."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def number(self, repository: Repository) -> str:
        try:
            return str(_Project.model_validate_json(self._ask("GET", repository, "")).id)
        except ValidationError as error:
            raise Unreachable("GitLab's answer about the project is not what it should be.") from error

    def head(self, repository: Repository, branch: str) -> str:
        answer = self._ask("GET", repository, f"/repository/branches/{quote(branch, safe='')}")
        try:
            return _Branch.model_validate_json(answer).commit.id
        except ValidationError as error:
            raise Unreachable(f"GitLab's answer about the branch {branch} is not what it should be.") from error

    def file(self, repository: Repository, path: str, commit: str) -> str:
        place = f"/repository/files/{quote(path, safe='')}/raw"
        try:
            return text(self._ask("GET", repository, place, query={"ref": commit}), path)
        except NotFound as error:
            raise NotFound(f"There is no file {path} at commit {commit[:10]} of {repository.name}.") from error

    def tell(self, repository: Repository, commit: str, status: CommitStatus, message: str) -> None:
        told = {
            "state": "failed" if status is CommitStatus.FAILURE else status.value,
            "description": shortened(message, _MAX_DESCRIPTION),
            "name": _NAME,
        }
        try:
            self._ask("POST", repository, f"/statuses/{quote(commit)}", body=told)
        except Invalid as refusal:
            if _SAME_ALREADY not in str(refusal):
                raise

    def _ask(
        self,
        method: str,
        repository: Repository,
        place: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, str] | None = None,
    ) -> bytes:
        headers = {"User-Agent": "sailplane"} | ({"PRIVATE-TOKEN": repository.token} if repository.token else {})
        url = f"{repository.api_url}/projects/{quote(repository.name, safe='')}{place}"
        return self._http.ask(method, url, headers, query=query, body=body)
