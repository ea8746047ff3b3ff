"""`sailplane catalog`: the prices in use, their defects, and how to get newer ones. Needs no server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from chalicelib import catalog
from chalicelib.catalog import PACKAGED, snapshot
from chalicelib.catalog.snapshot import Price, Shape
from chalicelib.errors import Invalid
from sailplane.catalog.judging import Judged
from sailplane.cli import LazyCommand, output, prices
from sailplane.cli.output import Output

_SHOWN = ("CLOUD", "INSTANCE", "vCPUs", "GiB", "GPU", "ON-DEMAND $/HOUR", "IN", "SPOT $/HOUR", "IN")
_SHOWN_RIGHT = ("vCPUs", "GiB", "ON-DEMAND $/HOUR", "SPOT $/HOUR")


@click.group("catalog")
def command() -> None:
    """Show the prices in use and what of their tables is not believed; get newer ones."""


command.add_command(LazyCommand("refresh", help="Ask the clouds for today's prices and plan on them from then on."))


@command.command()
@click.argument("accelerator")
@click.option("--all", "everything", is_flag=True, help="Show every place, not the cheapest of each machine type only.")
@prices.needed
@output.options
def show(out: Output, *, accelerator: str, everything: bool) -> None:
    """List every machine with ACCELERATOR, such as L4, or A100-80GB:4 for so many of them."""
    used = prices.current()
    name, count = _named(accelerator, used.accelerators())
    found = [
        (provider, price)
        for provider in catalog.providers()
        for price in snapshot.table(used.directory(provider), provider).prices()
        if price.shape.accelerator == name and count in (0, price.shape.accelerator_count)
    ]
    if not found:
        raise Invalid(f"None of the prices in use is for {accelerator}; `sailplane catalog refresh` may bring some.")
    rows = sorted(_rows(found, everything=everything), key=lambda row: (row[4], _usd(row[5]), _usd(row[7]), row))
    out.table(_SHOWN, rows, _SHOWN_RIGHT)
    if not everything:
        out.data(f"The cheapest place of each machine type; --all shows all {len(found)} places.")
    stamps = {provider: used.as_of([provider]) for provider, _ in found}
    dates = ", ".join(f"{provider} {as_of}" for provider, as_of in stamps.items())
    out.data(f"Prices as of: {dates}; a cloud may have changed them since.")
    out.document({"accelerator": name, "prices_as_of": stamps, "offers": [_document(*one) for one in found]})


@command.command()
@click.option("--all", "everything", is_flag=True, help="List every quarantined line.")
@prices.needed
@output.options
def doctor(out: Output, *, everything: bool) -> None:
    """Say what of the price tables in use is not believed, and why."""
    clouds, used = [], prices.current()
    for provider in catalog.providers():
        table = snapshot.read(used.directory(provider), provider)
        quarantined = table.quarantined
        reasons = dict(sorted(Counter(entry.reason for entry in quarantined).items()))
        clouds.append(
            {
                "provider": provider,
                "prices_as_of": table.as_of,
                "source": table.source,
                "offers": table.offers,
                "quarantined": reasons,
                "lines": [
                    {name: getattr(entry, name) for name in ("line", "what", "price", "reason", "detail")}
                    for entry in (quarantined if everything else ())
                ],
            }
        )
        out.data(
            f"{provider}: {table.offers} offers as of {table.as_of}, from {table.source}; {len(quarantined)} quarantined"
        )
        for reason, count in reasons.items():
            out.data(f"  {count:6} {reason}")
            for entry in quarantined if everything else ():
                if entry.reason == reason:
                    out.data(f"         line {entry.line}: {entry.what} ({entry.price}): {entry.detail}")
    out.document({"clouds": clouds, "defects": list(used.defects())})


@command.command("import")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--as-of", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The day on which the tables held.")
@click.option("--provider", "providers", multiple=True, help="Import this cloud only; may be repeated.")
@click.option("--source", default="public price tables", show_default=True, help="Where the tables are from.")
@click.option("--fresh", is_flag=True, help="Do not compare with the present snapshot: accept jumps and losses.")
@click.option(
    "--to",
    "target",
    default=PACKAGED,
    show_default="the packaged catalog",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of the snapshots.",
)
@output.options
def import_(
    out: Output, *, directory: Path, as_of: datetime, providers: tuple[str, ...], source: str, fresh: bool, target: Path
) -> None:
    """Replace the snapshots by the tables DIRECTORY/<cloud>/vms.csv, in SkyPilot's shape.

    What is not credible is quarantined line by line. An import that would lose more than a tenth of a cloud's offers is
    refused and nothing is changed.
    """
    from sailplane.catalog import importing  # noqa: PLC0415 - `show` and `doctor` need none of it

    present = tuple(name for name in importing.PROVIDERS if (directory / name / "vms.csv").exists())
    if unknown := set(providers) - set(importing.PROVIDERS):
        message = f"{', '.join(sorted(unknown))} is not one of {', '.join(importing.PROVIDERS)}."
        raise click.BadParameter(message, param_hint="--provider")
    if not (providers or present):
        raise Invalid(f"{directory} holds none of {', '.join(f'{name}/vms.csv' for name in importing.PROVIDERS)}.")
    report(out, importing.run(directory, target, providers or present, as_of.date().isoformat(), source, fresh=fresh))


def report(out: Output, done: Iterable[Judged]) -> None:
    """Each cloud's offers, and what of its table is not believed."""
    done = list(done)
    for one in done:
        news = "unchanged" if one.unchanged else f"{one.before or 0} before"
        out.data(f"{one.snapshot.provider}: {one.snapshot.offers} offers ({news})")
        for reason, count in sorted(one.reasons.items()):
            out.data(f"  {count:6} quarantined: {reason}")
    out.document(
        {
            "clouds": [
                {
                    "provider": one.snapshot.provider,
                    "offers": one.snapshot.offers,
                    "offers_before": one.before,
                    "unchanged": one.unchanged,
                    "quarantined": dict(sorted(one.reasons.items())),
                }
                for one in done
            ]
        }
    )


