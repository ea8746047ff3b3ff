"""`sailplane plan`: where a service would run and at what cost. Needs no server and changes nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence

import click

from chalicelib import catalog, spec
from chalicelib.catalog import Catalog
from chalicelib.errors import NoFeasibleOffer
from chalicelib.model import CapacityType, Offer, ServiceSpec
from chalicelib.providers.local.offers import offers as local_offers
from sailplane import plan as planning
from sailplane.cli import inputs, output, prices

_HEADING = ("CLOUD", "INSTANCE", "vCPUs", "Mem(GB)", "ACCELERATORS", "REGION/ZONE", "CAPACITY", "COST ($/h)", "CHOSEN")
_FLUSH_RIGHT = ("vCPUs", "Mem(GB)", "COST ($/h)")
_CLOUDS = {"aws": "AWS", "azure": "Azure", "gcp": "GCP"}
_CAPACITY = {CapacityType.SPOT: "spot", CapacityType.ON_DEMAND: "on-demand"}


@click.command()
@inputs.service_file
@click.option("--all", "everything", is_flag=True, help="Show every place, not the best one of each machine type only.")
@click.option(
    "--providers", metavar="NAME,...", help="Plan for these only. [default: aws,azure,gcp and what FILE names]"
)
@prices.needed
@output.options
def command(out: output.Output, text: str, envs: dict[str, str], everything: bool, providers: str | None) -> None:
    """Show where the service in FILE would run, what it would cost, and what was left out and why.

    Nothing is started and no server is needed.
    """
    used = prices.current()
    parsed = spec.parse(text, env_overrides=envs, known_accelerators=used.accelerators())
    plan = make(parsed, _known(providers.split(",")) if providers else _usual_providers(parsed.spec), used)
    show(out, plan, everything=everything)
    out.document(planning.document(plan, everything=everything))
    out.next(shlex.join(["sailplane", "up", output.current().source, "-n", plan.name or "NAME"]))


def make(parsed: spec.Parsed, providers: Sequence[str], used: Catalog) -> planning.Plan:
    """Plan on the catalog's prices and this machine. Raises `NoFeasibleOffer`."""
    clouds, resources = sorted({*_CLOUDS, *providers} - {"local"}), parsed.spec.resources

    def market(accelerators: frozenset[str] | None) -> Sequence[Offer]:
        return (*local_offers(), *used.offers(clouds, accelerators))

    try:
        narrow = market(planning.accelerators(resources))
        return planning.make(parsed, narrow, providers, used.as_of(providers), time.time())
    except NoFeasibleOffer:
        # Only to name the nearest that would do is the whole market wanted, at 30 ms more.
        return planning.make(parsed, market(None), providers, used.as_of(providers), time.time())


def show(out: output.Output, plan: planning.Plan, *, everything: bool = False) -> None:
    """Print a plan for people."""
    probe, scaling = plan.spec.probe, plan.spec.scaling
    spot = planning.spot_policy(plan.spec)
    facts = [
        ("Readiness probe method:", f"{probe.method} {planning.shown_path(probe.path)}"),
        ("Readiness initial delay seconds:", f"{probe.initial_delay_s:g}"),
        ("Replica autoscaling policy:", planning.policy(scaling)),
        *([("Spot policy:", spot)] if spot else []),
        ("Load balancing policy:", plan.spec.routing.policy),
    ] + [
        (
            f"Cost at a target of {replicas}:" if spot else f"Cost of {replicas} replica{'s' * (replicas != 1)}:",
            _cost(plan.usd_per_hour(replicas)),
        )
        for replicas in sorted({scaling.fewest_replicas, scaling.most_replicas})
    ]
    if plan.worst_usd_per_hour > plan.usd_per_hour(scaling.most_replicas):
        facts.append(("Worst case, all cheaper offers sold out:", _cost(plan.worst_usd_per_hour)))
    if plan.spec.engine.secrets:
        needed = dict.fromkeys(name for _, name in plan.spec.engine.secrets)
        facts.append(("Secrets that `up` will need:", ", ".join(needed)))
    if plan.budget:
        facts.append(("Budget:", plan.budget))
    out.data("\n".join([*output.aligned(facts, (False, False)), ""]))
    shown = plan.candidates if everything else plan.best_of_each
    out.table(_HEADING, [_row(offer, chosen=offer is plan.chosen) for offer in shown], _FLUSH_RIGHT)
    if len(shown) < len(plan.candidates):
        out.data(f"The best place of each machine type; --all shows all {len(plan.candidates)} places.")
    out.data(f"\nChosen: {plan.why}.")
    _list(out, "Left out:", (f"{rejected.what}: {rejected.why}" for rejected in plan.left_out))
    _list(out, "Not acted on:", plan.not_acted_on)
    if plan.chosen.price_usd_per_hour:
        days = int(plan.prices_age_s // 86400)
        out.data(
            f"Prices as of {plan.prices_as_of}{f' ({days} days old)' if days else ''}, of machines only: disks, addresses and "
            "traffic come on top. A cloud may have changed them since; `sailplane catalog refresh` asks it."
        )


def _all_providers() -> tuple[str, ...]:
    return (*catalog.providers(), "local")


def _known(providers: Sequence[str]) -> Sequence[str]:
    for name in providers:
        if name not in _all_providers():
            message = f"{name!r} is not one of {', '.join(_all_providers())}."
            raise click.BadParameter(message, param_hint="--providers")
    return providers


def _usual_providers(service: ServiceSpec) -> tuple[str, ...]:
    """The clouds that Sailplane is made for, and whatever else the file asks for by name, such as this machine."""
    named = {wish.provider for group in service.resources.groups for wish in group if wish.provider}
    return tuple(sorted({*_CLOUDS, *named}))


def _row(offer: Offer, *, chosen: bool) -> tuple[str, ...]:
    place = offer.location
    return (
        _CLOUDS.get(place.provider, place.provider),
        offer.instance_type,
        f"{offer.vcpus:g}",
        f"{offer.memory_gib:g}",
        offer.accelerators or "-",
        place.zone if place.zone.startswith(place.region) else "/".join(filter(None, (place.region, place.zone))),
        _CAPACITY[offer.capacity_type],
        prices.usd(offer.price_usd_per_hour),
        "✔" if chosen else "",
    )


def _cost(usd_per_hour: float) -> str:
    return f"${usd_per_hour:,.2f} an hour, at most ${usd_per_hour * planning.HOURS_PER_MONTH:,.2f} a month"


def _list(out: output.Output, title: str, entries: Iterable[str]) -> None:
    if lines := [f"  {entry}" for entry in entries]:
        out.data("\n".join([title, *lines]))
