"""What is said about webhooks, pushes, trusts and identity tokens."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from chalicelib.api.schemas.fields import LONGEST_OVERLAP_S, Answer, Body, Line, Page, ServiceName
from chalicelib.model import SECRET_NAME, HookKind, OidcIssuer

# Parts with a slash between them, none of which is all dots. Empty = none given. Dots first and then what is none, in one way
# only: a pattern that can be met in several ways takes hours to find a long text wrong.
_REPOSITORY = r"^(\.*[\w-][\w.-]*(/\.*[\w-][\w.-]*)+)?$".replace(r"\w", "A-Za-z0-9_")
_PATH = r"^\.*[^/.\u0000-\u001f\u007f-\u009f]Q*(/\.*[^/.\u0000-\u001f\u007f-\u009f]Q*)*$".replace(
    "Q", r"[^/\u0000-\u001f\u007f-\u009f]"
)
# https://git-scm.com/docs/git-check-ref-format, and no dash first, which would look like an option.
_BRANCH = r"^[^-S](\.?[^S])*(/[^S](\.?[^S])*)*$".replace("S", r"./\u0000-\u0020\u007f~^:?*\[\\")
# Tokens are sent there: not in the clear, except to this very machine.
_FORGE_URL = (
    r"^((https://[A-Za-z0-9][A-Za-z0-9.-]*|http://(127\.0\.0\.1|localhost))"
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?(/[A-Za-z0-9._~/-]*)?)?$"
)
# Each is looked at by every tick, and a delivery to /v1/hooks/github is held against all of its repository's.
MOST_WEBHOOKS = 200
MOST_TRUSTS = 200


def _repository(name: str) -> str:
    if not re.fullmatch(_REPOSITORY, name):
        raise ValueError("expected owner/name, as in the repository's address")
    return name


def _branch(name: str) -> str:
    if not re.fullmatch(_BRANCH, name):
        raise ValueError("expected a branch's name, such as main, without refs/heads/")
    return name


def _path_in_repository(path: str) -> str:
    if not re.fullmatch(_PATH, path):
        raise ValueError("expected a file's path from the top of the repository, such as deploy/service.yaml")
    return path


def _forge_url(url: str) -> str:
    if not re.fullmatch(_FORGE_URL, url):
        raise ValueError("expected https://HOST[:PORT][/PATH]")
    return url.rstrip("/")


DeliveryResult = Literal["accepted", "duplicate", "overtaken", "ignored"]
RepositoryName = Annotated[
    str, Field(json_schema_extra={"pattern": _REPOSITORY}, max_length=256), AfterValidator(_repository)
]
ForgeUrl = Annotated[str, Field(json_schema_extra={"pattern": _FORGE_URL}, max_length=256), AfterValidator(_forge_url)]
# What the models' own validators demand, in the words of JSON Schema.
_BRANCH_FOLLOWED, _PATH_FOLLOWED = "main", "service.yaml"  # unless another is given
_FOLLOWED: dict[str, JsonValue] = {
    "anyOf": [
        {
            "properties": {
                "kind": {"const": "generic"},
                "repository": {"const": ""},
                "api_url": {"const": ""},
                "token_secret": {"const": ""},
                "branch": {"const": _BRANCH_FOLLOWED},
                "path": {"const": _PATH_FOLLOWED},
            },
        },
        {
            "properties": {"kind": {"enum": ["github", "gitlab"]}, "repository": {"minLength": 3}},
            "required": ["repository"],
        },
    ]
}
_NARROWED: dict[str, JsonValue] = {
    "anyOf": [{"properties": {name: {"minLength": 1}}, "required": [name]} for name in ("ref", "environment")]
}


class CreateWebhook(Body):
    """A branch of a repository whose head a service is to follow.

    `token_secret` names the secret that holds the forge's token. A generic webhook's deliveries bring the service file
    themselves: it has no repository. An empty `api_url` is github.com's or gitlab.com's.
    """

    model_config = ConfigDict(json_schema_extra=_FOLLOWED)

    kind: HookKind
    service: ServiceName
    repository: RepositoryName = ""
    branch: Annotated[str, Field(json_schema_extra={"pattern": _BRANCH}, max_length=200), AfterValidator(_branch)] = (
        _BRANCH_FOLLOWED
    )
    path: Annotated[
        str, Field(json_schema_extra={"pattern": _PATH}, max_length=256), AfterValidator(_path_in_repository)
    ] = _PATH_FOLLOWED
    api_url: ForgeUrl = ""
    token_secret: Annotated[str, StringConstraints(pattern=rf"^$|{SECRET_NAME}")] = ""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        is_generic = self.kind is HookKind.GENERIC
        is_followed = (self.branch, self.path) != (_BRANCH_FOLLOWED, _PATH_FOLLOWED)
        if is_generic and (self.repository or self.api_url or self.token_secret or is_followed):
            raise ValueError("a generic webhook has no repository, api_url, token_secret, branch or path")
        if not is_generic and not self.repository:
            raise ValueError("give the repository, as owner/name")
        return self


class RotateWebhook(Body):
    """How long deliveries may go on being signed with the key that is replaced."""

    overlap_s: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP_S)] = 86_400.0


class CreateTrust(Body):
    """CI jobs that may deploy some services without a key: of a repository, for a ref or an environment.

    A `ref` such as `refs/heads/main` may end in `*`. `repository_id` is the forge's number of the repository, which another one
    that takes its name later has not; left out, it is that of the first job. An empty `issuer` is github.com's or gitlab.com's.
    """

    model_config = ConfigDict(json_schema_extra=_NARROWED)

    kind: OidcIssuer
    repository: Annotated[RepositoryName, StringConstraints(min_length=3)]
    services: Annotated[tuple[ServiceName | Literal["*"], ...], Field(min_length=1, max_length=100)]
    ref: Annotated[str, StringConstraints(pattern=r"^$|^refs/(heads|tags)/[^\x00-\x20~^:?*\[\\]{0,200}\*?$")] = ""
    environment: Annotated[Line, StringConstraints(max_length=255)] = ""
    repository_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{0,20}$")] = ""
    issuer: ForgeUrl = ""

    @model_validator(mode="after")
    def _is_narrow(self) -> Self:
        if not (self.ref or self.environment):
            raise ValueError(
                "give a ref or an environment: without either, every branch that anybody may push could deploy"
            )
        return self


class IdentityToken(Body):
    """A CI job's identity token, a JSON Web Token."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=16 * 1024)]


