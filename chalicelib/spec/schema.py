"""What a user may write: the only definition of the service file.

SkyServe's fields and Sailplane's own, their types, bounds, defaults and rules. A rule about several fields sits on the
last of them and reads the earlier ones from `info.data`, so that one bad field does not hide another. `Later` marks
what is read and checked but has no machinery behind it yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from chalicelib.model import RISK_AWARE, SECRET_NAME, SPOTHEDGE, ProbeSpec, RoutingSpec, ScalingSpec
from chalicelib.spec import forms, references
from chalicelib.spec.values import (
    MAX_LABELS,
    AcceleratorCounts,
    AcceleratorText,
    AnyCase,
    AtLeastOne,
    Broken,
    Cloud,
    Count,
    HeaderName,
    HeaderValue,
    ImageId,
    Infra,
    LabelKey,
    LabelValue,
    MetricName,
    ModelName,
    NonEmpty,
    Positive,
    PositiveSeconds,
    ProbePath,
    Seconds,
    TargetByAccelerator,
    Text,
    all_broken,
    broken,
    checked,
    fits_header,
    nearest,
)

_PROBE = ProbeSpec()
_SCALING = ScalingSpec()
_ROUTING = RoutingSpec()
# Clients follow nine redirects in a row and a router may hold a request for 25 s, so eight of its own and the replica's.
_LONGEST_WAIT_S = 200
# Each is read at every pass, for up to 1 ms; a week of hours that all differ would be 168.
_MOST_ENTRIES = 200
_PLACE = ("cloud", "region", "zone")
_FOR_SPOT = (
    "dynamic_ondemand_fallback",
    "base_ondemand_fallback_replicas",
    "spot_placer",
    "spot_spread",
    "spot_zone_memory_seconds",
    "spot_zone_backoff",
    "replace_on_rebalance",
    "availability_target",
)
# What each of these refines; under another placer it is read by nobody.
REFINED = {
    "spot_spread": SPOTHEDGE,
    "spot_zone_memory_seconds": SPOTHEDGE,
    "spot_zone_backoff": SPOTHEDGE,
    "availability_target": RISK_AWARE,
}


@dataclass(frozen=True, slots=True)
class Later:
    """Marks a field that is not acted on yet: what that means for its user, and for which values it is true."""

    sentence: str
    when: Callable[[Any], bool] = bool


class Section(BaseModel):
    """A map whose keys are all known."""

    # A text may be given in the wrong place, and an error may end up in a log.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)

    may_be_empty: ClassVar[frozenset[str]] = frozenset()  # keys that users leave without a value
    refused: ClassVar[dict[str, tuple[str, str]]] = {}  # keys that SkyServe knows elsewhere: (reason, hint)


# --- service ---------------------------------------------------------------------------------------------------------


class Probe(Section):
    """When a replica is ready: the engine answers 200."""

    path: ProbePath
    post_data: Annotated[str | dict[str, Any], checked(forms.json_text)] | None = Field(
        default=None, description="A map, or JSON as text. When given, the probe is a POST with this body."
    )
    headers: dict[HeaderName, HeaderValue] = {}
    initial_delay_seconds: Seconds = Field(
        default=_PROBE.initial_delay_s, description="How long a new replica may take."
    )
    timeout_seconds: PositiveSeconds = _PROBE.timeout_s
    endpoint_probe_interval_seconds: PositiveSeconds = _PROBE.interval_s
    consecutive_failure_threshold_timeout: Seconds = Field(
        default=_PROBE.failure_threshold_s, description="Seconds of failure after which a ready replica is given up."
    )


class PrometheusMetric(Section):
    """A metric that the engine exports."""

    prometheus: MetricName


class Schedule(Section):
    """Other bounds from an instant on, until the next one of the list."""

    cron: Annotated[str, checked(forms.cron)]
    timezone: Annotated[str, Field(pattern=r"^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$"), checked(forms.timezone)] = "UTC"
    min_replicas: Count | None = None
    max_replicas: AtLeastOne | None = Field(default=None, validate_default=True)

    @field_validator("max_replicas")
    @classmethod
    def _bounds(cls, maximum: int | None, info: ValidationInfo) -> int | None:
        minimum = info.data.get("min_replicas", 0)
        if minimum is None and maximum is None:
            raise broken("is required, or min_replicas: an entry with neither changes nothing")
        if minimum is not None and maximum is not None and maximum < minimum:
            raise broken(f"must not be below min_replicas ({minimum}), but is {maximum}")
        return maximum


class ReplicaPolicy(Section):
    """How many replicas, depending on load."""

    min_replicas: Count
    target_qps_per_replica: Positive | TargetByAccelerator | None = Field(
        default=None, description="Requests per second that one replica can take; or a map from accelerator[:count]."
    )
    metric: Annotated[Literal["qps", "concurrency", "queue_depth"], AnyCase] | PrometheusMetric = "qps"
    target: Positive | None = Field(
        default=None, description="What one replica can take, in the unit of `metric`.", validate_default=True
    )
    max_replicas: AtLeastOne | None = Field(default=None, validate_default=True)
    upscale_delay_seconds: Seconds = _SCALING.upscale_delay_s
    downscale_delay_seconds: Seconds = _SCALING.downscale_delay_s
    qps_window_seconds: Annotated[float, Field(ge=1, le=600)] = Field(
        default=_SCALING.qps_window_s, description="The load is the average over this many seconds."
    )
    panic_window_seconds: Annotated[float, Field(ge=1, le=600)] | None = Field(
        default=None, description="A burst within so many seconds is followed at once. Absent: no panic mode."
    )
    panic_threshold: Annotated[float, Field(ge=1.1, le=10)] = Field(
        default=_SCALING.panic_threshold, description="How many times the ready replicas a burst has to want."
    )
    look_ahead: bool = Field(
        default=False, description="Launch for the load that the trend expects when a new replica would be ready."
    )
    schedule: Annotated[list[Schedule], Field(max_length=_MOST_ENTRIES)] = Field(
        default=[], description="The bounds by time of the day, week or year."
    )
    num_overprovision: Count | None = Field(default=None, description="Replicas beyond what the load asks for.")
    dynamic_ondemand_fallback: bool = Field(
        default=False, description="On-demand replicas stand in for spot ones that are not ready."
    )
    base_ondemand_fallback_replicas: Count = Field(default=0, description="How many replicas are always on demand.")
    spot_placer: Annotated[Literal["dynamic_fallback", "even_spread", "risk_aware", "round_robin"] | None, AnyCase] = (
        Field(
            default=None,
            description="Where spot replicas go; without it, to the cheapest place that has not just refused.",
        )
    )
    max_spot_price_ratio: Annotated[float | None, Field(gt=0, le=1)] = Field(
        default=None, description="Leave out spot offers dearer than this share of the on-demand price."
    )
    spot_spread: bool = Field(
        default=False, description="dynamic_fallback: when every active zone hosts, the one with the fewest replicas."
    )
    spot_zone_memory_seconds: PositiveSeconds | None = Field(
        default=None, description="dynamic_fallback: how long a zone that took or refused a machine is avoided."
    )
    replace_on_rebalance: bool = Field(
        default=False,
        description="Replace a spot replica when its cloud says that it is at risk, before it gives notice.",
    )
    availability_target: Annotated[float | None, Field(ge=0.5, lt=1)] = Field(
        default=None, description="risk_aware: the share of the time that it is worth paying for."
    )
    spot_zone_backoff: bool = Field(
        default=False, description="dynamic_fallback: ask a zone that refused again after a doubling time, not at once."
    )

    @field_validator("target")
    @classmethod
    def _metric_has_target(cls, target: float | None, info: ValidationInfo) -> float | None:
        metric = info.data.get("metric")
        if metric == "qps" and target is not None:
            raise broken("is for other metrics than qps", "for qps write target_qps_per_replica")
        if metric not in ("qps", None) and target is None:
            raise broken("is required with a metric other than qps")
        if metric not in ("qps", None) and info.data.get("target_qps_per_replica") is not None:
            raise broken("cannot be combined with target_qps_per_replica: a service follows one metric")
        return target

    @field_validator("max_replicas")
    @classmethod
    def _bounds(cls, maximum: int | None, info: ValidationInfo) -> int | None:
        minimum = info.data.get("min_replicas")
        targets = [info.data.get(name, "unreadable") for name in ("target_qps_per_replica", "target")]
        if maximum is None and targets[0] is not None:
            raise broken("is required with target_qps_per_replica")
        if maximum is None or minimum is None:
            return maximum
        if maximum < minimum:
            raise broken(f"must not be below min_replicas ({minimum}), but is {maximum}")
        if maximum > minimum and targets == [None, None] and "metric" in info.data:
            hint = "add target_qps_per_replica, or make both equal"
            raise broken(f"differs from min_replicas ({minimum}), but nothing says when to scale", hint)
        return maximum

    @field_validator("panic_window_seconds")
    @classmethod
    def _panic_is_shorter(cls, panic_s: float | None, info: ValidationInfo) -> float | None:
        stable_s = info.data.get("qps_window_seconds")
        targets = [info.data.get(name, "unreadable") for name in ("target_qps_per_replica", "target")]
        if panic_s is not None and targets == [None, None]:
            raise broken("is for bursts, but nothing says what a replica can take", "add target_qps_per_replica")
        if panic_s is not None and stable_s is not None and panic_s >= stable_s:
            raise broken(f"must be shorter than qps_window_seconds ({stable_s:g})", "a tenth of it is usual")
        return panic_s

    @field_validator("panic_threshold")
    @classmethod
    def _panic_has_window(cls, threshold: float, info: ValidationInfo) -> float:
        if info.data.get("panic_window_seconds", "unreadable") is None:
            raise broken("is for a panic mode, which is off", "add panic_window_seconds")
        return threshold

    @field_validator("look_ahead")
    @classmethod
    def _ahead_of_qps(cls, look_ahead: bool, info: ValidationInfo) -> bool:
        if look_ahead and info.data.get("target_qps_per_replica", "unreadable") is None:
            raise broken("follows requests per second, of which alone a history is kept", "add target_qps_per_replica")
        return look_ahead

    @field_validator("schedule")
    @classmethod
    def _consistent_bounds(cls, schedule: list[Schedule], info: ValidationInfo) -> list[Schedule]:
        if "min_replicas" not in info.data or "max_replicas" not in info.data:
            return schedule
        base = info.data["min_replicas"]
        most = base if info.data["max_replicas"] is None else info.data["max_replicas"]
        is_fixed = [info.data.get(name, "unreadable") for name in ("target_qps_per_replica", "target")] == [None, None]
        for index, entry in enumerate(schedule):
            low = base if entry.min_replicas is None else entry.min_replicas
            high = most if entry.max_replicas is None else entry.max_replicas
            if high < low:
                raise broken(f"leaves max_replicas ({high}) below min_replicas ({low})", "give both", (index,))
            if low != high and is_fixed:
                hint = "add target_qps_per_replica, or make both equal"
                raise broken(f"leaves {low} to {high} replicas, but nothing says when to scale", hint, (index,))
        return schedule


class Tls(Section):
    """The endpoint's certificate."""

    keyfile: Text
    certfile: Text


