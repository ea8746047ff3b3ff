"""The store on DynamoDB: one table, one partition per service, every write under a lease one transaction.

| pk             | sk                 | attributes beside `body` (a JSON document)                     |
|----------------|--------------------|----------------------------------------------------------------|
| SERVICES       | name               | no body: the registry                                          |
| SERVICE#name   | META               | version, uid                                                   |
| SERVICE#name   | REPLICA#id         | version                                                        |
| PAST#name      | id                 | expires_at: a replica that is TERMINATED                       |
| SERVICE#name   | LOAD#router        | seq, uid, counts, expires_at                                   |
| SERVICE#name   | LEASE              | no body: token, grant, and while it is held: owner, held_until |
| SPECS#name     | 000001             |                                                                |
| EVENTS#name    | see `event_key`    | kind, expires_at                                               |
| ROUTES         | name               | version                                                        |
| UNAVAILABLE    | scope              | expires_at                                                     |
| KEYS           | id                 | version, used_at, and when it expires: expires_at              |
| ADMIN_KEYS     | id                 | used_at, and when it expires: expires_at                       |
| REVOKED        | KEYS#id, and so of | no body: at. What a backup may hold and is not to come back    |
|                | ADMIN_KEYS, HOOKS, |                                                                |
|                | TRUSTS             |                                                                |
| CLAIM#id       | CLAIM              | no body: request, seed, holder, held_until, answer, expires_at |
| AUDIT          | see `audit_key`    | expires_at                                                     |
| HOOKS          | id                 | version                                                        |
| DELIVERY#source| delivery           | no body: expires_at                                            |
| SECRETS        | name               |                                                                |
| TRUSTS         | id                 |                                                                |

A TERMINATED replica moves to a partition of its own, because every pass reads SERVICE#name whole: an hour without capacity
leaves hundreds of them.

`expires_at` is the table's TTL attribute. DynamoDB deletes expired items up to days late, so every reader filters them.
A lease's instant is called `held_until` so that TTL never touches it: the row outlives its service, because a token that
started again at 1 could let a write through that was fenced off before the name was used again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.operand import Path
from pynamodb.expressions.update import Action

from chalicelib.errors import Conflict, Exists, Fenced, LeaseHeld, NotFound, SailplaneError
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
from chalicelib.ports import Clock, Commit, Ids
from chalicelib.store.documents import (
    AUDIT_KEPT_S,
    BOOTS_KEPT_S,
    COMMIT_MAX_ITEMS,
    EVENTS_KEPT_S,
    LOAD_KEPT_S,
    REFUSALS_KEPT_S,
    add_counts,
    admin_keys_kept,
    audit_key,
    event_key,
    event_key_after,
    forget_admin_key_at,
    forget_key_at,
    from_json,
    history_expires_at,
    is_news,
    is_use_news,
    may_take_over,
    newest_first,
    oldest_first,
    packed,
    revoked,
    scope_key,
    to_json,
    unpacked,
    used_since,
)
from chalicelib.store.table import Row, Table, Write, check, delete, put, update

_LOAD_ATTEMPTS = 4  # when the same router reports over two connections at once


def _pause(attempt: int) -> None:
    """Up to 50, 100, 200 ms: writers that met once should not meet again."""
    time.sleep(random.uniform(0, 0.05 * 2**attempt))


class DynamoDBStore:
    """`ports.Store` on one DynamoDB table. Safe to share between threads.

    Args:
        table_name: the table, made by `create_table` or by the deployment.
        region: the table's region.
        clock: tells which items have expired.
        ids: makes the tokens by which DynamoDB recognises a write sent twice.
        endpoint_url: a local stand-in for DynamoDB, `http://[access key id@]host:port`. Without it the SDK finds AWS and
            real credentials.
        on_request: called with the operation's name for every HTTP request, retries included.
        pause: called with 0, 1, 2 before writing again what met another write; sleeps by default.

    What no caller can mend (no such table, access denied, an item above 400 KB) is raised as pynamodb raises it.
    """

    def __init__(
        self,
        table_name: str,
        region: str,
        *,
        clock: Clock,
        ids: Ids,
        endpoint_url: str | None = None,
        on_request: Callable[[str], None] | None = None,
        pause: Callable[[int], None] = _pause,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._pause = pause
        # Rises from the instant of its making: what one process wrote after another's end sorts after it.
        self._commits = count(round(clock.now() * 1_000_000))
        self._table = Table(table_name, region, ids=ids, endpoint_url=endpoint_url, on_request=on_request, pause=pause)

    def create_table(self) -> None:
        """Make the table, billed on demand, with TTL on `expires_at`, and wait for it. Does nothing when it is there."""
        self._table.create()

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
        name = service.name
        taken = Exists(f"There is already a service named {name!r}. Choose another name or update it.")
        self._table.transact(
            [
                put(_meta(replace(service, version=0)), taken, Path("pk").does_not_exist()),
                put({"pk": "SERVICES", "sk": name}, taken),
                *(_put_spec(version) for version in (*earlier, spec)),
                *_put_hook(hook),
                *self._put_events(name, events),
            ]
        )
        return replace(service, version=1)

    def add_version(
        self, service: Service, spec: SpecVersion, events: Sequence[Event] = (), *, hook: Hook | None = None
    ) -> Service:
        writes = [_put_service(service), _put_spec(spec), *_put_hook(hook), *self._put_events(service.name, events)]
        self._table.transact(writes)
        return replace(service, version=service.version + 1)

    def delete_service(self, lease: Lease, service: Service, events: Sequence[Event] = ()) -> None:
        name = service.name
        changed, is_still = _changed(name), _is_still(service)
        specs = [delete(row["pk"], row["sk"], changed) for row in self._table.query(f"SPECS#{name}")]
        room = COMMIT_MAX_ITEMS - 4 - len(events)
        # The record goes last: what stops half-way leaves a service that is still being shut down, and is done again.
        while len(specs) > room:
            guards = [_check_lease(lease), check(f"SERVICE#{name}", "META", changed, is_still)]
            self._table.transact([*guards, *specs[:room]])
            del specs[:room]
        self._table.transact(
            [
                # Load rows carry the service's uid: none will be read again, and TTL removes them.
                delete(f"SERVICE#{name}", "META", changed, is_still),
                delete("SERVICES", name, changed),
                delete("ROUTES", name, changed),
                _end_lease(lease),
                *specs,
                *self._put_events(name, events),
            ]
        )

    def service_names(self) -> tuple[str, ...]:
        return tuple(row["sk"] for row in self._table.query("SERVICES"))

    def spec(self, name: str, number: int) -> SpecVersion:
        row = self._table.get(f"SPECS#{name}", _number_key(number))
        if row is None:
            raise NotFound(f"Service {name!r} has no version {number}.")
        return from_json(SpecVersion, row["body"])

    def specs(self, name: str, *, start: int = 1, limit: int | None = None) -> tuple[SpecVersion, ...]:
        rows = self._table.query(f"SPECS#{name}", Path("sk") >= _number_key(start), page_items=limit)
        return tuple(from_json(SpecVersion, row["body"]) for row in islice(rows, limit))

    # --- what passes read and write ---

    def load(self, name: str) -> State | None:
        rows = {row["sk"]: row for row in self._table.query(f"SERVICE#{name}")}
        meta = rows.get("META")
        if meta is None:
            return None
        replicas = (from_json(Replica, row["body"]) for sk, row in rows.items() if sk.startswith("REPLICA#"))
        loads = (_load(row) for sk, row in rows.items() if sk.startswith("LOAD#") and row["uid"] == meta["uid"])
        oldest = self._clock.now() - LOAD_KEPT_S
        return State(
            from_json(Service, meta["body"]),
            tuple(replicas),
            tuple(load for load in loads if load.reported_at > oldest),
        )

    def history(self, name: str) -> tuple[Replica, ...]:
        now = self._clock.now()
        # The present first: a replica that moves between the two reads is seen twice, and not missed.
        live = [*self._table.query(f"SERVICE#{name}", Path("sk").startswith("REPLICA#"))]
        past = [row for row in self._table.query(f"PAST#{name}") if row["expires_at"] > now]
        replicas = {replica.id: replica for replica in (from_json(Replica, row["body"]) for row in (*live, *past))}
        return newest_first(replicas.values())

    def acquire_lease(self, name: str, owner: str, ttl_s: float, now: float) -> Lease:
        grant = self._ids.token(8)
        held_until = Path("held_until")
        actions = (
            Path("token").add(1),
            Path("owner").set(owner),
            Path("grant").set(grant),
            held_until.set(now + ttl_s),
        )
        is_free = held_until.does_not_exist() | (held_until <= now)
        row = self._table.update_if(f"SERVICE#{name}", "LEASE", actions, is_free)
        if row is None:
            row = self._table.get(f"SERVICE#{name}", "LEASE") or {}
        # Refused, yet our own grant is there: an earlier attempt of the SDK went through and its answer was lost.
        if row.get("grant") != grant:
            wait_s = row.get("held_until", now) - now
            raise LeaseHeld(f"{row.get('owner', 'Another pass')} is at work on {name!r} for {wait_s:.0f} s at most.")
        return Lease(name, owner, row["token"], now + ttl_s)

    def release_lease(self, lease: Lease) -> None:
        is_ours = Path("token") == lease.token
        self._table.update_if(f"SERVICE#{lease.service}", "LEASE", _freed(), is_ours)

    def commit(self, name: str, lease: Lease | None, commit: Commit) -> None:
        writes = [_check_lease(lease)] if lease else []
        if commit.service is not None:
            writes.append(_put_service(commit.service))
        now = self._clock.now()
        writes += [write for replica in commit.replicas for write in _put_replica(replica, now)]
        if commit.table is not None:
            writes.append(_put_table(commit.table))
        # A transaction may touch an item once only, so of two refusals of one scope the last is written.
        refusals = {scope_key(refusal): _forget_refusal(refusal) for refusal in commit.disproved}
        writes += (refusals | {scope_key(refusal): _put_refusal(refusal) for refusal in commit.unavailable}).values()
        writes += _put_hook(commit.hook)
        writes += self._put_events(name, commit.events)
        if writes:
            self._table.transact(writes)

    def _put_events(self, name: str, events: Sequence[Event]) -> list[Write]:
        commit = next(self._commits)
        keys = (event_key(event, commit, index) for index, event in enumerate(events))
        return [put(_event_row(name, *pair), _changed("An event")) for pair in zip(events, keys, strict=True)]

    # --- events, load, routing, refusals ---

    def events(self, name: str, *, limit: int = 200, after: float = 0.0, kind: str = "") -> tuple[Event, ...]:
        page = self.events_page(name, limit=limit, after=after, kind=kind)
        return tuple(event for _, event in reversed(page))

    def events_page(
        self, name: str, *, limit: int, upto: str = "", after: float = 0.0, kind: str = ""
    ) -> tuple[tuple[str, Event], ...]:
        start = event_key_after(max(after, self._clock.now() - EVENTS_KEPT_S))
        rows = self._table.query(
            f"EVENTS#{name}",
            _within(start, upto),
            only=Path("kind").startswith(kind) if kind else None,
            descending=True,
            page_items=None if kind else limit,
        )
        return tuple((row["sk"], from_json(Event, row["body"])) for row in islice(rows, limit))

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
        key = f"LOAD#{router_id}"
        for attempt in range(_LOAD_ATTEMPTS):
            # At first what may be a moment old: a router's last report is not, and if it is, the write below is refused.
            rows = self._table.get_many(f"SERVICE#{name}", ["META", key], consistent=attempt > 0)
            if "META" not in rows:
                return
            uid = rows["META"]["uid"]
            stored = rows.get(key)
            known = _load(stored) if stored and stored["uid"] == uid else None
            if not is_news(known, seq, counts, now):
                return
            merged = add_counts(known.counts if known else (), counts, now)
            load = RouterLoad(router_id, seq, now, merged, on_demand)
            # Alone, not in a transaction with META: that one would collide with those of passes, and cost four times as much.
            is_unchanged = Path("seq") == stored["seq"] if stored else Path("pk").does_not_exist()
            if self._table.put_if(_load_row(name, uid, load), is_unchanged):
                return
            self._pause(attempt)
        raise Conflict(f"Router {router_id} reports on {name!r} over several connections at once.")

    def tables(self) -> tuple[RouteTable, ...]:
        return tuple(from_json(RouteTable, row["body"]) for row in self._table.query("ROUTES"))

    def table(self, name: str) -> RouteTable | None:
        row = self._table.get("ROUTES", name)
        return from_json(RouteTable, row["body"]) if row else None

    def unavailable(self, now: float) -> tuple[Unavailable, ...]:
        return tuple(refusal for refusal in self.refusals(now) if refusal.until > now)

    def refusals(self, now: float) -> tuple[Unavailable, ...]:
        refusals = (from_json(Unavailable, row["body"]) for row in self._table.query("UNAVAILABLE"))
        return tuple(refusal for refusal in refusals if refusal.until + REFUSALS_KEPT_S > now)

    def has_launched(self, name: str) -> bool:
        return self._table.get(f"SERVICE#{name}", "LEASE") is not None

    def create_key(self, key: EndpointKey) -> EndpointKey:
        taken = Exists(f"There is already a key with the id {key.id}. Try again.")
        # As a transaction, which DynamoDB knows again when its answer was lost: a key whose text nobody was told stays for ever.
        self._table.transact([_never_revoked("KEYS", key.id), put(_key_row(key), taken, Path("pk").does_not_exist())])
        return replace(key, version=1)

    def endpoint_keys(self) -> tuple[EndpointKey, ...]:
        return oldest_first(map(_key, self._table.query("KEYS")), self._clock.now())

    def replace_key(self, old: EndpointKey, new: EndpointKey) -> EndpointKey:
        changed = _changed(f"Key {old.id}")
        row = _key_row(old)
        actions = [Path(name).set(row[name]) for name in ("version", "body", "expires_at") if name in row]
        self._table.transact(
            [
                update("KEYS", old.id, changed, _is_version(old.version), actions),
                put(_key_row(new), _changed(f"Key {new.id}"), Path("pk").does_not_exist()),
                self._tombstone("KEYS", old.id),
            ]
        )
        return replace(new, version=1)

    def revoke_key(self, key_id: str) -> None:
        missing = NotFound(f"There is no key with the id {key_id!r}.")
        self._table.transact([delete("KEYS", key_id, missing, Path("pk").exists()), self._tombstone("KEYS", key_id)])

    def record_used(self, used: Mapping[str, float], now: float) -> None:
        # Read first: a write whose condition fails costs as much as one that is made.
        for key in self.endpoint_keys():
            at = used_since(key, used[key.id], now) if key.id in used else None
            if at is not None:
                is_known = Path("pk").exists()
                is_later = Path("used_at").does_not_exist() | (Path("used_at") < at)
                self._table.update_if("KEYS", key.id, (Path("used_at").set(at),), is_known & is_later)

    def claim_boot(self, replica_id: str, boot_nonce: str, machine_key: str) -> bool:
        row = {"pk": f"BOOT#{replica_id}", "sk": boot_nonce, "machine_key": machine_key}
        row |= _ttl(self._clock.now() + BOOTS_KEPT_S)
        is_first = Path("pk").does_not_exist() | (Path("machine_key") == machine_key)
        return self._table.put_if(row, is_first)

    # --- admin keys ---

    def create_admin_key(self, key: AdminKey) -> AdminKey:
        taken = Exists(f"There is already an admin key with the id {key.id}. Try again.")
        written = replace(key, version=1)
        row = {"pk": "ADMIN_KEYS", "sk": key.id, "body": to_json(written)}
        if (forget_at := forget_admin_key_at(key)) is not None:
            row |= _ttl(forget_at)
        is_new = put(row, taken, Path("pk").does_not_exist())
        self._table.transact([_never_revoked("ADMIN_KEYS", key.id), is_new])  # see `create_key`
        return written

    def admin_key(self, key_id: str) -> AdminKey | None:
        row = self._table.get("ADMIN_KEYS", key_id)
        return _admin_key(row) if row else None

    def admin_keys(self) -> tuple[AdminKey, ...]:
        return admin_keys_kept(map(_admin_key, self._table.query("ADMIN_KEYS")), self._clock.now())

    def revoke_admin_key(self, key_id: str) -> None:
        missing = NotFound(f"There is no admin key with the id {key_id!r}.")
        self._table.transact(
            [delete("ADMIN_KEYS", key_id, missing, Path("pk").exists()), self._tombstone("ADMIN_KEYS", key_id)]
        )

    def _tombstone(self, kind: str, noun_id: str) -> Write:
        """For ever, some 100 bytes: a backup that holds it may be of any age."""
        return put({"pk": "REVOKED", "sk": f"{kind}#{noun_id}", "at": self._clock.now()}, _changed(noun_id))

    def record_admin_key_used(self, key: AdminKey, now: float) -> None:
        if is_use_news(key, now):
            self._table.update_if("ADMIN_KEYS", key.id, (Path("used_at").set(now),), Path("pk").exists())

    # --- claims and audit ---

    def claim(self, claim: Claim, now: float) -> Claim:
        if self._table.put_if(_claim_row(claim), Path("pk").does_not_exist() | (Path("expires_at") <= now)):
            return claim
        standing = self._standing_claim(claim.id)
        if not may_take_over(standing, claim, now):
            return standing
        actions = Path("holder").set(claim.holder), Path("held_until").set(claim.held_until)
        self._change_claim(standing, *actions)
        return self._standing_claim(claim.id)  # ours, or that of one who was faster

    def settle(self, claim: Claim, answer: str) -> None:
        self._change_claim(claim, Path("answer").set(answer))

    def give_up(self, claim: Claim) -> None:
        self._change_claim(claim, Path("held_until").set(0))

    def _standing_claim(self, claim_id: str) -> Claim:
        row = self._table.get(f"CLAIM#{claim_id}", "CLAIM")
        if row is None:
            raise Conflict("What was sent before has been forgotten this moment. Send it again.")
        return _claim(claim_id, row)

    def _change_claim(self, claim: Claim, *actions: Action) -> None:
        self._table.update_if(f"CLAIM#{claim.id}", "CLAIM", actions, Path("holder") == claim.holder)

    def record_audit(self, entry: AuditEntry) -> None:
        row = {"pk": "AUDIT", "sk": audit_key(entry), "body": to_json(entry), **_ttl(entry.at + AUDIT_KEPT_S)}
        self._table.put_if(row, None)

    def audit_page(self, *, limit: int, upto: str = "") -> tuple[tuple[str, AuditEntry], ...]:
        start = event_key_after(self._clock.now() - AUDIT_KEPT_S)
        rows = self._table.query("AUDIT", _within(start, upto), descending=True, page_items=limit)
        return tuple((row["sk"], from_json(AuditEntry, row["body"])) for row in islice(rows, limit))

    # --- deploys from CI ---

    def create_hook(self, hook: Hook) -> Hook:
        taken = Exists(f"There is already a webhook with the id {hook.id}. Try again.")
        is_new = put(_hook_row(hook), taken, Path("pk").does_not_exist())
        self._table.transact([_never_revoked("HOOKS", hook.id), is_new])
        return replace(hook, version=1)

    def hook(self, hook_id: str) -> Hook | None:
        row = self._table.get("HOOKS", hook_id)
        return from_json(Hook, row["body"]) if row else None

    def hooks(self) -> tuple[Hook, ...]:
        return tuple(from_json(Hook, row["body"]) for row in self._table.query("HOOKS"))

    def record_push(self, hook: Hook, deliveries: Sequence[str], until: float) -> bool:
        # Before the hook: of two conditions that fail, the first one's error is raised.
        known = _Remembered()
        remembered = [self._put_delivery(hook.id, delivery, until, known) for delivery in deliveries]
        try:
            self._table.transact([*remembered, *_put_hook(hook)])
        except _Remembered:
            return False
        return True

    def delete_hook(self, hook_id: str) -> None:
        missing = NotFound(f"There is no webhook with the id {hook_id!r}.")
        self._table.transact(
            [delete("HOOKS", hook_id, missing, Path("pk").exists()), self._tombstone("HOOKS", hook_id)]
        )

    def remember_delivery(self, source: str, delivery: str, until: float) -> bool:
        try:
            self._table.transact([self._put_delivery(source, delivery, until, _Remembered())])
        except _Remembered:
            return False
        return True

    def _put_delivery(self, source: str, delivery: str, until: float, known: _Remembered) -> Write:
        is_first = Path("pk").does_not_exist() | (Path("expires_at") <= self._clock.now())
        return put({"pk": f"DELIVERY#{source}", "sk": delivery, **_ttl(until)}, known, is_first)

    def bind_secret(self, binding: SecretBinding) -> None:
        self._table.put_if({"pk": "SECRETS", "sk": binding.secret, "body": to_json(binding)}, None)

    def secret_bindings(self) -> tuple[SecretBinding, ...]:
        return tuple(from_json(SecretBinding, row["body"]) for row in self._table.query("SECRETS"))

    def unbind_secret(self, name: str) -> None:
        self._table.transact([delete("SECRETS", name, Conflict(f"Secret {name!r} changed meanwhile."))])

    def create_trust(self, trust: Trust) -> Trust:
        taken = Exists(f"There is already a trust with the id {trust.id}. Try again.")
        is_new = put(_trust_row(trust), taken, Path("pk").does_not_exist())
        self._table.transact([_never_revoked("TRUSTS", trust.id), is_new])
        return trust

    def trusts(self) -> tuple[Trust, ...]:
        return tuple(from_json(Trust, row["body"]) for row in self._table.query("TRUSTS"))

    def change_trust(self, known: Trust, changed: Trust) -> None:
        # Read and compared here: what an older release has written need not have the text that this one would.
        row = self._table.get("TRUSTS", known.id)
        refused = _changed(f"Trust {known.id}")
        if row is None or from_json(Trust, row["body"]) != known:
            raise refused
        self._table.transact([put(_trust_row(changed), refused, Path("body") == row["body"])])

    def delete_trust(self, trust_id: str) -> None:
        missing = NotFound(f"There is no trust with the id {trust_id!r}.")
        gone = delete("TRUSTS", trust_id, missing, Path("pk").exists())
        self._table.transact([gone, self._tombstone("TRUSTS", trust_id)])


class _Remembered(SailplaneError):
    """This was delivered before. As an error, because that is how a transaction tells which of its conditions failed."""


# --- nouns as writes -------------------------------------------------------------------------------------------------


def _put_service(service: Service) -> Write:
    return put(_meta(service), _changed(service.name), _is_still(service))


def _meta(service: Service) -> Row:
    written = replace(service, version=service.version + 1)
    return {
        "pk": f"SERVICE#{service.name}",
        "sk": "META",
        "version": written.version,
        "uid": written.uid,
        "body": to_json(written),
    }


def _is_still(service: Service) -> Condition:
    is_unchanged = _is_version(service.version)
    return is_unchanged & (Path("uid") == service.uid) if service.version else is_unchanged


def _is_version(version: int) -> Condition:
    return Path("version") == version if version else Path("pk").does_not_exist()


def _put_replica(replica: Replica, now: float) -> list[Write]:
    """Two items when it is new or over: an id that is TERMINATED is never written again."""
    written, changed = replace(replica, version=replica.version + 1), _changed(replica.id)
    live_pk, live_sk, past_pk = f"SERVICE#{replica.service}", f"REPLICA#{replica.id}", f"PAST#{replica.service}"
    body = {"version": written.version, "body": to_json(written)}
    is_not_over = Path("pk").does_not_exist() | (Path("expires_at") <= now)
    if replica.status is ReplicaStatus.TERMINATED:
        past = {"pk": past_pk, "sk": replica.id, **body, **_ttl(history_expires_at(replica))}
        return [delete(live_pk, live_sk, changed, _is_version(replica.version)), put(past, changed, is_not_over)]
    live = put({"pk": live_pk, "sk": live_sk, **body}, changed, _is_version(replica.version))
    return [live] if replica.version else [check(past_pk, replica.id, changed, is_not_over), live]


def _put_table(table: RouteTable) -> Write:
    row = {"pk": "ROUTES", "sk": table.service, "version": table.version, "body": to_json(table)}
    follows = Path("pk").does_not_exist() | (Path("version") == table.version - 1)
    return put(row, _changed(f"The route table of {table.service}"), follows)


def _put_refusal(refusal: Unavailable) -> Write:
    key = scope_key(refusal)
    row = {"pk": "UNAVAILABLE", "sk": key, "body": to_json(refusal), **_ttl(refusal.until + REFUSALS_KEPT_S)}
    return put(row, _changed(key))


def _forget_refusal(refusal: Unavailable) -> Write:
    key = scope_key(refusal)
    return delete("UNAVAILABLE", key, _changed(key))


def _never_revoked(kind: str, noun_id: str) -> Write:
    return check("REVOKED", f"{kind}#{noun_id}", revoked(noun_id), Path("pk").does_not_exist())


def _key_row(key: EndpointKey) -> Row:
    written = replace(key, last_used_at=None, version=key.version + 1)
    row = {"pk": "KEYS", "sk": key.id, "version": written.version, "body": to_json(written)}
    forget_at = forget_key_at(key)
    return row if forget_at is None else row | _ttl(forget_at)


def _key(row: Row) -> EndpointKey:
    """Its last use stands beside the document, so that noting it is no change of the key."""
    return replace(from_json(EndpointKey, row["body"]), last_used_at=row.get("used_at"))


def _admin_key(row: Row) -> AdminKey:
    return replace(from_json(AdminKey, row["body"]), last_used_at=row.get("used_at"))


def _claim_row(claim: Claim) -> Row:
    return {
        "pk": f"CLAIM#{claim.id}",
        "sk": "CLAIM",
        "request": claim.request,
        "seed": claim.seed,
        "holder": claim.holder,
        "held_until": claim.held_until,
        **_ttl(claim.forget_at),
    }


def _claim(claim_id: str, row: Row) -> Claim:
    return Claim(
        id=claim_id,
        request=row["request"],
        seed=row["seed"],
        holder=row["holder"],
        held_until=row["held_until"],
        forget_at=row["expires_at"],
        answer=row.get("answer", ""),
    )


def _within(start: str, upto: str) -> Condition:
    """Above `start`, which no item is called, and not above `upto` unless that is empty."""
    sk = Path("sk")
    return sk.between(start, max(start, upto)) if upto else sk > start


def _put_hook(hook: Hook | None) -> list[Write]:
    if hook is None:
        return []
    return [put(_hook_row(hook), _changed(f"Webhook {hook.id}"), _is_version(hook.version))]


def _trust_row(trust: Trust) -> Row:
    return {"pk": "TRUSTS", "sk": trust.id, "body": to_json(trust)}


def _hook_row(hook: Hook) -> Row:
    written = replace(hook, version=hook.version + 1)
    return {"pk": "HOOKS", "sk": hook.id, "version": written.version, "body": to_json(written)}


def _put_spec(spec: SpecVersion) -> Write:
    row = {"pk": f"SPECS#{spec.service}", "sk": _number_key(spec.number), "body": to_json(spec)}
    exists = Conflict(f"Version {spec.number} of {spec.service!r} exists. Load the service again.")
    return put(row, exists, Path("pk").does_not_exist())


def _event_row(name: str, event: Event, key: str) -> Row:
    return {
        "pk": f"EVENTS#{name}",
        "sk": key,
        "kind": event.kind,
        "body": to_json(event),
        **_ttl(event.at + EVENTS_KEPT_S),
    }


def _load_row(name: str, uid: str, load: RouterLoad) -> Row:
    return {
        "pk": f"SERVICE#{name}",
        "sk": f"LOAD#{load.router_id}",
        "seq": load.seq,
        "uid": uid,
        "body": to_json(replace(load, counts=())),
        "counts": packed(load.counts),
        **_ttl(load.reported_at + LOAD_KEPT_S),
    }


def _load(row: Row) -> RouterLoad:
    return replace(from_json(RouterLoad, row["body"]), counts=unpacked(row["counts"]))


def _check_lease(lease: Lease) -> Write:
    return check(f"SERVICE#{lease.service}", "LEASE", _fenced(lease), _is_current(lease))


def _end_lease(lease: Lease) -> Write:
    """Free the lease along with what it is for, so that its holder's late writes are refused."""
    return update(f"SERVICE#{lease.service}", "LEASE", _fenced(lease), _is_current(lease), _freed())


def _freed() -> tuple[Action, ...]:
    return Path("held_until").remove(), Path("owner").remove()


def _is_current(lease: Lease) -> Condition:
    is_held_with_its_token: Condition = (Path("token") == lease.token) & Path("held_until").exists()
    return is_held_with_its_token


def _fenced(lease: Lease) -> Fenced:
    return Fenced(f"The lease on {lease.service!r} was lost. Nothing was written.")


def _changed(what: str) -> Conflict:
    return Conflict(f"{what} changed since it was read. Load it again. Nothing was written.")


def _number_key(number: int) -> str:
    return f"{number:06d}"


def _ttl(expires_at: float) -> Row:
    """DynamoDB takes whole seconds only."""
    return {"expires_at": math.ceil(expires_at)}
