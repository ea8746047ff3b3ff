"""The nouns of Sailplane.

Everything here is a frozen dataclass or an enum and imports the standard library only, so that the deciding modules
(`scaler`, `optimizer`, `lifecycle`, `routing`) can be read, tested and simulated without a cloud, a clock or a store.

Instants are epoch seconds (float). Durations carry the suffix ``_s``. Money is US dollars per hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class CapacityType(StrEnum):
    """How a machine is bought. Spot is cheaper and may be taken back at short notice."""

    SPOT = "SPOT"
    ON_DEMAND = "ON_DEMAND"


class ReplicaStatus(StrEnum):
    """Where a replica stands: PENDING → PROVISIONING → STARTING → READY ⇄ NOT_READY → DRAINING → TERMINATING → TERMINATED."""

    PENDING = "PENDING"  # intent written; the cloud may or may not have been asked
    PROVISIONING = "PROVISIONING"  # the cloud accepted; the agent has not answered yet
    STARTING = "STARTING"  # the agent answers with the right identity; the engine has never been ready
    READY = "READY"  # the readiness probe passes; routed
    NOT_READY = "NOT_READY"  # was ready, now failing its probe; unrouted, not yet given up
    DRAINING = "DRAINING"  # unrouted, finishing the requests it has
    TERMINATING = "TERMINATING"  # the cloud is to remove it; not yet seen gone
    TERMINATED = "TERMINATED"  # seen gone; kept for a while as history

    @property
    def is_active(self) -> bool:
        """Counts towards the number of replicas the service wants."""
        return self in _ACTIVE


_ACTIVE = frozenset(
    {
        ReplicaStatus.PENDING,
        ReplicaStatus.PROVISIONING,
        ReplicaStatus.STARTING,
        ReplicaStatus.READY,
        ReplicaStatus.NOT_READY,
    }
)


class Reason(StrEnum):
    """Why a replica was drained or terminated."""

    SCALED_DOWN = "SCALED_DOWN"
    INTERRUPTED = "INTERRUPTED"  # the cloud gave notice
    PREEMPTED = "PREEMPTED"  # a spot machine went without (or after) notice
    UNHEALTHY = "UNHEALTHY"  # the probe failed longer than its threshold
    INITIAL_DELAY_EXCEEDED = "INITIAL_DELAY_EXCEEDED"  # never became ready in time
    ENGINE_EXITED = "ENGINE_EXITED"  # `setup` failed or `run` ended
    NO_CAPACITY = "NO_CAPACITY"
    QUOTA = "QUOTA"
    LAUNCH_REFUSED = "LAUNCH_REFUSED"  # the cloud will not take this request (credentials, bad field)
    LOST = "LOST"  # the cloud no longer knows the machine
    REPLACED = "REPLACED"  # by a newer version of the service
    USER = "USER"

    @property
    def blames_user_code(self) -> bool:
        """The service's own command or image is the likely cause, so a new machine will probably fail the same way."""
        return self in (Reason.ENGINE_EXITED, Reason.INITIAL_DELAY_EXCEEDED, Reason.UNHEALTHY)


class ServiceStatus(StrEnum):
    """What a service is worth to its clients right now."""

    STARTING = "STARTING"  # wants replicas, none has been ready yet
    READY = "READY"  # at least `min_replicas` are ready, one at the least; a scale-out may be under way
    DEGRADED = "DEGRADED"  # some ready, fewer than that; or all lost and being replaced
    IDLE = "IDLE"  # scaled to zero; the first request wakes it
    FAILED = "FAILED"  # none ready and the service's own command is to blame; retried with back-off
    SHUTTING_DOWN = "SHUTTING_DOWN"