class Routing(Section):
    """How clients reach a replica."""

    mode: Annotated[Literal["redirect", "resolve"], AnyCase] = Field(
        default="redirect", description="resolve: clients ask GET /SERVICE/_resolve where to go, and go there."
    )
    wait_for_replica_s: Annotated[float, Field(ge=0, le=_LONGEST_WAIT_S)] = Field(
        default=_ROUTING.wait_for_replica_s, description="How long a client is held while nothing is ready."
    )
    sticky_header: HeaderName | None = Field(
        default=None, description="Requests with the same value of it go to the same replica."
    )
    prefix_characters: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=_ROUTING.prefix_characters, description="prefix_aware: how much of a prompt has to be the same."
    )
    slow_start_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=_ROUTING.slow_start_s, description="How long a new replica takes to get its full share."
    )
    prefer_near: bool = Field(
        default=_ROUTING.prefer_near, description="Replicas in the router's own zone or region come first."
    )
    models: Annotated[list[ModelName], Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="What clients call the service in `model`; without it, by its name."
    )


class Access(Section):
    """Who may call the endpoint."""

    keys: Annotated[Literal["required", "open"], AnyCase] = Field(
        default="required",
        description="open: anybody may call, and what they show as a key is passed on to the engine.",
    )
    engine_key_env: Text | None = Field(
        default=None, description="Which of `envs` or `secrets` holds the key that the engine itself asks for."
    )

    @field_validator("engine_key_env")
    @classmethod
    def _holds_a_key(cls, name: str | None, info: ValidationInfo) -> str | None:
        context = info.context or {}
        envs: dict[str, str] = context.get("envs", {})
        if name is None or name in context.get("secrets", ()):
            return name  # whether a secret's text fits is seen where it is known, by the agent
        if name not in envs:
            raise broken(f"names {name!r}, which is not among envs", nearest(name, envs) or "add it to envs")
        if not fits_header(envs[name]):
            raise broken(f"names {name!r}, whose value holds a character that no header can carry")
        return name


