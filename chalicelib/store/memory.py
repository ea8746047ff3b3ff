"""The store in a dictionary: the same promises as DynamoDB's, for tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from threading import Lock
from typing import Any

from chalicelib.errors import Conflict, Exists, Fenced, LeaseHeld, NotFound
from chalicelib.model import (
    AdminKey,
    AuditEntry,
    Claim,
    EndpointKey,
    Event,
    Hook,
    Lease,
    Replica,
    ReplicaStatus,
    RouterLoad,
    RouteTable,
    SecretBinding,
    Service,
    SpecVersion,
    State,
    Trust,
    Unavailable,
)
from chalicelib.ports import Clock, Commit
from chalicelib.store.documents import (
    AUDIT_KEPT_S,
    COMMIT_MAX_ITEMS,
    EVENTS_KEPT_S,
    LOAD_KEPT_S,
    REFUSALS_KEPT_S,
    add_counts,
    admin_keys_kept,
    audit_key,
    event_key,
    event_key_after,
    history_expires_at,
    is_news,
    is_use_news,
    item_count,
    may_take_over,
    newest_first,
    oldest_first,
    revoked,
    scope_key,
    used_since,
)


@dataclass(frozen=True, slots=True)
class _LeaseRow:
    owner: str = ""
    token: int = 0
    held_until: float | None = None  # None = free


class MemoryStore:
    """`ports.Store` for one process. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._commits = count()
        self._services: dict[str, Service] = {}
        self._replicas: defaultdict[str, dict[str, Replica]] = defaultdict(dict)
        self._past: defaultdict[str, dict[str, Replica]] = defaultdict(dict)  # TERMINATED
        self._specs: defaultdict[str, dict[int, SpecVersion]] = defaultdict(dict)
        self._loads: defaultdict[str, dict[str, RouterLoad]] = defaultdict(dict)
        self._leases: defaultdict[str, _LeaseRow] = defaultdict(_LeaseRow)  # outlive their service, see `dynamodb`
        self._tables: dict[str, RouteTable] = {}
        self._unavailable: dict[str, Unavailable] = {}
        self._keys: dict[str, EndpointKey] = {}
        self._boots: dict[tuple[str, str], str] = {}
        self._admin_keys: dict[str, AdminKey] = {}
        self._revoked: set[tuple[str, str]] = set()  # kind and id of what was revoked, replaced or removed
        self._claims: dict[str, Claim] = {}
        self._audit: dict[str, AuditEntry] = {}
        self._events: defaultdict[str, dict[str, Event]] = defaultdict(dict)
        self._hooks: dict[str, Hook] = {}
        self._bindings: dict[str, SecretBinding] = {}
        self._trusts: dict[str, Trust] = {}
        self._deliveries: dict[tuple[str, str], float] = {}

    # --- services and their specifications ---

    def create_service(
        self,
        service: Service,
        spec: SpecVersion,
        events: Sequence[Event] = (),
        *,
        hook: Hook | None = None,
        earlier: Sequence[SpecVersion] = (),
    ) -> Service:
        with self._lock:
            if service.name in self._services:
                raise Exists(f"There is already a service named {service.name!r}. Choose another name or update it.")
            written = self._write_version(replace(service, version=0), spec, events, hook)
            self._specs[service.name].update({version.number: version for version in earlier})
            return written

    def add_version(
        self, service: Service, spec: SpecVersion, events: Sequence[Event] = (), *, hook: Hook | None = None
    ) -> Service:
        with self._lock:
            self._check_service(service)
            if spec.number in self._specs[service.name]:
                raise Conflict(f"Version {spec.number} of {service.name!r} exists. Load the service again.")
            return self._write_version(service, spec, events, hook)

    def _write_version(
        self, service: Service, spec: SpecVersion, events: Sequence[Event], hook: Hook | None
    ) -> Service:
        if hook is not None:
            self._write_hook(hook)
        written = replace(service, version=service.version + 1)
        self._services[service.name] = written
        self._specs[service.name][spec.number] = spec
        self._write_events(service.name, events)
        return written

    def delete_service(self, lease: Lease, service: Service, events: Sequence[Event] = ()) -> None:
        with self._lock:
            self._check_lease(lease)
            self._check_service(service)
            name = service.name
            self._services.pop(name)
            self._specs.pop(name, None)
            self._loads.pop(name, None)
            self._tables.pop(name, None)
            self._leases[name] = _LeaseRow(token=lease.token)
            self._write_events(name, events)

    def service_names(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self._services))

    def spec(self, name: str, number: int) -> SpecVersion:
        with self._lock:
            found = self._specs[name].get(number)
        if found is None:
            raise NotFound(f"Service {name!r} has no version {number}.")
        return found

    def specs(self, name: str, *, start: int = 1, limit: int | None = None) -> tuple[SpecVersion, ...]:
        with self._lock:
            numbered = sorted(self._specs[name].items())
        return tuple(spec for number, spec in numbered if number >= start)[:limit]

    # --- what passes read and write ---

    def load(self, name: str) -> State | None:
        now = self._clock.now()
        with self._lock:
            service = self._services.get(name)
            if service is None:
                return None
            replicas = [replica for _, replica in sorted(self._replicas[name].items())]
            loads = [load for _, load in sorted(self._loads[name].items()) if load.reported_at + LOAD_KEPT_S > now]
        return State(service, tuple(replicas), tuple(loads))

    def history(self, name: str) -> tuple[Replica, ...]:
        with self._lock:
            self._forget_the_past(name)
            now = self._clock.now()
            return newest_first(
                [
                    *self._replicas[name].values(),
                    *(one for one in self._past[name].values() if history_expires_at(one) > now),
                ]
            )

    def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Lease:
        with self._lock:
            row = self._leases[name]
            if row.held_until is not None and row.held_until > now:
                raise LeaseHeld(f"{row.owner} is at work on {name!r} for {row.held_until - now:.0f} s more at most.")
            self._leases[name] = _LeaseRow(owner, row.token + 1, now + ttl_s)
            return Lease(name, owner, row.token + 1, now + ttl_s)

    def release_lease(self, lease: Lease) -> None:
        with self._lock:
            if self._leases[lease.service].token == lease.token:
                self._leases[lease.service] = _LeaseRow(token=lease.token)

    def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
        _check_size(lease, commit)
        with self._lock:
            if lease is not None:
                self._check_lease(lease)
            if commit.service is not None:
                self._check_service(commit.service)
            self._forget_the_past(name)
            now = self._clock.now()
            for replica in commit.replicas:
                stored = self._replicas[name].get(replica.id)
                _check_version(replica.id, stored.version if stored else 0, replica.version)
                past = self._past[name].get(replica.id)
                if past is not None and history_expires_at(past) > now:
                    raise Conflict(f"{replica.id} is TERMINATED. Load the service again. Nothing was written.")
            if commit.table is not None and name in self._tables:
                _check_version(f"the route table of {name}", self._tables[name].version, commit.table.version - 1)
            if commit.hook is not None:
                self._write_hook(commit.hook)
            self._write(name, commit)

    def _write(self, name: str, commit: Commit) -> None:
        if commit.service is not None:
            self._services[name] = replace(commit.service, version=commit.service.version + 1)
        for replica in commit.replicas:
            self._replicas[name].pop(replica.id, None)
            kept = self._past if replica.status is ReplicaStatus.TERMINATED else self._replicas
            kept[name][replica.id] = replace(replica, version=replica.version + 1)
        if commit.table is not None:
            self._tables[name] = commit.table
        for refusal in commit.disproved:
            self._unavailable.pop(scope_key(refusal), None)
        self._unavailable.update({scope_key(refusal): refusal for refusal in commit.unavailable})
        self._write_events(name, commit.events)

    def _write_events(self, name: str, events: Sequence[Event]) -> None:
        commit = next(self._commits)
        self._events[name].update({event_key(event, commit, index): event for index, event in enumerate(events)})

    def _forget_the_past(self, name: str) -> None:
        """From the front up to the first that is still kept: rows lie in the order of their ends, save for late writers'.

        A look at each of them at each commit took half of the time of a simulation in which 10,000 launches a day are refused.
        """
        now, past = self._clock.now(), self._past[name]
        while past and history_expires_at(next(iter(past.values()))) <= now:
            del past[next(iter(past))]

    def _check_lease(self, lease: Lease) -> None:
        row = self._leases[lease.service]
        if row.token != lease.token or row.held_until is None:
            raise Fenced(f"The lease on {lease.service!r} was lost. Nothing was written.")

    def _check_service(self, service: Service) -> None:
        stored = self._services.get(service.name)
        if stored is not None and stored.uid != service.uid:
            raise Conflict(f"{service.name!r} is another service by now. Load it again. Nothing was written.")
        _check_version(service.name, stored.version if stored else 0, service.version)

    # --- events, load, routing, refusals ---

    def events(self, name: str, *, limit: int = 200, after: float = 0.0, kind: str = "") -> tuple[Event, ...]:
        page = self.events_page(name, limit=limit, after=after, kind=kind)
        return tuple(event for _, event in reversed(page))

    def events_page(
        self, name: str, *, limit: int, upto: str = "", after: float = 0.0, kind: str = ""
    ) -> tuple[tuple[str, Event], ...]:
        start = event_key_after(max(after, self._clock.now() - EVENTS_KEPT_S))
        with self._lock:
            rows = sorted(self._events[name].items(), reverse=True)
        found = [
            row for row in rows if start < row[0] and (not upto or row[0] <= upto) and row[1].kind.startswith(kind)
        ]
        return tuple(found[:limit])

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
        with self._lock:
            if name not in self._services:
                return
            known = self._loads[name].get(router_id)
            if not is_news(known, seq, counts, now):
                return
            merged = add_counts(known.counts if known else (), counts, now)
            self._loads[name][router_id] = RouterLoad(router_id, seq, now, merged, on_demand)

    def tables(self) -> tuple[RouteTable, ...]:
        with self._lock:
            return tuple(table for _, table in sorted(self._tables.items()))

    def table(self, name: str) -> RouteTable | None:
        with self._lock:
            return self._tables.get(name)

    def unavailable(self, now: float) -> tuple[Unavailable, ...]:
        return tuple(refusal for refusal in self.refusals(now) if refusal.until > now)

    def refusals(self, now: float) -> tuple[Unavailable, ...]:
        with self._lock:
            rows = sorted(self._unavailable.items())
        return tuple(refusal for _, refusal in rows if refusal.until + REFUSALS_KEPT_S > now)

    def has_launched(self, name: str) -> bool:
        with self._lock:
            return name in self._leases

    def create_key(self, key: EndpointKey) -> EndpointKey:
        with self._lock:
            self._require_never_revoked("KEYS", key.id)
            if key.id in self._keys:
                raise Exists(f"There is already a key with the id {key.id}. Try again.")
            return self._write_key(key)

    def endpoint_keys(self) -> tuple[EndpointKey, ...]:
        with self._lock:
            return oldest_first(self._keys.values(), self._clock.now())

    def replace_key(self, old: EndpointKey, new: EndpointKey) -> EndpointKey:
        with self._lock:
            stored = self._keys.get(old.id)
            _check_version(f"key {old.id}", stored.version if stored else 0, old.version)
            _check_version(f"key {new.id}", 1 if new.id in self._keys else 0, 0)
            self._write_key(replace(old, last_used_at=stored.last_used_at if stored else None))
            self._revoked.add(("KEYS", old.id))
            return self._write_key(new)

    def _write_key(self, key: EndpointKey) -> EndpointKey:
        self._keys[key.id] = replace(key, version=key.version + 1)
        return self._keys[key.id]

    def revoke_key(self, key_id: str) -> None:
        with self._lock:
            if self._keys.pop(key_id, None) is None:
                raise NotFound(f"There is no key with the id {key_id!r}.")
            self._revoked.add(("KEYS", key_id))

    def record_used(self, used: Mapping[str, float], now: float) -> None:
        with self._lock:
            for key in [self._keys[key_id] for key_id in used if key_id in self._keys]:
                if (at := used_since(key, used[key.id], now)) is not None:
                    self._keys[key.id] = replace(key, last_used_at=at)

    def claim_boot(self, replica_id: str, boot_nonce: str, machine_key: str) -> bool:
        with self._lock:
            return self._boots.setdefault((replica_id, boot_nonce), machine_key) == machine_key

    # --- admin keys ---

    def create_admin_key(self, key: AdminKey) -> AdminKey:
        with self._lock:
            self._require_never_revoked("ADMIN_KEYS", key.id)
            if key.id in self._admin_keys:
                raise Exists(f"There is already an admin key with the id {key.id}. Try again.")
            self._admin_keys[key.id] = replace(key, version=1)
            return self._admin_keys[key.id]

    def admin_key(self, key_id: str) -> AdminKey | None:
        with self._lock:
            return self._admin_keys.get(key_id)

    def admin_keys(self) -> tuple[AdminKey, ...]:
        with self._lock:
            return admin_keys_kept(self._admin_keys.values(), self._clock.now())

    def revoke_admin_key(self, key_id: str) -> None:
        with self._lock:
            if self._admin_keys.pop(key_id, None) is None:
                raise NotFound(f"There is no admin key with the id {key_id!r}.")
            self._revoked.add(("ADMIN_KEYS", key_id))

    def _require_never_revoked(self, kind: str, noun_id: str) -> None:
        if (kind, noun_id) in self._revoked:
            raise revoked(noun_id)

    def record_admin_key_used(self, key: AdminKey, now: float) -> None:
        with self._lock:
            stored = self._admin_keys.get(key.id)
            if stored is not None and is_use_news(stored, now):
                self._admin_keys[key.id] = replace(stored, last_used_at=now)

    # --- claims and audit ---

    def claim(self, claim: Claim, now: float) -> Claim:
        with self._lock:
            standing = self._claims.get(claim.id)
            if standing is None or standing.forget_at <= now:
                self._claims[claim.id] = claim
            elif may_take_over(standing, claim, now):
                self._claims[claim.id] = replace(standing, holder=claim.holder, held_until=claim.held_until)
            return self._claims[claim.id]

    def settle(self, claim: Claim, answer: str) -> None:
        self._change_claim(claim, answer=answer)

    def give_up(self, claim: Claim) -> None:
        self._change_claim(claim, held_until=0.0)

    def _change_claim(self, claim: Claim, **changes: Any) -> None:
        with self._lock:
            if self._claims[claim.id].holder == claim.holder:
                self._claims[claim.id] = replace(self._claims[claim.id], **changes)

    def record_audit(self, entry: AuditEntry) -> None:
        with self._lock:
            self._audit[audit_key(entry)] = entry

    def audit_page(self, *, limit: int, upto: str = "") -> tuple[tuple[str, AuditEntry], ...]:
        start = event_key_after(self._clock.now() - AUDIT_KEPT_S)
        with self._lock:
            rows = sorted(self._audit.items(), reverse=True)
        return tuple(row for row in rows if start < row[0] and (not upto or row[0] <= upto))[:limit]

    # --- deploys from CI ---

    def create_hook(self, hook: Hook) -> Hook:
        with self._lock:
            self._require_never_revoked("HOOKS", hook.id)
            if hook.id in self._hooks:
                raise Exists(f"There is already a webhook with the id {hook.id}. Try again.")
            return self._write_hook(hook)

    def hook(self, hook_id: str) -> Hook | None:
        with self._lock:
            return self._hooks.get(hook_id)

    def hooks(self) -> tuple[Hook, ...]:
        with self._lock:
            return tuple(hook for _, hook in sorted(self._hooks.items()))

    def record_push(self, hook: Hook, deliveries: Sequence[str], until: float) -> bool:
        with self._lock:
            if any(self._is_remembered(hook.id, delivery) for delivery in deliveries):
                return False
            self._write_hook(hook)
            self._deliveries |= {(hook.id, delivery): until for delivery in deliveries}
            return True

    def delete_hook(self, hook_id: str) -> None:
        with self._lock:
            if self._hooks.pop(hook_id, None) is None:
                raise NotFound(f"There is no webhook with the id {hook_id!r}.")
            self._revoked.add(("HOOKS", hook_id))

    def _write_hook(self, hook: Hook) -> Hook:
        stored = self._hooks.get(hook.id)
        _check_version(f"webhook {hook.id}", stored.version if stored else 0, hook.version)
        self._hooks[hook.id] = replace(hook, version=hook.version + 1)
        return self._hooks[hook.id]

    def remember_delivery(self, source: str, delivery: str, until: float) -> bool:
        with self._lock:
            if self._is_remembered(source, delivery):
                return False
            self._deliveries[source, delivery] = until
            return True

    def _is_remembered(self, source: str, delivery: str) -> bool:
        return self._deliveries.get((source, delivery), 0.0) > self._clock.now()

    def bind_secret(self, binding: SecretBinding) -> None:
        with self._lock:
            self._bindings[binding.secret] = binding

    def secret_bindings(self) -> tuple[SecretBinding, ...]:
        with self._lock:
            return tuple(binding for _, binding in sorted(self._bindings.items()))

    def unbind_secret(self, name: str) -> None:
        with self._lock:
            self._bindings.pop(name, None)

    def create_trust(self, trust: Trust) -> Trust:
        with self._lock:
            self._require_never_revoked("TRUSTS", trust.id)
            if trust.id in self._trusts:
                raise Exists(f"There is already a trust with the id {trust.id}. Try again.")
            self._trusts[trust.id] = trust
            return trust

    def trusts(self) -> tuple[Trust, ...]:
        with self._lock:
            return tuple(trust for _, trust in sorted(self._trusts.items()))

    def change_trust(self, known: Trust, changed: Trust) -> None:
        with self._lock:
            if self._trusts.get(known.id) != known:
                raise Conflict(f"Trust {known.id} changed meanwhile. Load it again. Nothing was written.")
            self._trusts[known.id] = changed

    def delete_trust(self, trust_id: str) -> None:
        with self._lock:
            if self._trusts.pop(trust_id, None) is None:
                raise NotFound(f"There is no trust with the id {trust_id!r}.")
            self._revoked.add(("TRUSTS", trust_id))


def _check_version(what: str, stored: int, expected: int) -> None:
    if stored != expected:
        raise Conflict(f"{what} is at version {stored}, not {expected}. Load it again. Nothing was written.")


def _check_size(lease: Lease | None, commit: Commit) -> None:
    if (count := item_count(lease, commit)) > COMMIT_MAX_ITEMS:
        raise ValueError(f"A commit may hold {COMMIT_MAX_ITEMS} items, this one holds {count}: make it smaller.")
