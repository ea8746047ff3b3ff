"""What the API takes and gives. `/openapi.json` is generated from these models and the routes.

Requests refuse unknown members; answers carry instants as ISO 8601 in UTC.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    SecretStr,
    StringConstraints,
    model_validator,
)

from chalicelib.api import paging
from chalicelib.model import (
    MAX_SECRET_BYTES,
    SECRET_NAME,
    CapacityType,
    HookKind,
    LeftoverKind,
    OidcIssuer,
    Reason,
    ReplicaStatus,
    Scope,
    ServiceStatus,
)

RESERVED_NAMES = frozenset({"v1", "healthz"})  # the first segments of our own paths, here and at the edge
_NAME = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
# What a secret may be for: a service, all whose names begin so, or all.
SERVICE_PATTERN = r"^(\*|[a-z]([-a-z0-9]{0,38}[a-z0-9])?|[a-z][-a-z0-9]{0,38}\*)$"
_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$"  # no control characters, nor any that turn the direction
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
# The record that every pass reads holds the file's `setup` and `run`; DynamoDB stops at 400 KB.
MAX_YAML_CHARACTERS = 64 * 1024
MAX_ENVS_CHARACTERS = 32 * 1024
EXAMPLE_YAML = "service: {readiness_probe: /, ports: 8080}\nresources: {cpus: 2+}\nrun: python3 -m http.server 8080\n"
# Each is some 250 bytes of every table that a router takes.
MOST_KEYS = 1000
LONGEST_OVERLAP_S = 365 * 86_400.0
LONGEST_KEY_S = 10 * LONGEST_OVERLAP_S
MOST_ADMIN_KEYS = 1000
# Each is looked at by every tick, and a delivery to /v1/hooks/github is held against all of its repository's.
MOST_WEBHOOKS = 200
MOST_TRUSTS = 200
MOST_USERS = 100  # entries that say which services may use a secret
SLOWEST_PER_S, FASTEST_PER_S = 0.001, 1e6  # of a key's rate


def valid_name(name: str) -> str:
    """A service's name as it was given. Raises ValueError, saying what names look like, when it cannot be one."""
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is reserved; choose another name")
    if not re.fullmatch(_NAME, name):
        rule = "1 to 40 of a-z, 0-9 and -, a letter first, no - last"
        raise ValueError(f"{name!r} cannot name a service: a name is {rule}")
    return name


def _within_size(envs: dict[str, str]) -> dict[str, str]:
    size = sum(len(key) + len(value) for key, value in envs.items())
    if size > MAX_ENVS_CHARACTERS:
        raise ValueError(f"has {size:,} characters in total; at most {MAX_ENVS_CHARACTERS:,} are kept")
    return envs