class Budget(Section):
    """What a service may cost."""

    max_usd_per_hour: Positive | None = None
    max_usd_per_month: Positive | None = Field(default=None, validate_default=True)
    action: Annotated[Literal["stop_scaling", "shut_down"], AnyCase] = "stop_scaling"

    @field_validator("max_usd_per_month")
    @classmethod
    def _some_limit(cls, per_month: float | None, info: ValidationInfo) -> float | None:
        if per_month is None and info.data.get("max_usd_per_hour", 0) is None:
            raise broken("is required, or max_usd_per_hour: a budget needs a limit")
        return per_month


class Update(Section):
    """How a new version takes over."""

    mode: Annotated[
        Literal["rolling", "blue_green"],
        AnyCase,
        Later("updates are always rolling so far", lambda mode: mode != "rolling"),
    ] = "rolling"
    max_surge: AtLeastOne = Field(default=1, description="How many replicas above max_replicas an update may start.")


class Service(Section):
    """The service: when a replica is ready, how many there are, how clients reach them."""

    readiness_probe: ProbePath | Probe = Field(description="A path, or a map with details. 200 means ready.")
    replica_policy: ReplicaPolicy | None = None
    replicas: Count | None = Field(
        default=None, description="A fixed number; 0 parks the service.", validate_default=True
    )
    load_balancing_policy: Annotated[
        Literal["round_robin", "least_load", "instance_aware_least_load", "prefix_aware"], AnyCase
    ] = "least_load"
    ports: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="The engine's port; needed only when resources.ports names several."
    )
    tls: Annotated[Tls | None, Later("the endpoint has no TLS of its own yet")] = None
    routing: Routing = Routing()
    access: Access = Access()
    budget: Budget | None = None
    update: Update = Update()

    @field_validator("replicas")
    @classmethod
    def _fixed_or_scaled(cls, replicas: int | None, info: ValidationInfo) -> int | None:
        if replicas is not None and info.data.get("replica_policy", "unreadable") is not None:
            hint = "keep replicas for a fixed number, replica_policy for autoscaling"
            raise broken("service.replicas and service.replica_policy exclude each other", hint)
        return replicas

    @field_validator("routing")
    @classmethod
    def _prefix_is_looked_at(cls, routing: Routing, info: ValidationInfo) -> Routing:
        is_given = "prefix_characters" in routing.model_fields_set
        if is_given and info.data.get("load_balancing_policy", "prefix_aware") != "prefix_aware":
            hint = "set service.load_balancing_policy: prefix_aware"
            raise broken("is for the policy prefix_aware", hint, ("prefix_characters",))
        return routing


