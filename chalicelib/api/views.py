"""From the core's nouns to the API's words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from chalicelib import lifecycle, model
from chalicelib.api import schemas
from chalicelib.api.preconditions import tag_of

HISTORY_SHOWN_S = 3600.0
_REFUSALS = (model.Reason.NO_CAPACITY, model.Reason.QUOTA, model.Reason.LAUNCH_REFUSED)


def service(state: model.State, history: Sequence[model.Replica], edge_url: str, now: float) -> schemas.Service:
    """A service with its live replicas and, after them, those TERMINATED within the last hour.

    `history` may hold those of an earlier service of this name, which are left out.
    """
    record = state.service
    probe, routing = record.spec.probe, record.spec.routing
    status, message = lifecycle.service_status(record, state.replicas, now)
    gone = [
        replica
        for replica in history
        if replica.status is model.ReplicaStatus.TERMINATED
        and now - replica.status_since < HISTORY_SHOWN_S
        and replica.id.startswith(f"{record.name}-{record.uid}-")
    ]
    return schemas.Service(
        name=record.name,
        status=status,
        message="; ".join(filter(None, (message + _refusal(state, gone), lifecycle.budget.described(state, now)))),
        endpoint=f"{edge_url}/{record.name}",
        version=record.spec_version,
        etag=tag_of(record),
        target=record.scaler.target,
        ready=sum(replica.status is model.ReplicaStatus.READY for replica in state.replicas),
        updating=any(
            replica.status.is_active and replica.fingerprint != record.spec.fingerprint for replica in state.replicas
        ),
        access="open" if routing.access == "open" else "required",
        routing_mode="resolve" if routing.mode == "resolve" else "redirect",
        probe_path=probe.path.partition("?")[0] if probe.method == "GET" else None,
        created_at=instant(record.created_at),
        updated_at=instant(record.updated_at),
        replicas=tuple(_replica(replica) for replica in (*state.replicas, *gone)),
    )


def _refusal(state: model.State, gone: Sequence[model.Replica]) -> str:
    """Why a replica is missing: what the cloud said to the last launch. `gone` is newest first."""
    active = sum(replica.status.is_active for replica in state.replicas)
    is_last = bool(gone) and all(replica.created_at <= gone[0].created_at for replica in state.replicas)
    wanted = lifecycle.wanted_mix(state.service, state.replicas).total
    if not is_last or active >= wanted or gone[0].reason not in _REFUSALS:
        return ""
    return f"; the last launch was refused: {gone[0].reason}: {gone[0].error}"


def version(spec: model.SpecVersion) -> schemas.Version:
    """A spec version as its owner wrote it."""
    return schemas.Version(
        number=spec.number,
        yaml=spec.source,
        fingerprint=spec.spec.fingerprint,
        created_at=instant(spec.created_at),
    )


def event(happened: model.Event) -> schemas.Event:
    """An event, its instant as ISO 8601."""
    return schemas.Event(
        at=instant(happened.at),
        kind=happened.kind,
        message=happened.message,
        replica=happened.replica,
        data=dict(happened.data),
    )


def unavailable(refusal: model.Unavailable) -> schemas.Unavailable:
    """A refusal that is remembered."""
    return schemas.Unavailable(
        provider=refusal.provider,
        region=refusal.region,
        zone=refusal.zone,
        instance_type=refusal.instance_type,
        capacity_type=refusal.capacity_type,
        fingerprint=refusal.fingerprint,
        reason=refusal.reason,
        message=refusal.message,
        failures=refusal.failures,
        until=instant(refusal.until),
    )


def key(known: model.EndpointKey, now: float) -> schemas.Key:
    """An endpoint key; its hash is for routers only."""
    return schemas.Key(**_key(known, now))


def new_key(known: model.EndpointKey, text: str, now: float) -> schemas.NewKey:
    """An endpoint key, and the text that it was made with."""
    return schemas.NewKey(key=text, **_key(known, now))


def admin_key(known: model.AdminKey, now: float) -> schemas.AdminKey:
    """An admin key without its hash."""
    return schemas.AdminKey(**_admin_key(known, now))


def new_admin_key(known: model.AdminKey, text: str, now: float) -> schemas.NewAdminKey:
    """An admin key, and the text that it was made with."""
    return schemas.NewAdminKey(key=text, **_admin_key(known, now))


def secret(secret: model.Secret, used_by: tuple[str, ...], webhooks: tuple[str, ...]) -> schemas.Secret:
    """A secret without its text, and who names it."""
    known = {**asdict(secret), "changed_at": instant(secret.changed_at)}
    return schemas.Secret(**known, used_by=used_by, webhooks=webhooks)


def audit_entry(entry: model.AuditEntry) -> schemas.AuditEntry:
    """An audit entry, its instant as ISO 8601."""
    return schemas.AuditEntry(**{**asdict(entry), "at": instant(entry.at)})


def webhook(known: model.Hook, control_url: str) -> schemas.Webhook:
    """A webhook without its secret."""
    return schemas.Webhook(**_webhook(known, control_url))


def new_webhook(known: model.Hook, control_url: str, secret: str) -> schemas.NewWebhook:
    """A webhook, and what its deliveries are to be signed with."""
    return schemas.NewWebhook(secret=secret, **_webhook(known, control_url))


def trust(known: model.Trust, audience: str) -> schemas.Trust:
    """A trust."""
    return schemas.Trust(
        id=known.id,
        kind=known.kind,
        issuer=known.issuer,
        repository=known.repository,
        services=known.services,
        ref=known.ref,
        environment=known.environment,
        repository_id=known.repository_id,
        audience=audience,
        created_at=instant(known.created_at),
    )


def instant(epoch_s: float) -> datetime:
    """Epoch seconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(epoch_s, UTC)


