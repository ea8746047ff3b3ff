"""Everything impure that the core needs, as protocols, and the one bundle (`Runtime`) that carries them.

Adapters live in `providers/`, `store/` and `bootstrap.py`; `bootstrap` alone chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

from chalicelib.cost import Usage
from chalicelib.model import (
    AdminKey,
    AuditEntry,
    Claim,
    CommitStatus,
    EndpointKey,
    Event,
    Hook,
    HookKind,
    Instance,
    LaunchRequest,
    Lease,
    Leftover,
    Limits,
    Offer,
    ProbeResult,
    ProbeSpec,
    Replica,
    RouteTable,
    ScalingSpec,
    Secret,
    SecretBinding,
    Service,
    SpecVersion,
    State,
    Trust,
    Unavailable,
)

T = TypeVar("T")


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Epoch seconds."""


class Ids(Protocol):
    """Randomness."""

    def token(self, nbytes: int) -> str:
        """`nbytes` random bytes as lower-case hexadecimal, twice as many characters."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic write: all of it happens or none. 100 items at the most, new and TERMINATED replicas counting as two.

    Services and replicas are written under their `version`: 0 means "must not exist yet", any other value must equal
    what is stored. The stored version becomes `version + 1`.
    """

    service: Service | None = None
    replicas: tuple[Replica, ...] = ()
    table: RouteTable | None = None  # written when its version is exactly one above the stored one (or the first)
    unavailable: tuple[Unavailable, ...] = ()  # last writer wins
    events: tuple[Event, ...] = ()
    disproved: tuple[Unavailable, ...] = ()  # refusals to forget, by scope; `unavailable` comes after them
    hook: Hook | None = None  # written under its version, as services are