def _whole(number: object) -> object:
    """JSON knows one kind of number, and to JSON Schema 2.0 is an integer."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _dated(text: object) -> object:
    """Pydantic takes numbers for epoch seconds; the schema says `date-time`."""
    if isinstance(text, str) and not re.match(r"\d{4}-\d{2}-\d{2}[Tt]", text):
        raise ValueError("expected an instant such as 2030-01-02T03:04:05Z")
    return text


def _one_line(text: str) -> str:
    if not re.fullmatch(_LINE, text):
        raise ValueError("must be one line without control characters")
    return text


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
Line = Annotated[str, Field(json_schema_extra={"pattern": _LINE}), AfterValidator(_one_line)]
_NAMES: dict[str, JsonValue] = {"pattern": _NAME, "not": {"enum": [*sorted(RESERVED_NAMES)]}}
ServiceName = Annotated[str, Field(json_schema_extra=_NAMES), AfterValidator(valid_name)]
_INTEGRAL = BeforeValidator(_whole)  # after the bounds, or pydantic leaves them out of the schema
Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True), _INTEGRAL]
ReplicaId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")]
Token = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Cursor = Annotated[
    str,
    Field(json_schema_extra={"pattern": paging.PATTERN}, max_length=paging.LONGEST_CURSOR),
    AfterValidator(paging.valid_cursor),
]
EpochSecond = Annotated[int, Field(ge=0, le=10**11, strict=True), _INTEGRAL]


class _Request(BaseModel):
    # What is refused may hold a secret, and an error may end up in a log.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class _Body(_Request):
    """A request's body. Strict: `false` is no number of seconds, though Python would have it so."""

    model_config = ConfigDict(strict=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


# --- requests ---------------------------------------------------------------------------------------------------------


class UpdateService(_Body):
    """A service's YAML, as its owner wrote it, and values that replace its `envs`."""

    yaml: Annotated[
        str, StringConstraints(min_length=1, max_length=MAX_YAML_CHARACTERS), Field(examples=[EXAMPLE_YAML])
    ]
    envs: Annotated[dict[str, str], AfterValidator(_within_size)] = Field(default_factory=dict)


class CreateService(UpdateService):
    """A new service."""

    name: ServiceName


class PageQuery(_Request):
    """How many at the most, and from where on: `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Cursor | None = None


class VersionsQuery(_Request):
    """The same for versions, of which 64 KB each fit into one answer of a function's (6 MB)."""

    limit: Annotated[int, Field(ge=1, le=50)] = 20
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")] | None = None


class EventsQuery(PageQuery):
    """Which events: after an instant, of a kind (or kinds that start so), the newest ones."""

    after: Annotated[AwareDatetime, BeforeValidator(_dated)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z_.]{0,64}$")] = ""


class LogQuery(_Request):
    """How many lines of a log."""

    tail: Annotated[int, Field(ge=1, le=10_000)] = 100


class PreemptQuery(_Request):
    """How long before the machine is taken its replica learns of it. 30 s is what GCP and Azure give."""

    notice_s: Annotated[float, Field(ge=0, le=600)] = 30.0


class Exchange(_Body):
    """What a router counted since the last exchange that was answered, and which table it has.

    `requests`: service -> [[epoch second, count], …]. The batch is resent unchanged, with its `seq`, until it is answered.
    `used`: id of an endpoint key -> epoch second of its last use. `on_demand`: a function, which reports when it is asked for
    something; its silence is no load.
    """

    router_id: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][-a-zA-Z0-9_.]{0,63}$")]
    seq: Annotated[int, Field(ge=0, le=2**53, strict=True), _INTEGRAL]
    requests: Annotated[
        dict[
            Annotated[str, StringConstraints(max_length=64)],
            Annotated[list[tuple[EpochSecond, Count]], Field(max_length=3600)],
        ],
        Field(max_length=1000),
    ]
    etag: Annotated[str, StringConstraints(max_length=128)] | None = None
    used: Annotated[
        dict[Annotated[str, StringConstraints(max_length=64)], Annotated[float, Field(ge=0, le=1e11)]],
        # Keys come and go while a batch waits, and one that is refused would be sent again, as it is, for ever.
        Field(max_length=10 * MOST_KEYS),
    ] = Field(default_factory=dict)
    on_demand: Annotated[bool, Field(strict=True)] = False


class CreateKey(_Body):
    """A new endpoint key: for which services (`*` = all, later ones too), for how long, how much it may do."""

    name: Annotated[Line, StringConstraints(max_length=64)] = ""
    services: Annotated[tuple[ServiceName | Literal["*"], ...], Field(min_length=1, max_length=100)]
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST_KEY_S)] | None = None
    rate_per_s: Annotated[float, Field(ge=SLOWEST_PER_S, le=FASTEST_PER_S)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=1_000_000, strict=True), _INTEGRAL] | None = None


def _keepable(text: SecretStr) -> SecretStr:
    size = len(text.get_secret_value().encode())
    if not 1 <= size <= MAX_SECRET_BYTES:
        raise ValueError(f"has {size:,} bytes as UTF-8; a secret has 1 to {MAX_SECRET_BYTES:,}")
    if "\0" in text.get_secret_value():
        raise ValueError("holds a NUL character, which no environment can carry")
    return text


_KEEPABLE: dict[str, JsonValue] = {"minLength": 1, "maxLength": MAX_SECRET_BYTES, "pattern": r"^[^\u0000]*$"}


_Users = Annotated[tuple[Annotated[str, StringConstraints(pattern=SERVICE_PATTERN)], ...], Field(max_length=MOST_USERS)]


class SetSecret(_Body):
    """A secret's text, and which services may use it: names, beginnings such as `llm-*`, or `*` for all; none = webhooks only.

    `services` may be left out for a secret that there is: it stays with those that have it.
    """

    text: Annotated[SecretStr, AfterValidator(_keepable), Field(json_schema_extra=_KEEPABLE)]
    services: _Users | None = None


