"""What a delivery says: that a branch has moved, or why it is none of ours.

GitHub: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push
GitLab: https://docs.gitlab.com/user/project/integrations/webhook_events/#push-events
Others: `{"type": "push", "timestamp": "2026-11-22T18:00:00Z", "data": {"commit": "…", "yaml": "…"}}`, the form that Standard
Webhooks recommends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qs

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from chalicelib.errors import Invalid
from chalicelib.hooks import pins
from chalicelib.hooks.signatures import TOLERANCE_S
from chalicelib.model import Hook, HookKind, Push

# SHA-1, or SHA-256 in a repository that uses it.
_Commit = Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")]
_NOTHING = "0"  # git's name for no commit is all zeros: the branch was deleted
_MAX_YAML_CHARACTERS = 64 * 1024  # of a service file, see `api.schemas`

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that changes nothing, and why, in words that its sender's log will show."""

    why: str


def read(hook: Hook, headers: Mapping[str, str], body: bytes, now: float) -> Push | Ignored:
    """What the delivery means for `hook`. Raises `Invalid` when it is not of its kind's form."""
    return _BY_KIND[hook.kind](hook, headers, body, now)


def repository_of(headers: Mapping[str, str], body: bytes) -> str:
    """Which repository of GitHub's a delivery is about, empty when it does not say. Not to be believed before it is verified."""
    return _parsed(_GithubDelivery, _github_document(headers, body)).repository.full_name


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="ignore", frozen=True, defer_build=True
    )  # no function but one ever reads a delivery


class _GithubRepository(_Model):
    id: int | None = None
    full_name: Annotated[str, StringConstraints(max_length=256)] = ""


class _GithubDelivery(_Model):
    repository: _GithubRepository = _GithubRepository()


class _GithubPush(_GithubDelivery):
    ref: str
    after: _Commit


class _GitlabProject(_Model):
    id: int | None = None
    path_with_namespace: str


class _GitlabPush(_Model):
    object_kind: Literal["push"]
    ref: str
    after: _Commit
    project: _GitlabProject


class _GenericKind(_Model):
    type: str


class _GenericData(_Model):
    commit: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,127}$")]
    yaml: Annotated[str, StringConstraints(min_length=1, max_length=_MAX_YAML_CHARACTERS)]


class _GenericPush(_Model):
    timestamp: AwareDatetime
    data: _GenericData


def _github(hook: Hook, headers: Mapping[str, str], body: bytes, now: float) -> Push | Ignored:
    event = headers.get("x-github-event", "")
    if event == "ping":
        return Ignored(f"pong: pushes to {hook.branch} of {hook.repository} will deploy {hook.service}")
    if event != "push":
        return Ignored("only pushes deploy; this is another event")
    push = _parsed(_GithubPush, _github_document(headers, body))
    return _moved(hook, push.repository.full_name, push.repository.id, push.ref, Push(push.after, now))


def _github_document(headers: Mapping[str, str], body: bytes) -> bytes:
    """The JSON text. GitHub's other content type, which its form for new webhooks proposes, wraps it."""
    if not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return body
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=4)
    except ValueError as error:  # no ASCII, or too many fields
        raise Invalid("The delivery is no form with a `payload`.") from error
    return fields.get("payload", [""])[0].encode()


def _gitlab(hook: Hook, headers: Mapping[str, str], body: bytes, now: float) -> Push | Ignored:
    if headers.get("x-gitlab-event", "") != "Push Hook":
        return Ignored("only pushes deploy; this is another event")
    push = _parsed(_GitlabPush, body)
    return _moved(hook, push.project.path_with_namespace, push.project.id, push.ref, Push(push.after, now))


def _generic(_hook: Hook, _headers: Mapping[str, str], body: bytes, now: float) -> Push | Ignored:
    if _parsed(_GenericKind, body).type != "push":
        return Ignored("only deliveries of the type `push` deploy")
    push = _parsed(_GenericPush, body)
    at = push.timestamp.timestamp()
    if at - now > TOLERANCE_S:
        raise Invalid(
            f"timestamp: {push.timestamp.isoformat()} is {(at - now) / 60:.0f} minutes ahead of this clock, and until then every"
            " other push would be too late. It is the instant of the push: see to the sender's clock."
        )
    return Push(push.data.commit, now, at, push.data.yaml)


_BY_KIND: Mapping[HookKind, Callable[[Hook, Mapping[str, str], bytes, float], Push | Ignored]] = {
    HookKind.GITHUB: _github,
    HookKind.GITLAB: _gitlab,
    HookKind.GENERIC: _generic,
}


def _moved(hook: Hook, repository: str, number: int | None, ref: str, push: Push) -> Push | Ignored:
    repository_id = "" if number is None else str(number)
    is_same = repository_id in ("", hook.repository_id) or not hook.repository_id
    if repository.lower() != hook.repository.lower():  # forges tell names apart by their letters, not by their case
        renamed = f", which is called {repository} by now: make the webhook again" if is_same and repository_id else ""
        return Ignored(f"this webhook follows {hook.repository}{renamed or ', and this is another repository'}")
    if not is_same:
        return Ignored(pins.refusal(repository, repository_id, (hook,)))
    if ref != f"refs/heads/{hook.branch}":
        return Ignored(f"this webhook follows the branch {hook.branch}, and this is another ref")
    if not push.commit.strip(_NOTHING):
        return Ignored(f"{hook.branch} was deleted: the service stays as it is")
    return replace(push, repository_id=repository_id)


def _parsed(model: type[_M], document: bytes) -> _M:
    try:
        return model.model_validate_json(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in found)
        raise Invalid(f"The delivery is not of the form that was expected: {faults}") from error
