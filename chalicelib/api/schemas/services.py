"""What is said about services, their replicas, versions and events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints

from chalicelib.api.schemas.fields import Answer, Body, Page, PageQuery, Request, ServiceName, dated
from chalicelib.model import CapacityType, Reason, ReplicaStatus, ServiceStatus

# The record that every pass reads holds the file's `setup` and `run`; DynamoDB stops at 400 KB.
MAX_YAML_CHARACTERS = 64 * 1024
MAX_ENVS_CHARACTERS = 32 * 1024
EXAMPLE_YAML = "service: {readiness_probe: /, ports: 8080}\nresources: {cpus: 2+}\nrun: python3 -m http.server 8080\n"


def _within_size(envs: dict[str, str]) -> dict[str, str]:
    size = sum(len(key) + len(value) for key, value in envs.items())
    if size > MAX_ENVS_CHARACTERS:
        raise ValueError(f"has {size:,} characters in total; at most {MAX_ENVS_CHARACTERS:,} are kept")
    return envs


class UpdateService(Body):
    """A service's YAML, as its owner wrote it, and values that replace its `envs`."""

    yaml: Annotated[
        str, StringConstraints(min_length=1, max_length=MAX_YAML_CHARACTERS), Field(examples=[EXAMPLE_YAML])
    ]
    envs: Annotated[dict[str, str], AfterValidator(_within_size)] = Field(default_factory=dict)


class CreateService(UpdateService):
    """A new service."""

    name: ServiceName


class VersionsQuery(Request):
    """The same for versions, of which 64 KB each fit into one answer of a function's (6 MB)."""

    limit: Annotated[int, Field(ge=1, le=50)] = 20
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")] | None = None


class EventsQuery(PageQuery):
    """Which events: after an instant, of a kind (or kinds that start so), the newest ones."""

    after: Annotated[AwareDatetime, BeforeValidator(dated)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z_.]{0,64}$")] = ""


class LogQuery(Request):
    """How many lines of a log."""

    tail: Annotated[int, Field(ge=1, le=10_000)] = 100


class PreemptQuery(Request):
    """How long before the machine is taken its replica learns of it. 30 s is what GCP and Azure give."""

    notice_s: Annotated[float, Field(ge=0, le=600)] = 30.0


class Replica(Answer):
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


class Service(Answer):
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


class Services(Page):
    """Services by name."""

    services: tuple[Service, ...]


class Version(Answer):
    """One immutable version of a service's YAML. Between two with one `fingerprint` no replica is replaced."""

    number: int
    yaml: str
    fingerprint: str
    created_at: AwareDatetime


class Versions(Page):
    """Versions of a service, oldest first."""

    versions: tuple[Version, ...]


class Event(Answer):
    """Something that happened to a service."""

    at: AwareDatetime
    kind: str
    message: str
    replica: str
    data: dict[str, str]


class Events(Page):
    """Events, oldest first; the next page is the one before."""

    events: tuple[Event, ...]


class Unavailable(Answer):
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


class Why(Answer):
    """What the control plane would do now, what it last did, and what it leaves alone."""

    now: tuple[str, ...]
    decisions: tuple[Event, ...]
    unavailable: tuple[Unavailable, ...]


class Log(Answer):
    """The last lines of a replica's log."""

    replica: str
    log: str


class Accepted(Answer):
    """An action on a replica that was begun."""

    replica: str
    action: Literal["drain", "preempt", "kill"]