def _named(text: str, accelerators: Iterable[str]) -> tuple[str, int]:
    """Canonical name and number (0: any). Raises `Invalid` with the nearest known names."""
    name, _, count = text.partition(":")
    known = {one.lower(): one for one in accelerators}
    if name.lower() not in known or (count and not count.isdecimal()):
        near = get_close_matches(name.lower(), known, cutoff=0.3) or sorted(known)
        raise Invalid(f"No machine of the catalog has {text!r}. Near it: {', '.join(known[one] for one in near)}.")
    return known[name.lower()], int(count or 0)


def _rows(found: Iterable[tuple[str, Price]], *, everything: bool) -> Iterator[tuple[str, ...]]:
    """A line of the table for each place or, cheapest on-demand and cheapest spot apart, for each machine type."""
    groups: dict[tuple[str, Shape, str, str], list[Price]] = {}
    for provider, price in found:
        place = (price.region, price.zone) if everything else ("", "")
        groups.setdefault((provider, price.shape, *place), []).append(price)
    for (provider, shape, _, _), group in groups.items():
        yield (
            provider,
            shape.instance_type,
            f"{shape.vcpus:g}",
            f"{shape.memory_gib:g}",
            f"{shape.accelerator}:{shape.accelerator_count}",
            *_cheapest((price.on_demand, price) for price in group),
            *_cheapest((price.spot, price) for price in group),
        )


def _cheapest(prices: Iterable[tuple[float | None, Price]]) -> tuple[str, str]:
    """The lowest price, and where it is; a dash and nothing when there is none."""
    offered = [(usd, price.region, price.zone) for usd, price in prices if usd is not None]
    if not offered:
        return "-", ""
    usd, region, zone = min(offered)
    return f"{usd:.4f}", zone if zone.startswith(region) else "/".join(filter(None, (region, zone)))


def _usd(cell: str) -> float:
    return float("inf") if cell == "-" else float(cell)


def _document(provider: str, price: Price) -> dict[str, Any]:
    return {
        "provider": provider,
        "region": price.region,
        "zone": price.zone,
        "instance_type": price.shape.instance_type,
        "accelerators": f"{price.shape.accelerator}:{price.shape.accelerator_count}",
        "accelerator_memory_gib": price.shape.accelerator_memory_gib,
        "vcpus": price.shape.vcpus,
        "memory_gib": price.shape.memory_gib,
        "on_demand_usd_per_hour": price.on_demand,
        "spot_usd_per_hour": price.spot,
    }
