"""`sailplane keys`: what clients show to be let in at the endpoint of a service."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

from chalicelib.api.schemas import (
    FASTEST_PER_S,
    LONGEST_KEY_S,
    LONGEST_OVERLAP_S,
    SLOWEST_PER_S,
    AdminKey,
    Key,
    NewKey,
    Service,
    valid_name,
)
from chalicelib.errors import Invalid, NotFound
from sailplane.cli import connection, output
from sailplane.cli.client import Client
from sailplane.cli.failures import NoKey, Refused
from sailplane.cli.output import Output
from sailplane.cli.services import example

_UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*([a-z]+)")
_HEADING = ("ID", "NAME", "SERVICES", "CREATED", "EXPIRES (UTC)", "LAST USED (UTC)", "LIMITS")


class Duration(click.ParamType[float]):
    """`90d` as seconds, up to `longest_s`; none at all only where `may_be_0`."""

    name = "duration"

    def __init__(self, longest_s: float, *, may_be_0: bool = False) -> None:
        self.longest_s = longest_s
        self.may_be_0 = may_be_0

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _AMOUNT.fullmatch(value.strip())
        if match is None or match[2] not in _UNITS_S:
            self.fail(f"{value!r} is no time: write a number and s, min, h, d or w, such as 90d", param, ctx)
        duration_s = float(match[1]) * _UNITS_S[match[2]]
        if duration_s > self.longest_s:
            self.fail(f"{value!r} is too long: at most {self.longest_s / _UNITS_S['d']:g}d", param, ctx)
        if not duration_s and not self.may_be_0:
            self.fail(f"{value!r} is no time: more than 0s", param, ctx)
        return duration_s


class Rate(click.ParamType[float]):
    """`10/s` as requests per second."""

    name = "rate"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _RATE.fullmatch(value.strip())
        if match is None or match[2] not in _UNITS_S:
            self.fail(f"{value!r} is no rate: write a number, / and s, min, h or d, such as 10/s", param, ctx)
        per_s = float(match[1]) / _UNITS_S[match[2]]
        if not SLOWEST_PER_S <= per_s <= FASTEST_PER_S:
            slowest, fastest = f"{SLOWEST_PER_S * _UNITS_S['h']:g}/h", f"{FASTEST_PER_S:.0f}/s"
            self.fail(f"{value!r} is out of range: from {slowest} to {fastest}; to stop a key, revoke it", param, ctx)
        return per_s


@click.group("keys")
def command() -> None:
    """Make, list, revoke and replace the keys that clients show to be let in.

    A service asks for one unless its file says `access: {keys: open}`. Only a hash of a key is kept.
    """


@command.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--all", "everything", is_flag=True, help="For all services, later ones too.")
@click.option("--name", default="", help="A word by which to know it, such as the client's.")
@click.option(
    "--expires",
    type=Duration(LONGEST_KEY_S),
    metavar="TIME",
    help="How long it works, such as 90d. [default: for ever]",
)
@click.option("--rate", type=Rate(), metavar="N/UNIT", help="How many requests it may make, such as 10/s.")
@click.option("--concurrency", type=click.IntRange(1, 1_000_000), metavar="N", help="How many at the same time.")
@connection.client
@output.options
def create(
    out: Output,
    *,
    client: Client,
    services: tuple[str, ...],
    everything: bool,
    name: str,
    expires: float | None,
    rate: float | None,
    concurrency: int | None,
) -> None:
    """Make a key for SERVICE... and print it, this once: KEY=$(sailplane keys create SERVICE).

    Clients show it as `Authorization: Bearer KEY`, as OpenAI's do with their `api_key`, or as `X-Api-Key: KEY`. The limits hold
    for all of its clients together. Routers know it within seconds.
    """
    if everything and services:
        raise click.UsageError("Name the services that the key is for or give --all, not both.")
    if not everything and not services:
        raise click.UsageError("Name the services that the key is for, or give --all.")
    for service in services:
        _require_valid(service)
    made = client.create_key(
        ["*"] if everything else list(services),
        name=name,
        expires_in_s=expires,
        rate_per_s=rate,
        concurrency=concurrency,
    )
    _tell(out, client, made)


@command.command("list")
@connection.client
@output.options
def list_(out: Output, *, client: Client) -> None:
    """Show all keys but not their texts, which are kept nowhere. Expired ones stay listed for a week."""
    found = client.endpoint_keys()
    if found:
        out.table(_HEADING, [_row(key) for key in found])
    else:
        out.data("No keys.")
    out.document({"keys": [key.model_dump(mode="json") for key in found]})
    out.next("sailplane keys create SERVICE")


@command.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@connection.client
@output.options
def revoke(out: Output, *, client: Client, keys: tuple[str, ...]) -> None:
    """Revoke KEY..., given by id or by name. No router lets it in once it has its next table, within seconds.

    When one of them is unknown, nothing is done to the others either. What a key has begun goes on.
    """
    known = client.endpoint_keys()
    chosen = list(dict.fromkeys(_find(known, wanted).id for wanted in keys))
    for key_id in chosen:
        client.revoke_key(key_id)
        out.data(f"{key_id} is revoked.")
    out.document({"revoked": chosen})
    out.next("sailplane keys list")


@command.command()
@click.argument("old", metavar="KEY")
@click.option(
    "--overlap",
    type=Duration(LONGEST_OVERLAP_S, may_be_0=True),
    default="24h",
    show_default=True,
    help="How long KEY goes on working.",
)
@connection.client
@output.options
def rotate(out: Output, *, client: Client, old: str, overlap: float) -> None:
    """Replace KEY, given by id or by name: print a new key with the same rights, and let the old one end after a while."""
    replaced = _find(client.endpoint_keys(), old).id
    made = client.rotate_key(replaced, overlap)
    ends = [key.expires_at for key in client.endpoint_keys() if key.id == replaced and key.expires_at]
    for end in ends:
        out.message(f"{replaced} works until {utc(end)}: give the new key to its clients by then.")
    _tell(out, client, made)


def _tell(out: Output, client: Client, made: NewKey) -> None:
    """The key alone on stdout, so that `KEY=$(…)` holds it; what it is, and what to do with it, on stderr."""
    out.data(made.key)
    out.document(made.model_dump(mode="json"))
    if out.as_json:
        return
    opens = "all services" if "*" in made.services else ", ".join(made.services)
    until = "does not expire" if made.expires_at is None else f"expires at {utc(made.expires_at)}"
    out.message(f"Key {made.id} opens {opens} and {until}. It is shown this once and kept nowhere.")
    try:
        _tell_how_to_call(out, client, made)
    except Refused:  # who may make keys need not be one who may look at services
        out.next("sailplane keys list")


def _tell_how_to_call(out: Output, client: Client, made: NewKey) -> None:
    found = {name: _service(client, name) for name in made.services if name != "*"}
    for missing in (name for name, service in found.items() if service is None):
        out.message(f"There is no service {missing!r} yet: the key will open it when there is.")
    first = made.services[0]
    base = f"{client.info().edge_url}{'' if first == '*' else f'/{first}'}/v1"
    out.next(*_ways_to_call(base, found.get(first)))


def _service(client: Client, name: str) -> Service | None:
    try:
        return client.service(name)
    except NotFound:
        return None


def _ways_to_call(base: str, service: Service | None) -> tuple[str, ...]:
    """With curl, and with OpenAI's client where that is answered; of a service that is not known, what engines mostly have."""
    if service and service.routing_mode == "resolve":
        return (example(service, with_key=True),)
    call = example(service, with_key=True) if service else f'curl -L -H "Authorization: Bearer $KEY" {base}/models'
    return (call, f'openai.OpenAI(base_url="{base}", api_key=KEY)')