class Store(Protocol):
    """Durable state. One item per replica in its service's partition.

    Every method raises `Unreachable` when the database does not answer or throttles past its retries.
    """

    def create_service(
        self,
        service: Service,
        spec: SpecVersion,
        events: Sequence[Event] = (),
        *,
        hook: Hook | None = None,
        earlier: Sequence[SpecVersion] = (),
    ) -> Service:
        """Write a new service, its first spec version, events and the hook it comes from (under its version) at once.

        A service that comes from elsewhere brings `earlier` versions too: at most 90, 3 MB with `spec`.

        Raises:
            Exists: the name is taken.
            Conflict: the hook changed meanwhile.
        """

    def add_version(
        self, service: Service, spec: SpecVersion, events: Sequence[Event] = (), *, hook: Hook | None = None
    ) -> Service:
        """Write `service` (under its version), its next, immutable spec version and the hook it comes from at once.

        Raises `Conflict` when the service or the hook changed meanwhile or that version number exists.
        """

    def service_names(self) -> tuple[str, ...]:
        """All services, those being shut down included, sorted. One request per 1 MB."""

    def load(self, name: str) -> State | None:
        """A strongly consistent read of one service: record, replicas (no TERMINATED ones) and load. One request per 1 MB."""

    def history(self, name: str) -> tuple[Replica, ...]:
        """All replicas of a service, recently TERMINATED ones included (kept for a day), newest first."""

    def spec(self, name: str, number: int) -> SpecVersion:
        """One spec version. Raises `NotFound`. Immutable while the service lives; a name used again starts over at 1."""

    def specs(self, name: str, *, start: int = 1, limit: int | None = None) -> tuple[SpecVersion, ...]:
        """All spec versions, or the first `limit` from number `start` on, oldest first."""

    def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Lease:
        """Take the service's lease if it is free or expired at `now`. Raises `LeaseHeld` with the holder's name.

        The token rises with every acquisition, by the same owner too.
        """

    def release_lease(self, lease: Lease) -> None:
        """Give the lease back early. Does nothing when it has been taken over."""

    def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
        """Write atomically.

        Raises:
            Fenced: `lease` is given and is no longer the current one. Nothing was written.
            Conflict: a version does not match. Nothing was written.
        """

    def delete_service(self, lease: Lease, service: Service, events: Sequence[Event] = ()) -> None:
        """Forget the service: record, spec versions, load, route table. Replica history and events expire by themselves.

        Raises `Fenced` or `Conflict` like `commit`.
        """

    def events(self, name: str, *, limit: int = 200, after: float = 0.0, kind: str = "") -> tuple[Event, ...]:
        """The newest `limit` events after an instant whose kind starts with `kind`, oldest first."""

    def events_page(
        self, name: str, *, limit: int, upto: str = "", after: float = 0.0, kind: str = ""
    ) -> tuple[tuple[str, Event], ...]:
        """What `events` gives, newest first, each event with its place; from the place `upto` downwards."""

    def record_load(
        self,
        name: str,
        router_id: str,
        seq: int,
        counts: Sequence[tuple[int, int]],
        now: float,
        *,
        on_demand: bool = False,
    ) -> None:
        """Add what a router counted: (epoch second, requests) pairs.

        A `seq` not above the router's last one was recorded before (its answer got lost) and changes nothing; nor does
        "no requests" within 20 s of the last report, so that an idle service costs hardly a write. Counts older than 10
        minutes are dropped. An unknown service is ignored. `on_demand`: the router is a function, whose later silence means
        that nobody asks it, not that its load is unknown.
        """

    def tables(self) -> tuple[RouteTable, ...]:
        """The route tables of all services, sorted by name. One request per 1 MB."""

    def table(self, name: str) -> RouteTable | None:
        """One service's route table as published, or None before the first."""

    def unavailable(self, now: float) -> tuple[Unavailable, ...]:
        """Refusals that still hold at `now`."""

    def refusals(self, now: float) -> tuple[Unavailable, ...]:
        """Those too that have ended within the last hour: one that follows counts as the next in a row."""

    def has_launched(self, name: str) -> bool:
        """Whether a service of this name has ever been acted on under a lease, gone ones included: proof that it was ours."""

    def create_key(self, key: EndpointKey) -> EndpointKey:
        """Write a new endpoint key. Raises `Exists` when its id is taken, or was that of a key since revoked or replaced."""

    def endpoint_keys(self) -> tuple[EndpointKey, ...]:
        """All endpoint keys, oldest first, expired ones for a week longer. One request per 1 MB."""

    def replace_key(self, old: EndpointKey, new: EndpointKey) -> EndpointKey:
        """Write `old`, which ends, under its version and `new` as a new key, at once; `new` as written.

        Raises `Conflict` when `old` was changed or revoked meanwhile, or the id of `new` is taken.
        """

    def revoke_key(self, key_id: str) -> None:
        """Forget a key but its id, which is never taken again. Raises `NotFound` when there is none of that id."""

    def record_used(self, used: Mapping[str, float], now: float) -> None:
        """Note when keys were last used: epoch seconds by id, as routers report them.

        Written at most once a minute for each key; an older instant, or a key that is gone, changes nothing, and none lies after
        `now`.
        """

    def claim_boot(self, replica_id: str, boot_nonce: str, machine_key: str) -> bool:
        """Whether this machine is the first to boot as the replica; it may ask again after a lost answer.

        `machine_key` is random and made by the machine. The claim is kept for a day.
        """

    def create_admin_key(self, key: AdminKey) -> AdminKey:
        """Write a new admin key. Raises `Exists` when its id is taken, or was that of a key since revoked."""

    def admin_key(self, key_id: str) -> AdminKey | None:
        """One admin key, expired or not. One request."""

    def admin_keys(self) -> tuple[AdminKey, ...]:
        """All admin keys, oldest first, expired ones for a while longer. One request per 1 MB."""

    def revoke_admin_key(self, key_id: str) -> None:
        """Forget an admin key but its id, which is never taken again. Raises `NotFound` when there is none of that id."""

    def record_admin_key_used(self, key: AdminKey, now: float) -> None:
        """Note that `key`, as it was read, is used at `now`: at most once an hour. One that is gone stays gone."""

    def claim(self, claim: Claim, now: float) -> Claim:
        """The claim that stands under this id now: the one given, when there is none or its time is over.

        One whose holder died without an answer, of the same request, goes over to the holder given and keeps its seed. One
        request, or two when there was one.
        """

    def settle(self, claim: Claim, answer: str) -> None:
        """Keep the answer, unless somebody else has taken over."""

    def give_up(self, claim: Claim) -> None:
        """Let the next one who asks take over at once."""

    def record_audit(self, entry: AuditEntry) -> None:
        """Write an entry, or what became of it: two with one instant and id are one. Kept for 90 days."""

    def audit_page(self, *, limit: int, upto: str = "") -> tuple[tuple[str, AuditEntry], ...]:
        """The newest `limit` entries, newest first, each with its place; from the place `upto` downwards."""

    def create_hook(self, hook: Hook) -> Hook:
        """Write a new hook. Raises `Exists` when its id is taken, or was that of a hook since removed."""

    def hook(self, hook_id: str) -> Hook | None:
        """One hook. One request."""

    def hooks(self) -> tuple[Hook, ...]:
        """All hooks, by id. One request per 1 MB."""

    def record_push(self, hook: Hook, deliveries: Sequence[str], until: float) -> bool:
        """Write `hook` (under its version) and remember the names of the delivery that changed it, at once.

        False when one of them is remembered already: nothing was written. Raises `Conflict` when the hook changed meanwhile.
        """

    def delete_hook(self, hook_id: str) -> None:
        """Forget a hook but its id, which is never taken again. Raises `NotFound` when there is none of that id."""

    def remember_delivery(self, source: str, delivery: str, until: float) -> bool:
        """Whether this is the first time that `source` delivers this. It is remembered until the instant `until`."""

    def bind_secret(self, binding: SecretBinding) -> None:
        """Write which services may use a secret, in place of what was written before."""

    def secret_bindings(self) -> tuple[SecretBinding, ...]:
        """All that there are, by secret. One request per 1 MB."""

    def unbind_secret(self, name: str) -> None:
        """Forget a binding, if there is one."""

    def create_trust(self, trust: Trust) -> Trust:
        """Write a new trust. Raises `Exists` when its id is taken, or was that of a trust since removed."""

    def trusts(self) -> tuple[Trust, ...]:
        """All trusts, by id. One request per 1 MB."""

    def change_trust(self, known: Trust, changed: Trust) -> None:
        """Write `changed` in the place of `known`. Raises `Conflict` when that is not what there is."""

    def delete_trust(self, trust_id: str) -> None:
        """Forget a trust but its id, which is never taken again. Raises `NotFound` when there is none of that id."""