# --- the market -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place that capacity is bought in. Clouds without zones (Azure) leave `zone` empty."""

    provider: str
    region: str
    zone: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.provider, self.region, self.zone) if part)


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that can be bought: a type of machine, in a place, at a price."""

    location: Location
    instance_type: str
    vcpus: float
    memory_gib: float
    capacity_type: CapacityType
    price_usd_per_hour: float
    accelerator: str = ""  # canonical catalog name, e.g. "A100-80GB"; empty on a CPU machine
    accelerator_count: int = 0
    accelerator_memory_gib: float = 0.0  # of one accelerator

    @property
    def accelerators(self) -> str:
        """`L4:8`, or empty on a CPU machine."""
        return f"{self.accelerator}:{self.accelerator_count:g}" if self.accelerator else ""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A remembered refusal: do not ask here again before `until`.

    The scope is as wide as the refusal: capacity blocks an instance type in a zone, quota a region, auth a whole
    provider; a request that is unacceptable as such blocks a region to replicas of its `fingerprint` only. Empty strings mean
    "any". `failures` counts the refusals in a row.
    """

    provider: str
    region: str
    zone: str
    instance_type: str
    capacity_type: str
    reason: Reason
    message: str
    since: float
    until: float
    failures: int = 1
    fingerprint: str = ""

    @property
    def scope(self) -> tuple[str, ...]:
        """Of two refusals with one scope, the later replaces the earlier."""
        place = (self.provider, self.region, self.zone)
        return (*place, self.instance_type, self.capacity_type, self.fingerprint)

    def blocks(self, offer: Offer, now: float) -> bool:
        """Whether `offer` lies within the refusal's scope, fingerprints aside, and the refusal still holds at `now`."""
        return now < self.until and self.covers(offer)

    def covers(self, offer: Offer) -> bool:
        """Whether `offer` lies within the refusal's scope, fingerprints aside."""
        place = offer.location
        return (
            self.provider == place.provider
            and self.region in ("", place.region)
            and self.zone in ("", place.zone)
            and self.instance_type in ("", offer.instance_type)
            and self.capacity_type in ("", offer.capacity_type)
        )


@dataclass(frozen=True, slots=True)
class Requirement:
    """One acceptable kind of machine. Everything empty or zero means "any".

    `accelerators` holds alternatives as (canonical name, count); several are acceptable to the same degree.
    """

    provider: str = ""
    region: str = ""
    zone: str = ""
    instance_type: str = ""
    accelerators: tuple[tuple[str, int], ...] = ()
    accelerator_memory_min_gib: float = 0.0  # from `80GB+`
    accelerator_memory_exact_gib: float = 0.0  # from `80GB`
    accelerator_memory_count: int = 1  # how many accelerators of that memory
    vcpus_min: float = 0.0
    vcpus_exact: float = 0.0
    memory_min_gib: float = 0.0
    memory_exact_gib: float = 0.0
    use_spot: bool = False
    max_usd_per_hour: float = 0.0  # 0 = no bound
    disk_size_gib: int = 0
    disk_tier: str = ""
    network_tier: str = ""
    image_id: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What machine a replica needs.

    `groups` are in order of preference; within a group the cheapest offer wins. A set of accelerators or `any_of` is
    one group with several requirements; an accelerator list or `ordered` is several groups with one each.
    """

    groups: tuple[tuple[Requirement, ...], ...] = ((Requirement(),),)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An offer (or a whole kind of offers) that was left out of a plan, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the next replica goes: every feasible offer in order of preference, the first being the chosen one."""

    ranked: tuple[Offer, ...]
    rejected: tuple[Rejected, ...] = ()
    why: str = ""

    @property
    def chosen(self) -> Offer | None:
        return self.ranked[0] if self.ranked else None


# --- the service, as its owner specified it -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """The readiness probe. Defaults are SkyServe's (0.14.1)."""

    path: str = "/"
    post_data: str | None = field(default=None, repr=False)  # JSON text; None = GET
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # may hold a key
    initial_delay_s: float = 1200.0
    timeout_s: float = 15.0
    interval_s: float = 10.0
    failure_threshold_s: float = 180.0

    @property
    def method(self) -> str:
        return "GET" if self.post_data is None else "POST"


class Metric(StrEnum):
    """What the number of replicas follows."""

    QPS = "qps"  # requests per second, counted by the routers
    CONCURRENCY = "concurrency"  # requests inside a replica, counted by its agent
    QUEUE_DEPTH = "queue_depth"  # requests that its engine lets wait, as the engine itself exports it
    PROMETHEUS = "prometheus"  # any other metric of the engine's


_UNITS = {
    Metric.QPS: "requests/s",
    Metric.CONCURRENCY: "requests at once",
    Metric.QUEUE_DEPTH: "requests waiting",
}