# --- resources -------------------------------------------------------------------------------------------------------


class AutostopDetails(Section):
    """When an idle machine stops."""

    idle_minutes: Count | None = None
    down: bool = False
    wait_for: str | None = None
    hook: str | None = None
    hook_timeout: AtLeastOne | None = None


class Candidate(Section):
    """One acceptable kind of machine."""

    may_be_empty = frozenset({"ports", "image_id"})
    refused: ClassVar[dict[str, tuple[str, str]]] = {
        "job_recovery": ("is forbidden in a service, which replaces its replicas by itself", "remove it"),
        "gpus": ("is not a known key", "did you mean accelerators?"),
    }

    cloud: Cloud | None = None
    region: Text | None = None
    zone: Text | None = None
    infra: Infra | None = Field(default=None, description="cloud[/region[/zone]], * for any")
    accelerators: Annotated[
        AcceleratorText | NonEmpty[AcceleratorText] | AcceleratorCounts | None,
        Field(
            description="NAME[:COUNT] or 80GB[+]; a map or set: the cheapest of them; a list: in order of preference"
        ),
    ] = None
    cpus: Annotated[float | str, checked(forms.amount)] | None = None
    memory: Annotated[float | str, checked(forms.memory)] | None = Field(
        default=None, description="GiB, or with a unit"
    )
    instance_type: Text | None = None
    use_spot: bool = False
    max_hourly_cost: Positive | None = Field(default=None, description="US dollars an hour for one replica")
    ports: Annotated[int | str | NonEmpty[int | str], checked(forms.ports)] | None = None
    disk_size: Annotated[int | str, checked(forms.disk_size)] | None = Field(
        default=None, description="GiB of the boot disk, or with a unit"
    )
    disk_tier: Annotated[Literal["low", "medium", "high", "ultra", "best", "none"] | None, AnyCase] = Field(
        default=None, description="none: whatever the cloud gives"
    )
    network_tier: Annotated[
        Literal["standard", "best"] | None, AnyCase, Later("machines get their default network")
    ] = None
    image_id: Annotated[
        ImageId | Annotated[dict[Text, ImageId], Field(min_length=1)] | None,
        Later(
            "an image for each region is not told apart yet; the default image is used",
            lambda ids: isinstance(ids, dict),
        ),
    ] = Field(default=None, description="The cloud's name of an image, or docker:IMAGE")
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MAX_LABELS)] = {}
    autostop: Annotated[
        bool | int | str | AutostopDetails | None, Later("replicas come and go by load, not by autostop")
    ] = None

    @field_validator("infra")
    @classmethod
    def _one_way_to_place(cls, infra: str | None, info: ValidationInfo) -> str | None:
        also = [name for name in _PLACE if info.data.get(name, "unreadable") is not None]
        if infra is not None and also:
            raise broken(f"cannot be combined with {', '.join(also)}", "write all of it as infra: cloud/region/zone")
        return infra