class Provider(Protocol):
    """A cloud. Raises `Unreachable` when it does not answer; see `errors.LaunchError` for refusals."""

    name: str
    # How long a new machine may be missing from `list_instances`; 0 when listing is exact.
    listing_lag_s: float

    def list_instances(self) -> tuple[Instance, ...]:
        """Every machine with this deployment's tag that is not GONE, and GONE ones while the cloud still shows them."""

    def launch(self, request: LaunchRequest) -> Instance:
        """Start the replica's machine, or return the one that already has its id.

        Raises:
            NoCapacity, QuotaExceeded, LaunchRefused: nothing was started.
            Unreachable: not known whether something was started; call again with the same request.
        """

    def terminate(self, replica_id: str, instance_id: str) -> None:
        """Ask for the machine's removal, found by id or, when that is empty, by its tag. Returns when asked, not when gone.

        Asking again, or for a machine that is gone or never was, is no error.
        """

    def read_log(self, replica_id: str, instance_id: str, tail: int) -> str | None:
        """The last `tail` lines the machine wrote, for when its agent cannot be asked; None when there is no such log."""


@runtime_checkable
class Janitor(Protocol):
    """A provider that can tell what it would leave behind. The clouds are."""

    def leftovers(self, live: frozenset[str]) -> tuple[Leftover, ...]:
        """Everything with this deployment's tag that no replica in `live` needs: machines, disks, addresses, firewall rules.

        What all machines share (a firewall rule) is left over only when `live` is empty. Raises `Unreachable`.
        """

    def remove(self, leftover: Leftover) -> None:
        """Remove it. Gone already is no error. Raises `Unreachable` when it could not be removed now."""