@dataclass(frozen=True, slots=True)
class ScheduledBounds:
    """Other bounds from each instant of `cron` on, until another entry's comes. None = the one that holds without a schedule."""

    cron: str
    timezone: str = "UTC"
    min_replicas: int | None = None
    max_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class ScalingSpec:
    """How many replicas. A fixed number is `min_replicas == max_replicas` with no target."""

    min_replicas: int = 1
    max_replicas: int = 1
    target_qps_per_replica: float | None = None  # the lowest one, where they differ by accelerator
    target_qps_by_accelerator: tuple[tuple[str, float], ...] = ()  # ("L4" or "L4:8", qps)
    upscale_delay_s: float = 300.0
    downscale_delay_s: float = 1200.0
    qps_window_s: float = 60.0  # the stable window, of every metric
    metric: Metric = Metric.QPS
    metric_name: str = ""  # of PROMETHEUS
    target_per_replica: float | None = None  # of every metric but QPS
    panic_window_s: float = 0.0  # 0 = no panic mode
    panic_threshold: float = 2.0  # a load over the panic window that wants this many times the ready replicas is panic
    look_ahead: bool = False  # launch for the load that the trend expects when a new replica would be ready
    schedule: tuple[ScheduledBounds, ...] = ()

    @property
    def target(self) -> float | None:
        """What one replica can take, in the metric's unit: the least able one of several kinds. None = a fixed number."""
        return self.target_qps_per_replica if self.metric is Metric.QPS else self.target_per_replica

    @property
    def unit(self) -> str:
        """What the target counts, for people."""
        return self.metric_name if self.metric is Metric.PROMETHEUS else _UNITS[self.metric]

    @property
    def fewest_replicas(self) -> int:
        """The lowest bound that ever holds."""
        return min([self.min_replicas, *(one.min_replicas for one in self.schedule if one.min_replicas is not None)])

    @property
    def most_replicas(self) -> int:
        """The highest bound that ever holds."""
        return max([self.max_replicas, *(one.max_replicas for one in self.schedule if one.max_replicas is not None)])

    @property
    def initial_replicas(self) -> int:
        """A new service starts one replica even at `min_replicas: 0`, so that its owner sees whether it works."""
        return min(max(self.min_replicas, 1), self.max_replicas)


SPOTHEDGE = "dynamic_fallback"  # SkyServe's name for it
RISK_AWARE = "risk_aware"  # ours


@dataclass(frozen=True, slots=True)
class SpotSpec:
    """How spot and on-demand machines are mixed, and where spot ones go. The defaults change nothing.

    The first four are SkyServe's (0.14.1); the others are Sailplane's, each of them off unless asked for. docs/spot.md says why.
    """

    num_overprovision: int = 0  # replicas beyond the target
    dynamic_ondemand_fallback: bool = False  # on-demand replicas stand in for spot ones that are not ready
    base_ondemand_fallback_replicas: int = 0  # of the target, always on demand
    placer: str = ""  # "" = the cheapest offer; others by name, see `optimizer.placers`
    max_spot_price_ratio: float | None = None  # leave out spot offers dearer than this share of the on-demand price
    spread: bool = False  # when every active zone hosts replicas: the one with the fewest instead of the cheapest
    zone_memory_s: float = 0.0  # a zone that took or refused a machine is avoided so long; 0 = until one is ready there
    replace_on_rebalance: bool = False  # act on a cloud's word that a machine is at risk, before it gives notice
    availability_target: float = 0.0  # of risk_aware: the share of the time worth paying for; 0 = its default
    zone_backoff: bool = (
        False  # of dynamic_fallback: heed remembered refusals, as most others do, and do not ask at once
    )

    @property
    def backs_off(self) -> bool:
        """Whether remembered refusals of all services (ADR 12) hold for spot offers: not where the service's own memory does."""
        return self.placer not in (SPOTHEDGE, RISK_AWARE) or self.zone_backoff


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """What a service's machines may cost; None = no limit. `lifecycle.budget` says how it is kept."""

    max_usd_per_hour: float | None = None
    max_usd_per_month: float | None = None  # calendar months, UTC
    shut_down: bool = False  # when the month's is spent: remove what runs, instead of starting nothing more