class Pushed(Answer):
    """The latest push that was heard of; `pending` as long as nothing has been done about it."""

    commit: str
    at: AwareDatetime
    pending: bool


class Outcome(Answer):
    """What became of a branch's head: a version of the service or, when it was refused, null, and why in `message`."""

    commit: str
    at: AwareDatetime
    version: int | None
    message: str


class Webhook(Answer):
    """A webhook: where it takes deliveries, what it follows, and how that goes. `trouble` is why it cannot, or empty.

    `repository_id` is the forge's number of the repository, empty until it has told it: only that one is followed.
    """

    id: str
    kind: HookKind
    service: str
    url: str
    repository: str
    repository_id: str
    branch: str
    path: str
    api_url: str
    token_secret: str
    created_at: AwareDatetime
    pushed: Pushed | None
    outcome: Outcome | None
    trouble: str


class Webhooks(Page):
    """Webhooks by id."""

    webhooks: tuple[Webhook, ...]


class NewWebhook(Webhook):
    """A webhook with the secret that its deliveries are to be signed with, which is told in this answer only."""

    secret: str


class Removed(Answer):
    """A webhook whose deliveries, or a trust whose jobs, are refused from now on."""

    id: str


class Delivered(Answer):
    """What becomes of a delivery.

    A duplicate, one that was overtaken by a later push, or one that means nothing here, changes nothing.
    """

    webhook: str
    result: DeliveryResult
    message: str


class Trust(Answer):
    """A trust, and the `audience` that a job has to ask its identity token for."""

    id: str
    kind: OidcIssuer
    issuer: str
    repository: str
    services: tuple[str, ...]
    ref: str
    environment: str
    repository_id: str
    audience: str
    created_at: AwareDatetime


class Trusts(Page):
    """Trusts by id."""

    trusts: tuple[Trust, ...]


class Exchanged(Answer):
    """The table, sealed (see `chalicelib.edge_table` and `identity.sealed`), or null when the router has it already."""

    table: str | None