def _replica(replica: model.Replica) -> schemas.Replica:
    place = replica.offer.location
    return schemas.Replica(
        id=replica.id,
        status=replica.status,
        status_since=instant(replica.status_since),
        reason=replica.reason,
        error=replica.removal_error or replica.error
        if replica.status is model.ReplicaStatus.TERMINATING
        else replica.error,
        version=replica.spec_version,
        provider=place.provider,
        region=place.region,
        zone=place.zone,
        instance_type=replica.offer.instance_type,
        accelerators=replica.offer.accelerators,
        capacity_type=replica.offer.capacity_type,
        price_usd_per_hour=replica.offer.price_usd_per_hour,
        url=replica.url,
        created_at=instant(replica.created_at),
        ready_at=None if replica.ready_at is None else instant(replica.ready_at),
    )


def _key(known: model.EndpointKey, now: float) -> dict[str, Any]:
    return {
        "id": known.id,
        "name": known.name,
        "services": known.services,
        "created_at": instant(known.created_at),
        "expires_at": None if known.expires_at is None else instant(known.expires_at),
        "expired": not known.is_valid(now),
        "last_used_at": None if known.last_used_at is None else instant(known.last_used_at),
        "rate_per_s": known.rate_per_s,
        "concurrency": known.concurrency,
    }


def _admin_key(known: model.AdminKey, now: float) -> dict[str, Any]:
    return {
        "id": known.id,
        "name": known.name,
        "scopes": tuple(sorted(known.scopes)),
        "services": known.services,
        "created_at": instant(known.created_at),
        "created_by": known.created_by,
        "expires_at": None if known.expires_at is None else instant(known.expires_at),
        "expired": not known.is_valid(now),
        "last_used_at": None if known.last_used_at is None else instant(known.last_used_at),
    }


def _webhook(known: model.Hook, control_url: str) -> dict[str, Any]:
    push, outcome = known.push, known.outcome
    return {
        "id": known.id,
        "kind": known.kind,
        "service": known.service,
        "url": f"{control_url}/v1/hooks/{known.id}",
        "repository": known.repository,
        "branch": known.branch,
        "path": known.path,
        "api_url": known.api_url,
        "repository_id": known.repository_id,
        "token_secret": known.token_secret,
        "created_at": instant(known.created_at),
        "pushed": push and schemas.Pushed(commit=push.commit, at=instant(push.received_at), pending=known.is_pending),
        "outcome": outcome
        and schemas.Outcome(
            commit=outcome.commit, at=instant(outcome.at), version=outcome.version or None, message=outcome.message
        ),
        "trouble": known.trouble,
    }


def leftover(found: model.Leftover) -> schemas.Leftover:
    """What a cloud holds that no replica needs."""
    return schemas.Leftover(
        provider=found.provider,
        kind=found.kind,
        id=found.id,
        region=found.region,
        replica=found.replica_id,
        why=found.why,
        usd_per_month=found.usd_per_month,
    )