@dataclass(frozen=True, slots=True)
class RoutingSpec:
    """How clients reach replicas. The defaults change nothing but one: nobody is let in without a key."""

    policy: str = "least_load"  # round_robin | least_load | instance_aware_least_load | prefix_aware
    mode: str = "redirect"  # redirect | resolve
    wait_for_replica_s: float = 0.0  # how long a client is held while nothing is ready
    access: str = "required"  # required | open: whether a client has to show an endpoint key
    engine_key_env: str = (
        ""  # which of the engine's variables holds the key that it asks for itself; empty = it asks for none
    )
    sticky_header: str = ""  # lower case; requests with one value of it go to one replica
    prefix_characters: int = 256  # of the prompt, by which prefix_aware tells prompts apart
    slow_start_s: float = 0.0  # how long a new replica takes to get its full share
    prefer_near: bool = False  # replicas in the router's own zone or region first
    models: tuple[str, ...] = ()  # what clients may call the service in `model`; empty = by its name


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What runs on a replica. `envs` is final: overrides applied, no null left."""

    port: int
    run: str = ""
    setup: str = ""
    envs: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # hold the user's tokens
    workdir: str = ""
    num_nodes: int = 1
    secrets: tuple[tuple[str, str], ...] = ()  # (variable, name of the secret that becomes its value on the replica)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One immutable version of what the owner asked for, in the words of the core."""

    probe: ProbeSpec
    scaling: ScalingSpec
    routing: RoutingSpec
    resources: ResourceRequest
    engine: EngineSpec
    spot: SpotSpec = SpotSpec()
    budget: BudgetSpec = BudgetSpec()
    max_surge: int = 1
    drain_timeout_s: float = 120.0  # SkyServe's
    # A digest of everything a running replica depends on (resources, engine). Two versions with the same digest differ
    # in policy only, and an update between them replaces no machine.
    fingerprint: str = ""


# --- the service, as it stands --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScalerState:
    """What the autoscaler remembers between passes.

    `direction` is the sign of (wanted - target) since `since`. `up_s` and `down_s` are how long each pressure had
    built up by then; see `scaler.pressure` for how they fill and drain. `calm_since` is None as long as the burst of a panic
    lasts; see `scaler.panic`. Everything is an edge and not a level, so that a load which stays as it is writes nothing.
    """

    target: int
    direction: int = 0
    since: float = 0.0
    up_s: float = 0.0
    down_s: float = 0.0
    panicking: bool = False
    calm_since: float | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to leave a service alone whose replicas keep failing by their own fault."""

    failures: int = 0
    retry_at: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class ZoneMemory:
    """What became of a service's latest spot machine in a zone that has lost or refused one; see `optimizer.zones`."""

    place: Location
    since: float  # the latest loss or refusal
    reason: Reason
    failures: int = 1  # in a row; 0 since a replica was ready there
    is_preempting: bool = True
    losses: float = 0.0  # machines taken back, as of `lost_at`: each counts less as days pass
    lost_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Mix:
    """How many replicas: on what the service's file asks for, and on demand in the place of spot ones."""

    own: int
    fallback: int = 0

    def __str__(self) -> str:
        return f"{self.own} spot and {self.fallback} on-demand" if self.fallback else f"{self.own}"

    @property
    def total(self) -> int:
        """Of both kinds."""
        return self.own + self.fallback


@dataclass(frozen=True, slots=True)
class Plan:
    """What `risk_aware` wants for a target; another target makes it void.

    `leaving` are the zones of the spot replicas to give up.
    """

    target: int
    mix: Mix
    leaving: tuple[Location, ...] = ()


@dataclass(frozen=True, slots=True)
class Spend:
    """What the machines of a service that are gone have cost: in the calendar month (UTC) that began at `month_at`, and ever."""

    month_at: float = 0.0
    usd: float = 0.0
    usd_ever: float = 0.0  # since the service was created