def _require_valid(name: str) -> None:
    try:
        valid_name(name)
    except ValueError as error:
        raise Invalid(f"{error}. No key was made; for all services give --all.") from error


def _find(known: tuple[Key, ...], wanted: str) -> Key:
    """The key with that id, or the only one of that name; expired ones are meant only where no other is."""
    named = [key for key in known if key.name == wanted]
    found = [key for key in known if key.id == wanted] or [key for key in named if not key.expired] or named
    if not found:
        raise NoKey(f"There is no key {wanted!r}.")
    if len(found) > 1:
        raise Invalid(f"{wanted!r} may mean {', '.join(key.id for key in found)}. Give the id.")
    return found[0]


def _row(key: Key) -> tuple[str, ...]:
    services = "all" if "*" in key.services else ",".join(key.services)
    return (
        key.id,
        key.name or "-",
        services,
        day(key.created_at),
        expiry(key),
        minute(key.last_used_at),
        _limits(key),
    )


def utc(instant: datetime) -> str:
    """Keys are given to people elsewhere: the date and the zone are always said."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def minute(instant: datetime | None) -> str:
    """The same in a table, whose heading says the zone."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}" if instant else "never"


def day(instant: datetime) -> str:
    """Of what is older than the hour matters."""
    return f"{instant.astimezone(UTC):%Y-%m-%d}"


def expiry(key: Key | AdminKey) -> str:
    """When a key ends or has ended, in a table whose heading says the zone."""
    return f"over {day(key.expires_at)}" if key.expires_at and key.expired else minute(key.expires_at)


def _limits(key: Key) -> str:
    rate = "" if key.rate_per_s is None else _rate_text(key.rate_per_s)
    at_once = "" if key.concurrency is None else f"{key.concurrency} at once"
    return ", ".join(filter(None, (rate, at_once))) or "-"


def _rate_text(per_s: float) -> str:
    """In the shortest unit of time that makes it at least one."""
    unit = next((unit for unit in ("s", "min", "h") if per_s * _UNITS_S[unit] >= 1), "d")
    return f"{per_s * _UNITS_S[unit]:g}/{unit}"