@runtime_checkable
class FaultInjector(Protocol):
    """A provider that breaks its own machines when told to, so that every failure can be shown. The clouds are none.

    A replica that has no machine is `NotFound`.
    """

    def preempt(self, replica_id: str, notice_s: float) -> None:
        """Announce the interruption of the replica's machine and take it `notice_s` seconds later."""

    def kill(self, replica_id: str) -> None:
        """Take the machine at once, without notice."""


class Market(Protocol):
    """Prices."""

    def offers(self, providers: Sequence[str]) -> Sequence[Offer]:
        """Every offer of the named providers."""


class Prober(Protocol):
    """Talks to replica agents."""

    def probe(self, targets: Sequence[tuple[Replica, ProbeSpec]], scaling: ScalingSpec) -> Mapping[str, ProbeResult]:
        """Probe one service's replicas at once; an answer for each, by replica id. Never raises for a replica's silence.

        Each is asked its own version's probe, and all of them what `scaling` follows, unless that is the rate of requests,
        which routers count.
        """

    def drain(self, replica: Replica) -> None:
        """Tell the agent to drain. Silence is no error: the replica is unrouted either way."""

    def read_log(self, replica: Replica, tail: int) -> str | None:
        """The last `tail` lines of the engine's log, or None when the agent does not answer."""


class Meter(Protocol):
    """What the control plane has used, as its cloud counts it."""

    def used(self, since: float, until: float) -> Usage:
        """Between two instants in epoch seconds, more or less. Raises `Unreachable`."""


class Snapshots(Protocol):
    """Where a router that starts while no control plane answers finds the routing table. One text, replaced as a whole."""

    def read(self) -> str:
        """The text, empty when there is none. Raises `Unreachable`."""

    def write(self, text: str) -> None:
        """Replace the text. Raises `Unreachable`."""


class Schedule(Protocol):
    """What wakes the functions: on only while there is something to wake them for, or the bill is not zero.

    See `chalicelib.schedule`.
    """

    def on(self) -> None:
        """Let the clock, the clouds' events and the queue call their functions. On already is fine. Raises `Unreachable`."""

    def off(self) -> None:
        """Let nothing call them. Off already is fine. Raises `Unreachable`."""


class Relay(Protocol):
    """A message to a function of ours, delivered later and at least once."""

    def send(self, body: str, delay_s: int) -> None:
        """Have `body` delivered `delay_s` seconds from now, 900 at most. Raises `Unreachable`."""


class Secrets(Protocol):
    """The texts that service files name instead of holding them. Nothing else of Sailplane's ever stores one.

    Every method raises `Unreachable`, in which no text is repeated. Names match `model.SECRET_NAME`.
    """

    def read(self, names: Collection[str]) -> Mapping[str, str]:
        """The texts of those `names` that there are. One request per 10 names."""

    def write(self, name: str, text: str) -> None:
        """Keep a text, in place of the one before; 1 to `model.MAX_SECRET_BYTES` bytes of UTF-8."""

    def delete(self, name: str) -> None:
        """Forget a text. Raises `NotFound`."""

    def known(self) -> tuple[Secret, ...]:
        """What there is, without the texts, sorted by name. One request per 10 secrets."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at a forge, and what shows there that it may be read and told about."""

    api_url: str
    name: str  # owner/name
    token: str = field(default="", repr=False)