@dataclass(frozen=True, slots=True)
class Service:
    """A service's record. `version` is the store's optimistic lock, 0 before the first write.

    `uid` tells two services of the same name apart, so that a name used again never reuses a cloud's idempotency token.
    """

    name: str
    uid: str
    spec_version: int
    spec: ServiceSpec
    scaler: ScalerState
    created_at: float
    updated_at: float
    last_generation: int = 0
    backoff: Backoff = field(default_factory=Backoff)
    deleting: bool = False
    was_ready: bool = False  # some replica has been READY since the service was created or last woken from zero
    plan: Plan | None = None
    zones: tuple[ZoneMemory, ...] = ()  # the executor's to write, in the transaction of the event that changes it
    spend: Spend = Spend()  # the executor's to write too, in the transaction that ends a replica
    held_by_budget: bool = False  # the latest launch that was wanted could not be afforded
    ended: tuple[tuple[Reason, int], ...] = ()  # machines given up since it was created, by why; written as `spend` is
    version: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica's record, written before its machine is asked for and kept until the machine is seen gone.

    `id` is service, uid, slot and generation; it is the cloud's idempotency token and the machine's tag. The agent
    must answer with `id` *and* `boot_nonce`: addresses are reused by clouds and prove nothing.
    """

    service: str
    id: str
    slot: int
    generation: int
    spec_version: int
    fingerprint: str
    offer: Offer
    boot_nonce: str
    status: ReplicaStatus
    status_since: float
    created_at: float
    # What the offer was chosen for. Kept, because repeating a launch must repeat every field of it (AWS refuses a known
    # ClientToken with other parameters).
    requirement: Requirement = Requirement()
    instance_id: str = ""
    url: str = ""  # of the agent, e.g. http://10.0.0.7:8081, no trailing slash
    ready_at: float | None = None  # first time READY
    reason: Reason | None = None
    error: str = ""  # the last error, readable; survives into history
    interruption_at: float | None = None  # the cloud gave notice that it takes the machine at this instant
    is_at_risk: bool = False  # the cloud may take it soon: it serves until another is ready in its place
    removal_error: str = ""  # why the cloud was not told to end the machine, at the last attempt
    removal_failed_at: float = 0.0  # when that was noted
    version: int = 0


@dataclass(frozen=True, slots=True)
class RouterLoad:
    """What one router has counted for one service: (epoch second, requests) pairs, oldest first."""

    router_id: str
    seq: int
    reported_at: float
    counts: tuple[tuple[int, int], ...] = ()
    on_demand: bool = (
        False  # a function: it reports when it is asked for something, so its silence says that nobody asks
    )


@dataclass(frozen=True, slots=True)
class LoadSample:
    """The load on a service in one pass, and who is there to carry it.

    Loads are totals in the metric's unit: requests per second, or the sum of what the ready replicas report.
    `valid=False` means "not all of it is known": what is known may scale up, nothing is ever scaled down.
    """

    stable: float  # over the stable window
    valid: bool
    panic: float = 0.0  # over the panic window, if there is one
    expected: float | None = None  # when a replica launched now would be ready; None = no trend, or not asked for
    asked: bool = False  # a router has counted a request within the stable window
    ready: int = 0  # replicas
    # What each live replica can take, or its successor, in the order in which they stay; only where targets differ.
    capacities: tuple[float, ...] = ()
    missing: str = "not all of it is known"  # what makes it not valid, for people


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done and why, for people: `sailplane events`; the newest ones are part of `sailplane why`."""

    at: float
    kind: str  # e.g. "replica.ready", "service.created", "routes"
    message: str
    replica: str = ""
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """A replica as routers see it."""

    id: str
    url: str
    in_flight: int = 0
    boot_nonce: str = ""  # of the boot whose agent honours the grants
    weight: float = 1.0  # the requests per second that it can take, where those differ by accelerator
    ready_at: float = 0.0  # since when it has been ready, for the first time
    location: str = ""  # e.g. aws/us-east-1/use1-az1