class Resources(Candidate):
    """What machine a replica needs: one kind, the cheapest of several (any_of), or the first available (ordered)."""

    any_of: NonEmpty[Candidate] | None = None
    ordered: NonEmpty[Candidate] | None = None

    @field_validator("any_of")
    @classmethod
    def _no_order_within(cls, any_of: list[Candidate] | None, info: ValidationInfo) -> list[Candidate] | None:
        hint = "write the accelerators as a map, or use ordered"
        for index, candidate in enumerate(any_of or ()):
            own = candidate.accelerators
            effective = info.data.get("accelerators") if own is None else own
            if isinstance(effective, list) and len(effective) > 1:
                at = (index,) if own is None else (index, "accelerators")
                raise broken(
                    "takes the cheapest, which contradicts a list of accelerators in order of preference", hint, at
                )
        return any_of

    @field_validator("ordered")
    @classmethod
    def _one_kind_of_choice(cls, ordered: list[Candidate] | None, info: ValidationInfo) -> list[Candidate] | None:
        if ordered is not None and info.data.get("any_of", "unreadable") is not None:
            raise broken("resources.any_of and resources.ordered exclude each other")
        return ordered

    def candidates(self) -> list[Candidate]:
        """Every acceptable kind of machine, the common fields filled in."""
        return [_merged(self, each) for each in self.any_of or self.ordered or [Candidate()]]


def _merged(base: Resources, own: Candidate) -> Candidate:
    fields = {name: getattr(base, name) for name in base.model_fields_set & Candidate.model_fields.keys()}
    if "infra" in own.model_fields_set:
        fields = {name: value for name, value in fields.items() if name not in _PLACE}
    elif base.infra is not None and not own.model_fields_set.isdisjoint(_PLACE):
        del fields["infra"]
        places = zip(_PLACE, forms.infra(base.infra), strict=True)
        fields |= {name: value for name, value in places if value}
    fields |= {name: getattr(own, name) for name in own.model_fields_set}
    fields["labels"] = base.labels | own.labels
    return Candidate.model_construct(_fields_set=set(fields), **fields)


# --- the file --------------------------------------------------------------------------------------------------------