class AllowSecret(_Body):
    """Services that may use a secret, beside those that may already; with `only`, in place of them."""

    services: _Users
    only: bool = False


class RemoveSecret(_Request):
    """Whether to forget a secret although services name it."""

    force: bool = False


class RotateKey(_Body):
    """How long the key that is replaced goes on working beside the new one."""

    overlap_s: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP_S)] = 86_400.0


class CreateAdminKey(_Body):
    """A new admin key: whose it is, what it may do, to which services (`*` = all, later ones too), for how long.

    A key whose maker's ends, ends with it at the latest.
    """

    name: Annotated[Line, StringConstraints(min_length=1, max_length=64)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=len(Scope))]
    services: Annotated[tuple[ServiceName | Literal["*"], ...], Field(min_length=1, max_length=100)] = ("*",)
    expires_in_s: Annotated[float, Field(gt=0, le=LONGEST_KEY_S)] | None = None


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


class CreateWebhook(_Body):
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


class RotateWebhook(_Body):
    """How long deliveries may go on being signed with the key that is replaced."""

    overlap_s: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP_S)] = 86_400.0


class CreateTrust(_Body):
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


class IdentityToken(_Body):
    """A CI job's identity token, a JSON Web Token."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=16 * 1024)]


class LeftoverName(_Body):
    """One leftover, by what it is called in its cloud."""

    provider: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    id: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class RemoveLeftovers(_Body):
    """Which leftovers to remove: as shown, so that nothing goes that nobody has seen."""

    leftovers: Annotated[tuple[LeftoverName, ...], Field(max_length=1000)]


class Boot(_Body):
    """A new machine's claim to be a replica. `machine_key` is random; the machine sends the same one until it is answered."""

    replica_id: ReplicaId
    boot_token: Token
    machine_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class BootedAs(_Request):
    """Which boot of a replica asks."""

    boot_nonce: Token


class AskForSecrets(BootedAs, _Body):
    """An agent's question. `asker` is random; the agent sends the same one until it is answered. Older ones send none."""

    asker: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{32})?$")] = ""


class Interruption(BootedAs, _Body):
    """A cloud's notice, as a replica's agent has it from the machine's metadata. `at` is an epoch second."""

    kind: Literal["INTERRUPTION", "REBALANCE"]
    at: Annotated[float, Field(ge=0, le=1e11)]


# --- answers ----------------------------------------------------------------------------------------------------------


class Replica(_Answer):
    """A replica as its owner sees it. TERMINATED ones stay listed for an hour."""

    id: str
    status: ReplicaStatus
    status_since: AwareDatetime
    reason: Reason | None
    error: str
    version: int
    provider: str
    region: str
    zone: str
    instance_type: str
    accelerators: str
    capacity_type: CapacityType
    price_usd_per_hour: float
    url: str
    created_at: AwareDatetime
    ready_at: AwareDatetime | None


class Service(_Answer):
    """A service as it stands. `probe_path` is without its query, which may hold a key; null where the probe is a POST.

    `etag` changes with the service's version; sent as `If-Match`, it keeps a change from undoing somebody else's.
    """

    name: str
    status: ServiceStatus
    message: str
    endpoint: str
    version: int
    etag: str
    target: int
    ready: int
    updating: bool
    access: Literal["required", "open"]
    routing_mode: Literal["redirect", "resolve"]
    probe_path: str | None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    replicas: tuple[Replica, ...]


class _Page(_Answer):
    """A part of a list. `next` is the `cursor` of the next one; null = that was the last."""

    next: str | None = None


class Services(_Page):
    """Services by name."""

    services: tuple[Service, ...]


class ReplicaCost(_Answer):
    """A machine's price, and what it has cost since it was asked for."""

    id: str
    status: ReplicaStatus
    where: str
    instance_type: str
    capacity_type: CapacityType
    created_at: AwareDatetime
    usd_per_hour: float
    usd_so_far: float


class ServiceCost(_Answer):
    """A service's machines as billed by their clouds, from the request for each to its end; months are UTC's.

    `usd_month_forecast` is the month's if what runs now runs on. Disks, addresses and traffic are not counted.
    """

    name: str
    usd_per_hour: float
    usd_this_month: float
    usd_month_forecast: float
    usd_ever: float
    max_usd_per_hour: float | None
    max_usd_per_month: float | None
    replicas: tuple[ReplicaCost, ...]


