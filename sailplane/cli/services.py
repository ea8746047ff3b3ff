"""How services and replicas look on a terminal, and following one until something is true of it."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from chalicelib.api.schemas import Replica, Service
from chalicelib.model import ReplicaStatus
from sailplane.cli.client import Client
from sailplane.cli.failures import Refused
from sailplane.cli.output import Output, aligned

POLL_S = 0.25
LOG_LINES = 20
OPEN = (
    "Anybody who knows its address may call this service, without a key: its file says `access: {keys: open}`. "
    "Without that line it asks for one."
)

_REPLICA_HEADING = ("REPLICA", "STATUS", "SINCE", "VERSION", "WHERE", "MACHINE", "USD/HOUR", "NOTE")
_SERVICE_HEADING = ("NAME", "STATUS", "READY", "VERSION", "MESSAGE")


def service_table(services: Sequence[Service]) -> str:
    """One line a service, and how their endpoints, which are long, are made of their names."""
    rows = [(s.name, s.status, f"{s.ready}/{s.target}", str(s.version), first_line(s.message)) for s in services]
    endpoints = f"Endpoints: {services[0].endpoint.removesuffix(services[0].name)}NAME"
    return "\n".join([*aligned([_SERVICE_HEADING, *rows], [False] * len(_SERVICE_HEADING)), "", endpoints])


def service_text(service: Service) -> str:
    """A service with its replicas."""
    version = (
        f"{service.version} (replicas of earlier ones are being replaced)" if service.updating else service.version
    )
    lines = [
        f"{service.name}: {service.status}, {service.message}",
        f"Endpoint: {service.endpoint}{' (open to anybody)' if service.access == 'open' else ''}",
        f"Version:  {version}",
    ]
    return "\n".join([*lines, *(["", replica_table(service.replicas)] if service.replicas else [])])


def replica_table(replicas: Sequence[Replica]) -> str:
    """One line a replica, gone ones last."""
    rows = [_replica_row(replica) for replica in replicas]
    return "\n".join(aligned([_REPLICA_HEADING, *rows], [name == "USD/HOUR" for name in _REPLICA_HEADING]))


def ways_to_call(client: Client, service: Service) -> tuple[str, ...]:
    """What to run to call the service; where it asks for a key and nobody has one, first how to make one."""
    if service.access == "open":
        return (example(service, with_key=False),)
    call = example(service, with_key=True)
    try:
        keys = [key for key in client.endpoint_keys() if not key.expired]
    except Refused:  # who may deploy need not be one who makes keys
        return (call,)
    has_key = any({"*", service.name}.intersection(key.services) for key in keys)
    return (call,) if has_key else (f"KEY=$(sailplane keys create {service.name})", call)


def example(service: Service, *, with_key: bool) -> str:
    """A call that the service answers: what its probe gets, or where to go when that is all that it tells at its endpoint."""
    header = '-H "Authorization: Bearer $KEY" ' if with_key else ""
    if service.routing_mode == "resolve":
        return f"curl {header}{service.endpoint}/_resolve"
    return f"curl -L {header}{shlex.quote(service.endpoint + (service.probe_path or '/'))}"


def headline(service: Service) -> str:
    """The service in one line."""
    return f"{service.name}: {service.status}, {first_line(service.message)}"


def first_line(text: str) -> str:
    """The first line, without the colon that announces those after it."""
    return text.split("\n", maxsplit=1)[0].removesuffix(":")


def local_time(instant: datetime) -> str:
    """An instant as the user's clock shows it, with the date when it is not today's."""
    local = instant.astimezone()
    today = local.date() == datetime.now(local.tzinfo).date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"


def watch(out: Output, client: Client, name: str, settled: Callable[[Service], bool]) -> Service:
    """Show a service's progress until it is settled: its table on a terminal, elsewhere one line a change.

    Raises `NotFound` when it is gone.
    """
    with out.progress(f"{name}: waiting for the control plane") as show:
        while True:
            service = client.service(name)
            show(_as_table(service) if sys.stderr.isatty() else _as_lines(service))
            if settled(service):
                return service
            time.sleep(POLL_S)


def _as_table(service: Service) -> str:
    live = [replica for replica in service.replicas if replica.status is not ReplicaStatus.TERMINATED]
    return "\n".join([headline(service), *([replica_table(live)] if live else [])])


def _as_lines(service: Service) -> str:
    """Lines that stay the same while what they tell does."""
    lines = (f"  {r.id}: {r.status} since {local_time(r.status_since)} {_note(r)}".rstrip() for r in service.replicas)
    return "\n".join((headline(service), *lines))


def newest_failure(service: Service, version: int | None = None) -> Replica | None:
    """The replica that last failed by the service's own fault, of one version or of any."""
    failed = [r for r in service.replicas if r.reason and r.reason.blames_user_code and version in (None, r.version)]
    return max(failed, key=lambda replica: replica.created_at, default=None)


def last_words(client: Client, name: str, replica: Replica) -> str:
    """A replica's error, and the last lines its engine wrote unless the error holds them already."""
    if "\n" in replica.error:
        return replica.error
    log = client.log(name, replica.id, LOG_LINES).log
    return "\n".join([replica.error, *(f"  {line}" for line in log.splitlines())])


def _replica_row(replica: Replica) -> tuple[str, ...]:
    place = "/".join(part for part in (replica.provider, replica.region, replica.zone) if part)
    machine = " ".join(part for part in (replica.instance_type, replica.accelerators) if part)
    price = f"{replica.price_usd_per_hour:.2f}"
    since = local_time(replica.status_since)
    return (replica.id, replica.status, since, str(replica.version), place, machine, price, _note(replica))


def _note(replica: Replica) -> str:
    return ": ".join(part for part in (replica.reason or "", first_line(replica.error)) if part)