@dataclass(frozen=True, slots=True)
class RouteTable:
    """One service's share of the routing table. `version` rises by one with every change that is published."""

    service: str
    status: ServiceStatus
    routing: RoutingSpec = RoutingSpec()
    routes: tuple[Route, ...] = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class EndpointKey:
    """What is known of a key that clients show at the edge: all but the key itself, of which a hash is kept.

    `services` are names, or `*` for all of them. None in `expires_at` = never, in a limit = no limit.
    """

    id: str  # part of the key's text, ten of 0-9 and a-z
    name: str  # the owner's word for it, possibly empty
    hash: str  # SHA-256 of the key's text, hexadecimal
    services: tuple[str, ...]
    created_at: float
    expires_at: float | None = None
    rate_per_s: float | None = None
    concurrency: int | None = None
    last_used_at: float | None = None  # to the minute
    version: int = 0

    def is_valid(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or now < self.expires_at

    def opens(self, service: str) -> bool:
        """Whether it is for this service."""
        return "*" in self.services or service in self.services


class Scope(StrEnum):
    """What an admin key may be good for. ADMIN is good for everything, DEPLOY for READ too: who deploys has to look."""

    READ = "read"  # services, replicas, logs, events, metrics
    DEPLOY = "deploy"  # create, change and shut down services; act on their replicas
    KEYS = "keys"  # endpoint keys
    SECRETS = "secrets"
    ADMIN = "admin"  # admin keys, audit, leftovers, webhooks, export and import

    def covers(self, other: Scope) -> bool:
        """Whether who has this one may do what `other` stands for."""
        return self in (other, Scope.ADMIN) or (self is Scope.DEPLOY and other is Scope.READ)


@dataclass(frozen=True, slots=True)
class AdminKey:
    """What is known of a key to the control API: all but the key itself, of which a hash is kept.

    `services` are names, or `*` for all of them. None in `expires_at` = never.
    """

    id: str  # part of the key's text, ten of 0-9 and a-f
    name: str  # whose it is, in its maker's words
    hash: str = field(repr=False)  # SHA-256 of the key's text, hexadecimal
    scopes: frozenset[Scope]
    created_at: float
    services: tuple[str, ...] = ("*",)
    expires_at: float | None = None
    last_used_at: float | None = None  # to the hour
    created_by: str = ""  # the id of the key that made it, or who else had it made
    version: int = 0

    def is_valid(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or now < self.expires_at


# What names a secret: like a variable, and like the tokens' own names (`hf-token`, `team.wandb`).
SECRET_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"  # noqa: S105 - the form of names
# Of its text, as UTF-8: more would make it an advanced parameter, at $0.05 a month.
MAX_SECRET_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Secret:
    """What may be known of a text that is kept apart from everything else: all but the text."""

    name: str
    version: int  # rises with every change, and starts over when the secret was removed
    changed_at: float  # to the millisecond
    services: tuple[str, ...] = ()  # see `SecretBinding`

    def is_for(self, service: str) -> bool:
        """Whether a service of this name may use it."""
        return SecretBinding(self.name, self.services).covers(service)


@dataclass(frozen=True, slots=True)
class SecretBinding:
    """Which services may use a secret: names, beginnings of names (`llm-*`), `*` for all; none = webhooks only.

    A secret without a binding is for none either: its text outlives the table, which may be lost or taken from a backup.
    """

    secret: str
    services: tuple[str, ...]
    version: int = 0

    def covers(self, service: str) -> bool:
        """Whether a service of this name may use the secret."""
        return any(
            one == service or (one.endswith("*") and service.startswith(one.removesuffix("*"))) for one in self.services
        )

    def narrowed(self, services: tuple[str, ...]) -> SecretBinding:
        """For those alone that are among `services` too."""
        # Beginnings lie in one another or apart, and a name in a beginning or not: the inner one of each pair is what both cover.
        inner = {*filter(self.covers, services), *filter(replace(self, services=services).covers, self.services)}
        return replace(self, services=tuple(sorted(inner)))


@dataclass(frozen=True, slots=True)
class Claim:
    """A write that its sender may send again without its being done again: who is at it, or what was answered.

    `seed` makes whoever takes over after a crash draw what was drawn before, and so make the same things.
    """

    id: str  # of the sender and its idempotency key
    request: str  # a digest of all that was asked
    seed: str = field(repr=False)
    holder: str  # told apart from others that send the same
    held_until: float  # without an answer by then the holder is taken for dead
    forget_at: float
    answer: str = field(default="", repr=False)  # sealed; empty = not yet


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who asked the control plane to change something, and what became of it: never what was sent, nor what was answered."""

    id: str  # of the request
    at: float
    principal: str  # the id of the admin key
    name: str  # and its name
    operation: str  # e.g. "update"; the API's operationId
    method: str
    path: str
    ip: str
    status: int | None = None  # of the answer; None = not known to have ended
    replayed: bool = False  # answered as before; nothing was done
    target: str = ""  # what was made, changed or removed, e.g. "0123456789 (ci)"


@dataclass(frozen=True, slots=True)
class State:
    """All the store knows of one service that a pass needs. `replicas` leaves TERMINATED history out."""

    service: Service
    replicas: tuple[Replica, ...] = ()
    load: tuple[RouterLoad, ...] = ()


@dataclass(frozen=True, slots=True)
class SpecVersion:
    """An immutable version of a service's specification, as written and as understood."""

    service: str
    number: int
    spec: ServiceSpec
    source: str = field(repr=False)  # the user's YAML text
    created_at: float


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on a service until `expires_at`. Every take-over raises `token`; a write with an older one is refused."""

    service: str
    owner: str
    token: int
    expires_at: float


# --- deploys from CI ---------------------------------------------------------------------------------------------------


class HookKind(StrEnum):
    """Who sends a webhook's deliveries."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GENERIC = (
        "generic"  # anything that signs as standardwebhooks.com says; its deliveries carry the service file themselves
    )


@dataclass(frozen=True, slots=True)
class Push:
    """A verified delivery's word that a branch has moved to `commit`.

    What a forge's delivery says is a reason to ask the forge, no more: the branch may have moved on since. A generic one brings
    what is to be deployed: `source`, with `pushed_at` to tell which of two is the later.
    """

    commit: str
    received_at: float
    pushed_at: float = 0.0
    source: str = field(default="", repr=False)  # the service file; empty once it is acted on
    repository_id: str = ""  # the forge's number of the repository; empty where the delivery does not say


class Rollout(StrEnum):
    """How far a version has come."""

    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"  # it serves, or would if anybody asked
    FAILED = "FAILED"  # a replica of it has failed by the service's own fault
    OVERTAKEN = "OVERTAKEN"  # another version came first, or the service is being shut down


class CommitStatus(StrEnum):
    """What a forge shows beside a commit."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a branch's head: version `version` of the service, or 0 and in `message` why it was refused."""

    commit: str
    at: float
    version: int
    message: str
    is_told: bool  # the forge knows, or there is nobody to be told
    rollout: Rollout = Rollout.DONE  # of the version; under way only as long as there is somebody to be told of its end
    # It was refused for what may pass, such as a missing secret, while the service was at this version (0 = there was none): it
    # is tried again until its owner changes that.
    waits_at: int | None = None

    @property
    def status(self) -> CommitStatus:
        """What the forge is to show."""
        if self.version and self.rollout is Rollout.UNDER_WAY:
            return CommitStatus.PENDING
        return CommitStatus.SUCCESS if self.version and self.rollout is Rollout.DONE else CommitStatus.FAILURE


@dataclass(frozen=True, slots=True)
class Hook:
    """A branch whose head a service follows.

    `push` is the latest one heard of; as long as `is_pending`, nothing has been done about it. `look_at` is when the branch is
    looked at next, pushed to or not: lost deliveries are made good so. None = when a delivery comes.
    """

    id: str  # ten of 0-9 and a-f, part of the URL that is delivered to
    kind: HookKind
    service: str
    created_at: float
    repository: str = ""  # owner/name; empty where the deliveries bring what is to be deployed, as are the next four
    branch: str = ""
    path: str = ""  # of the service file in the repository
    api_url: str = ""  # of the forge
    token_secret: str = ""  # the name of the secret that holds the forge's token; empty = asked without
    generation: int = 1  # of the key that deliveries are signed with; see `identity.webhook_secret`
    old_key_until: float = 0.0  # until then that of the generation before is good too
    push: Push | None = None
    is_pending: bool = False
    outcome: Outcome | None = None  # of the latest head that was acted on
    look_at: float | None = None
    repository_id: str = ""  # the forge's number of the repository that is followed; empty until the forge has told it
    failures: int = 0  # of the forge to answer, in a row
    trouble: str = ""  # why nothing can be done at the moment
    version: int = 0


class OidcIssuer(StrEnum):
    """Whose identity tokens are exchanged for a key."""

    GITHUB = "github"
    GITLAB = "gitlab"


@dataclass(frozen=True, slots=True)
class Trust:
    """Which of a forge's CI jobs may deploy which services, without a key of their own.

    A `ref` that ends in `*` stands for all that begin so. An empty `ref` or `environment` is any; not both are.
    """

    id: str  # ten of 0-9 and a-f
    kind: OidcIssuer
    issuer: str  # URL
    repository: str  # owner/name
    services: tuple[str, ...]  # names, or `*`
    created_at: float
    ref: str = ""  # refs/heads/main
    environment: str = ""
    repository_id: str = ""  # which another repository of the same name has not; empty until the first job has told it


# --- what the world looks like --------------------------------------------------------------------------------------


class InstanceStatus(StrEnum):
    """A machine as its cloud reports it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"  # on its way out, still billed or still visible
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine of ours, found in a cloud by our tag. `replica_id` and `service` are read from its tags."""

    provider: str
    id: str
    replica_id: str
    service: str
    status: InstanceStatus
    created_at: float
    url: str = ""  # of the agent; empty while it has no address
    interruption_at: float | None = None  # the cloud will take it at this instant
    preempted: bool = False  # the cloud took it (as opposed to us, or a crash)


class NoticeKind(StrEnum):
    """What a cloud has to say about a machine that it may take."""

    INTERRUPTION = "INTERRUPTION"  # it takes the machine at `at`
    REBALANCE = "REBALANCE"  # the machine is at elevated risk; nothing is certain
    ENDED = "ENDED"  # the machine stops or is gone


@dataclass(frozen=True, slots=True)
class InterruptionNotice:
    """What every cloud's notice becomes: AWS's arrive as EventBridge events, GCP's and Azure's through the replica's agent.

    A notice names the machine by the cloud's id or by the replica's; the other one is empty.
    """

    provider: str
    kind: NoticeKind
    at: float
    instance_id: str = ""
    replica_id: str = ""


class LeftoverKind(StrEnum):
    """What a cloud can still bill for, or keep open, when a machine is gone."""

    MACHINE = "machine"
    DISK = "disk"
    ADDRESS = "address"
    NETWORK = "network"  # interfaces, virtual networks
    FIREWALL = "firewall"  # firewall rules, security groups


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something with our tag that no live replica needs. `id` is what the provider needs to remove it again."""

    provider: str
    kind: LeftoverKind
    id: str
    region: str
    why: str
    replica_id: str = ""
    usd_per_month: float | None = None  # None = not known


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Everything a provider needs to start one replica. `replica.id` is the idempotency token and the tag."""

    replica: Replica
    engine: EngineSpec
    agent_token: str = field(repr=False)  # lets the control plane command the agent; never logged
    # Lets the machine fetch what it is to do, once. All that a cloud's user data holds besides the replica's name.
    boot_token: str = field(repr=False)
    drain_timeout_s: float
    access: str = "required"  # see `RoutingSpec`
    edge_url: str = ""  # where a client goes whose grant has expired; empty = nowhere
    grant_keys: Mapping[str, str] = field(default_factory=dict, repr=False)  # see `identity.grant_keys`
    engine_key: str = field(default="", repr=False)  # which the engine asks for; empty = none, or it is a secret
    engine_key_env: str = ""  # which variable holds it


class EnginePhase(StrEnum):
    """What the agent's engine is doing."""

    SETUP = "SETUP"
    RUNNING = "RUNNING"
    EXITED = "EXITED"


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """The service's metric on one replica, averaged by its agent over the stable and the panic window until now.

    `panic` equals `stable` where no panic window was asked for.
    """

    stable: float
    panic: float


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The answer of one replica's agent, or the lack of one.

    `identified` is true only when the answer carried the replica's id and boot nonce. All other fields mean something
    only when it is.
    """

    replica_id: str
    at: float
    identified: bool
    ready: bool = False
    detail: str = ""  # why not ready: the status code, the exception, whose identity was answered
    in_flight: int = 0
    engine: EnginePhase | None = None
    exit_code: int | None = None  # of an engine that has exited; None then = its agent has never run it
    log_tail: str = ""  # last lines, only when the engine exited
    interruption_at: float | None = None
    load: ReplicaLoad | None = None  # None = not known, or not asked for


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of the world before a pass: the clouds' machines, by provider, and the agents' answers, by replica.

    A provider missing from `instances` could not be listed: nothing may be concluded from a machine's absence.
    """

    listed_at: Mapping[str, float] = field(default_factory=dict)  # when the provider was asked for its list
    listing_lag_s: Mapping[str, float] = field(default_factory=dict)  # see `ports.Provider`
    instances: Mapping[str, tuple[Instance, ...]] = field(default_factory=dict)
    probes: Mapping[str, ProbeResult] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each state may last, in seconds. Every state has a deadline, so that no replica waits for ever."""

    # From intent to the cloud's answer. GCP and Azure may look for capacity for a minute or two; a cloud that says nothing
    # for longer is down, and then another one has to do.
    pending_s: float = 180.0
    provisioning_s: float = 900.0  # from the cloud's answer to the agent's
    routers_settle_s: float = 5.0  # how long a router may still use its previous table
    orphan_grace_s: float = 60.0  # how old a machine without a record must be before it is removed
    backoff_base_s: float = 10.0  # before the second launch after a failure of the service's own making, then doubling
    backoff_cap_s: float = 600.0
    backoff_forgiven_after_s: float = 600.0  # a replica that was ready this long fails "for the first time" again
    load_stale_after_s: float = 60.0  # routers silent for longer: the load is not known