class ControlPlaneCost(_Answer):
    """What the control plane itself costs.

    By the model of docs/cost.md for the services of this moment, without and with what AWS leaves free for ever; and as
    measured since the month began, null where nothing measures.
    """

    usd_per_month: float
    usd_per_month_beyond_free: float
    usd_per_month_by_part: dict[str, float]
    usd_this_month_measured: float | None
    message: str


class Costs(_Answer):
    """What everything costs, since the month began. `control_plane` is null for a key that is for some services only."""

    since: AwareDatetime
    services: tuple[ServiceCost, ...]
    control_plane: ControlPlaneCost | None


class Version(_Answer):
    """One immutable version of a service's YAML. Between two with one `fingerprint` no replica is replaced."""

    number: int
    yaml: str
    fingerprint: str
    created_at: AwareDatetime


class Versions(_Page):
    """Versions of a service, oldest first."""

    versions: tuple[Version, ...]


class Event(_Answer):
    """Something that happened to a service."""

    at: AwareDatetime
    kind: str
    message: str
    replica: str
    data: dict[str, str]


class Events(_Page):
    """Events, oldest first; the next page is the one before."""

    events: tuple[Event, ...]


class Unavailable(_Answer):
    """A cloud's refusal that is remembered, the latest of `failures` in a row; empty strings mean "any"."""

    provider: str
    region: str
    zone: str
    instance_type: str
    capacity_type: str
    fingerprint: str
    reason: Reason
    message: str
    failures: int
    until: AwareDatetime


class Why(_Answer):
    """What the control plane would do now, what it last did, and what it leaves alone."""

    now: tuple[str, ...]
    decisions: tuple[Event, ...]
    unavailable: tuple[Unavailable, ...]


class Log(_Answer):
    """The last lines of a replica's log."""

    replica: str
    log: str


class Accepted(_Answer):
    """An action on a replica that was begun."""

    replica: str
    action: Literal["drain", "preempt", "kill"]