class GitWorkdir(Section):
    """A working directory that is cloned."""

    url: Text
    ref: Text | None = None


class StorageMount(Section):
    """A bucket at a path."""

    name: Text | None = None
    source: Text | list[Text] | None = None
    store: Text | None = None
    persistent: bool = True
    mode: Annotated[Literal["mount", "copy", "mount_cached"] | None, AnyCase] = None
    mount_options: str | None = None
    type: Text | None = None
    config: dict[str, Any] = {}


EnvValue = str | int | float | bool | None


def _secret_name(name: str) -> str:
    if not references.is_name(name):  # not repeated: it may be a text put in the wrong place
        raise broken("is not a secret's name", "as `sailplane secrets list` shows it")
    return name


class SecretReference(Section):
    """A secret that is called otherwise than the variable."""

    ref: Annotated[str, Field(json_schema_extra={"pattern": SECRET_NAME}), AfterValidator(_secret_name)]


class ServiceFile(Section):
    """A service file: SkyServe's, and what Sailplane adds."""

    refused = {"managed_secrets": ("is not taken", "write `NAME:` under `secrets:`; it becomes a variable, not a file")}

    may_be_empty = frozenset(
        {"name", "resources", "envs", "secrets", "workdir", "file_mounts", "num_nodes", "setup", "run"}
    )

    name: str | None = None
    resources: Resources | None = None
    service: Service
    envs: dict[str, EnvValue] | None = Field(
        default=None, description="Empty values must be given with --env or --env-file."
    )
    secrets: dict[str, SecretReference | EnvValue] | list[str] | None = Field(
        default=None,
        description="Variables whose values are kept with `sailplane secrets set`: NAME, or NAME: {ref: OTHER}.",
    )
    workdir: Annotated[
        Text | GitWorkdir | None,
        Later("repositories are not cloned yet; a path is copied", lambda value: isinstance(value, GitWorkdir)),
    ] = None
    file_mounts: Annotated[
        dict[str, Text | StorageMount] | None, Later("nothing is mounted or copied to these paths yet")
    ] = None
    num_nodes: Annotated[
        AtLeastOne | None, Later("a replica is one machine so far", lambda number: number is not None and number > 1)
    ] = None
    setup: str | None = None
    run: str | None = None

    @field_validator("secrets")
    @classmethod
    def _names_secrets(
        cls, secrets: dict[str, SecretReference | EnvValue] | list[str] | None, info: ValidationInfo
    ) -> dict[str, SecretReference | EnvValue] | list[str] | None:
        if rules := list(references.wrong(secrets or {}, (info.context or {}).get("envs", {}))):
            raise all_broken(rules)
        return secrets

    @field_validator("service")
    @classmethod
    def _fits_resources(cls, service: Service, info: ValidationInfo) -> Service:
        if "resources" not in info.data:
            return service
        candidates = (info.data["resources"] or Resources()).candidates()
        rules = [*_port_rules(service, candidates), *_spot_rules(service, candidates)]
        if rules:
            raise all_broken(rules)
        return service


def _port_rules(service: Service, candidates: list[Candidate]) -> Iterator[Broken]:
    opened = [forms.ports(each.ports) for each in candidates if each.ports is not None]
    if service.ports is not None:
        if any(service.ports not in each for each in opened):
            yield Broken(f"{service.ports} is not among resources.ports, so nothing could reach it", at=("ports",))
    elif len(opened) < len(candidates):
        hint = "write resources.ports, e.g. ports: 8080"
        yield Broken("is required: nothing says on which port the engine listens", hint, ("ports",))
    elif len(frozenset().union(*opened)) > 1:
        reason = "is required: resources.ports names several, and one of them must be the engine's"
        yield Broken(reason, "write the engine's port as service.ports", ("ports",))


def _spot_rules(service: Service, candidates: list[Candidate]) -> Iterator[Broken]:
    policy = service.replica_policy
    if policy is None or all(each.use_spot for each in candidates):
        return
    for name in _FOR_SPOT:
        if getattr(policy, name):
            hint = "set use_spot: true in resources, and in every entry that overrides it"
            yield Broken("is for spot replicas, but not all resources use spot", hint, ("replica_policy", name))