class Forge(Protocol):
    """Where repositories live.

    Every method raises `Unreachable` when the forge does not answer or throttles, `Invalid` when it will not let us in, and
    `NotFound` when it shows us no such repository, branch, file or commit.
    """

    def number(self, repository: Repository) -> str:
        """What names the repository for good: whoever takes its name later has another one."""

    def head(self, repository: Repository, branch: str) -> str:
        """The commit that the branch is at now."""

    def file(self, repository: Repository, path: str, commit: str) -> str:
        """A text file as of a commit. Raises `Invalid` too when it is no text, or has more than 256 KB."""

    def tell(self, repository: Repository, commit: str, status: CommitStatus, message: str) -> None:
        """Set the commit's status, which stands beside it in the forge. Set again, the later one counts."""


class IssuerKeys(Protocol):
    """The public keys that CI's identity tokens are signed with."""

    def find(self, jwks_url: str, key_id: str) -> Mapping[str, str] | None:
        """The JSON Web Key of that id, or None when the issuer has none. Raises `Unreachable`."""


class Spawn(Protocol):
    """Work that goes on beside the pass that needs its result."""

    def __call__(self, lane: str, work: Callable[[], T], /) -> Future[T]:
        """Begin `work` and return at once. What one lane's work waits for never holds another lane's up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A list of machines that a cloud was asked for at the instant `at`; its answer comes when it comes."""

    at: float
    answer: Future[tuple[Instance, ...]]


@dataclass(frozen=True, slots=True)
class Settings:
    """Figures that belong to a deployment and not to a service."""

    deployment: str = "sailplane"
    lease_ttl_s: float = 60.0
    pass_budget_s: float = 50.0  # a pass stops starting new work after this long
    listing_patience_s: float = 5.0  # how long a service waits for the list of a cloud that it has machines in
    limits: Limits = field(default_factory=Limits)
    edge_url: str = ""  # where clients reach the routers; a service is at <edge_url>/<name>
    control_url: str = ""  # where the replicas' machines reach this control plane
    agent_key: str = field(default="", repr=False)  # agents' tokens are derived from it
    router_tokens: tuple[str, ...] = field(default=(), repr=False)  # all are accepted, the first one seals
    admin_key: str = field(default="", repr=False)
    cloud_secrets: tuple[str, ...] = field(default=(), repr=False)  # what a log must hide of the clouds' credentials


@dataclass(frozen=True, slots=True)
class Runtime:
    """All ports of one running control plane. Built by `bootstrap`, or by a test."""

    clock: Clock
    ids: Ids
    store: Store
    providers: Mapping[str, Provider]
    market: Market
    prober: Prober
    settings: Settings
    # Asks for a pass over a service at once instead of at the next tick; losing the call costs time, not correctness.
    poke: Callable[[str], None]
    spawn: Spawn
    secrets: Secrets
    # By provider: lists asked for whose answer no pass has taken yet. Lives as long as the process, so that a cloud which
    # does not answer is asked once.
    asked: MutableMapping[str, Asked] = field(default_factory=dict)
    # Has routers that are functions report, which they do only when they are asked for something; None = there are none.
    ask_routers: Callable[[], None] | None = None
    snapshots: Snapshots | None = None  # None = routers that start find a table at the control plane only
    schedule: Schedule | None = None  # None = something that always runs calls the passes
    relay: Relay | None = None  # None = the same, and it keeps services' own time
    forges: Mapping[HookKind, Forge] = field(default_factory=dict)
    issuer_keys: IssuerKeys | None = None  # None = no identity token is exchanged
    meter: Meter | None = None  # None = nobody bills what it uses
    emit: Callable[[str], None] | None = (
        None  # takes a line of metrics each minute for each service; None = nobody pays for them
    )