class Key(_Answer):
    """An endpoint key as its owner sees it: all but the key itself. None in a limit means that there is none."""

    id: str
    name: str
    services: tuple[str, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    expired: bool
    last_used_at: AwareDatetime | None
    rate_per_s: float | None
    concurrency: int | None


class Keys(_Page):
    """Endpoint keys, oldest first; expired ones stay listed for a week."""

    keys: tuple[Key, ...]


class NewKey(Key):
    """A key that was just made, and the only time that its text is told."""

    key: str


class AdminKey(_Answer):
    """An admin key as it is listed: all but the key itself. `created_by` is the id of the key that made it."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    services: tuple[str, ...]
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None
    expired: bool
    last_used_at: AwareDatetime | None


class AdminKeys(_Page):
    """Admin keys but the root one, oldest first; expired ones for as long again as they were good, a week at the most."""

    keys: tuple[AdminKey, ...]


class NewAdminKey(AdminKey):
    """An admin key that was just made, and the only time that its text is told."""

    key: str


class AuditEntry(_Answer):
    """Who asked for a change, of what, and what became of it.

    `target` names what was made, changed or removed: its id and, in brackets, what it is called. `status` null = not known to
    have ended; `replayed` = nothing was done.
    """

    id: str
    at: AwareDatetime
    principal: str
    name: str
    operation: str
    target: str = ""
    method: str
    path: str
    ip: str
    status: int | None
    replayed: bool


class Audit(_Page):
    """Audit entries, newest first, kept for 90 days."""

    entries: tuple[AuditEntry, ...]


class Revoked(_Answer):
    """A key that is refused from now on: an endpoint key by every router once it has its next table."""

    id: str
    name: str = ""


class Secret(_Answer):
    """A secret without its text. `version` rises with every change; `used_by` are the services whose files name it.

    `services` are those that may: names, beginnings such as `llm-*`, or `*` for all. `webhooks` are the ids of those that show
    it to their forge.
    """

    name: str
    version: int
    changed_at: AwareDatetime
    services: tuple[str, ...]
    used_by: tuple[str, ...]
    webhooks: tuple[str, ...]


class Secrets(_Page):
    """Secrets by name."""

    secrets: tuple[Secret, ...]


class SecretUse(_Answer):
    """A secret that was changed or forgotten, the services that may use it, and those whose files name it."""

    name: str
    services: tuple[str, ...]
    used_by: tuple[str, ...]


class Pushed(_Answer):
    """The latest push that was heard of; `pending` as long as nothing has been done about it."""

    commit: str
    at: AwareDatetime
    pending: bool


class Outcome(_Answer):
    """What became of a branch's head: a version of the service or, when it was refused, null, and why in `message`."""

    commit: str
    at: AwareDatetime
    version: int | None
    message: str


class Webhook(_Answer):
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


class Webhooks(_Page):
    """Webhooks by id."""

    webhooks: tuple[Webhook, ...]


class NewWebhook(Webhook):
    """A webhook with the secret that its deliveries are to be signed with, which is told in this answer only."""

    secret: str


class Removed(_Answer):
    """A webhook whose deliveries, or a trust whose jobs, are refused from now on."""

    id: str


class Delivered(_Answer):
    """What becomes of a delivery.

    A duplicate, one that was overtaken by a later push, or one that means nothing here, changes nothing.
    """

    webhook: str
    result: DeliveryResult
    message: str


class Trust(_Answer):
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


class Trusts(_Page):
    """Trusts by id."""

    trusts: tuple[Trust, ...]


class Exchanged(_Answer):
    """The table, sealed (see `chalicelib.edge_table` and `identity.sealed`), or null when the router has it already."""

    table: str | None


class Leftover(_Answer):
    """Something in a cloud with our tag that no replica needs. `usd_per_month` is null where it is not known."""

    provider: str
    kind: LeftoverKind
    id: str
    region: str
    replica: str
    why: str
    usd_per_month: float | None


class Leftovers(_Answer):
    """Leftovers, and for each cloud that did not answer why."""

    leftovers: tuple[Leftover, ...]
    unreachable: dict[str, str]


class Intake(_Answer):
    """Whether services are made; `closed_until` is when they will be again by themselves."""

    closed_until: AwareDatetime | None


class Booted(_Answer):
    """What a machine needs to become a replica: the agent's configuration, the agent (a zip file in base64), its packages."""

    config: dict[str, Any]
    agent: str
    requirements: str


class ReplicaSecrets(_Answer):
    """The texts of a replica's secrets, by the variable that holds each."""

    envs: dict[str, str]


class Noticed(_Answer):
    """A notice that was recorded."""

    replica: str


class Health(_Answer):
    """The control plane answers."""

    status: Literal["ok"] = "ok"


class Info(_Answer):
    """Which control plane this is."""

    version: str
    deployment: str
    providers: tuple[str, ...]
    edge_url: str


RestoreOutcome = Literal["restored", "same", "kept", "revoked", "missing"]


class BackupEntry(_Request):
    """One thing of a backup: a service with its versions, a key by its hash, a webhook, a trust, or the name of a secret."""

    kind: Literal["admin_key", "key", "secret", "service", "trust", "webhook"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    document: dict[str, Any]


class BackupQuery(_Request):
    """From where on: `next` of the page before."""

    cursor: Cursor | None = None


class Backup(_Answer):
    """A page of a backup. It has the files of services as they were written, and may hold what is confidential."""

    format: int
    sailplane: str
    deployment: str
    made_at: AwareDatetime
    entries: tuple[BackupEntry, ...]
    next: str | None


class RestoredEntry(_Answer):
    """What became of an entry.

    `same`: it was there already. `kept`: something else of that name is there, and stays. `revoked`: a key that was revoked
    or replaced here or is long over, a trust or a webhook that was removed here: it stays so. `missing`: a secret, whose text has
    to be set.
    """

    kind: str
    id: str
    outcome: RestoreOutcome


class Text(RootModel[str]):
    """What is no JSON."""


class OpenApi(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""


class FieldProblem(_Answer):
    """One thing wrong with a request or a service YAML."""

    path: str
    reason: str
    hint: str
    line: int


class Problem(_Answer):
    """RFC 9457 problem details. `problems` and `suggestions` come with a 422, `request_id` with a 500."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    problems: tuple[FieldProblem, ...] = ()
    suggestions: tuple[str, ...] = ()
    request_id: str = ""
